"""The five phases as tasks: claim in the journal, call the hypervisor, store the result, go on.

A phase that fails does not raise into the chain: it marks the baton with the first error, and the later
phases undo. Only the last one, confirm, ends the migration and raises.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Ignore
from pydantic import ValidationError

from tasks import attempt, conclusion, dispatch, reconcile
from tasks.watch import JournalWatch, patiently
from tasks.work import WORK, move_of, tell
from worker import metrics
from worker.agent import Agent, current
from worker.app import app
from worker.contract import PHASE, RECOVER, Baton, ErrorInfo, canonical
from worker.errors import DRAINED, Cancelled, Failed, HypervisorError, RelayError, Retry
from worker.hypervisors.base import Phase, Stop
from worker.journal import Claim, Record

logger = structlog.get_logger(__name__)

HANDOFF = 500
REPUBLISH = 2000
"""Milliseconds after which a queued phase is sent again; the guest waits for finish and confirm."""


def run(task: Task[..., Any], phase: Phase, raw: dict[str, Any]) -> dict[str, Any]:
    """One phase from message to message. Raises ``Ignore`` where the phase is not ours to run."""
    agent = current()
    token = uuid.uuid4().hex
    with agent.running.phase(token, str(raw.get("migration")), phase):
        return _run(task, agent, phase, raw, token)


def _run(task: Task[..., Any], agent: Agent, phase: Phase, raw: dict[str, Any], token: str) -> dict[str, Any]:
    baton, claim = claimed(agent, phase, raw, token)
    watch = JournalWatch(agent, baton, phase, token, claim.cancel)
    watch.waited_seconds = claim.queued_seconds
    started = time.perf_counter()
    try:
        # Where Redis forgot its last second, what was done then is asked for again.
        after = agent.running.kept(phase, baton) or _attempted(agent, phase, baton, watch)
    finally:
        watch.over()
    if after.cancelled and phase in (Phase.FINISH, Phase.CONFIRM):
        tell(agent, after)
    seconds = round(time.perf_counter() - started, 6)
    failed = after.error if after.error != baton.error else None
    metrics.phase_seconds.labels(agent.host.profile, phase, "failed" if failed else "succeeded").observe(seconds)
    told = {"phase": phase, "host": agent.host.name, "attempt": baton.attempt, "seconds": seconds}
    told["queued_seconds"] = claim.queued_seconds
    if failed:
        told |= {"error": failed.code, "message": failed.message}
    if phase is Phase.CONFIRM:
        return conclusion.reach(agent, after, token, told)
    agent.running.keep(phase, after)
    try:
        watch.settle()
        _advance(task, agent, after, token, told, phase, failed is not None)
    except Ignore:
        reconcile.restore(agent, after, phase)
        if phase is Phase.PREPARE and not after.cancelled:
            _drop(agent, after, watch)
        raise
    return after.document()


def _drop(agent: Agent, after: Baton, watch: JournalWatch) -> None:
    """Undo a prepare whose attempt has ended without it: libvirt keeps what it made as long as this agent lives."""
    record = patiently(agent.journal.record, after.migration)
    if record is None or not (record.state in ("ended", "backoff") or _lets_go(record, after)):
        return  # whoever carries the attempt on looks here first
    try:
        agent.hypervisor.finish(move_of(agent, after), b"", True, watch)
    except RelayError as error:
        logger.warning("not dropped", migration=after.migration, code=error.code)


def _lets_go(record: Record, after: Baton) -> bool:
    """Whether a recovery is about to end the attempt on its source, without this host."""
    return record.phase == Phase.CONFIRM and (record.attempt, record.epoch) == (after.attempt, after.epoch + 1)


def claimed(agent: Agent, phase: str, raw: dict[str, Any], token: str) -> tuple[Baton, Claim]:
    """The baton and the claim of a phase, or of a recovery. Raises ``Ignore`` where it is not ours."""
    try:
        baton = Baton.model_validate(raw)
    except ValidationError:
        logger.warning("malformed phase message dropped", phase=phase)
        raise Ignore from None
    name = agent.host.name
    if name != _place(phase, baton) or not agent.await_lease():
        logger.warning("phase message not for this agent", migration=baton.migration, phase=phase, host=name)
        raise Ignore
    if phase != RECOVER and (busy := agent.running.holding(baton.migration, token)):
        # Only where Redis forgot a claim; the message is sent again until that phase has ended.
        logger.warning("phase message too early", migration=baton.migration, phase=phase, running=busy)
        metrics.claims.labels(phase, "busy").inc()
        raise Ignore
    claim = patiently(
        agent.journal.claim,
        baton.migration,
        baton.attempt,
        baton.epoch,
        phase,
        canonical(raw),
        token,
        name,
        dispatch.shown(baton.migration, phase, name),
        agent.incarnation,
    )
    metrics.claims.labels(phase, claim.verdict.lower()).inc()
    if not claim.won:
        logger.info("claim not won", migration=baton.migration, phase=phase, verdict=claim.verdict)
        raise Ignore
    agent.running.won(token)
    metrics.queue_wait_seconds.labels(phase).observe(claim.queued_seconds)
    if phase == Phase.FINISH and not baton.cancelled:
        metrics.handoff_seconds.observe(claim.queued_seconds)
    return baton, claim


def _place(phase: str, baton: Baton) -> str:
    """The host on which a phase runs, or a recovery looks next."""
    if phase == RECOVER:
        return baton.recovery.at if baton.recovery else ""
    return baton.source if Phase(phase).on_source else baton.destination


def _attempted(agent: Agent, phase: Phase, baton: Baton, watch: JournalWatch) -> Baton:
    """The baton after the phase's work; an error is in it, not raised."""
    forward = phase in (Phase.BEGIN, Phase.PREPARE, Phase.PERFORM)
    try:
        if forward:
            watch.refuse_to_start()
        if phase is Phase.PERFORM:
            baton = baton.model_copy(update={"performed": True})
        return WORK[phase](agent, baton, watch)
    except Cancelled as stopped:
        return _stopped(baton, stopped, watch.stopped_for, phase, watch.gives_way_to)
    except RelayError as error:
        return _with_error(baton, error, phase)
    except Exception as error:
        logger.exception("unexpected error in a phase", migration=baton.migration, phase=phase)
        text = f"{type(error).__name__} in {phase} on {agent.host.name}; its agent's log has the details"
        bug = HypervisorError(text, code="internal", retry=Retry.VERIFY, after=Retry.OPERATOR)
        return _with_error(baton, bug, phase)


