"""What a running phase tells the journal, and how it learns that it is to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import redis
import structlog
from celery.exceptions import Ignore
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from tasks import dispatch
from worker import metrics
from worker.agent import Agent
from worker.contract import Baton
from worker.errors import Cancelled, HypervisorError
from worker.hypervisors.base import Phase, Progress, Stall, StallAction, Stop, Tuning
from worker.journal.journal import LostClaim, Shown

logger = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

BEAT_SECONDS = 0.5
PATIENCE_SECONDS = 3600
"""How long the end of a phase waits for Redis to come back, so that what was done gets journaled."""


_waiting = Retrying(
    retry=retry_if_exception_type((redis.ConnectionError, redis.TimeoutError)),
    wait=wait_random_exponential(multiplier=0.1, max=2),
    stop=stop_after_delay(PATIENCE_SECONDS),
    reraise=True,
)


def patiently(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the journal, again and again while Redis is away. Raises ``Ignore`` where the claim is lost."""
    try:
        return _waiting(call, *args, **kwargs)
    except LostClaim as lost:
        logger.warning("phase taken over", error=str(lost))
        raise Ignore from None


class JournalWatch:
    """The ``Watch`` of one phase: progress to journal and result back end, cancel and deadline back."""

    def __init__(self, agent: Agent, baton: Baton, phase: Phase, token: str, cancel: bool) -> None:
        self._agent = agent
        self._baton = baton
        self._phase = phase
        self._token = token
        self.cancelled = cancel
        self.stopped_for: Stop | None = None
        limit = baton.deadline_seconds
        self._deadline = time.monotonic() + limit if limit and phase is Phase.PERFORM else None
        self._beaten = time.monotonic()
        self._shown: int | None = None

    def refuse_if_cancelled(self) -> None:
        """Raises ``Cancelled`` where somebody cancelled before the phase began."""
        if self.cancelled:
            raise Cancelled(f"cancelled before {self._phase}")

    def progress(self, progress: Progress) -> None:
        """Report how far perform is; written at most twice a second."""
        self._beat(progress)

    def stop(self) -> Stop | None:
        """Whether somebody cancelled, or the deadline is over."""
        self._beat(None)
        if self.cancelled:
            self.stopped_for = Stop.CANCEL
        elif self._deadline is not None and time.monotonic() > self._deadline:
            self.stopped_for = Stop.DEADLINE
        return self.stopped_for

    def retrying(self, error: HypervisorError, number: int, delay_seconds: float) -> None:
        """Note a retry in the event stream and count it."""
        metrics.retries.labels(self._agent.host.profile, self._phase, error.retry).inc()
        told = {
            "phase": self._phase,
            "host": self._agent.host.name,
            "attempt": self._baton.attempt,
            "number": number,
            "delay_seconds": round(delay_seconds, 3),
            "class": error.retry,
            "code": error.code,
            "message": error.message,
        }
        logger.warning("retrying", migration=self._baton.migration, **{k: v for k, v in told.items() if k != "message"})
        try:
            self._agent.journal.retried(self._baton.migration, self._token, told)
        except redis.RedisError:
            logger.warning("retry not journaled: Redis does not answer", migration=self._baton.migration)

    def tuning(self) -> Tuning | None:
        """The next of an operator's wishes for this perform."""
        return None

    def tuned(self, tuning: Tuning, error: HypervisorError | None) -> None:
        """Note in the event stream what became of a wish."""

    def stalled(self, stall: Stall, action: StallAction, detail: str) -> None:
        """Note a stall in the event stream and count it."""

    def _beat(self, progress: Progress | None) -> None:
        now = time.monotonic()
        news = progress is not None and progress.percent != self._shown
        if now - self._beaten < BEAT_SECONDS and not (news and self._shown is None):
            return
        self._beaten = now
        told: dict[str, object] | None = None
        shown: Shown = ("", "", 0)
        if progress:
            told = _document(progress)
            if news:
                shown = self._state(progress)
        try:
            self.cancelled = self._agent.journal.progress(self._baton.migration, self._token, told, news, shown)
            if progress:
                self._shown = progress.percent
        except LostClaim:
            # A superseded perform goes on until it ends: stopping it is for whoever took over.
            logger.warning("superseded", migration=self._baton.migration, phase=self._phase)
        except Exception as lost:  # the guest's move does not depend on Redis
            logger.warning("progress not journaled", migration=self._baton.migration, error=type(lost).__name__)

    def _state(self, progress: Progress) -> Shown:
        host = self._agent.host.name
        description = progress.description or f"{self._phase} on {host}"
        return dispatch.shown(self._baton.migration, self._phase, host, progress.percent, description)


def _document(progress: Progress) -> dict[str, object]:
    return {
        "percent": progress.percent,
        "total_bytes": progress.total_bytes,
        "remaining_bytes": progress.remaining_bytes,
        "dirty_bytes_per_second": progress.dirty_bytes_per_second,
        "bandwidth_bytes_per_second": progress.bandwidth_bytes_per_second,
        "iteration": progress.iteration,
        "expected_downtime_seconds": progress.expected_downtime_seconds,
        "description": progress.description,
    }
