"""The recovery of an interrupted attempt, as a task that goes back and forth between its two hosts.

Each time it takes a fresh look at its own host, and asks ``recovery.decide``. What is decided is done here, or
where it belongs; most of it is what an ordinary phase does, so the chain simply goes on there.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import structlog
from celery import Task
from celery.exceptions import Ignore

from tasks import conclusion, dispatch, recovery, results
from tasks.attempt import Conclusion, Ending, following
from tasks.phases import claimed
from tasks.recovery import Action, Do, Shown, Side, Stage
from tasks.visit import Case, assume, decided, given_up, has_agent, look, told_of, word
from tasks.watch import JournalWatch, patiently
from tasks.work import move_of, tell
from worker import metrics
from worker.agent import current
from worker.app import app
from worker.contract import PHASE, RECOVER, Baton, ErrorInfo, Look
from worker.errors import Cancelled, Failed, HypervisorError, InDoubt, RelayError, Retry
from worker.hypervisors.base import DomainState, Phase

logger = structlog.get_logger(__name__)

HANDOFF = 500
"""Milliseconds after which a message that nobody took is sent again."""
AWAY, SILENT = "its agent is away", "its hypervisor does not answer"
"""Why a host is waited for."""
MOMENT, WHILE = 300, 1000
"""Milliseconds until what should pass by itself, and a host that did not answer, are looked at again."""
SHARE, MOST_SECONDS = 10.0, 5.0
"""A host that stays silent is looked at after a tenth of its silence, and after five seconds at most."""


@app.task(bind=True, name=PHASE + RECOVER, typing=False, throws=(RelayError,))
def recover(self: Task[..., Any], baton: dict[str, Any]) -> None:
    """One visit of a recovery to this agent's host."""
    agent, token = current(), uuid.uuid4().hex
    with agent.running.phase(token, str(baton.get("migration")), RECOVER):
        taken, claim = claimed(agent, RECOVER, baton, token)
        watch = JournalWatch(agent, taken, Phase.PERFORM, token, claim.cancel)
        side = Side.SOURCE if agent.host.name == taken.source else Side.DESTINATION
        case = Case(agent, taken, token, watch, side)
        try:
            _visit(case)
        except (HypervisorError, Cancelled) as error:
            _trouble(case, error)
        finally:
            watch.over()


def _visit(case: Case) -> None:
    """Look, decide and act until it is the other host's turn or nothing is left to do. Raises ``Ignore`` mostly."""
    kept = case.agent.running.kept(case.known.phase, case.baton, case.known.epoch)
    if kept is not None and not case.known.acted and not case.known.by:
        _use(case, kept)
    case = look(case)
    while True:
        case = assume(case)
        action = decided(case)
        logger.info(
            "recovering",
            migration=case.baton.migration,
            stage=case.stage,
            source=word(case.seen(Side.SOURCE)),
            destination=word(case.seen(Side.DESTINATION)),
            action=action.do,
            why=action.why,
        )
        case = _act(case._replace(decided=(*case.decided, action)), action)


# -- what is done ---------------------------------------------------------------------------------


def _act(case: Case, action: Action) -> Case:
    """Do it. Returns where there is more to do on this host; raises ``Ignore`` where the message goes on."""
    if action.side is not None and action.side is not case.side and action.do is not Do.WAIT:
        _hop(case, action.side)
    metrics.recoveries.labels(case.agent.host.profile, case.stage, action.do).inc()
    match action.do:
        case Do.WAIT:
            _wait(case, action)
        case Do.AGAIN:
            _hop(case, case.side.other, MOMENT)
        case Do.FINISH:
            _go_on(_whole(case), Phase.FINISH)
        case Do.FINISH_CANCELLED:
            _go_on(_failed(case), Phase.FINISH)
        case Do.LET_RUN:
            _go_on(_failed(case), Phase.CONFIRM)
        case Do.MOVED | Do.DIED | Do.ASK:
            _conclude(case, action)
    return HERE[action.do](case, action)


def _adopt(case: Case, _: Action) -> Case:
    """Watch over a move that goes on without its agent."""
    case.agent.hypervisor.follow(move_of(case.agent, case.baton), case.watch)
    return look(case)