def _stopped(baton: Baton, stopped: Cancelled, asked: Stop | None, phase: Phase, host: str = "") -> Baton:
    """Nobody cancelled what stalled or took too long: that has failed, and another attempt would do the same.

    What gave way to the agent of ``host`` being stopped gets another attempt, unless somebody cancelled as well.
    """
    if stopped.code == "stalled":
        return _with_error(baton, Failed(stopped.message, code="stalled"), phase)
    if stopped.code == "deadline" or asked is Stop.DEADLINE:
        limit = f" of {baton.deadline_seconds:g} s" if baton.deadline_seconds else ""
        late = Failed(f"perform took longer than its deadline{limit}; the domain is on its source", code="deadline")
        return _with_error(baton, late, phase)
    if stopped.code == DRAINED and asked is not Stop.CANCEL:
        text = f"the agent of {host} is being stopped; the domain is on its source, and moves when that agent is back"
        return _with_error(baton, HypervisorError(text, code=DRAINED, retry=Retry.TRANSIENT), phase)
    if stopped.code == DRAINED:
        stopped = Cancelled(stopped.message)
    return baton.model_copy(update={"error": ErrorInfo.of(stopped, phase, cancelled=True)})


def _with_error(baton: Baton, error: RelayError, phase: Phase) -> Baton:
    return baton.model_copy(update={"error": baton.error or ErrorInfo.of(error, phase)})


def _advance(
    task: Task[..., Any], agent: Agent, baton: Baton, token: str, told: dict[str, Any], phase: Phase, failed: bool
) -> None:
    following = attempt.following(phase, failed)
    if following is None:
        raise AssertionError("confirm concludes")
    host = baton.source if following.on_source else baton.destination
    if host in baton.dead:
        conclusion.look_again(agent, baton, token, told, following, "queued", f"{host} is assumed dead")
    fields = {name: getattr(baton, name) for name in conclusion.MEASURED}
    patience = REPUBLISH if following in (Phase.PREPARE, Phase.PERFORM) else HANDOFF
    advanced = (baton.migration, token, following, dispatch.text(baton), told, fields, patience, host)
    for kind in patiently(agent.journal.advance, *advanced):
        metrics.tunings.labels(agent.host.profile, kind, "too-late").inc()
    if following is Phase.CONFIRM and task.request.chain:
        # The chain is kept in reverse: its first entry is confirm, the last task.
        task.request.chain = task.request.chain[:1]


class PhaseTask(Task[..., Any]):
    """What the five have in common."""

    typing = False
    throws = (RelayError,)
    resultrepr_maxsize = 64
    """Events and logs show no more of a baton than this."""

    def apply_async(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - Celery's own signature
        """Publish the phase with its own priority; a chain's next step arrives here with ``None``."""
        phase = Phase(str(self.name).removeprefix(PHASE))
        return super().apply_async(*args, **options | {"priority": dispatch.PRIORITIES[phase]})


@app.task(bind=True, base=PhaseTask, name=PHASE + Phase.BEGIN)
def begin(self: Task[..., Any], baton: dict[str, Any]) -> dict[str, Any]:
    """Source: domain definition and first cookie."""
    return run(self, Phase.BEGIN, baton)


@app.task(bind=True, base=PhaseTask, name=PHASE + Phase.PREPARE)
def prepare(self: Task[..., Any], baton: dict[str, Any]) -> dict[str, Any]:
    """Destination: migration URI and cookie."""
    return run(self, Phase.PREPARE, baton)


@app.task(bind=True, base=PhaseTask, name=PHASE + Phase.PERFORM)
def perform(self: Task[..., Any], baton: dict[str, Any]) -> dict[str, Any]:
    """Source: the guest moves."""
    return run(self, Phase.PERFORM, baton)


@app.task(bind=True, base=PhaseTask, name=PHASE + Phase.FINISH)
def finish(self: Task[..., Any], baton: dict[str, Any]) -> dict[str, Any]:
    """Destination: the guest runs here."""
    return run(self, Phase.FINISH, baton)


@app.task(bind=True, base=PhaseTask, name=PHASE + Phase.CONFIRM)
def confirm(self: Task[..., Any], baton: dict[str, Any]) -> dict[str, Any]:
    """Source: the guest has left. The last task: it carries the migration's id and its outcome.

    Celery stores no result of it either: the journal does, in the end of the migration (``tasks/results.py``).
    """
    return run(self, Phase.CONFIRM, baton)
