"""From the journal to Celery: the chain of an attempt, and the states that ``AsyncResult`` shows."""

from __future__ import annotations

import json
from typing import Any

import structlog
from celery.canvas import Signature

from tasks.results import RESULT_KEY
from worker import trace
from worker.app import app
from worker.contract import PHASE, PROGRESS, RECOVER, Baton, canonical
from worker.hypervisors.base import Phase, Progress
from worker.inventory import Host, Inventory
from worker.journal import Record
from worker.journal.outcomes import Shown

logger = structlog.get_logger(__name__)

PRIORITIES = {Phase.BEGIN: 9, Phase.PREPARE: 9, Phase.PERFORM: 6, Phase.FINISH: 0, Phase.CONFIRM: 3}
"""0 goes first: a guest may stand still until finish is served, and nothing waits for a new migration."""
SHARES: dict[str, int] = {Phase.BEGIN: 0, Phase.PREPARE: 3, Phase.PERFORM: 6, Phase.FINISH: 94, Phase.CONFIRM: 97}
"""Where each phase begins, in percent of the migration."""
STEPS = {phase: number for number, phase in enumerate(Phase)}


def first_baton(record: Record) -> Baton:
    """What begin of the record's next attempt gets."""
    attempt = record.attempt + 1
    return Baton(
        migration=record.id,
        attempt=attempt,
        epoch=record.epoch + 1,
        domain=record.domain,
        uuid=record.uuid,
        source=record.source,
        destination=record.destination,
        flags=record.flags,
        params=record.params,
        deadline_seconds=record.deadline_seconds,
        convergence=record.convergence,
        last_attempt=attempt >= record.attempts_allowed,
    )


def send(inventory: Inventory, baton: dict[str, Any], first: Phase = Phase.BEGIN) -> None:
    """Publish the phases from ``first`` on as one chain; the last task carries the migration's own id.

    What cannot be published now stays in the journal's outbox, and is sent again from there.
    """
    source, destination = inventory[baton["source"]], inventory[baton["destination"]]
    steps = [_step(phase, source if phase.on_source else destination) for phase in list(Phase)[STEPS[first] :]]
    steps[-1]["options"]["task_id"] = baton["migration"]
    # What chain.apply_async sends in the end, without its three passes over the signatures: the first task's
    # message holds the others, last one first.
    head, rest = steps[0], steps[:0:-1]
    try:
        head.apply_async((baton,), chain=rest or None)
    except Exception as lost:  # kombu raises more than OperationalError when a connection is cut
        logger.warning("not sent, stays in the outbox", migration=baton["migration"], error=type(lost).__name__)


def _step(phase: Phase, host: Host) -> Signature[Any]:
    # Arguments stay out of headers and events: argsrepr would show the baton there.
    return app.signature(PHASE + phase, options=_options(host))


def _options(host: Host) -> dict[str, Any]:
    return {"queue": host.queue, "argsrepr": "(baton)"} | ({"headers": traced} if (traced := trace.headers()) else {})


def send_recover(inventory: Inventory, baton: dict[str, Any]) -> None:
    """Publish a look at an interrupted attempt, for the host that looks next."""
    host = inventory[baton["recovery"]["at"]]
    try:
        app.signature(PHASE + RECOVER, options=_options(host)).apply_async((baton,))
    except Exception as lost:  # as in ``send``
        logger.warning("not sent, stays in the outbox", migration=baton["migration"], error=type(lost).__name__)


def resend(inventory: Inventory, baton: str, phase: str) -> None:
    """Publish what is in the journal's outbox again; a duplicate dies at its claim."""
    if phase == RECOVER:
        send_recover(inventory, json.loads(baton))
        return
    send(inventory, json.loads(baton), Phase(phase))


def text(baton: Baton) -> str:
    """A baton as the journal stores it."""
    return canonical(baton.document())


SHOWN = (
    "remaining_bytes",
    "bandwidth_bytes_per_second",
    "dirty_bytes_per_second",
    "iteration",
    "expected_downtime_seconds",
)
"""What of a perform's progress the result back end shows besides the percentage."""


def shown(ident: str, phase: str, host: str, progress: Progress | None = None, description: str = "") -> Shown:
    """The state of a migration under way, as ``celery-progress`` and Flower read it.

    The journal's scripts write it, in the form of Celery's Redis back end.
    """
    percent = progress.percent if progress else 0
    share = SHARES.get(phase, SHARES[Phase.PERFORM])
    current = share + (88 * percent) // 100 if phase == Phase.PERFORM else share
    meta: dict[str, object] = {
        "current": current,
        "total": 100,
        "percent": current,
        "description": description or (f"recovering on {host}" if phase == RECOVER else f"{phase} on {host}"),
        "phase": phase,
        "host": host,
    } | ({name: getattr(progress, name) for name in SHOWN} if progress else {})
    result: dict[str, object] = {
        "status": PROGRESS,
        "result": meta,
        "traceback": None,
        "children": [],
        "date_done": None,
        "task_id": ident,
    }
    return RESULT_KEY + ident, json.dumps(result), int(app.conf.result_expires)


def shown_waiting(ident: str, phase: str, host: str, why: str) -> Shown:
    """The same of one that can only go on when a host is back."""
    return shown(ident, phase, host, description=f"waits for {host}: {why}")