def _abort(case: Case, _: Action) -> Case:
    """Stop what goes on without us, and see what it left."""
    move = move_of(case.agent, case.baton)
    case.agent.hypervisor.abort(case.baton.uuid)
    case.agent.hypervisor.follow(move, case.watch)
    stage = Stage.UNDOING if case.stage is Stage.PERFORMING else case.stage
    return look(case.with_(acted=True, stage=stage))


def _resume(case: Case, _: Action) -> Case:
    """Let the guest run on here; the destination was just seen without it."""
    agent, move = case.agent, move_of(case.agent, case.baton)
    seen = agent.hypervisor.confirm(move, b"", True, case.watch).state
    if seen in (DomainState.PAUSED, DomainState.PAUSED_OUT) and not case.baton.paused:
        agent.hypervisor.resume(case.baton.uuid)
    return look(case.with_(acted=True))


def _remove_source(case: Case, action: Action) -> NoReturn:
    """End this host's copy; the guest was just seen on the destination."""
    left = case.agent.hypervisor.release(move_of(case.agent, case.baton))
    now = patiently(case.agent.journal.now)
    _conclude(case.with_(source=Look(shown=left.state, at=now)), action)


def _remove_destination(case: Case, _: Action) -> Case:
    """Forget what is left here; the guest was just seen on the source."""
    case.agent.hypervisor.remove(case.baton.uuid)
    return look(case.with_(acted=True))


HERE: dict[Do, Callable[[Case, Action], Case]] = {
    Do.LOOK: lambda case, _: look(case),
    Do.ADOPT: _adopt,
    Do.ABORT: _abort,
    Do.RESUME_SOURCE: _resume,
    Do.REMOVE_SOURCE: _remove_source,
    Do.REMOVE_DESTINATION: _remove_destination,
}
"""What is done on the spot."""


def _wait(case: Case, action: Action) -> NoReturn:
    """For a host: at its queue if it is the other one, for a while if it is this one."""
    side = action.side or case.side
    away = not has_agent(case, side)
    pause = _patience(case) if side is case.side or not away else 0
    seen = case.seen(side)
    silent = seen is not None and seen.shown is Shown.UNREACHABLE
    _hop(case, side, pause, waiting=AWAY if away else SILENT if silent else action.why)


def _patience(case: Case) -> int:
    """Milliseconds until a host that is silent is looked at again: the longer it is, the more."""
    silent = patiently(case.agent.journal.now) - case.known.still
    return int(min(max(silent / SHARE, 1.0), MOST_SECONDS) * WHILE)


def _hop(case: Case, to: Side, pause: int = 0, waiting: str = "") -> NoReturn:
    """Hand the recovery to a side: now, or by the outbox after a pause (milliseconds). ``waiting``: why it waits."""
    goal = case.host(to)
    if goal != case.agent.host.name and given_up(case, to):
        goal = case.agent.host.name
    on = (_aged(case) if pause or waiting else case).with_(at=goal).baton
    _advance(case, on, RECOVER, goal, pause or HANDOFF)
    if waiting:
        shown = dispatch.shown_waiting(on.migration, RECOVER, goal, waiting)
        patiently(case.agent.journal.waiting, on.migration, on.epoch, goal, waiting, shown)
    if not pause:
        dispatch.send_recover(case.agent.inventory, on.document())
    raise Ignore


def _aged(case: Case) -> Case:
    """After a pause both sides are looked at again, whatever they showed."""
    looks = {"source": case.known.source, "destination": case.known.destination}
    return case.with_(**{side: look and look.model_copy(update={"at": 0.0}) for side, look in looks.items()})


def _go_on(case: Case, phase: Phase) -> NoReturn:
    """The chain goes on at a phase, under the claim of this recovery's epoch."""
    metrics.recovery_seconds.labels(case.agent.host.profile).observe(
        max(patiently(case.agent.journal.now) - case.known.since, 0.0)
    )
    dead = [case.host(side) for side in Side if given_up(case, side)]
    baton = case.baton.model_copy(update={"recovery": None, "recoveries": case.baton.recoveries + 1, "dead": dead})
    _advance(case, baton, phase, recovery.host_of(baton, phase), HANDOFF)
    dispatch.send(case.agent.inventory, baton.document(), phase)
    raise Ignore


