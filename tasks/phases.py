"""The five phases as tasks: claim in the journal, call the hypervisor, store the result, go on.

A phase that fails does not raise into the chain: it marks the baton with the first error, and the later
phases undo. Only the last one, confirm, ends the migration and raises.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import redis
import structlog
from celery import Task
from celery.exceptions import Ignore
from pydantic import ValidationError

from tasks import attempt, conclusion, dispatch
from tasks.watch import JournalWatch, patiently
from worker import metrics
from worker.agent import Agent, current
from worker.app import app
from worker.contract import PHASE, Baton, ErrorInfo, canonical
from worker.errors import Cancelled, Failed, HypervisorError, RelayError, Retry
from worker.hypervisors.base import DomainState, Phase, Stop
from worker.hypervisors.flags import MigrateFlag
from worker.journal import Claim

logger = structlog.get_logger(__name__)

Work = Callable[[Agent, Baton, JournalWatch], Baton]
HANDOFF = 500
REPUBLISH = 2000
"""Milliseconds after which a queued phase is sent again; the guest waits for finish and confirm."""


def _begin(agent: Agent, baton: Baton, watch: JournalWatch) -> Baton:
    begun = agent.hypervisor.begin(baton.move, watch)
    flags = baton.flags | (MigrateFlag.PAUSED if begun.paused else 0)
    return baton.model_copy(
        update={
            "flags": int(flags),
            "paused": begun.paused,
            "xml": agent.seal.seal(begun.xml.encode(), baton.context("xml")),
            "cookie": agent.seal.seal(begun.cookie, baton.context("cookie")),
        }
    )


def _prepare(agent: Agent, baton: Baton, watch: JournalWatch) -> Baton:
    prepared = agent.hypervisor.prepare(baton.move, _xml(agent, baton), _cookie(agent, baton), watch)
    return baton.model_copy(
        update={"uri": prepared.uri, "cookie": agent.seal.seal(prepared.cookie, baton.context("cookie"))}
    )


def _perform(agent: Agent, baton: Baton, watch: JournalWatch) -> Baton:
    """Move the guest, or (OFFLINE) see that there is none: a definition is moved by the other phases."""
    if baton.flags & MigrateFlag.OFFLINE:
        _refuse_running(agent, baton)
    performed = agent.hypervisor.perform(baton.move, _xml(agent, baton), baton.uri, _cookie(agent, baton), watch)
    return baton.model_copy(
        update={
            "xml": "",
            "cookie": agent.seal.seal(performed.cookie, baton.context("cookie")),
            "downtime_seconds": performed.downtime_seconds,
            "transferred_bytes": performed.transferred_bytes,
        }
    )


def _refuse_running(agent: Agent, baton: Baton) -> None:
    """Raises ``Failed`` where a domain was started before begin took its job; nobody can start it after that.

    libvirt would copy the definition of a running guest, and leave one that can be started a second time.
    """
    seen = agent.hypervisor.inspect(baton.uuid).state
    if seen is not DomainState.SHUTOFF:
        raise Failed(f"{baton.domain} is {seen} on {baton.source}; OFFLINE moves a stopped domain", code="not-offline")


def _finish(agent: Agent, baton: Baton, watch: JournalWatch) -> Baton:
    """Let the guest run here, or see what there is to undo. What it saw travels on as proof."""
    try:
        finished = agent.hypervisor.finish(baton.move, _cookie(agent, baton), baton.cancelled, watch)
    except RelayError as error:
        seen = look(agent, baton)
        first = baton.error or ErrorInfo.of(error, Phase.FINISH)
        return baton.model_copy(update={"error": first, "destination_state": seen})
    measured = {name: getattr(finished, name) for name in conclusion.MEASURED}
    return baton.model_copy(
        update={
            "error": _better_told(baton.error, finished.failure),
            "destination_state": finished.domain.state,
            "cookie": agent.seal.seal(finished.cookie, baton.context("cookie")),
        }
        | {name: value for name, value in measured.items() if value is not None}
    )


def _better_told(first: ErrorInfo | None, failure: HypervisorError | None) -> ErrorInfo | None:
    """The error to report: where the move failed, the destination often knows why, and libvirt prefers its word."""
    if first is None or failure is None or first.cancelled or first.code in ("deadline", "stalled"):
        return first
    return ErrorInfo.of(failure, Phase.FINISH)


def _confirm(agent: Agent, baton: Baton, watch: JournalWatch) -> Baton:
    """Let the source go, or run on where that is proved to be safe; and look at it."""
    undo = baton.cancelled
    begun = not (baton.error and baton.error.phase == Phase.BEGIN)
    if undo and not (begun and attempt.may_undo(baton)):
        return baton.model_copy(update={"source_state": look(agent, baton)})
    try:
        seen = agent.hypervisor.confirm(baton.move, _cookie(agent, baton), undo, watch).state
        if undo and seen in (DomainState.PAUSED_OUT, DomainState.PAUSED) and not baton.paused:
            seen = agent.hypervisor.resume(baton.uuid).state
    except RelayError as error:
        first = baton.error or ErrorInfo.of(error, Phase.CONFIRM)
        return baton.model_copy(update={"error": first, "source_state": look(agent, baton)})
    return baton.model_copy(update={"source_state": seen})


def tell(agent: Agent, baton: Baton) -> None:
    """Publish what is here after a failure: who looks now, or asks again at once, shall not see it migrate."""
    try:
        agent.publish()
    except (RelayError, redis.RedisError) as error:
        logger.warning("domains not published", migration=baton.migration, error=str(error))


def look(agent: Agent, baton: Baton) -> DomainState:
    """What this host shows of the domain now; ``UNKNOWN`` where it does not answer."""
    try:
        return agent.hypervisor.inspect(baton.uuid).state
    except RelayError as error:
        logger.warning("no look at the domain", migration=baton.migration, host=agent.host.name, code=error.code)
        return DomainState.UNKNOWN


def _xml(agent: Agent, baton: Baton) -> str:
    return agent.seal.open(baton.xml, baton.context("xml")).decode()


def _cookie(agent: Agent, baton: Baton) -> bytes:
    return agent.seal.open(baton.cookie, baton.context("cookie"))


WORK: dict[Phase, Work] = {
    Phase.BEGIN: _begin,
    Phase.PREPARE: _prepare,
    Phase.PERFORM: _perform,
    Phase.FINISH: _finish,
    Phase.CONFIRM: _confirm,
}


def run(task: Task[..., Any], phase: Phase, raw: dict[str, Any]) -> dict[str, Any]:
    """One phase from message to message. Raises ``Ignore`` where the phase is not ours to run."""
    agent = current()
    token = uuid.uuid4().hex
    baton, claim = _claimed(agent, phase, raw, token)
    watch = JournalWatch(agent, baton, phase, token, claim.cancel)
    started = time.perf_counter()
    try:
        after = _attempted(agent, phase, baton, watch)
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
    watch.settle()
    _advance(task, agent, after, token, told, phase, failed is not None)
    return after.document()


def _claimed(agent: Agent, phase: Phase, raw: dict[str, Any], token: str) -> tuple[Baton, Claim]:
    try:
        baton = Baton.model_validate(raw)
    except ValidationError:
        logger.warning("malformed phase message dropped", phase=phase)
        raise Ignore from None
    name = agent.host.name
    if name != (baton.source if phase.on_source else baton.destination) or not agent.may_claim:
        logger.warning("phase message not for this agent", migration=baton.migration, phase=phase, host=name)
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
    )
    metrics.claims.labels(phase, claim.verdict.lower()).inc()
    if not claim.won:
        logger.info("claim not won", migration=baton.migration, phase=phase, verdict=claim.verdict)
        raise Ignore
    metrics.queue_wait_seconds.labels(phase).observe(claim.queued_seconds)
    if phase is Phase.FINISH and not baton.cancelled:
        metrics.handoff_seconds.observe(claim.queued_seconds)
    return baton, claim


def _attempted(agent: Agent, phase: Phase, baton: Baton, watch: JournalWatch) -> Baton:
    """The baton after the phase's work; an error is in it, not raised."""
    forward = phase in (Phase.BEGIN, Phase.PREPARE, Phase.PERFORM)
    try:
        if forward:
            watch.refuse_if_cancelled()
        if phase is Phase.PERFORM:
            baton = baton.model_copy(update={"performed": True})
        return WORK[phase](agent, baton, watch)
    except Cancelled as stopped:
        return _stopped(baton, stopped, watch.stopped_for, phase)
    except RelayError as error:
        return _with_error(baton, error, phase)
    except Exception as error:
        logger.exception("unexpected error in a phase", migration=baton.migration, phase=phase)
        text = f"{type(error).__name__} in {phase} on {agent.host.name}; its agent's log has the details"
        bug = HypervisorError(text, code="internal", retry=Retry.VERIFY, after=Retry.OPERATOR)
        return _with_error(baton, bug, phase)


