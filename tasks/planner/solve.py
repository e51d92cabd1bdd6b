"""Who goes where, for each kind of goal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tasks.planner.balance import balance
from tasks.planner.bound import Relief, hot, relief
from tasks.planner.ceilings import ceilings, price_mib
from tasks.planner.drain import consolidate, drain, leaving
from tasks.planner.fleet import MEMORY, Fleet, Floats, Ints
from tasks.planner.mend import exiles, least_mib, mend
from tasks.planner.place import Placement
from tasks.planner.targets import chosen

AGAIN = 2
"""So often an outcome is fed back, at most, until it changes nothing."""


@dataclass
class Solution:
    """Where every unit is to be, and what is known about it."""

    fleet: Fleet
    limits: Floats
    """The ceilings (2, hosts)."""
    at: Ints
    reasons: dict[int, str] = field(default_factory=dict)
    bound_mib: float | None = None
    """No plan that reaches the goal moves less; ``None`` where no bound is known."""
    bound_cost: float | None = None
    relief: Relief | None = None
    refused: dict[int, int] = field(default_factory=dict)
    """With ``place``: units that cannot go where they are asked to."""

    def why(self, unit: int) -> str:
        """Why a unit moves."""
        fleet, goal = self.fleet, self.fleet.problem.goal
        source = fleet.hosts[fleet.start[unit]].name
        if goal.kind == "place":
            return "asked for"
        if goal.kind == "consolidate":
            return f"empty {source}"
        if goal.kind == "drain" and fleet.drained[fleet.start[unit]]:
            return f"drain {source}"
        if unit in self.reasons:
            return self.reasons[unit]
        return self.over(int(fleet.start[unit])) or f"make room on {source}"

    def over(self, host: int) -> str:
        """``cpu 92 % above 80 %``: by what a host is above its ceilings before anything moves."""
        return self._over.get(host, "")

    def __post_init__(self) -> None:
        fleet = self.fleet
        loads, self._over = fleet.loads(fleet.start), dict[int, str]()
        for host in hot(fleet, self.limits - loads).tolist():
            parts = [
                f"{word} {used / has:.0%} above {most / has:.0%}"
                for word, used, most, has in zip(
                    ("cpu", "memory"), loads[:, host], self.limits[:, host], fleet.room[:, host], strict=True
                )
                if used > most and has > 0
            ]
            self._over[host] = ", ".join(parts).replace("%", " %")


def solve(fleet: Fleet) -> Solution:
    """A solution whose own outcome, fed back, changes nothing (within ``AGAIN`` rounds)."""
    first = _mended(fleet)
    at, reasons = first.at, first.reasons
    for _ in range(AGAIN):
        if fleet.problem.goal.kind in ("place", "drain") or fleet.clock.over() or not _unfinished(fleet, at):
            break
        more = _mended(replace(fleet, start=at))
        if (more.at == at).all():
            break
        reasons |= {unit: why for unit, why in more.reasons.items() if unit not in reasons}
        at = more.at
    first.at = at
    return first


def _unfinished(fleet: Fleet, at: Ints) -> bool:
    """Whether a planner would look for more to do."""
    if fleet.problem.goal.kind == "consolidate":
        return bool((at != fleet.start).any())
    return bool(exiles(fleet, at)) or len(hot(fleet, ceilings(fleet, at) - fleet.loads(at))) > 0


def _mended(fleet: Fleet) -> Solution:
    """A balance mends rules first; the rest starts from there."""
    goal = fleet.problem.goal
    if goal.kind != "balance":
        return _once(fleet)
    price, limits = price_mib(goal), ceilings(fleet, fleet.start)
    place = mend(fleet, limits, price)
    if not len(place.moved()):
        return _once(fleet)
    rest = _once(replace(fleet, start=place.at))
    found = relief(fleet, fleet.start, limits, price)
    mib, moves = least_mib(fleet)
    bounds = max(found.mib, mib), max(found.cost, mib + price * moves)
    return Solution(fleet, limits, rest.at, rest.reasons | place.reasons, *bounds, found)


def _once(fleet: Fleet) -> Solution:
    goal = fleet.problem.goal
    price, limits = price_mib(goal), ceilings(fleet, fleet.start)
    if goal.kind == "balance":
        found = relief(fleet, fleet.start, limits, price)
        place = balance(fleet, limits, price, found)
        return Solution(fleet, limits, place.at, place.reasons, found.mib, found.cost, found)
    if goal.kind == "drain":
        place, units = drain(fleet, limits, price), leaving(fleet)
        least = float(fleet.need[MEMORY, units].sum())
        return Solution(fleet, limits, place.at, place.reasons, least, least + price * len(units))
    if goal.kind == "consolidate":
        place = consolidate(fleet, limits)
        return Solution(fleet, limits, place.at, place.reasons)
    place, refused = chosen(fleet, limits)
    moved = place.moved()
    least = float(fleet.need[MEMORY, moved].sum())
    return Solution(fleet, limits, place.at, bound_mib=least, bound_cost=least + price * len(moved), refused=refused)


def final(solution: Solution, at: Ints) -> Placement:
    """Everything where it is in the end."""
    return Placement(solution.fleet, solution.limits, at)
