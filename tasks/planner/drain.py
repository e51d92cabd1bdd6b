"""Empty hosts: those that a drain names, or as many as possible (consolidation)."""

from __future__ import annotations

import numpy as np

from tasks.planner.fleet import CPU, MEMORY, Fleet, Floats, Ints
from tasks.planner.place import AIR, RULES, Placement, largest_first, settle
from tasks.planner.pools import Pools
from tasks.planner.search import homewards, squeeze

FULLEST = 2
"""Of ``place.RULES``."""
SEARCH = 0.4
"""Of a plan's seconds, for guests in a row that make room."""


def leaving(fleet: Fleet) -> Ints:
    """What a drain has to move."""
    return np.flatnonzero(fleet.drained[fleet.start] & fleet.movable) if len(fleet.start) else fleet.start


def drain(fleet: Fleet, limits: Floats, price: float) -> Placement:
    """Everything that may move off the drained hosts; others make room where nothing else helps.

    What no host takes stays where it is.
    """
    units = leaving(fleet)
    best: tuple[float, Placement, list[int], int] | None = None
    for rule in range(len(RULES)):
        place = Placement(fleet, limits)
        left = [unit for unit in largest_first(place, units) if not settle(place, unit, rule)]
        missed = float(fleet.need[MEMORY, left].sum()) + len(left)
        if best is None or missed < best[0]:
            best = (missed, place, left, rule)
        if not left:
            break
    if best is None:
        return Placement(fleet, limits)
    _, place, left, rule = best
    until = place.spent + SEARCH * fleet.problem.goal.plan_seconds
    for deep in (1, 2, 3):
        left = [unit for unit in left if not squeeze(place, unit, price, rule, deep, until)]
    pools = Pools(place, price)
    for unit in left:
        pools.placed(unit)
    homewards(place, set())
    return place


def consolidate(fleet: Fleet, limits: Floats) -> Placement:
    """As many hosts as possible without guests: the least loaded ones go to the fullest that are in use.

    A host is emptied wholly or not at all. Whether one can be depends only on where everything is, so the outcome fed
    back changes nothing.
    """
    place = Placement(fleet, limits)
    in_use = np.bincount(fleet.start, minlength=len(fleet.hosts)) > 0
    place.closed = ~in_use
    gained = True
    while gained:
        gained = False
        for host in _least_loaded(place):
            if _emptied(place, host):
                gained = True
    return place


def _least_loaded(place: Placement) -> list[int]:
    """Hosts in use that everything may leave."""
    fleet = place.fleet
    count = np.bincount(place.at, minlength=len(fleet.hosts))
    fixed = np.bincount(place.at[~fleet.movable], minlength=len(fleet.hosts))
    shares = np.zeros_like(fleet.room)
    np.divide(place.fleet.loads(place.at), fleet.room, out=shares, where=fleet.known)
    load = shares[MEMORY] + shares[CPU]
    able = np.flatnonzero((count > 0) & (fixed == 0))
    return sorted(able.tolist(), key=lambda host: (load[host], host))


def _emptied(place: Placement, host: int) -> bool:
    fleet, mark = place.fleet, place.mark()
    units = np.flatnonzero(place.at == host)
    others = ~place.closed
    others[host] = False
    free = np.maximum(place.slack[:, others], 0).sum(axis=1)
    if not len(units) or (fleet.need[:, units].sum(axis=1) > free).any():
        return False
    place.closed[host] = True
    for unit in largest_first(place, units.tolist()):
        place.move(unit, AIR)
        if not settle(place, unit, FULLEST):
            place.undo(mark)
            place.closed[host] = False
            return False
    return True
