"""Who notices that an attempt is interrupted: each agent for its own host, the leading scheduler for all others."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from pydantic import ValidationError

from tasks import dispatch
from tasks.recovery import Stage, recovering
from tasks.watch import patiently
from worker import metrics, trace
from worker.agent import Agent, on_look
from worker.contract import Baton
from worker.hypervisors.base import Phase
from worker.hypervisors.flags import flag_label
from worker.inventory import Inventory
from worker.journal import Journal, Record
from worker.runtime import Runtime
from worker.scheduler import on_round

logger = structlog.get_logger(__name__)

ROUND_SECONDS = 0.5
"""How often the leading scheduler looks at every active record."""
AWAY = "its agent is away"
PATIENCE = 500
"""Milliseconds after which a look that nobody took is sent again."""


def start(
    journal: Journal, inventory: Inventory, record: Record, why: str, dead: Iterable[str] = (), by: str = ""
) -> bool:
    """Put an interrupted attempt into recovery; false where the record has gone on since it was read.

    Both hosts are looked at, the one that can tell more first, unless its agent is away.
    """
    try:
        baton = Baton.model_validate_json(journal.baton(record.id))
    except ValidationError:
        logger.warning("no baton to recover with", migration=record.id, phase=record.phase)
        return False
    step = record.step or "running"  # in doubt: the phase that ended so
    baton = recovering(baton, record.phase, step, why, journal.now(), at=record.source, dead=dead, by=by)
    assert baton.recovery is not None  # noqa: S101
    at = _first(journal, record, Stage(baton.recovery.stage), dead)
    known = baton.recovery.model_copy(update={"at": at})
    baton = baton.model_copy(update={"recovery": known, "epoch": record.epoch + 1})
    told: dict[str, object] = {
        "phase": record.phase,
        "step": record.step,
        "host": known.host,
        "stage": known.stage,
        "why": why,
        "by": by,
    }
    if dead:
        told["dead"] = known.dead
    fields: dict[str, str] = {"warning": assumed_dead(known.dead, record.domain)} if dead else {}
    if not journal.recover(record, at, dispatch.text(baton), told, PATIENCE, fields):
        return False
    metrics.interrupted.labels(record.driver, record.phase, record.step or "in-doubt").inc()
    with trace.bound(record.traceparent):
        logger.warning("recovering", migration=record.id, domain=record.domain, phase=record.phase, why=why)
        dispatch.send_recover(inventory, baton.document())
    return True


def assumed_dead(hosts: Iterable[str], domain: str) -> str:
    """What everybody has to know of a migration that was settled without a look at a host."""
    names = " and ".join(hosts)
    return f"{names} was assumed dead: before anybody uses it again look for {domain} there"


def _first(journal: Journal, record: Record, stage: Stage, dead: Iterable[str]) -> str:
    order = [record.destination, record.source]
    if stage is Stage.UNMOVED:
        order.reverse()
    order = [host for host in order if host not in dead] or order
    alive = journal.agents(order)
    return next((host for host in order if host in alive), order[0])


@on_look
def own_orphans(agent: Agent) -> None:
    """What the journal says is running here, and is not: before this agent consumes, and every second after."""
    host = agent.host.name
    for record in agent.journal.touching(host):
        running_here = record.state == "active" and record.step == "running" and record.owner == host
        if running_here and record.token not in agent.running:
            same = record.incarnation == agent.incarnation
            why = "its end was not journaled" if same else "its agent ended"
            start(agent.journal, agent.inventory, record, why)


class Absences:
    """Since when the hosts have had no agent, by this process's own clock and only while Redis answers.

    Leases lapse while Redis is away, too, and agents renew them before anybody may draw conclusions.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._last = 0.0

    def update(self, hosts: Iterable[str], alive: Mapping[str, Any], now: float) -> None:
        """One look at the leases; a pause since the one before starts all counts anew."""
        if now - self._last > 10 * ROUND_SECONDS:
            self._since.clear()
        self._last = now
        away = [host for host in hosts if host not in alive]
        self._since = {host: self._since.get(host, now) for host in away}

    def seconds(self, host: str, now: float) -> float:
        """How long a host has been without an agent."""
        return now - self._since.get(host, now)


_absences = Absences()
_looked = 0.0


@on_round
def reconcile(parts: Runtime) -> None:
    """Recover what nobody carries on, and tell what waits for a host."""
    global _looked  # noqa: PLW0603 - rounds have no state of their own
    now = time.monotonic()
    if now - _looked < ROUND_SECONDS:
        return
    _looked = now
    journal, inventory = parts.journal, parts.inventory
    alive = journal.agents(inventory)
    _absences.update(inventory, alive, now)
    waiting = dict.fromkeys(inventory, 0)
    for record in journal.standing():
        away = _absences.seconds(record.owner if record.step == "running" else record.host, now)
        if why := interrupted(record, alive, away, parts.settings.lease_seconds):
            start(journal, inventory, record, why)
        elif record.step == "queued" and record.host in inventory and record.host not in alive and away > 1:
            _waits(journal, record)
        if record.waiting and record.waiting["host"] in waiting:
            waiting[record.waiting["host"]] += 1
    for host, number in waiting.items():
        metrics.waiting_for_host.labels(host).set(number)


def _waits(journal: Journal, record: Record) -> None:
    shown = dispatch.shown_waiting(record.id, record.phase, record.host, AWAY)
    if journal.waiting(record.id, record.epoch, record.host, AWAY, shown):
        logger.warning("waiting", migration=record.id, host=record.host, why=AWAY)


def interrupted(record: Record, alive: Mapping[str, Mapping[str, Any]], away: float, lease_seconds: float) -> str:
    """Why nobody carries an active attempt on; empty where somebody does, or will.

    ``away`` is how long the agent that matters has been away. What is queued for an agent that is away waits
    for it, but for prepare: there the source can be let go, and nothing is lost.
    """
    if record.step == "running":
        card = alive.get(record.owner)
        if card is not None and record.incarnation and card["incarnation"] != record.incarnation:
            return "its agent was replaced"
        return AWAY if card is None and away > lease_seconds else ""
    return AWAY if record.phase == Phase.PREPARE and away > lease_seconds else ""


def restore(agent: Agent, after: Baton, phase: str) -> None:
    """Where Redis forgot a whole migration, with the second in which it began: put it into recovery.

    Its phase has just ended here, and found no record any more.
    """
    journal = agent.journal
    if patiently(journal.record, after.migration) is not None:
        return
    now = patiently(journal.now)
    epoch = after.epoch + 1
    baton = recovering(after, phase, "running", "Redis forgot it", now, at=after.destination)
    baton = baton.model_copy(update={"epoch": epoch})
    record = Record(
        id=after.migration,
        state="active",
        domain=after.domain,
        uuid=after.uuid,
        source=after.source,
        destination=after.destination,
        destination_name=after.move.destination_name,
        driver=agent.host.profile,
        flags=after.flags,
        flags_label=flag_label(after.flags),
        params=dict(after.params),
        deadline_seconds=after.deadline_seconds,
        attempts_allowed=after.attempt + (not after.last_attempt),
        convergence=after.convergence,
        attempt=after.attempt,
        epoch=epoch,
        traceparent=trace.headers().get(trace.HEADER, ""),
    )
    told = {"phase": phase, "host": agent.host.name, "stage": baton.recovery and baton.recovery.stage}
    answer = patiently(journal.restore, record, after.destination, dispatch.text(baton), told, PATIENCE)
    logger.warning("restored what Redis forgot", migration=after.migration, phase=phase, answer=answer)
    if answer == "OK":
        dispatch.send_recover(agent.inventory, baton.document())
