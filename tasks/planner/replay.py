"""A plan, carried out on paper: what may be where at once, for every timing and not only for the planned one.

What a host holds at worst, whatever takes how long, is the heaviest set of arrivals that may have begun while none of
the departures ended that they need not wait for. That is a maximum closure (J. Picard, "Maximal Closure of a Graph and
Applications to Combinatorial Problems", Management Science 1976): what was there, and all arrivals, less the maximum
flow of room from departures to the arrivals that wait for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from worker.contract.plans import Problem, Rule, Step


@dataclass(frozen=True)
class Stay:
    """A guest on a host: the steps with which it came and goes (0: it was there; 0: it stays)."""

    guest: str
    host: str
    came: int
    goes: int


class Replay:
    """A plan as stays of guests on hosts, and who waits for whom, directly or not."""

    def __init__(self, problem: Problem, steps: Collection[Step]) -> None:
        self.problem, self.steps = problem, steps
        self.hosts = {host.name: host for host in problem.hosts}
        self.guests = {guest.id: guest for guest in problem.guests}
        self.chains: dict[str, list[Step]] = {}
        self.before = [0] * (len(steps) + 1)
        """A bit for each step that has surely ended when this one starts."""
        for step in steps:
            self.chains.setdefault(step.guest, []).append(step)
            for number in step.after:
                self.before[step.n] |= self.before[number] | 1 << number
        self.stays: dict[str, list[Stay]] = {}
        self.place: dict[str, str] = {}
        """Where each guest is in the end."""
        for guest in problem.guests:
            came, host = 0, guest.host
            for step in self.chains.get(guest.id, ()):
                self.stays.setdefault(host, []).append(Stay(guest.id, host, came, step.n))
                came, host = step.n, step.destination
            self.stays.setdefault(host, []).append(Stay(guest.id, host, came, 0))
            self.place[guest.id] = host

    def waits(self, late: int, early: int) -> bool:
        """Whether step ``late`` starts only after ``early`` has ended."""
        return bool(self.before[late] >> early & 1)


# Room, whatever the timing


def rooms(replay: Replay) -> Iterator[str]:
    """Hosts that may come to hold more memory, or to use more CPU, than they may: faults, as sentences."""
    most = replay.problem.goal.most_percent / 100
    for name, stays in replay.stays.items():
        host = replay.hosts[name]
        if not any(stay.came for stay in stays):
            continue
        memory = {stay: replay.guests[stay.guest].memory_mib for stay in stays}
        limit = int((host.memory_mib - host.reserve_memory_mib) * most + 1e-6)
        worst = _worst(replay, stays, memory)
        if sum(size for stay, size in memory.items() if not stay.came) > limit:
            worst = max(_worst(replay, stays, memory, stay) for stay in stays if stay.came)
        if worst > limit:
            yield f"{name} may come to hold {worst} MiB of guests, above {limit} MiB, in some order of events"
        if not host.cpu_cores:
            continue
        cpu = {stay: round(replay.guests[stay.guest].cpu_cores * 1000) for stay in stays}
        had = sum(size for stay, size in cpu.items() if not stay.came)
        has = sum(size for stay, size in cpu.items() if not stay.goes)
        limit = max(int((host.cpu_cores - host.reserve_cpu_cores) * 1000 + 1e-6), had, has)
        if (worst := _worst(replay, stays, cpu)) > limit:
            yield f"{name} may come to use {worst / 1000:g} cores, above {limit / 1000:g}, in some order of events"


def _worst(replay: Replay, stays: Iterable[Stay], size: Mapping[Stay, int], begun: Stay | None = None) -> int:
    """The most that a host may hold at once; with ``begun``, at a time when that arrival has begun."""
    over = replay.before[begun.came] if begun else 0
    arrivals = [stay for stay in stays if stay.came and size[stay]]
    departures = [stay for stay in stays if stay.goes and size[stay]]
    gone = {stay for stay in departures if over >> stay.goes & 1}
    held = sum(size[stay] for stay in stays) - sum(size[stay] for stay in gone)
    departures = [stay for stay in departures if stay not in gone]
    edges = [[at for at, d in enumerate(departures) if replay.waits(a.came, d.goes)] for a in arrivals]
    return held - _flow([size[a] for a in arrivals], [size[d] for d in departures], edges)


def _flow(wanted: list[int], offered: list[int], edges: list[list[int]]) -> int:
    """The most that can be paid of ``wanted`` from ``offered`` along ``edges``: shortest augmenting paths."""
    rest, free, total = list(wanted), list(offered), 0
    paid: list[dict[int, int]] = [{} for _ in offered]
    """To each of ``offered``: what it pays to which of ``wanted``."""
    for start in range(len(wanted)):
        while rest[start] and (path := _path(start, free, edges, paid)):
            amount = min(
                rest[start],
                free[path[-1][1]],
                *(paid[d][a] for (_, d), (a, _) in pairwise(path)),
                rest[start],
            )
            for at, (a, d) in enumerate(path):
                paid[d][a] = paid[d].get(a, 0) + amount
                if at + 1 < len(path):
                    other = path[at + 1][0]
                    paid[d][other] -= amount
            free[path[-1][1]] -= amount
            rest[start] -= amount
            total += amount
    return total


def _path(start: int, free: list[int], edges: list[list[int]], paid: list[dict[int, int]]) -> list[tuple[int, int]]:
    """From an arrival to a departure with something left: pairs (arrival, departure), each arrival after the first
    one being paid by the departure before it so far.
    """
    came: dict[int, tuple[int, int | None]] = {}
    todo: list[tuple[int, int | None]] = [(start, None)]
    seen = {start}
    for arrival, through in todo:
        for departure in edges[arrival]:
            if departure in came:
                continue
            came[departure] = (arrival, through)
            if free[departure]:
                path, at = [], departure
                while True:
                    a, before = came[at]
                    path.append((a, at))
                    if before is None:
                        return path[::-1]
                    at = before
            for other, amount in paid[departure].items():
                if amount and other not in seen:
                    seen.add(other)
                    todo.append((other, departure))
    return []


# Rules, whatever the timing


def rules(replay: Replay) -> Iterator[str]:
    """Rules that hold less in the end than before, and guests that may be too near on the way: faults, as sentences."""
    start = {guest.id: guest.host for guest in replay.problem.guests}
    for rule in replay.problem.rules:
        members = [guest for guest in rule.guests if guest in replay.guests]
        if not any(guest in replay.chains for guest in members):
            continue
        if rule.kind == "apart":
            yield from _apart(replay, rule, members)
        elif _off(rule, members, replay.place) > _off(rule, members, start):
            yield f"rule {rule.name} ({rule.kind}) holds less in the end than before"


def _off(rule: Rule, members: Collection[str], place: Mapping[str, str]) -> int:
    """How far guests are from being together, or within one part."""
    if rule.kind == "together":
        return len({place[guest] for guest in members})
    return min((sum(place[guest] not in part for guest in members) for part in rule.parts), default=0)


def _apart(replay: Replay, rule: Rule, members: Collection[str]) -> Iterator[str]:
    """No two guests in one place at once, but those that were there together from the beginning."""
    stays: dict[tuple[str, str], list[Stay]] = {}
    for guest in members:
        last: Stay | None = None
        for stay in _stays_of(replay, guest):
            key = _place(replay, rule, stay.host)
            if last is not None and _place(replay, rule, last.host) == key:
                stays[key].remove(last)
                last = Stay(guest, stay.host, last.came, stay.goes)
            else:
                last = stay
            stays.setdefault(key, []).append(last)
    for (_, where), here in stays.items():
        for at, one in enumerate(here):
            for other in here[at + 1 :]:
                both = not (one.came or other.came)
                if both or _before(replay, one, other) or _before(replay, other, one) or one.guest == other.guest:
                    continue
                names = " and ".join(sorted(replay.guests[stay.guest].name for stay in (one, other)))
                yield f"rule {rule.name}: {names} may be on {where} at once, in some order of events"


def _stays_of(replay: Replay, guest: str) -> Iterator[Stay]:
    came, host = 0, replay.guests[guest].host
    for step in replay.chains.get(guest, ()):
        yield Stay(guest, host, came, step.n)
        came, host = step.n, step.destination
    yield Stay(guest, host, came, 0)


def _place(replay: Replay, rule: Rule, host: str) -> tuple[str, str]:
    value = replay.hosts[host].labels.get(rule.label) if rule.label else None
    return ("host", host) if value is None else (rule.label, value)


def _before(replay: Replay, one: Stay, other: Stay) -> bool:
    return bool(one.goes and other.came and replay.waits(other.came, one.goes))
