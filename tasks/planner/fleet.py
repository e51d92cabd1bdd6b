"""A problem as arrays: hosts, the units that move, where each may go.

A unit is one guest, or the guests of a ``together`` rule that share a host: they move as one. Arrays of two rows hold
CPU (cores) and memory (MiB), in this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from tasks.planner.clock import Clock
from tasks.planner.parts import Parts
from worker.contract.plans import GuestSpec, HostSpec, Problem, Rule

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CPU, MEMORY = 0, 1
MIB = 1024.0
"""In a GiB."""
UNKNOWN = 1e9
"""Cores of a host of which the CPU is not known: enough for anything."""
SLIP = 1e-6
"""Cores or MiB; sums of floating-point numbers differ by less."""


@dataclass(frozen=True)
class Apart:
    """A rule that keeps units apart: no two of them in one zone."""

    name: str
    zones: Ints
    """The zone of each host: itself, or the hosts that share a label."""
    plain: bool
    """Whether each host is a zone of its own."""
    units: tuple[int, ...]


@dataclass(frozen=True)
class Fleet:
    """What planning computes with. Nothing here changes while a plan is made."""

    problem: Problem
    hosts: tuple[HostSpec, ...]
    guests: tuple[GuestSpec, ...]
    index: dict[str, int]
    """Of a host, by name."""
    room: Floats
    """(2, hosts): capacity less reserve; ``UNKNOWN`` CPU where it is not known."""
    kind: Ints
    """(hosts): a number for each driver."""
    takes: Bools
    need: Floats
    """(2, units)."""
    start: Ints
    """(units): where each is now."""
    movable: Bools
    barred: dict[int, tuple[str, str]]
    """Units that may not move: code and reason."""
    look: Ints
    """(units): which row of ``allowed`` says where it may go."""
    allowed: Bools
    """(looks, hosts): by kind, labels, ``among`` rules, and whether the host takes guests; not by capacity."""
    lawful: Bools
    """(looks, hosts): the same, but whether or not the host takes guests."""
    members: tuple[tuple[int, ...], ...]
    """(units): indices of their guests."""
    unit_of: Ints
    """(guests)."""
    home: Ints
    """(units): the host they were drained from, or -1."""
    aparts: tuple[Apart, ...]
    rules_of: dict[int, tuple[int, ...]]
    """Units with ``apart`` rules: indices into ``aparts``."""
    drained: Bools
    """(hosts): to be emptied."""
    clock: Clock

    @property
    def known(self) -> Bools:
        """(2, hosts): where there is a capacity to measure loads by."""
        return (self.room > 0) & (self.room < UNKNOWN)

    def name(self, unit: int) -> str:
        """What people call a unit."""
        names = [self.guests[guest].name for guest in self.members[unit]]
        return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} together with it"

    def loads(self, at: Ints) -> Floats:
        """(2, hosts): what is in use where the units are so."""
        size = len(self.hosts)
        return np.array([np.bincount(at, weights=row, minlength=size) for row in self.need], dtype=np.float64)

    def by_host(self, at: Ints) -> list[Ints]:
        """The units of each host, in their order."""
        order = np.argsort(at, kind="stable")
        return np.split(order, np.searchsorted(at[order], np.arange(1, len(self.hosts))))


def fits_pattern(guest: GuestSpec, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns is the guest's name or id, or fits it."""
    return any(
        pattern in (guest.name, guest.id) or fnmatchcase(guest.name, pattern) or fnmatchcase(guest.id, pattern)
        for pattern in patterns
    )


