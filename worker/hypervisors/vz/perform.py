"""Perform on the source: one migrate job, watched to its end, and repeated where that is safe."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from worker.errors import Cancelled, HypervisorError, Retry
from worker.hypervisors.base import DomainState, Performed, Progress, RetryPolicy, Stop, Watch
from worker.hypervisors.retry import stopped, with_retries
from worker.hypervisors.vz import codes, cookie
from worker.hypervisors.vz.connection import Connection, Limits, Look, Session, finished, was_not_sent
from worker.hypervisors.vz.events import Events, Tracker
from worker.hypervisors.vz.failure import SdkFailure, from_code, from_job
from worker.hypervisors.vz.following import unattended
from worker.hypervisors.vz.sdk import PRL_ERR_TIMEOUT, Job

log = logging.getLogger(__name__)

LAST_EVENTS_SECONDS = 0.5
"""A waiting thread may wake before the SDK has delivered the last events."""


@dataclass(frozen=True, slots=True)
class Order:
    """The arguments of ``PrlVm_MigrateWithRenameEx``."""

    uuid: str
    host: str
    port: int
    session_uuid: str = field(repr=False)
    """The destination's, in braces."""
    name: str
    flags: int


class Perform:
    """One perform. ``abort`` may be called from another thread."""

    def __init__(
        self,
        connection: Connection,
        events: Events,
        order: Order,
        was: DomainState,
        watch: Watch,
        limits: Limits,
        poll_seconds: float,
        deadline_seconds: float | None,
    ) -> None:
        self._connection = connection
        self._events = events
        self._order = order
        self._was = was
        self._watch = watch
        self._limits = limits
        self._poll = poll_seconds
        self._deadline = None if deadline_seconds is None else time.monotonic() + deadline_seconds
        self._own_cancel: Stop | None = None
        self._job: Job | None = None
        self._failure: HypervisorError | None = None

    def run(self, policy: RetryPolicy) -> Performed:
        """Move the guest.

        Raises ``Cancelled`` where it was asked to stop and the guest is on the source as before, else
        ``HypervisorError``: VERIFY where only a look at both sides can tell.
        """
        try:
            return with_retries(policy, self, self._attempt)
        except Cancelled:
            # the same code means stopped in time and stopped too late: only the source can tell
            self._require_old_state(self._settled())
            raise

    def abort(self) -> None:
        """Ask the running job to stop: a wish of our own, whoever has it."""
        self._own_cancel = self._own_cancel or Stop.CANCEL
        if self._job is not None:
            self._cancel(self._job)

    # What retries see of the watch: a wish to stop, by whomever.

    def stop(self) -> Stop | None:
        """See ``base.Watch``: the caller's wish, an abort, or the deadline."""
        if self._own_cancel is None:
            late = self._deadline is not None and time.monotonic() > self._deadline
            self._own_cancel = self._watch.stop() or (Stop.DEADLINE if late else None)
        return self._own_cancel

    def retrying(self, error: HypervisorError, number: int, delay_seconds: float) -> None:
        """See ``base.Watch``."""
        self._watch.retrying(error, number, delay_seconds)

    def _attempt(self) -> Performed:
        if (stop := self.stop()) is not None:
            raise stopped(stop)
        with self._events.following(self._order.uuid) as tracker:
            job = self._job = self._connection.run(self._submit, repeatable=False)
            try:
                self._wait(job, tracker)
                self._judge(job, tracker)
            finally:
                self._job = None
            if job.get_ret_code() >= 0:
                tracker.finished.wait(LAST_EVENTS_SECONDS)
        return Performed(cookie.from_perform(self._order.uuid), tracker.downtime_seconds, tracker.transferred_bytes)

    def _submit(self, session: Session) -> Job:
        """Make the job, from the same state as the first time: whoever repeats has looked."""
        try:
            look = self._connection.look_in(session, self._order.uuid)
        except SdkFailure as failure:
            if failure.ret_code == codes.CONNECTION_CLOSED:
                raise from_code(codes.NOT_CONNECTED) from failure  # it was only a look: nothing was sent
            raise
        self._require_old_state(look)
        assert look.vm is not None  # noqa: S101  (absent is not the old state)
        order = self._order
        job = look.vm.migrate_with_rename_ex(
            order.host, order.port, order.session_uuid, order.name, "", order.flags, 0, True
        )
        if was_not_sent(job):
            raise from_job(job)
        return job

    def _wait(self, job: Job, tracker: Tracker) -> None:
        """Until the job ends. A cancelled one is given ``limits.stop`` seconds."""
        give_up = float("inf")
        while job.wait(int(self._poll * 1000)) == PRL_ERR_TIMEOUT:
            self._watch.progress(tracker.progress)
            if give_up == float("inf") and self.stop() is not None:
                give_up = time.monotonic() + self._limits.stop
                self._cancel(job)
            if time.monotonic() > give_up:
                raise _doubt(
                    f"the migration was asked to stop and did not end within {self._limits.stop:g} s",
                    "PRL_ERR_TIMEOUT",
                    Retry.OPERATOR,
                )

    def _judge(self, job: Job, tracker: Tracker) -> None:
        """Return where the job succeeded (a cancel that came too late included), else raise."""
        if job.get_ret_code() >= 0:
            return
        failure = self._failure = from_job(job, hide=(self._order.session_uuid,))
        log.info("migrate job of %s failed: %s", self._order.uuid, failure)
        if failure.ret_code == codes.CONNECTION_CLOSED:
            self._follow_unattended(failure, tracker)
            return
        if self._own_cancel is not None:
            raise stopped(self._own_cancel)
        if tracker.started:
            failure.untouched = False
        elif failure.retry is Retry.VERIFY and failure.after is Retry.TRANSIENT:
            # the dispatcher tells before it touches the VM; it was there to tell, and had not
            failure.retry, failure.untouched = Retry.TRANSIENT, True
        raise failure

    def _follow_unattended(self, failure: SdkFailure, tracker: Tracker) -> None:
        """Our session died, the dispatcher's task goes on: watch the VM until it shows how that ended.

        Returns where the source has let go of the VM; finish will see whether it has arrived.
        """
        log.warning("the migration of %s goes on without our session", self._order.uuid)
        last = unattended(
            self._connection,
            self._order.uuid,
            self._watch,
            self.stop,
            tracker,
            self._limits,
            self._poll,
            lambda state: state in (DomainState.ABSENT, self._was),
        )
        if last is not None and last.domain.state is DomainState.ABSENT:
            return
        raise failure if self._own_cancel is None else stopped(self._own_cancel)

    def _cancel(self, job: Job) -> None:
        """``PrlJob_Cancel``: answered at once, followed later; too late is no failure."""
        log.info("cancelling the migration of %s", self._order.uuid)
        try:
            finished(job.cancel(), self._limits.cancel, self._beat)
        except SdkFailure as failure:
            log.info("cancelling by job failed: %s", failure)

    def _settled(self) -> Look:
        """A look at the source once it is at rest; VERIFY where it cannot be looked at."""
        try:
            return self._connection.look_until(
                self._order.uuid,
                self._limits.settle,
                self._poll,
                lambda look: look.domain.state is not DomainState.MIGRATING,
                self._beat,
            )
        except HypervisorError as error:
            text = f"asked to stop, but the source cannot be looked at: {error}"
            raise _doubt(text, error.code, Retry.TRANSIENT) from error

    def _beat(self) -> None:
        self._watch.progress(Progress(description="stopping"))

    def _require_old_state(self, look: Look) -> None:
        state = look.domain.state
        if state is self._was:
            return
        text = f"the source shows the domain {state}, not {self._was} as before the migration"
        if self._failure is not None:
            raise _doubt(f"{text} ({self._failure})", self._failure.code, self._failure.after)
        raise _doubt(text, "VIR_ERR_OPERATION_INVALID", Retry.OPERATOR)


def _doubt(message: str, code: str, after: Retry) -> HypervisorError:
    return HypervisorError(message, code=code, retry=Retry.VERIFY, after=after)
