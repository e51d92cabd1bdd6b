"""Hosts, guests and rules as the order of a plan sees them: indices and whole numbers (MiB, thousandths of a core)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tasks.planner.durations import expected
from worker.contract.plans import Problem, Rule

NO_LIMIT = 1 << 60
Key = tuple[int, str]
"""A place of which an ``apart`` rule gives one to each of its guests: the rule's index, and the host or label."""


@dataclass(frozen=True, slots=True)
class Move:
    """One migration: indices of guest and hosts."""

    guest: int
    source: int
    target: int
    memory: int
    cpu: int
    seconds: float
    bounce: int = 0


@dataclass
class Layout:
    """The hosts with the room that they have before anything moves."""

    problem: Problem
    index: dict[str, int] = field(init=False)
    guests: dict[str, int] = field(init=False)
    place: list[int] = field(init=False)
    """Host of each guest."""
    memory: list[int] = field(init=False)
    """Free for guests on each host; below zero where it has more than the plan's ``most_percent``."""
    cpu: list[int] = field(init=False)
    takes: list[bool] = field(init=False)
    """Whether guests may be sent to each host; a plan that empties a host sends nobody there, not even for a while."""
    apart: dict[int, list[int]] = field(init=False)
    """The ``apart`` rules of each guest that has some."""
    groups: dict[int, list[int]] = field(init=False)
    """Its ``together`` and ``among`` rules."""

    def __post_init__(self) -> None:
        problem = self.problem
        self.index = {host.name: at for at, host in enumerate(problem.hosts)}
        self.guests = {guest.id: at for at, guest in enumerate(problem.guests)}
        self.place = [self.index[guest.host] for guest in problem.guests]
        emptied = problem.goal.hosts if problem.goal.kind == "drain" else ()
        self.takes = [host.takes and host.name not in emptied for host in problem.hosts]
        most = problem.goal.most_percent / 100
        self.memory = [math.floor((h.memory_mib - h.reserve_memory_mib) * most + 1e-6) for h in problem.hosts]
        self.cpu = [
            math.floor((h.cpu_cores - h.reserve_cpu_cores) * 1000 + 1e-6) if h.cpu_cores else NO_LIMIT
            for h in problem.hosts
        ]
        for guest, host in zip(problem.guests, self.place, strict=True):
            self.memory[host] -= guest.memory_mib
            self.cpu[host] -= millicores(guest.cpu_cores)
        self._cpu_before = list(self.cpu)
        self.apart, self.groups = {}, {}
        for at, rule in enumerate(problem.rules):
            of = self.apart if rule.kind == "apart" else self.groups
            for guest_id in rule.guests:
                if guest_id in self.guests:
                    of.setdefault(self.guests[guest_id], []).append(at)

    def keys(self, guest: int, host: int) -> tuple[Key, ...]:
        """The places that a guest takes on a host; a host without the rule's label counts as one by itself."""
        rules = self.apart.get(guest)
        return tuple([(rule, self._part(rule, host)) for rule in rules]) if rules else ()

    def _part(self, rule: int, host: int) -> str:
        label = self.problem.rules[rule].label
        spec = self.problem.hosts[host]
        value = spec.labels.get(label) if label else None
        return f"host {spec.name}" if value is None else f"label {value}"

    def holders(self) -> dict[Key, set[int]]:
        """Which guests hold which places before anything moves."""
        held: dict[Key, set[int]] = {}
        for guest in self.apart:
            for key in self.keys(guest, self.place[guest]):
                held.setdefault(key, set()).add(guest)
        return held

    def move(self, guest: int, source: int, target: int, bounce: int = 0) -> Move:
        """The migration of a guest between two hosts."""
        spec, hosts = self.problem.guests[guest], self.problem.hosts
        took = expected(spec, hosts[source], hosts[target])
        return Move(guest, source, target, spec.memory_mib, millicores(spec.cpu_cores), took, bounce)

    def allow_cpu(self, moves: Iterable[Move]) -> bool:
        """Let each host use as much CPU as it has, or uses before or after the moves, whichever is most: CPU that is
        short slows guests down and endangers none, so a plan that ends so may also get there. True if less than before.
        """
        after = list(self._cpu_before)
        for move in moves:
            after[move.source] += move.cpu
            after[move.target] -= move.cpu
        allowed = [before - min(before, then, 0) for before, then in zip(self._cpu_before, after, strict=True)]
        less = any(new < old for new, old in zip(allowed, self.cpu, strict=True))
        self.cpu = allowed
        return less

    def may_hold(self, guest: int, host: int) -> bool:
        """Whether a guest may be sent to a host at all: kind, labels, and whether the host takes guests."""
        spec, there = self.problem.guests[guest], self.problem.hosts[host]
        here = self.problem.hosts[self.place[guest]]
        labels = all(there.labels.get(label) == value for label, value in spec.requires.items())
        return self.takes[host] and there.kind == here.kind and labels

    def between(self, guest: int, target: int) -> frozenset[int] | None:
        """The hosts on which a guest may stay on its way, by its ``together`` and ``among`` rules; ``None``: any."""
        hosts: frozenset[int] | None = None
        for at in self.groups.get(guest, ()):
            parts = [frozenset(self.index[n] for n in p if n in self.index) for p in self.problem.rules[at].parts]
            near = [part for part in parts if self.place[guest] in part or target in part]
            allowed = frozenset().union(*near)
            hosts = allowed if hosts is None else hosts & allowed
        return hosts


def millicores(cores: float) -> int:
    """Thousandths of a core, rounded to the nearest."""
    return round(cores * 1000)


def worse(rule: Rule, before: Mapping[str, str], after: Mapping[str, str], guests: Collection[str]) -> bool:
    """Whether guests that ``rule`` wants together, or among, are further from that after a plan than before."""

    def off(place: Mapping[str, str]) -> int:
        hosts = [place[guest] for guest in rule.guests if guest in guests]
        if rule.kind == "together":
            return len(set(hosts))
        return min((sum(host not in part for host in hosts) for part in map(set, rule.parts)), default=0)

    return off(after) > off(before)
