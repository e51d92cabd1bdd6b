"""Retries by class, number and code; pauses that can be interrupted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vz_fake import QUICK, FakeWatch

from worker.errors import Cancelled, HypervisorError, Retry
from worker.hypervisors.base import RetryPolicy, Stop
from worker.hypervisors.retry import is_enough, may_repeat, pause, with_retries


def error(retry: Retry = Retry.TRANSIENT, **about: object) -> HypervisorError:
    """An error of a class."""
    return HypervisorError("it went wrong", code="PRL_ERR_X", retry=retry, **about)  # type: ignore[arg-type]


class Failing:
    """Fails with each of these errors, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_transient_errors_are_repeated_and_told() -> None:
    """Two of them, then success; the watch hears of both before the pauses."""
    watch, action = FakeWatch(), Failing(error(), error())
    assert with_retries(QUICK, watch, action) == "done"
    assert [(code, number) for code, number, _ in watch.retries] == [("PRL_ERR_X", 1), ("PRL_ERR_X", 2)]


@pytest.mark.parametrize("retry", [retry for retry in Retry if retry is not Retry.TRANSIENT])
def test_no_other_class_is_repeated(retry: Retry) -> None:
    """Whoever called decides on these."""
    watch, action = FakeWatch(), Failing(error(retry))
    with pytest.raises(HypervisorError) as caught:
        with_retries(QUICK, watch, action)
    assert (caught.value.retry, action.calls, watch.retries) == (retry, 1, [])


def test_tries_end_and_the_class_then_is_the_one_that_follows() -> None:
    """The settings' number of retries, not one more."""
    action = Failing(*(error(after=Retry.OPERATOR) for _ in range(9)))
    with pytest.raises(HypervisorError) as caught:
        with_retries(QUICK, FakeWatch(), action)
    assert (action.calls, caught.value.retry) == (QUICK.tries + 1, Retry.OPERATOR)


def test_a_code_may_allow_fewer_tries() -> None:
    """Its own cap counts."""
    action = Failing(*(error(tries=1) for _ in range(9)))
    with pytest.raises(HypervisorError) as caught:
        with_retries(QUICK, FakeWatch(), action)
    assert (action.calls, caught.value.retry) == (2, Retry.TRANSIENT)


def test_a_stop_interrupts_the_pause() -> None:
    """A pause of an hour ends as soon as somebody wants to stop."""
    watch = FakeWatch()
    watch.on_retry = lambda: setattr(watch, "wish", Stop.CANCEL)
    with pytest.raises(Cancelled):
        with_retries(RetryPolicy(initial=3600, maximum=3600), watch, Failing(error()))


def test_a_deadline_has_its_own_code() -> None:
    """So that records tell it from a cancel."""
    with pytest.raises(Cancelled) as caught:
        with_retries(QUICK, FakeWatch(Stop.DEADLINE), Failing(error()))
    assert caught.value.code == "deadline"


def test_after_perform_a_stop_is_too_late() -> None:
    """Finish and confirm go on trying."""
    assert with_retries(QUICK, FakeWatch(Stop.CANCEL), Failing(error()), stoppable=False) == "done"


def test_other_exceptions_pass() -> None:
    """A mistake in our code is no reason to try again."""
    assert not may_repeat(ValueError())
    with pytest.raises(ValueError, match="x"):
        with_retries(QUICK, FakeWatch(), Failing(ValueError("x")))


POLICIES = st.builds(
    RetryPolicy,
    tries=st.integers(0, 20),
    initial=st.floats(0.001, 100),
    factor=st.floats(1, 10),
    maximum=st.floats(100, 1000),
    jitter=st.floats(0, 1),
    slow_initial=st.floats(0.001, 100),
    slow_maximum=st.floats(100, 1000),
)


@given(POLICIES, st.booleans(), st.integers(1, 1000), st.floats(0, 1))
def test_pauses_grow_within_their_bounds(policy: RetryPolicy, slow: bool, number: int, share: float) -> None:
    """Never below the first pause, never above the longest plus its jitter, never shrinking."""
    lowest, highest = (policy.slow_initial, policy.slow_maximum) if slow else (policy.initial, policy.maximum)
    seconds = pause(policy, error(slow=slow), number, share)
    assert lowest <= seconds <= highest * (1 + policy.jitter) * 1.000001
    assert pause(policy, error(slow=slow), number + 1, share) >= seconds


@given(POLICIES, st.none() | st.integers(0, 20), st.integers(1, 40))
def test_enough_is_the_smaller_number(policy: RetryPolicy, tries: int | None, calls: int) -> None:
    """Settings and code both cap."""
    cap = policy.tries if tries is None else min(tries, policy.tries)
    assert is_enough(policy, error(tries=tries), calls) == (calls > cap)
