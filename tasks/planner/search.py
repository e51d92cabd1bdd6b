"""Making room for what best fit did not place, and making a placement cheaper."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tasks.planner.bound import covering
from tasks.planner.fleet import CPU, MEMORY, SLIP, Ints
from tasks.planner.place import AIR, Placement, largest_first, settle

BREADTH = (48, 12, 6)
"""So many units are tried as the one that makes room: for the unit itself, for that one in turn, and so on."""
CLEARED = 12
"""So many hosts are tried as the one that several units leave for a large one."""


def squeeze(place: Placement, unit: int, price: float, rule: int = 0, deep: int = 1, until: float = np.inf) -> bool:
    """Place a unit, at need where others give way: ``deep`` ones in a row, or several at once.

    Changes nothing where it fails, or where ``place.spent`` passes ``until``.
    """
    if settle(place, unit, rule):
        return True
    if deep <= 0 or place.spent > until:
        return False
    return _eject(place, unit, price, rule, deep, 0, {unit}, until) or (
        deep > 1 and _clear_out(place, unit, price, rule, until)
    )


def _eject(
    place: Placement, unit: int, price: float, rule: int, deep: int, level: int, busy: set[int], until: float
) -> bool:
    fleet = place.fleet
    for other in _in_the_way(place, unit, price)[: BREADTH[min(level, len(BREADTH) - 1)]].tolist():
        if place.spent > until:
            return False
        if other in busy:
            continue
        mark, host = place.mark(), int(place.at[other])
        place.move(other, AIR)
        place.move(unit, host)
        if settle(place, other, rule) or (
            level + 1 < deep and _eject(place, other, price, rule, deep, level + 1, busy | {other}, until)
        ):
            _made_room(place, other, host, unit)
            return True
        place.undo(mark)
    return False


def _made_room(place: Placement, other: int, host: int, unit: int) -> None:
    if other not in place.reasons and place.fleet.start[other] == host:
        place.reasons[other] = f"make room for {place.fleet.name(unit)}"


def _in_the_way(place: Placement, unit: int, price: float) -> Ints:
    """Units whose departure would make room for this one, those first that cost least.

    What has been moved already costs nothing more; of the rest, the smallest.
    """
    fleet, at = place.fleet, place.at
    place.spent += 1e-4 + 4e-8 * len(at)
    open_to = place.open_to(unit) & (place.slack >= -SLIP * 10).all(axis=0)
    need = fleet.need[:, unit]
    on_open = np.append(open_to, False)  # the last one stands for AIR
    short = np.append(need[:, None] - place.slack, np.zeros((2, 1)), axis=1)
    fits = on_open[at] & fleet.movable & (fleet.need[MEMORY] >= short[MEMORY][at] - SLIP)
    others = np.flatnonzero(fits & (fleet.need[CPU] >= short[CPU][at] - SLIP))
    memory = fleet.need[MEMORY, others]
    extra = np.where(at[others] == fleet.start[others], memory + price, 0.0)
    return others[np.lexsort((memory, extra))]


def _clear_out(place: Placement, unit: int, price: float, rule: int, until: float) -> bool:
    """Make room for a large unit on one host: the cheapest set there that fits elsewhere leaves it."""
    fleet = place.fleet
    open_to = place.open_to(unit) & (place.slack >= -SLIP * 10).all(axis=0)
    need = fleet.need[:, [unit]]
    hosts = np.flatnonzero(open_to & (place.limits >= need - SLIP).all(axis=0))
    short = np.maximum(0, need - place.slack[:, hosts])
    hosts = hosts[np.argsort((short / np.maximum(need, SLIP)).sum(axis=0), kind="stable")][:CLEARED]
    for host in hosts.tolist():
        if place.spent > until:
            return False
        there = np.flatnonzero((place.at == host) & fleet.movable)
        there = there[[len(place.fitting(other)) > 0 for other in there.tolist()]] if len(there) else there
        chosen = covering(fleet, there, place.slack[:, host] - fleet.need[:, unit], price)
        place.spent += 1e-3
        if chosen is None:
            continue
        mark, leaving = place.mark(), [int(there[n]) for n in chosen.chosen]
        for other in leaving:
            place.move(other, AIR)
        place.move(unit, host)
        if all(squeeze(place, other, price, rule, 1, until) for other in largest_first(place, leaving)):
            for other in leaving:
                _made_room(place, other, host, unit)
            return True
        place.undo(mark)
    return False


def squeeze_all(
    place: Placement, units: Iterable[int], price: float, rule: int = 0, deep: int = 1, until: float = np.inf
) -> bool:
    """Place units, the hardest first; whether all were placed. The first that is not ends it."""
    return all(squeeze(place, unit, price, rule, deep, until) for unit in largest_first(place, units))


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