def fleet_of(problem: Problem) -> Fleet:
    """The arrays of a problem that makes sense (``sanity.faults``)."""
    hosts, guests, goal = problem.hosts, problem.guests, problem.goal
    index = {host.name: n for n, host in enumerate(hosts)}
    at = np.array([index[guest.host] for guest in guests], dtype=np.int64)
    usage = np.array([[g.cpu_cores for g in guests], [g.memory_mib for g in guests]], dtype=np.float64).reshape(2, -1)
    cpu = [max(0.0, h.cpu_cores - h.reserve_cpu_cores) if h.cpu_cores else UNKNOWN for h in hosts]
    memory = [max(0, h.memory_mib - h.reserve_memory_mib) for h in hosts]
    kinds = {kind: n for n, kind in enumerate(sorted({host.kind for host in hosts}))}
    drained = np.zeros(len(hosts), dtype=bool)
    if goal.kind == "drain":
        drained[[index[name] for name in goal.hosts]] = True
    takes = np.array([bool(host.takes and not _no_slot(problem, host, host.max_incoming)) for host in hosts]) & ~drained
    members, unit_of = _units(problem, at)
    first = np.array([guests_of[0] for guests_of in members], dtype=np.int64)
    start = at[first] if len(first) else at
    need = np.array([np.bincount(unit_of, weights=row, minlength=len(members)) for row in usage], dtype=np.float64)
    kind = np.array([kinds[host.kind] for host in hosts], dtype=np.int64)
    look, lawful = _looks(problem, members, start, takes, kind, index)
    aparts, rules_of = _aparts(problem, unit_of)
    barred = _barred(problem, members, start)
    movable = np.ones(len(members), dtype=bool)
    movable[list(barred)] = False
    home = np.array([index.get(guests[unit[0]].home, -1) for unit in members], dtype=np.int64)
    return Fleet(
        problem, hosts, guests, index, np.array([cpu, memory], dtype=np.float64), kind, takes, need, start, movable,
        barred, look, lawful & takes, lawful, members, unit_of, home, aparts, rules_of, drained,
        Clock(goal.plan_seconds),
    )  # fmt: skip


def _no_slot(problem: Problem, host: HostSpec, slots: int) -> bool:
    """Whether a limit lets no migration in, or out, at all."""
    return slots == 0 or problem.networks.get(host.network) == 0


