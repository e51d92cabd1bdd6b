"""A solution and its order as the document that people and batches read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np

from tasks.planner.fleet import CPU, MEMORY, MIB, Fleet, Floats, Ints
from tasks.planner.order import Order
from tasks.planner.solve import Solution
from worker.contract.names import canonical
from worker.contract.plans import Gain, HostView, Left, Load, Plan, Spread, Step, Totals

POINTS = 20
"""Of the curve of gains."""
TIMES = {"id", "made", "taken", "stale", "spent_seconds"}
"""What a plan's id does not depend on."""
Status = Literal["nothing-to-do", "optimal", "bounded", "best-effort", "impossible"]
HAIR = 1e-6
"""A share above a ceiling by less is not above it."""


def shares(fleet: Fleet, loads: Floats) -> Floats:
    """(2, hosts): parts of what each host has; 0 where that is not known, or nothing."""
    result = np.zeros_like(loads)
    np.divide(loads, fleet.room, out=result, where=fleet.known)
    return result


def ceiling_shares(solution: Solution) -> Floats:
    """(2, hosts): the ceilings; 1 where there is none."""
    fleet = solution.fleet
    result = np.ones_like(fleet.room)
    np.divide(solution.limits, fleet.room, out=result, where=fleet.known)
    return result


def views(solution: Solution, at: Ints, found: Order) -> tuple[HostView, ...]:
    """Every host before, during and after."""
    fleet = solution.fleet
    counts = [_guests(fleet, where) for where in (fleet.start, at)]
    parts = [shares(fleet, fleet.loads(where)).tolist() for where in (fleet.start, at)]
    limits = ceiling_shares(solution).tolist()
    incoming: dict[str, int] = {}
    outgoing: dict[str, int] = {}
    for step in found.steps:
        incoming[step.destination] = incoming.get(step.destination, 0) + 1
        outgoing[step.source] = outgoing.get(step.source, 0) + 1
    loads = [
        [Load(cpu=c, memory=m, guests=n) for c, m, n in zip(*part, count, strict=True)]
        for part, count in zip(parts, counts, strict=True)
    ]
    return tuple(
        HostView(
            name=host.name,
            before=loads[0][n],
            after=loads[1][n],
            peak_memory=found.peaks.get(host.name, max(loads[0][n].memory, loads[1][n].memory)),
            ceiling_cpu=limits[CPU][n],
            ceiling_memory=limits[MEMORY][n],
            incoming=incoming.get(host.name, 0),
            outgoing=outgoing.get(host.name, 0),
        )
        for n, host in enumerate(fleet.hosts)
    )


def _guests(fleet: Fleet, at: Ints) -> list[int]:
    sizes = np.array([len(guests) for guests in fleet.members], dtype=np.float64)
    counted: list[int] = np.bincount(at, weights=sizes, minlength=len(fleet.hosts)).astype(int).tolist()
    return counted


def totals(solution: Solution, at: Ints, found: Order) -> Totals:
    """The plan in numbers."""
    fleet, steps = solution.fleet, found.steps
    before, after = (shares(fleet, fleet.loads(where)) for where in (fleet.start, at))
    most = ceiling_shares(solution) + HAIR
    return Totals(
        moves=len(steps),
        gib=sum(step.memory_mib for step in steps) / MIB,
        bounces=sum(step.bounce == 1 for step in steps),
        bounce_gib=sum(step.memory_mib for step in steps if step.bounce == 1) / MIB,
        seconds=found.seconds,
        serial_seconds=found.serial_seconds,
        bound_seconds=found.bound_seconds,
        peak_concurrent=found.peak_concurrent,
        hot_before=int((before > most).any(axis=0).sum()),
        hot_after=int((after > most).any(axis=0).sum()),
        cpu_before=_spread(fleet, before, CPU),
        cpu_after=_spread(fleet, after, CPU),
        memory_before=_spread(fleet, before, MEMORY),
        memory_after=_spread(fleet, after, MEMORY),
    )


def _spread(fleet: Fleet, parts: Floats, resource: int) -> Spread:
    """Over the hosts of which the capacity is known."""
    known = parts[resource, fleet.known[resource]]
    if not len(known):
        return Spread(most=0, mean=0, deviation=0)
    return Spread(most=float(known.max()), mean=float(known.mean()), deviation=float(known.std()))


