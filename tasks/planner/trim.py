"""Only so many moves: the most gain for what they cost, and never a placement that breaks a limit or a rule."""

from __future__ import annotations

import numpy as np

from tasks.planner.fleet import MEMORY, MIB, SLIP, UNKNOWN, Fleet, Ints
from tasks.planner.order import Order
from tasks.planner.place import Placement
from tasks.planner.solve import Solution

DEPTH = 4
"""A move may need so many others in a row that make its room."""


class Budget:
    """What may still be moved."""

    def __init__(self, fleet: Fleet) -> None:
        goal = fleet.problem.goal
        self.fleet = fleet
        self.moves = np.inf if goal.max_moves is None else goal.max_moves
        self.mib = np.inf if goal.max_gib is None else goal.max_gib * MIB

    def allows(self, units: list[int]) -> bool:
        count, mib = self._of(units)
        return count <= self.moves and mib <= self.mib + SLIP

    def take(self, units: list[int]) -> None:
        count, mib = self._of(units)
        self.moves -= count
        self.mib -= mib

    def _of(self, units: list[int]) -> tuple[int, float]:
        return sum(len(self.fleet.members[u]) for u in units), float(self.fleet.need[MEMORY, units].sum())


def trim(solution: Solution) -> Ints:
    """Where units are when only what ``max_moves`` and ``max_gib`` allow is done.

    Moves are taken one by one, those first that gain most for their memory, each with those that make its room; so
    whatever is taken is a placement that holds.
    """
    fleet, at = solution.fleet, solution.at
    budget = Budget(fleet)
    moved = np.flatnonzero(at != fleet.start).tolist()
    if budget.allows(moved):
        return at
    place = Placement(fleet, np.maximum(solution.limits, fleet.loads(fleet.start)))
    worth = {unit: _gain(solution, unit) / (fleet.need[MEMORY, unit] + 1.0) for unit in moved}
    waiting = sorted(moved, key=lambda unit: (-worth[unit], unit))
    for lone in (True, False):  # first what goes without others
        for unit in list(waiting):
            if place.at[unit] == at[unit]:
                continue
            mark = place.mark()
            bundle = _bundle(place, at, unit, 0 if lone else DEPTH)
            if bundle is not None and budget.allows(bundle):
                budget.take(bundle)
            else:
                place.undo(mark)
    return place.at


def _gain(solution: Solution, unit: int) -> float:
    """How much of what the goal wants away a unit takes with it, as shares of its host."""
    fleet = solution.fleet
    host, need = int(fleet.start[unit]), fleet.need[:, unit]
    room = np.where(fleet.known[:, host], fleet.room[:, host], UNKNOWN)
    if fleet.problem.goal.kind != "balance":
        return float(need[MEMORY] + 1.0) if fleet.drained[host] or fleet.problem.goal.kind != "drain" else 0.0
    over = np.maximum(0, fleet.loads(fleet.start)[:, host] - solution.limits[:, host])
    return float((np.minimum(need, over) / room).sum())


def _bundle(place: Placement, at: Ints, unit: int, depth: int) -> list[int] | None:
    """Move a unit to where it belongs, after those that make its room; ``None`` where that takes too many."""
    fleet, target = place.fleet, int(at[unit])
    bundle: list[int] = []
    while not _fits(place, unit, target):
        blockers = [other for other in np.flatnonzero(place.at == target).tolist() if at[other] != target]
        if depth <= 0 or not blockers:
            return None
        blocker = max(blockers, key=lambda other: (fleet.need[MEMORY, other], -other))
        more = _bundle(place, at, blocker, depth - 1)
        if more is None:
            return None
        bundle += more
    place.move(unit, target)
    return [*bundle, unit]


def _fits(place: Placement, unit: int, target: int) -> bool:
    roomy = (place.slack[:, target] >= place.fleet.need[:, unit] - SLIP).all()
    return bool(roomy) and place.clear_of_rules(unit, target)


def within(solution: Solution, at: Ints, found: Order, seconds: float) -> Ints:
    """Where units are when only what ends within so many seconds is done; whole units only."""
    fleet = solution.fleet
    late = {step.guest for step in found.steps if step.start + step.seconds > seconds}
    number = {guest.id: n for n, guest in enumerate(fleet.guests)}
    result = at.copy()
    for guest in late:
        unit = int(fleet.unit_of[number[guest]])
        result[unit] = fleet.start[unit]
    return result
