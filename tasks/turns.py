"""Whose turn it is: the rounds in which what waits gets its slots, and what the queue looks like is shown."""

from __future__ import annotations

import time

import structlog

from tasks import cordons, dispatch
from worker import metrics, trace
from worker.contract import Priority
from worker.runtime import Runtime
from worker.scheduler import on_round

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
"""How often the leading scheduler compares slots with records, and shows the queue."""


@on_round
def admit_ready(parts: Runtime) -> None:
    """Start what waits for slots or for its next attempt, in the order of ``next.lua``, as far as there is room."""
    journal, inventory = parts.journal, parts.inventory
    waiting = {state: journal.count(state) for state in ("pending", "due", "doubt")}
    for state, number in waiting.items():
        metrics.waiting.labels(state).set(number)
    if not waiting["pending"] and not waiting["due"]:
        return
    for ident in journal.choose(inventory.terms):
        _admit(parts, ident)


def _admit(parts: Runtime, ident: str) -> None:
    journal, inventory = parts.journal, parts.inventory
    record = journal.record(ident)
    if record is None:
        return
    if inventory[record.destination].settings.cordoned:
        cordons.turn_away(parts, record)
        return
    baton = dispatch.first_baton(record)
    terms = inventory.terms.text(record.source, record.destination)
    answer, *told = journal.admit(ident, baton.attempt, dispatch.text(baton), terms)
    if answer == "OK":
        if baton.attempt == 1:
            metrics.admission_wait_seconds.labels(record.priority).observe(int(told[0]) / 1000)
        with trace.bound(record.traceparent):
            dispatch.send(inventory, baton.document())
    elif answer == "CORDONED":
        cordons.turn_away(parts, record)


class Caretaker:
    """What the leading scheduler does now and then, and where it was."""

    def __init__(self) -> None:
        self._looked = -LOOK_SECONDS
        self._cursor = 0

    def look(self, parts: Runtime, now: float) -> None:
        """Give back what nobody gave back, and show the queue; at most every five seconds."""
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        self._cursor, given_back = parts.journal.sweep(parts.inventory.terms, self._cursor)
        for each in given_back:
            ident, _, slots = each.partition(" ")
            logger.warning("a slot was given back that no active migration holds", migration=ident, slots=slots)
        show_queue(parts)
        show_slots(parts)
        show_doubts(parts)
        show_leases(parts)


_caretaker = Caretaker()


@on_round
def take_care(parts: Runtime) -> None:
    """Compare slots with records, and show the queue."""
    _caretaker.look(parts, time.monotonic())


def show_queue(parts: Runtime) -> None:
    """How many wait, and for how long the oldest does, by priority."""
    found, now = parts.journal.census(), parts.journal.now()
    for priority in Priority:
        number, since = found.get(priority, (0, now))
        metrics.pending.labels(priority).set(number)
        metrics.pending_oldest_seconds.labels(priority).set(max(0.0, now - since))


def show_doubts(parts: Runtime) -> None:
    """How many are in doubt, and for how long the first of them has been."""
    number, since = parts.journal.doubts()
    metrics.in_doubt.show({(): number})
    metrics.in_doubt_oldest_seconds.show({(): 0.0 if since is None else max(0.0, parts.journal.now() - since)})


def show_leases(parts: Runtime) -> None:
    """How old the agents' leases are, and how often two wanted the same host."""
    ages = parts.journal.lease_ages(parts.inventory, parts.settings.lease_seconds)
    metrics.lease_age_seconds.show({(host,): age for host, age in ages.items()})
    contests = dict.fromkeys(parts.inventory, 0) | parts.journal.contests()
    metrics.lease_conflicts.show({(host,): number for host, number in contests.items()})


def show_slots(parts: Runtime) -> None:
    """How many slots are taken, and of how many."""
    told = parts.journal.limits(parts.inventory.terms)
    for host, both in told["hosts"].items():
        for direction, name in (("out", "outgoing"), ("in", "incoming")):
            metrics.slots_used.labels(host, direction).set(both[name]["used"])
            metrics.slots_limit.labels(host, direction).set(both[name]["limit"])
    for network, room in told["networks"].items():
        metrics.network_slots_used.labels(network).set(room["used"])
        metrics.network_slots_limit.labels(network).set(room["limit"])
