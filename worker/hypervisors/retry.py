"""Retries inside a phase: tenacity, told by the error's class what may be repeated and how soon."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception

from worker.errors import DRAINED, Cancelled, HypervisorError, Retry
from worker.hypervisors.base import RetryPolicy, Stop

Result = TypeVar("Result")


class RetryWatch(Protocol):
    """The part of ``base.Watch`` that retries need."""

    def stop(self) -> Stop | None:
        """Why to stop now, or ``None``."""

    def retrying(self, error: HypervisorError, number: int, delay_seconds: float) -> None:
        """Tell that ``error`` is about to be retried."""


SLICE_SECONDS = 0.5
"""How often a pause looks whether it is to stop; the look is the heartbeat too."""


def with_retries(
    policy: RetryPolicy, watch: RetryWatch, action: Callable[[], Result], *, stoppable: bool = True
) -> Result:
    """Call ``action`` until it succeeds, its error may not be repeated, or its tries are used up.

    Only TRANSIENT errors are repeated: whoever calls decides on all others. ``watch.retrying`` is told
    before every pause. Where a pause is ``stoppable`` and ``watch.stop()`` asks for it, ``Cancelled`` is raised.
    A transient error whose tries are used up is raised with the class that its code then has.
    """
    retrying = Retrying(
        retry=retry_if_exception(may_repeat),
        wait=lambda state: pause(policy, _error(state), state.attempt_number, random.random()),  # noqa: S311
        stop=lambda state: is_enough(policy, _error(state), state.attempt_number),
        before_sleep=lambda state: watch.retrying(_error(state), state.attempt_number, state.upcoming_sleep),
        sleep=lambda seconds: _sleep(seconds, watch if stoppable else None),
        reraise=True,
    )
    try:
        return retrying(action)
    except HypervisorError as error:
        if may_repeat(error):
            error.retry = error.after
        raise


def may_repeat(error: BaseException) -> bool:
    """Whether the call that failed like this may be made again as it is."""
    return isinstance(error, HypervisorError) and error.retry is Retry.TRANSIENT


def is_enough(policy: RetryPolicy, error: HypervisorError, calls: int) -> bool:
    """Whether after so many calls the retries are used up: the settings' number, or fewer by code."""
    allowed = policy.tries if error.tries is None else min(error.tries, policy.tries)
    return calls > allowed


def pause(policy: RetryPolicy, error: HypervisorError, number: int, share: float) -> float:
    """Seconds to wait before the ``number``-th retry; ``share`` (0 to 1) of the jitter is added."""
    initial, maximum = (policy.slow_initial, policy.slow_maximum) if error.slow else (policy.initial, policy.maximum)
    # past this exponent every pause is the longest one anyhow, and floats stay finite
    base = min(initial * policy.factor ** min(number - 1, 64), maximum)
    return base * (1 + policy.jitter * share)


def stopped(stop: Stop, why: str = "") -> Cancelled:
    """The error for a wish to stop that was followed; ``why`` is the verdict for a stall."""
    if stop is Stop.STALL:
        return Cancelled(f"aborted because it stalled: {why}; the domain is on its source", code="stalled")
    if stop is Stop.DEADLINE:
        return Cancelled("the migration took longer than its deadline; the domain is on its source", code="deadline")
    if stop is Stop.DRAIN:
        return Cancelled(
            "aborted because an agent is being stopped: a drain; the domain is on its source", code=DRAINED
        )
    return Cancelled("the migration was cancelled; the domain is on its source")


def _error(state: RetryCallState) -> HypervisorError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, HypervisorError)  # noqa: S101  (the predicate lets no other one in)
    return error


def _sleep(seconds: float, watch: RetryWatch | None) -> None:
    until = time.monotonic() + seconds
    while True:
        if watch is not None and (stop := watch.stop()) is not None:
            raise stopped(stop)
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, SLICE_SECONDS))