def _advance(case: Case, baton: Baton, phase: str, host: str, patience: int) -> None:
    fields = {name: getattr(baton, name) for name in conclusion.MEASURED}
    text = dispatch.text(baton)
    patiently(
        case.agent.journal.advance, baton.migration, case.token, phase, text, told_of(case), fields, patience, host
    )


def _use(case: Case, kept: Baton) -> NoReturn:
    """The interrupted phase has ended here after all, and its agent has what it returned."""
    phase = Phase(case.known.phase)
    after = kept.model_copy(update={"epoch": case.baton.epoch, "recovery": None})
    then = following(phase, after.cancelled)
    assert then is not None  # noqa: S101  (confirm's result is never kept)
    logger.info("the interrupted phase has ended here", migration=after.migration, phase=phase)
    _go_on(case._replace(baton=after.model_copy(update={"recovery": case.known})), then)


def _whole(case: Case) -> Case:
    """To let the destination run it: with perform's cookie where that is known."""
    known = case.stage in (Stage.PERFORMED, Stage.FINISHING)
    return case.with_baton(error=None, performed=True, cookie=case.baton.cookie if known else "", xml="")


def _failed(case: Case) -> Case:
    """To undo: with the first error, or with what interrupted it; and what the destination showed."""
    there = case.seen(Side.DESTINATION)
    return case.with_baton(
        error=case.baton.error or _interruption(case),
        performed=case.stage is not Stage.UNMOVED,
        destination_state=recovery.state_of(there.shown) if there else None,
        xml="",
    )


def _interruption(case: Case) -> ErrorInfo:
    known = case.known
    if case.watch.cancelled:
        return ErrorInfo(
            code="cancelled", message="cancelled while it was recovered", phase=known.phase, cancelled=True
        )
    text = f"{known.phase} on {known.host} was interrupted: {known.why}"
    return ErrorInfo(code="interrupted", message=text, phase=known.phase, retry=Retry.VERIFY, after=Retry.TRANSIENT)


def _conclude(case: Case, action: Action) -> NoReturn:
    """End the attempt from here."""
    source, destination = case.seen(Side.SOURCE), case.seen(Side.DESTINATION)
    states = {
        "source_state": recovery.state_of(source.shown) if source else None,
        "destination_state": recovery.state_of(destination.shown) if destination else None,
        "recovery": None,
    }
    metrics.recovery_seconds.labels(case.agent.host.profile).observe(
        max(patiently(case.agent.journal.now) - case.known.since, 0.0)
    )
    baton, told = case.baton.model_copy(update=states), told_of(case)
    tell(case.agent, baton)
    match action.do:
        case Do.DIED:
            text = f"it stopped during its migration ({action.why}); start it where its disks are, once"
            died = ErrorInfo(code="guest-died", message=text, phase=case.known.phase)
            known = case.baton.error if case.stage is Stage.UNMOVED else None
            ended = Conclusion(Ending.GAVE_UP, action.why, known or died)
        case Do.ASK:
            baton = baton.model_copy(update={"recovery": case.known})
            ended = Conclusion(Ending.IN_DOUBT, action.why, case.baton.error or _interruption(case))
        case _:
            baton = baton.model_copy(update={"error": None})
            ended = Conclusion(Ending.MOVED, action.why)
    with suppress(Failed, Cancelled, InDoubt):  # the journal shows it as the migration's result, not as this task's
        conclusion.carry_out(case.agent, baton, case.token, told, ended)
    record = patiently(case.agent.journal.record, baton.migration)
    if record is not None and record.state in ("ended", "in-doubt"):
        results.announce(record)
    raise Ignore


def _trouble(case: Case, error: HypervisorError | Cancelled) -> NoReturn:
    """An action failed, or gave way to this agent being stopped: what it left is looked at again, after a while."""
    logger.warning("recovery: an action failed", migration=case.baton.migration, code=error.code, error=error.message)
    time_left = case.known.still + recovery.PATIENCE_SECONDS - patiently(case.agent.journal.now)
    if time_left > 0 or isinstance(error, Cancelled) or error.after is Retry.TRANSIENT:
        _hop(case, case.side, WHILE)
    why = f"{error.message} ({error.code})"
    _conclude(look(case), Action(Do.ASK, why))