def _units(problem: Problem, at: Ints) -> tuple[tuple[tuple[int, ...], ...], Ints]:
    """Guests that one or more ``together`` rules tie and that share a host are one unit."""
    lead = list(range(len(problem.guests)))

    def root(guest: int) -> int:
        while lead[guest] != guest:
            lead[guest] = lead[lead[guest]]
            guest = lead[guest]
        return guest

    if any(rule.kind == "together" for rule in problem.rules):
        number = {guest.id: n for n, guest in enumerate(problem.guests)}
        for rule in problem.rules:
            if rule.kind == "together":
                first: dict[int, int] = {}
                for guest in (number[ident] for ident in rule.guests):
                    a, b = root(guest), root(first.setdefault(int(at[guest]), guest))
                    lead[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for guest in range(len(lead)):
        groups.setdefault(root(guest), []).append(guest)
    unit_of = np.empty(len(lead), dtype=np.int64)
    for unit, guests in enumerate(groups.values()):
        unit_of[guests] = unit
    return tuple(tuple(guests) for guests in groups.values()), unit_of


def _aparts(problem: Problem, unit_of: Ints) -> tuple[tuple[Apart, ...], dict[int, tuple[int, ...]]]:
    number = {guest.id: n for n, guest in enumerate(problem.guests)}
    plain = np.arange(len(problem.hosts), dtype=np.int64)
    zones: dict[str, Ints] = {"": plain}
    aparts: list[Apart] = []
    rules_of: dict[int, list[int]] = {}
    for rule in problem.rules:
        if rule.kind != "apart":
            continue
        if rule.label not in zones:
            zones[rule.label] = _zones(problem.hosts, rule.label)
        units = tuple(dict.fromkeys(int(unit_of[number[ident]]) for ident in rule.guests))
        for unit in units:
            rules_of.setdefault(unit, []).append(len(aparts))
        aparts.append(Apart(rule.name, zones[rule.label], not rule.label, units))
    return tuple(aparts), {unit: tuple(rules) for unit, rules in rules_of.items()}


def _zones(hosts: tuple[HostSpec, ...], label: str) -> Ints:
    """Hosts with the same value share a zone; a host without the label is one of its own."""
    values: dict[str, int] = {}
    return np.array(
        [
            values.setdefault(host.labels[label], len(values)) if label in host.labels else len(hosts) + n
            for n, host in enumerate(hosts)
        ],
        dtype=np.int64,
    )


def _looks(
    problem: Problem, members: tuple[tuple[int, ...], ...], start: Ints, takes: Bools, kind: Ints, index: dict[str, int]
) -> tuple[Ints, Bools]:
    """Units with the same demands on a host share a row: where they may be."""
    parts = among_parts(problem, takes, index)
    amongs: dict[str, list[int]] = {}
    for number, rule in enumerate(rule for rule in problem.rules if rule.kind == "among"):
        for ident in rule.guests:
            amongs.setdefault(ident, []).append(number)
    rows: dict[tuple[object, ...], int] = {}
    masks: list[Bools] = []
    look = np.zeros(len(members), dtype=np.int64)
    for unit, guests in enumerate(members):
        wanted: dict[str, set[str]] = {}
        inside: set[int] = set()
        for guest in (problem.guests[n] for n in guests):
            inside.update(amongs.get(guest.id, ()))
            for label, value in guest.requires.items():
                wanted.setdefault(label, set()).add(value)
        key = (
            int(kind[start[unit]]),
            tuple(sorted((label, tuple(sorted(values))) for label, values in wanted.items())),
            tuple(sorted(inside)),
        )
        row = rows.get(key)
        if row is None:
            mask = kind == key[0]
            for label, values in wanted.items():
                mask &= np.array([values == {host.labels.get(label)} for host in problem.hosts], dtype=bool)
            for number in inside:
                mask &= parts[number]
            row = rows[key] = len(masks)
            masks.append(mask)
        look[unit] = row
    return look, np.array(masks, dtype=bool).reshape(len(masks), len(problem.hosts))


def among_parts(problem: Problem, takes: Bools, index: dict[str, int]) -> list[Bools]:
    """For each ``among`` rule the part that its guests keep to.

    It is the one that holds most of them by memory, unless none of its hosts takes guests and another's do.
    """
    rules = [rule for rule in problem.rules if rule.kind == "among"]
    guests = {guest.id: guest for guest in problem.guests} if rules else {}
    known: dict[Parts, list[tuple[frozenset[str], Bools]]] = {}  # many rules name the same parts
    for rule in rules:
        if rule.parts not in known:
            known[rule.parts] = [(frozenset(part), _mask(part, index)) for part in rule.parts]
    return [_part(rule, known[rule.parts], guests, takes) for rule in rules]


def _mask(part: tuple[str, ...], index: dict[str, int]) -> Bools:
    mask = np.zeros(len(index), dtype=bool)
    mask[[index[name] for name in part]] = True
    return mask


def _part(rule: Rule, parts: list[tuple[frozenset[str], Bools]], guests: dict[str, GuestSpec], takes: Bools) -> Bools:
    best, best_mask = (-1, -1.0), np.zeros(len(takes), dtype=bool)
    for names, mask in parts:
        held = sum(guests[ident].memory_mib + 1.0 for ident in rule.guests if guests[ident].host in names)
        score = (int(bool((mask & takes).any())), held)
        if score > best:
            best, best_mask = score, mask
    return best_mask


def _barred(problem: Problem, members: tuple[tuple[int, ...], ...], start: Ints) -> dict[int, tuple[str, str]]:
    goal = problem.goal
    only = set(goal.hosts) if goal.kind != "drain" else set()
    barred: dict[int, tuple[str, str]] = {}
    for unit, guests in enumerate(members):
        host = problem.hosts[start[unit]]
        if not host.gives or _no_slot(problem, host, host.max_outgoing):
            why = "no migration may leave its host: a limit is 0" if host.gives else host.why
            barred[unit] = ("host-away", why or "no guest can leave its host now")
            continue
        if only and host.name not in only:
            barred[unit] = ("excluded", f"only guests of {', '.join(goal.hosts[:5])} are to be moved")
            continue
        for guest in (problem.guests[n] for n in guests):
            if guest.pinned:
                why = guest.pinned if len(guests) == 1 else f"{guest.name}, which it stays with: {guest.pinned}"
                barred[unit] = ("pinned", why)
            elif goal.select and not fits_pattern(guest, goal.select):
                barred[unit] = ("excluded", f"{guest.name} is not among those selected")
            elif goal.exclude and fits_pattern(guest, goal.exclude):
                barred[unit] = ("excluded", f"{guest.name} is excluded")
            else:
                continue
            break
    return barred
