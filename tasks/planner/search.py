"""Making room for what best fit did not place, and making a placement cheaper."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tasks.planner.fleet import CPU, MEMORY, SLIP, Ints
from tasks.planner.place import AIR, Placement, largest_first, settle

BREADTH = (48, 12, 6)
"""So many units are tried as the one that makes room: for the unit itself, for that one in turn, and so on."""


def squeeze(place: Placement, unit: int, price: float, rule: int = 0, deep: int = 1) -> bool:
    """Place a unit, at need where ``deep`` others in a row give way to one another, the cheapest first.

    Changes nothing where it fails.
    """
    return settle(place, unit, rule) or (deep > 0 and _eject(place, unit, price, rule, deep, 0, {unit}))


def _eject(place: Placement, unit: int, price: float, rule: int, deep: int, level: int, busy: set[int]) -> bool:
    fleet = place.fleet
    for other in _in_the_way(place, unit, price)[: BREADTH[min(level, len(BREADTH) - 1)]].tolist():
        if other in busy:
            continue
        mark, host = place.mark(), int(place.at[other])
        place.move(other, AIR)
        place.move(unit, host)
        if settle(place, other, rule) or (
            level + 1 < deep and _eject(place, other, price, rule, deep, level + 1, busy | {other})
        ):
            if other not in place.reasons and fleet.start[other] == host:
                place.reasons[other] = f"make room for {fleet.name(unit)}"
            return True
        place.undo(mark)
    return False


def _in_the_way(place: Placement, unit: int, price: float) -> Ints:
    """Units whose departure would make room for this one, those first that cost least.

    What has been moved already costs nothing more; of the rest, the smallest.
    """
    fleet, at = place.fleet, place.at
    open_to = place.open_to(unit)
    need = fleet.need[:, unit]
    short = np.flatnonzero(open_to & (place.slack > -SLIP * 10).all(axis=0))
    on_open = np.zeros(len(open_to) + 1, dtype=bool)  # the last one stands for AIR
    on_open[short] = True
    others = np.flatnonzero(fleet.movable & on_open[at])
    room = place.slack[:, at[others]] + fleet.need[:, others]
    others = others[(room[CPU] >= need[CPU] - SLIP) & (room[MEMORY] >= need[MEMORY] - SLIP)]
    extra = np.where(at[others] == fleet.start[others], fleet.need[MEMORY, others] + price, 0.0)
    others = others[extra < 4 * (need[MEMORY] + price) + 1]
    extra = np.where(at[others] == fleet.start[others], fleet.need[MEMORY, others] + price, 0.0)
    return others[np.lexsort((fleet.need[MEMORY, others], extra))]


def squeeze_all(place: Placement, units: Iterable[int], price: float, rule: int = 0, deep: int = 1) -> list[int]:
    """Place units, the hardest first; those that nothing took are returned, still in the ``AIR``."""
    return [unit for unit in largest_first(place, units) if not squeeze(place, unit, price, rule, deep)]


def homewards(place: Placement, keep: set[int]) -> int:
    """Send units back where they started, wherever there is room now; how many went.

    Where what fills the room was moved there and fits elsewhere as well, it goes elsewhere. ``keep`` are hosts whose
    units must not come back.
    """
    fleet, went = place.fleet, 0
    moved = [unit for unit in place.moved().tolist() if int(fleet.start[unit]) not in keep]
    for unit in sorted(moved, key=lambda one: (-fleet.need[MEMORY, one], one)):
        start = int(fleet.start[unit])
        if not place.clear_of_rules(unit, start) or not _welcome(place, unit, start):
            continue
        if (place.slack[:, start] >= fleet.need[:, unit] - SLIP).all() or _clear(place, unit, start):
            place.move(unit, start)
            place.reasons.pop(unit, None)
            went += 1
    return went


def _welcome(place: Placement, unit: int, start: int) -> bool:
    """Whether a unit may be where it started: always, but on a host that is emptied."""
    return not place.fleet.drained[start] and not place.closed[start]


def _clear(place: Placement, unit: int, start: int) -> bool:
    """Move one unit, that was moved to this host anyway, on to another, so that ``unit`` has room here."""
    fleet = place.fleet
    guests = np.flatnonzero((place.at == start) & (fleet.start != start))
    room = place.slack[:, [start]] + fleet.need[:, guests]
    for other in guests[(room >= fleet.need[:, [unit]] - SLIP).all(axis=0)].tolist():
        mark = place.mark()
        if settle(place, other) and (place.slack[:, start] >= fleet.need[:, unit] - SLIP).all():
            return True
        place.undo(mark)
    return False
