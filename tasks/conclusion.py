"""The end of an attempt, carried out: journal, metrics, and what ``AsyncResult`` gets."""

from __future__ import annotations

from typing import Any, NoReturn

import structlog
from celery.exceptions import Ignore

from tasks import attempt, dispatch, recovery, results
from tasks.attempt import Conclusion, Ending
from tasks.watch import patiently
from worker import metrics
from worker.agent import Agent
from worker.contract import RECOVER, Baton, ErrorInfo
from worker.hypervisors.base import Domain, DomainState, Phase
from worker.journal.record import Record

logger = structlog.get_logger(__name__)

MEASURED = ("downtime_seconds", "transferred_bytes", "total_seconds", "iterations")
"""What perform, finish or, after confirm, the source measured (``base.Measured``): fields of baton and record."""


def reach(agent: Agent, baton: Baton, token: str, told: dict[str, Any]) -> dict[str, Any]:
    """End the attempt. Returns the migration's result document where the domain moved.

    Raises ``Failed`` or ``Cancelled`` where it stayed, and ``Ignore`` where another attempt follows, somebody
    else has concluded, or both hosts have to be looked at first.
    """
    concluded = attempt.conclude(baton, agent.host.profile)
    if concluded.ending is Ending.IN_DOUBT:
        look_again(agent, baton, token, told, Phase.CONFIRM, "running", concluded.why)
    return carry_out(agent, baton, token, told, concluded)


def carry_out(agent: Agent, baton: Baton, token: str, told: dict[str, Any], concluded: Conclusion) -> dict[str, Any]:
    """End the attempt as concluded. Raises as ``reach`` does, and ``InDoubt`` where an operator is to look."""
    metrics.attempts.labels(agent.host.profile, concluded.ending).inc()
    if concluded.ending is Ending.MOVED:
        return _moved(agent, baton, token, told, concluded)
    if concluded.ending is Ending.AGAIN:
        _again(agent, baton, token, told, concluded)
    if concluded.ending is Ending.IN_DOUBT:
        _in_doubt(agent, baton, token, told, concluded)
    _gave_up(agent, baton, token, told, concluded)


def look_again(
    agent: Agent, baton: Baton, token: str, told: dict[str, Any], phase: Phase, step: str, why: str
) -> NoReturn:
    """What both sides showed does not add up, or the next phase cannot run: recovery, the destination first."""
    now = patiently(agent.journal.now)
    at = baton.destination
    looking = recovery.recovering(baton, phase, step, why, now, at=at, dead=baton.dead)
    patiently(agent.journal.advance, baton.migration, token, RECOVER, dispatch.text(looking), told, {}, 500, at)
    logger.warning("recovering", migration=baton.migration, domain=baton.domain, why=why)
    dispatch.send_recover(agent.inventory, looking.document())
    raise Ignore


def _moved(agent: Agent, baton: Baton, token: str, told: dict[str, Any], concluded: Conclusion) -> dict[str, Any]:
    state = baton.destination_state or DomainState.UNKNOWN
    domain = Domain(baton.move.destination_name, baton.uuid, state)
    warning = concluded.error.message if concluded.error else None
    record = _conclude(agent, baton, token, told, {"outcome": "succeeded", "warning": warning}, domain)
    logger.info("moved", migration=baton.migration, domain=baton.domain, to=baton.destination)
    return results.deliver(agent.journal, record)


def _gave_up(agent: Agent, baton: Baton, token: str, told: dict[str, Any], concluded: Conclusion) -> NoReturn:
    error = _error(concluded)
    outcome = "cancelled" if error.cancelled else "failed"
    fields: dict[str, str | int | float | None] = {
        "outcome": outcome,
        "reason": error.code,
        "error": error.message,
        "error_phase": error.phase,
    }
    record = _conclude(agent, baton, token, told, fields, None)
    logger.info(outcome, migration=baton.migration, domain=baton.domain, phase=error.phase, code=error.code)
    results.deliver(agent.journal, record)
    raise AssertionError(f"{outcome} is raised")


def _again(agent: Agent, baton: Baton, token: str, told: dict[str, Any], concluded: Conclusion) -> NoReturn:
    error = _error(concluded)
    fields: dict[str, str | int | float | None] = {}
    if attempt.gave_way(error):  # what waits is admitted when that host's agent is back, and not before
        pause, description = 0.0, error.message
        fields["attempts_allowed"] = _allowed(agent, baton) + 1
    else:
        pause = attempt.pause_before(baton.attempt, agent.settings.attempts)
        description = f"attempt {baton.attempt} failed ({error.code}); the next in {pause:.0f} s"
    event = {
        "attempt": baton.attempt,
        "delay_seconds": round(pause, 3),
        "code": error.code,
        "class": error.after,
        "message": error.message,
    }
    shown = dispatch.shown(baton.migration, Phase.BEGIN, agent.host.name, description=description)
    patiently(agent.journal.backoff, baton.migration, token, told, fields, pause, event, shown)
    logger.info("another attempt", migration=baton.migration, code=error.code, delay_seconds=round(pause, 3))
    raise Ignore


def _allowed(agent: Agent, baton: Baton) -> int:
    """So many attempts in all, as the record has it now; while a phase is ours nobody else changes that."""
    record = patiently(agent.journal.record, baton.migration)
    return record.attempts_allowed if record else baton.attempt


def _in_doubt(agent: Agent, baton: Baton, token: str, told: dict[str, Any], concluded: Conclusion) -> NoReturn:
    error = _error(concluded)
    text = f"{concluded.why}; first error: {error.message} ({error.phase}, {error.code})"
    fields = {"reason": error.code, "error": text}
    event = {
        "source": baton.source,
        "source_state": baton.source_state,
        "destination": baton.destination,
        "destination_state": baton.destination_state,
        "why": text,
    }
    raised = results.in_doubt(baton.domain, baton.source, baton.destination, text)
    shown = results.shown(baton.migration, raised)
    patiently(agent.journal.doubt, baton.migration, token, told, fields, event, shown)
    logger.error("in doubt", migration=baton.migration, domain=baton.domain, why=concluded.why)
    raise raised


def _error(concluded: Conclusion) -> ErrorInfo:
    if concluded.error is None:
        raise AssertionError("only a moved domain has no error")
    return concluded.error


def _conclude(
    agent: Agent,
    baton: Baton,
    token: str,
    told: dict[str, Any],
    fields: dict[str, str | int | float | None],
    moved: Domain | None,
) -> Record:
    """Write the terminal record, which counts the outcome; whoever wins that observes what was measured."""
    if moved:
        fields |= {name: getattr(baton, name) for name in MEASURED}
    won, record = patiently(
        agent.journal.conclude, baton.migration, token, told, fields, agent.settings.keep_seconds, moved
    )
    if won:
        metrics.record_end(
            record.driver,
            record.outcome,
            record.seconds,
            record.downtime_seconds,
            record.transferred_bytes,
            record.total_seconds,
            record.iterations,
        )
    return record