def _stopped(baton: Baton, stopped: Cancelled, asked: Stop | None, phase: Phase) -> Baton:
    """Nobody cancelled what stalled or took too long: that has failed, and another attempt would do the same."""
    if stopped.code == "stalled":
        return _with_error(baton, Failed(stopped.message, code="stalled"), phase)
    if stopped.code == "deadline" or asked is Stop.DEADLINE:
        limit = f" of {baton.deadline_seconds:g} s" if baton.deadline_seconds else ""
        return _with_error(baton, Failed(f"perform took longer than its deadline{limit}", code="deadline"), phase)
    return baton.model_copy(update={"error": ErrorInfo.of(stopped, phase, cancelled=True)})


def _with_error(baton: Baton, error: RelayError, phase: Phase) -> Baton:
    return baton.model_copy(update={"error": baton.error or ErrorInfo.of(error, phase)})


def _advance(
    task: Task[..., Any], agent: Agent, baton: Baton, token: str, told: dict[str, Any], phase: Phase, failed: bool
) -> None:
    following = attempt.following(phase, failed)
    if following is None:
        raise AssertionError("confirm concludes")
    fields = {name: getattr(baton, name) for name in conclusion.MEASURED}
    patience = REPUBLISH if following in (Phase.PREPARE, Phase.PERFORM) else HANDOFF
    text = dispatch.text(baton)
    for kind in patiently(agent.journal.advance, baton.migration, token, following, text, told, fields, patience):
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


@app.task(bind=True, base=PhaseTask, name=PHASE + Phase.CONFIRM, ignore_result=False)
def confirm(self: Task[..., Any], baton: dict[str, Any]) -> dict[str, Any]:
    """Source: the guest has left. The last task: it carries the migration's id and its outcome."""
    return run(self, Phase.CONFIRM, baton)
