"""From the journal to Celery: the chain of an attempt, and the states that ``AsyncResult`` shows."""

from __future__ import annotations

import json
from typing import Any

from celery import chain
from celery.canvas import Signature

from worker.app import app
from worker.contract import PHASE, PROGRESS, Baton, canonical
from worker.hypervisors.base import Phase
from worker.inventory import Host, Inventory
from worker.journal import Record

STEPS = {phase: number for number, phase in enumerate(Phase)}


def limits(inventory: Inventory, source: str, destination: str) -> tuple[int, int]:
    """How many may leave the source and enter the destination at once."""
    return inventory[source].settings.max_outgoing, inventory[destination].settings.max_incoming


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
        last_attempt=attempt >= record.attempts_allowed,
    )


def send(inventory: Inventory, baton: dict[str, Any], first: Phase = Phase.BEGIN) -> None:
    """Publish the phases from ``first`` on as one chain; the last task carries the migration's own id."""
    source, destination = inventory[baton["source"]], inventory[baton["destination"]]
    steps = [_signature(phase, source if phase.on_source else destination) for phase in list(Phase)[STEPS[first] :]]
    steps[-1].set(task_id=baton["migration"])
    whole = chain(*steps) if len(steps) > 1 else steps[0]
    whole.apply_async((baton,))


def _signature(phase: Phase, host: Host) -> Signature[Any]:
    return app.signature(PHASE + phase, queue=host.queue)


def resend(inventory: Inventory, baton: str, phase: str) -> None:
    """Publish what is in the journal's outbox again; a duplicate dies at its claim."""
    send(inventory, json.loads(baton), Phase(phase))


def text(baton: Baton) -> str:
    """A baton as the journal stores it."""
    return canonical(baton.document())


def show(ident: str, phase: Phase, host: str, percent: int = 0, description: str = "") -> None:
    """The state of a migration under way, as ``celery-progress`` and Flower read it."""
    share = {Phase.BEGIN: 0, Phase.PREPARE: 3, Phase.PERFORM: 6, Phase.FINISH: 94, Phase.CONFIRM: 97}[phase]
    current = share + (88 * percent) // 100 if phase is Phase.PERFORM else share
    meta = {
        "current": current,
        "total": 100,
        "percent": current,
        "description": description or f"{phase} on {host}",
        "phase": str(phase),
        "host": host,
    }
    app.backend.store_result(ident, meta, PROGRESS)
