"""What ``AsyncResult(id)`` gets in the end: one answer for every way that a migration may end.

The result follows from the record alone, so whoever finds a migration ended can store it: the task that ended
it, a cancel, a recovery, or the leading scheduler for all of them that died before they could. The journal keeps
an outbox of results that are not stored yet (``unshown``), written by the script that ended the record.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import redis
import structlog
from celery import states
from celery.signals import celeryd_init
from kombu.exceptions import KombuError

from worker import metrics
from worker.app import app
from worker.errors import Cancelled, Failed, InDoubt, Rejected, RelayError
from worker.hypervisors.flags import flag_label, resolve
from worker.journal import Journal, Record
from worker.journal.outcomes import Outcome, Shown
from worker.runtime import Runtime
from worker.scheduler import on_round, seldom

logger = structlog.get_logger(__name__)

RESULT_KEY = "celery-task-meta-"
"""Under this and the id Celery keeps a result in Redis; part of its contract with other versions of itself."""

OUTCOMES = ("succeeded", "failed", "cancelled", "rejected")
UNSHOWN_SECONDS = 2.0
"""After so long the leading scheduler stores a result that nobody has stored."""

_node = ""
"""This worker's name; empty where no worker runs."""


def result_of(record: Record) -> dict[str, Any] | RelayError:
    """What a migration that ended or is in doubt comes to: its document, or the error that is raised for it."""
    if record.state == "in-doubt":
        return in_doubt(record.domain, record.source, record.destination, record.error)
    match record.outcome:
        case "succeeded":
            return record.document()
        case "rejected":
            return Rejected(record.error, code=record.reason).with_code()
        case "cancelled":
            return Cancelled(_why(record), code=record.reason)
        case "failed":
            return Failed(_why(record), code=record.reason)
    raise ValueError(f"migration {record.id} is {record.state}: it has no result")


def _why(record: Record) -> str:
    if not record.error_phase:  # cancelled while it waited
        return record.error
    return f"{record.domain} stays on {record.source}: {record.error} ({record.error_phase}, {record.reason})"


def in_doubt(domain: str, source: str, destination: str, why: str) -> InDoubt:
    """The error of a migration that needs an operator; it lasts until the migration is settled after all."""
    return InDoubt(f"{domain}: {why}. Look at {source} and {destination}; nothing was removed or resumed")


def shown(ident: str, result: dict[str, Any] | RelayError, ended: int = 0) -> Shown:
    """A result as Celery's Redis back end writes it; ``ended`` is Redis's clock in milliseconds, 0 for now."""
    state = states.FAILURE if isinstance(result, RelayError) else states.SUCCESS
    at = datetime.fromtimestamp(ended / 1000, UTC) if ended else datetime.now(UTC)
    meta: dict[str, Any] = {
        "status": state,
        "result": app.backend.encode_result(result, state),
        "traceback": None,
        "children": [],
        "date_done": at.isoformat(),
        "task_id": ident,
    }
    return RESULT_KEY + ident, json.dumps(meta), int(app.conf.result_expires)


def store(journal: Journal, record: Record) -> None:
    """Show the final result of a record that ended, also to who listens to events; harmless where it is shown already.

    Raises nothing where Redis is away: the outbox has it still.
    """
    if _show(journal, record):
        announce(record)


def _show(journal: Journal, record: Record) -> bool:
    try:
        return journal.show_result(record.id, shown(record.id, result_of(record), record.ended))
    except redis.RedisError as lost:
        logger.warning("result left in the outbox", migration=record.id, error=type(lost).__name__)
    return False


def deliver(journal: Journal, record: Record) -> dict[str, Any]:
    """Store the result of a record that ended, and return it. Raises it where it is an error.

    For a task under the migration's own id: Celery announces what it returns or raises.
    """
    _show(journal, record)
    result = result_of(record)
    if isinstance(result, RelayError):
        raise result
    return result


def announce(record: Record) -> None:
    """Send the event that the task under the migration's id would have sent, had it been this one that ended it.

    Without it Flower and celery-exporter would take a migration that was recovered, or cancelled while it waited, for
    one that runs. Nobody waits for it: raises nothing where Redis is away.
    """
    if not (app.conf.worker_send_task_events and _node):
        return
    result = result_of(record)
    fields: dict[str, Any]
    if isinstance(result, RelayError):
        kind, fields = "task-failed", {"exception": repr(result), "traceback": ""}
    else:
        kind, fields = "task-succeeded", {"result": f"(migration {record.id})", "runtime": record.seconds or 0.0}
    try:
        with app.events.default_dispatcher(hostname=_node) as dispatcher:
            dispatcher.send(kind, uuid=record.id, **fields)
    except (KombuError, redis.RedisError, OSError) as lost:
        logger.warning("end not announced", migration=record.id, error=type(lost).__name__)


@celeryd_init.connect(weak=False)
def _remember(sender: str, **_: object) -> None:
    """Events name the worker that sends them; an unknown name would be a worker more in Flower."""
    global _node  # noqa: PLW0603 - one worker for each process
    _node = sender


@on_round
def show_what_is_unshown(parts: Runtime) -> None:
    """Store the results of migrations whose end was journaled by somebody who died before storing them."""
    for ident in parts.journal.unshown(UNSHOWN_SECONDS):
        try:
            record = parts.journal.record(ident)
            if record is not None:
                logger.info("result stored for whoever ended the migration", migration=ident)
                store(parts.journal, record)
        except ValueError as error:  # a record of another version, say: the others must not wait for it
            logger.warning("no result", migration=ident, error=str(error))


@seldom
def show_outcomes(parts: Runtime) -> None:
    """Serve the journal's count of outcomes; of each driver from 0 on, so that a rate sees the first one."""
    drivers = frozenset(host.profile for host in parts.inventory.values())
    metrics.migrations.show(_expected(drivers) | parts.journal.outcomes())


@cache
def _expected(drivers: frozenset[str]) -> dict[Outcome, int]:
    usual = {driver: flag_label(resolve(driver, {})) for driver in drivers}
    return {(driver, usual[driver], outcome, ""): 0 for driver in drivers for outcome in OUTCOMES}
