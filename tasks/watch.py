"""What a running phase tells the journal, and how it learns that it is to stop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple, ParamSpec, TypeVar

import redis
import structlog
from celery.exceptions import Ignore
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from tasks import dispatch
from worker import metrics
from worker.agent import Agent
from worker.contract import Baton
from worker.errors import Cancelled, HypervisorError
from worker.hypervisors.base import Phase, Progress, Stop
from worker.hypervisors.convergence import Stall, StallAction, Tuning, TuningKind
from worker.hypervisors.retry import stopped
from worker.hypervisors.stall import measured
from worker.journal.journal import LostClaim
from worker.journal.outcomes import Shown
from worker.journal.trouble import passes, trouble

logger = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

BEAT_SECONDS = 0.5
QUIET_SECONDS, QUIET_SHARE = 10.0, 0.1
"""Where nothing new happens, an event follows the last one after so long, or after this share of the perform so far."""
PATIENCE_SECONDS = 3600
"""How long the end of a phase waits for Redis to come back, so that what was done gets journaled."""


def _tell_once(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if error and state.attempt_number == 1:
        logger.warning("waiting for Redis", why=trouble(error), error=str(error)[:200])


_waiting = Retrying(
    retry=retry_if_exception(passes),
    wait=wait_random_exponential(multiplier=0.1, max=2),
    stop=stop_after_delay(PATIENCE_SECONDS),
    before_sleep=_tell_once,
    reraise=True,
)


def patiently(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the journal, again and again while Redis is away, full, loading or read-only (``trouble.py``).

    Raises ``Ignore`` where the claim is lost.
    """
    try:
        return _waiting(call, *args, **kwargs)
    except LostClaim as lost:
        logger.warning("phase taken over", error=str(lost))
        raise Ignore from None


class Note(NamedTuple):
    """What the journal is to be told, in ``note.lua``."""

    kind: str
    told: dict[str, Any]
    wish: str = ""


class Pace:
    """Which looks at a perform are worth an event: at most some two hundred, however long it lasts.

    One for each percent that was not reached before, one for the switch to post-copy, and else one after a
    quiet time that grows with the perform.
    """

    def __init__(self, began: float) -> None:
        self._began = self._noted = began
        self._top = -1
        self._postcopy = False

    def worth_noting(self, progress: Progress, now: float) -> bool:
        """Whether this look belongs into the event stream."""
        switched = progress.postcopy and not self._postcopy
        quiet = max(QUIET_SECONDS, QUIET_SHARE * (now - self._began))
        return switched or progress.percent > self._top or now - self._noted >= quiet

    def noted(self, progress: Progress, now: float) -> None:
        """It is there."""
        self._noted = now
        self._top = max(self._top, progress.percent)
        self._postcopy = self._postcopy or progress.postcopy


