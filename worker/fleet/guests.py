"""Which guests there are, where, and what keeps one where it is: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.fleet.snapshot import Holder, Seen, Snapshot
from worker.hypervisors.base import DomainState
from worker.loads import GuestLoad

MIB = 2**20
ARRIVING = "@"
"""Follows the uuid in the id of what a guest occupies on the host that it is being moved to; the host comes after."""
STOPPED = (DomainState.SHUTOFF, DomainState.ABSENT)
FREE = (DomainState.RUNNING, DomainState.PAUSED)
"""A guest in one of these can be migrated live."""
_STATES: dict[Any, DomainState] = {str(state): state for state in DomainState}
STANDS = {
    DomainState.MIGRATING: "is being migrated by somebody else; it can be moved when that is over",
    DomainState.PAUSED_OUT: "stands still in a migration that vmrelay does not know of; look at both of its hosts",
    DomainState.PAUSED_IN: "stands still in a migration that vmrelay does not know of; look at both of its hosts",
    DomainState.CRASHED: "has crashed; start it again or shut it off",
    DomainState.UNKNOWN: "is in a state that its hypervisor does not tell; see whether it hangs",
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A guest, or what it occupies on a host that it is being moved to."""

    id: str
    name: str
    host: str
    cpu_cores: float
    memory_mib: int
    dirty_mib_per_second: float = 0.0
    pinned: str = ""
    """Why it cannot be moved now."""
    arriving: bool = False


@dataclass(frozen=True, slots=True)
class _Sight:
    host: str
    name: str
    state: DomainState
    memory_bytes: int


def placed(snapshot: Snapshot, kinds: Mapping[str, str], window: float) -> list[Placed]:
    """Every guest once, by id; and once more, ``arriving``, on a host that it is being moved to.

    ``kinds``: the flag profile of each host. ``window``: seconds over which loads are measured.
    """
    sights: dict[str, list[_Sight]] = {}
    for host, seen in sorted(snapshot.hosts.items(), key=lambda named: named[0]):
        for domain in seen.domains:
            uuid = str(domain["uuid"])
            sights.setdefault(uuid, []).append(_sight(host, domain))
    used = _Used(snapshot.hosts, window)
    found: list[Placed] = []
    for uuid, where in sorted(sights.items()):
        held = snapshot.holders.get(uuid)
        found += _moving(uuid, where, held, kinds, used) if held else _resting(uuid, where, kinds, used)
    return found


def _sight(host: str, domain: Mapping[str, Any]) -> _Sight:
    state = _STATES.get(domain.get("state"), DomainState.UNKNOWN)
    return _Sight(host, str(domain["name"]), state, int(domain.get("memory_bytes") or 0))


def _moving(uuid: str, where: list[_Sight], held: Holder, kinds: Mapping[str, str], used: _Used) -> Iterable[Placed]:
    """A guest with a migration occupies both hosts: what it leaves until it has left, and what it is to get."""
    best = max(where, key=lambda sight: (sight.state not in STOPPED, sight.host == held.source))
    load = used.of(uuid, best)
    said = {"pending": "waits to be moved to", "backoff": "waits for another try to be moved to"}
    why = f"{said.get(held.state, 'is being moved to')} {held.destination} by migration {held.migration}"
    if held.state == "in-doubt":
        why = f"its migration {held.migration} to {held.destination} is in doubt; 'vmrelay show {held.migration}' tells"
    arrived = best.host == held.destination
    here = held.source if arrived and held.source in kinds else best.host
    yield Placed(uuid, best.name, here, load.cpu, load.memory_mib, load.dirty, why)
    if held.destination in kinds and held.destination != here:
        there = f"{uuid}{ARRIVING}{held.destination}"
        yield Placed(there, best.name, held.destination, load.cpu, load.memory_mib, load.dirty, why, arriving=True)


def _resting(uuid: str, where: list[_Sight], kinds: Mapping[str, str], used: _Used) -> Iterable[Placed]:
    alive = [sight for sight in where if sight.state not in STOPPED]
    if not alive:
        first = where[0]
        yield Placed(uuid, first.name, first.host, 0.0, 0, pinned=_stopped(kinds[first.host]))
        return
    alive.sort(key=lambda sight: (sight.state is not DomainState.RUNNING, sight.host))
    first, *others = alive
    why = STANDS.get(first.state, "")
    if others:
        why = f"is shown by {' and '.join(sight.host for sight in alive)} at once; look at these hosts"
    for sight in alive:
        load = used.of(uuid, sight)
        ident = uuid if sight is first else f"{uuid}{ARRIVING}{sight.host}"
        yield Placed(ident, sight.name, sight.host, load.cpu, load.memory_mib, load.dirty, why, sight is not first)


def _stopped(kind: str) -> str:
    if kind == "qemu":
        return "stopped: only its definition is here; 'vmrelay migrate --offline' moves that"
    return "stopped: only running and paused guests are moved; start it, or leave it here"


class _Used:
    """What guests use, wherever it was measured."""

    def __init__(self, hosts: Mapping[str, Seen], window: float) -> None:
        self._window = window
        self._told: dict[str, list[tuple[int, str, GuestLoad]]] = {}
        for host, seen in hosts.items():
            if seen.load:
                for uuid, load in seen.load.guests.items():
                    self._told.setdefault(uuid, []).append((load.left or seen.load.at, host, load))

    def of(self, uuid: str, sight: _Sight) -> GuestLoad:
        """What a guest uses; for one that has just arrived, what it used before counts for the rest of the window."""
        own: GuestLoad | None = None
        before: GuestLoad | None = None
        told = self._told.get(uuid, [])
        if len(told) > 1:
            told.sort(key=lambda one: one[:2])
        for _, host, load in told:
            if host == sight.host and not load.left:
                own = load
            else:
                before = load
        if own is None or before is None:
            return own or before or GuestLoad(0.0, -(-sight.memory_bytes // MIB))
        rest = min(before.seconds, max(self._window - own.seconds, 0.0))
        share = own.seconds / (own.seconds + rest) if own.seconds + rest else 1.0
        cpu = own.cpu * share + before.cpu * (1 - share)
        return GuestLoad(cpu, own.memory_mib, own.dirty or before.dirty, own.seconds + rest)
