"""Rolling: hosts are drained one after the other; each is waited for, and gets its guests back before the next.

A roll is moved on by the leading scheduler's rounds. What follows from what is seen is pure (``decide``), each step is
one compare-and-set, and the batches of a roll have ids that follow from it: whoever is killed when, the next round goes
on where this one was, and nothing is done twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import structlog

from tasks import bulk
from worker import metrics
from worker.contract import DrainRequest, ReturnRequest
from worker.errors import Rejected
from worker.journal.batch import Batch
from worker.journal.hosts import closed
from worker.journal.rolls import OPEN, Roll
from worker.runtime import Runtime
from worker.scheduler import on_round

logger = structlog.get_logger(__name__)

SHARED = ("priority", "migration", "requested_by", "reason", "traceparent")
"""What a roll asks of each of its batches."""
MOST_NAMED = 5
"""So many guests are named where a roll stops; the batch has all of them."""


class Do(Enum):
    """What a round does that is no step of the roll."""

    NOTHING = "nothing"
    BEGIN = "begin the batch of this step"


@dataclass(frozen=True, slots=True)
class Step:
    """A step that a roll takes."""

    kind: str
    """The event that tells of it."""
    fields: Mapping[str, Any]
    """What is different after it."""
    told: Mapping[str, Any] = field(default_factory=dict)


def decide(roll: Roll, batch: Batch | None, agent: Mapping[str, Any] | None) -> Step | Do:
    """What follows for a roll, given the batch of its step and the live agent of its host. Pure."""
    if roll.state != "running":
        return Do.NOTHING
    if roll.step == "wait":
        ready = roll.request.get("wait") == "agent" and not closed(agent) and _incarnation(agent) != roll.incarnation
        return going_back(roll, "its agent was started anew") if ready else Do.NOTHING
    if roll.step == "return":
        if closed(agent):
            return Do.NOTHING  # nobody can come home, and the next host is not drained, until it is back
        if not roll.request.get("back", True):
            return _next(roll, None)
    if batch is None:
        return Do.BEGIN
    if batch.state != "finished":
        return Do.NOTHING
    return _next(roll, batch) if roll.step == "return" else _drained(roll, batch, agent)


def _incarnation(agent: Mapping[str, Any] | None) -> str:
    return str(agent["incarnation"]) if agent else ""


def _drained(roll: Roll, batch: Batch, agent: Mapping[str, Any] | None) -> Step:
    if staying := batch.staying:
        names = ", ".join(f"{left['domain']} ({left['why']})" for left in staying[:MOST_NAMED])
        more = f" and {len(staying) - MOST_NAMED} more" if len(staying) > MOST_NAMED else ""
        return stopped(roll, f"{len(staying)} of {roll.host}'s guests could not leave it: {names}{more}")
    fields = {"step": "wait", "tries": 1, "incarnation": _incarnation(agent)}
    return Step("drained", fields, {"host": roll.host, "moved": batch.moved, "batch": batch.id})


def stopped(roll: Roll, why: str) -> Step:
    """The roll goes on when somebody says so."""
    return Step("stopped", {"state": "stopped", "why": why}, {"host": roll.host, "why": why})


def going_back(roll: Roll, why: str) -> Step:
    """The drained host is ready."""
    return Step("ready", {"step": "return", "tries": 1}, {"host": roll.host, "why": why})


def _next(roll: Roll, batch: Batch | None) -> Step:
    """A host has its guests back, as far as they could come: that some could not is told, and holds up nobody."""
    away = (batch.failed + batch.skipped, len(batch.left)) if batch else (0, 0)
    note = (
        f"{max(away)} of {roll.host}'s guests did not come home: vmrelay batch show {roll.batch}" if any(away) else ""
    )
    last = roll.at + 1 >= len(roll.hosts)
    fields: dict[str, Any] = {"at": roll.at + 1, "step": "drain", "tries": 1, "incarnation": ""}
    if note:
        fields["notes"] = (*roll.notes, note)
    told = {"host": roll.host, "back": batch.moved if batch else 0} | ({"note": note} if note else {})
    return Step("finished" if last else "returned", fields | ({"state": "finished"} if last else {}), told)


@on_round
def go_on(parts: Runtime) -> None:
    """Move on every roll that is not over."""
    rolls = [roll for ident in parts.journal.open_rolls() if (roll := parts.journal.roll(ident))]
    states = Counter(roll.state for roll in rolls)
    for state in OPEN:
        metrics.rolls.labels(state).set(states[state])
    for roll in rolls:
        if roll.state != "running":
            continue
        try:
            advance(parts, roll)
        except (KeyError, ValueError) as error:  # a roll of another version, say: the others must not wait for it
            logger.warning("roll not moved on", roll=roll.id, error=f"{type(error).__name__}: {error}"[:500])


def advance(parts: Runtime, roll: Roll) -> None:
    """Do what follows for a roll."""
    if roll.host not in parts.inventory:
        take(parts, roll, stopped(roll, f"{roll.host} is no longer in the inventory; cancel the roll"))
        return
    agent = parts.journal.agents([roll.host]).get(roll.host)
    follows = decide(roll, parts.journal.batch(roll.batch), agent)
    if follows is Do.BEGIN:
        try:
            _begin(parts, roll)
        except Rejected as refusal:
            take(parts, roll, stopped(roll, refusal.message))
    elif isinstance(follows, Step):
        if roll.step == "return" and not roll.request.get("back", True):
            parts.journal.uncordon(roll.host)
        take(parts, roll, follows)


def _begin(parts: Runtime, roll: Roll) -> None:
    """Make the batch of this step; harmless where it is made already. Raises ``Rejected``."""
    asked = {name: value for name, value in roll.request.items() if name in SHARED} | {"hosts": (roll.host,)}
    if roll.step == "return":
        bulk.begin(parts, roll.batch, ReturnRequest.parse(asked))
    else:
        goal = {"goal": roll.request["goal"]} if roll.request.get("goal") else {}
        hold = {"hold": True} if roll.request.get("hold") else {}
        bulk.begin(parts, roll.batch, DrainRequest.parse(asked | goal | hold))
    now = parts.journal.roll(roll.id)
    if now is None or now.is_over:  # cancelled meanwhile: nobody else knows of this batch
        parts.journal.control_batch(roll.batch, "cancel", False, "", f"{roll.batch}.cancel")


def take(parts: Runtime, roll: Roll, step: Step) -> bool:
    """Take a step; false where the roll has taken another one."""
    taken = parts.journal.step_roll(roll, step.fields, step.kind, step.told, parts.settings.keep_seconds)
    if taken:
        logger.info("roll", roll=roll.id, step=step.kind, **step.told)
    return taken