class JournalWatch:
    """The ``Watch`` of one phase: progress to journal and result back end; cancel, deadline, drain and tunings back."""

    def __init__(self, agent: Agent, baton: Baton, phase: Phase, token: str, cancel: bool) -> None:
        self._agent = agent
        self._baton = baton
        self._phase = phase
        self._token = token
        self.cancelled = cancel
        self.waited_seconds = 0.0
        """How long the phase was queued."""
        self.stopped_for: Stop | None = None
        self.evicting = ""
        """The other host, where its agent waits no longer for what touches it."""
        limit = baton.deadline_seconds
        now = time.monotonic()
        self._deadline = now + limit if limit and phase is Phase.PERFORM else None
        self._beaten = now
        self._begun = False
        self._last: Progress | None = None
        self._pace = Pace(now)
        self._wishes: list[str] = []
        self._handed: dict[str, str] = {}
        self._untold: list[Note] = []

    def refuse_to_start(self) -> None:
        """Raises ``Cancelled`` where somebody cancelled before the phase began, or this agent is being stopped."""
        if self.cancelled:
            raise Cancelled(f"cancelled before {self._phase}")
        if self._agent.draining:
            self.stopped_for = Stop.DRAIN
            raise stopped(Stop.DRAIN)

    @property
    def gives_way_to(self) -> str:
        """The host whose agent is being stopped."""
        return self.evicting or self._agent.host.name

    def progress(self, progress: Progress) -> None:
        """Report how far perform is; written at most twice a second."""
        if self._phase is Phase.PERFORM:
            self._agent.leaving.at(self._token, progress)
        self._last = progress
        self._beat(progress)

    def stop(self) -> Stop | None:
        """Whether somebody cancelled, the deadline is over, or an agent of the two hosts waits no longer."""
        self._beat(None)
        if self.cancelled:
            self.stopped_for = Stop.CANCEL
        elif self.stopped_for is None:
            if self._deadline is not None and time.monotonic() > self._deadline:
                self.stopped_for = Stop.DEADLINE
            elif self._agent.evicting or self.evicting:
                self.stopped_for = Stop.DRAIN
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
        """The oldest of an operator's wishes that the last beat brought and that was not handed out yet."""
        for wish in self._wishes:
            told = json.loads(wish)
            # A kind that only a newer scheduler knows stays until it is too late.
            if told["tuning"] not in self._handed and told["kind"] in list(TuningKind):
                self._handed[told["tuning"]] = wish
                return Tuning(told["tuning"], TuningKind(told["kind"]), told["value"] or 0)
        return None

    def tuned(self, tuning: Tuning, error: HypervisorError | None) -> None:
        """Note in the event stream what became of a wish, and count it."""
        result = "failed" if error else "done"
        metrics.tunings.labels(self._agent.host.profile, tuning.kind, result).inc()
        wish = self._handed[tuning.id]
        failure = {"code": error.code, "message": error.message} if error else None
        self._tell(Note("tuned", json.loads(wish) | {"error": failure}, wish))

    def stalled(self, stall: Stall, action: StallAction, detail: str) -> None:
        """Note a stall in record and event stream, and count it."""
        metrics.stalls.labels(self._agent.host.profile, stall.kind, action).inc()
        logger.warning("stalled", migration=self._baton.migration, kind=stall.kind, action=action, why=stall.reason)
        self._tell(Note("stalled", asdict(measured(stall, self._last)) | {"action": action, "detail": detail}))

    def settle(self) -> None:
        """Tell what could not be told while Redis was away; waits for it. Raises ``Ignore`` as ``patiently`` does."""
        while self._untold:
            note = self._untold[0]
            patiently(self._agent.journal.note, self._baton.migration, self._token, note.kind, note.told, note.wish)
            self._untold.pop(0)

    def over(self) -> None:
        """The phase has ended, however it did: the host's gauges forget it."""
        self._agent.leaving.over(self._token)

    def _tell(self, note: Note) -> None:
        self._untold.append(note)
        self._tell_all()

    def _tell_all(self) -> None:
        try:
            while self._untold:
                note = self._untold[0]
                self._agent.journal.note(self._baton.migration, self._token, note.kind, note.told, note.wish)
                self._untold.pop(0)
        except (LostClaim, redis.RedisError) as lost:
            logger.warning("not journaled yet", migration=self._baton.migration, error=type(lost).__name__)

    def _beat(self, progress: Progress | None) -> None:
        now = time.monotonic()
        if now - self._beaten < BEAT_SECONDS and (self._begun or not progress):
            return
        self._beaten = now
        journal, ident = self._agent.journal, self._baton.migration
        told = asdict(progress) if progress else None
        noting = progress is not None and self._pace.worth_noting(progress, now)
        try:
            heard = journal.progress(ident, self._token, told, noting, self._shown(progress))
            self.cancelled, self.evicting, self._wishes = heard
            if progress:
                self._begun = True
                if noting:
                    self._pace.noted(progress, now)
            self._tell_all()
        except LostClaim:
            # A superseded perform goes on until it ends: stopping it is for whoever took over.
            logger.warning("superseded", migration=ident, phase=self._phase)
        except Exception as lost:  # the guest's move does not depend on Redis
            logger.warning("progress not journaled", migration=ident, error=type(lost).__name__)

    def _shown(self, progress: Progress | None) -> Shown:
        if progress is None:
            return "", "", 0
        return dispatch.shown(self._baton.migration, self._phase, self._agent.host.name, progress, progress.description)