def gains(solution: Solution, steps: Iterable[Step]) -> tuple[Gain, ...]:
    """What stopping after so many moves leaves of what the plan is to do away with, at ``POINTS`` points at most."""
    fleet, steps = solution.fleet, tuple(steps)
    if not steps:
        return ()
    index = {guest.id: n for n, guest in enumerate(fleet.guests)}
    curve = _Excess(solution)
    first, wanted = curve.left(), set(np.unique(np.linspace(1, len(steps), POINTS).astype(int)).tolist())
    result, gib = [], 0.0
    for n, step in enumerate(steps, 1):
        curve.move(index[step.guest], fleet.index[step.source], fleet.index[step.destination])
        gib += step.memory_mib / MIB
        if n in wanted:
            left = max(0.0, curve.left() / first) if first > 0 else 0.0
            result.append(Gain(moves=n, gib=round(gib, 3), excess_left=round(left, 6)))
    return tuple(result)


class _Excess:
    """What is left of what a goal wants away: above the ceilings, or on hosts that are to be empty."""

    def __init__(self, solution: Solution) -> None:
        fleet = self.fleet = solution.fleet
        self.loads = fleet.loads(fleet.start)
        self.balance = fleet.problem.goal.kind == "balance"
        self.room = np.where(fleet.known, fleet.room, 1.0)
        self.most = solution.limits
        stays = np.bincount(solution.at, minlength=len(fleet.hosts))
        self.going = stays == 0 if fleet.problem.goal.kind == "consolidate" else fleet.drained
        self.wanted = dict(enumerate(solution.at.tolist()))
        self.away = float(fleet.need[MEMORY, solution.at != fleet.start].sum())

    def move(self, guest: int, source: int, target: int) -> None:
        spec = self.fleet.guests[guest]
        self.loads[:, source] -= (spec.cpu_cores, spec.memory_mib)
        self.loads[:, target] += (spec.cpu_cores, spec.memory_mib)
        if self.wanted[int(self.fleet.unit_of[guest])] == target:
            self.away -= spec.memory_mib

    def left(self) -> float:
        if self.balance:
            return float((np.maximum(0, self.loads - self.most) / self.room).sum())
        if self.going.any():
            return float(np.maximum(0, self.loads[MEMORY, self.going]).sum())
        return max(0.0, self.away)


def gap(solution: Solution, at: Ints, unfinished: bool) -> float | None:
    """(moved - bound) / bound; ``None`` where there is no bound, or less was done than it bounds."""
    if solution.bound_mib is None or unfinished:
        return None
    fleet = solution.fleet
    moved = float(fleet.need[MEMORY, at != fleet.start].sum())
    if solution.bound_mib <= 0:
        return 0.0 if moved <= 0 else None
    return max(0.0, round((moved - solution.bound_mib) / solution.bound_mib, 6))


def status(solution: Solution, at: Ints, unfinished: bool, impossible: bool, price: float) -> Status:
    """One word for how good a plan is."""
    fleet = solution.fleet
    moved = at != fleet.start
    if not moved.any():
        return "impossible" if unfinished or impossible else "nothing-to-do"
    if unfinished or impossible:
        return "best-effort"
    cost = float(fleet.need[MEMORY, moved].sum()) + price * int(moved.sum())
    if solution.bound_cost is not None and cost <= solution.bound_cost * (1 + 1e-9) + 1e-3:
        return "optimal"
    return "bounded" if solution.bound_mib else "best-effort"


def named(plan: Plan) -> Plan:
    """A plan with its id."""
    text = canonical(plan.model_dump(mode="json", exclude=TIMES))
    return plan.model_copy(update={"id": "p-" + hashlib.sha256(text.encode()).hexdigest()[:16]})


def sorted_lefts(lefts: Iterable[Left]) -> tuple[Left, ...]:
    """Each guest once, by host and name."""
    once = {left.guest: left for left in reversed(tuple(lefts))}
    return tuple(sorted(once.values(), key=lambda left: (left.host, left.domain, left.guest)))
