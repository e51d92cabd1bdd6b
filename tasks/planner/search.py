"""Making room for what best fit did not place, and making a placement cheaper."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tasks.planner.bound import covering
from tasks.planner.fleet import MEMORY, SLIP, Ints
from tasks.planner.place import AIR, Placement, largest_first, settle

BREADTH = (48, 12, 6)
"""So many units are tried as the one that makes room: for the unit itself, for that one in turn, and so on."""
NEAR = 96
"""Only hosts that lack so little for it: so many are looked at."""
CLEARED = 12
"""So many hosts are tried as the one that several units leave for a large one."""


def squeeze(place: Placement, unit: int, price: float, rule: int = 0, deep: int = 1, until: float = np.inf) -> bool:
    """Place a unit, at need where others give way: ``deep`` ones in a row, or several at once.

    Changes nothing where it fails, or where ``place.spent`` passes ``until``, or the clock rings.
    """
    if settle(place, unit, rule):
        return True
    if deep <= 0 or place.ended(until):
        return False
    return _eject(place, unit, price, rule, deep, 0, {unit}, until) or (
        deep > 1 and _clear_out(place, unit, price, rule, until)
    )


def _eject(
    place: Placement, unit: int, price: float, rule: int, deep: int, level: int, busy: set[int], until: float
) -> bool:
    others = _in_the_way(place, unit, price)
    others = others[: BREADTH[min(level, len(BREADTH) - 1)]]
    if not len(others):
        return False
    easy = place.somewhere(others)
    for other in others[easy].tolist():
        if other not in busy and _instead(place, unit, other, lambda one: settle(place, one, rule)):
            return True
    if level + 1 >= deep:
        return False
    for other in others[~easy].tolist():
        if place.ended(until):
            return False
        if other not in busy and _instead(
            place,
            unit,
            other,
            lambda one: _eject(place, one, price, rule, deep, level + 1, busy | {one}, until),
        ):
            return True
    return False


def _instead(place: Placement, unit: int, other: int, settled: Callable[[int], bool]) -> bool:
    """Put a unit where another one is, if that one settles elsewhere."""
    mark, host = place.mark(), int(place.at[other])
    place.move(other, AIR)
    place.move(unit, host)
    if settled(other):
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
    fleet, need = place.fleet, place.fleet.need[:, [unit]]
    place.spent += 4e-4 + 1.5e-8 * len(place.at)
    hosts = _nearest(place, unit, NEAR)
    on = np.zeros(len(fleet.hosts) + 1, dtype=bool)  # the last one stands for AIR
    on[hosts] = True
    others = np.flatnonzero(on[place.at])
    others = others[fleet.movable[others]]
    at = place.at[others]
    others = others[(fleet.need[:, others] >= need - place.slack[:, at] - SLIP).all(axis=0)]
    memory = fleet.need[MEMORY, others]
    extra = np.where(place.at[others] == fleet.start[others], memory + price, 0.0)
    return others[np.lexsort((memory, extra))]


def _nearest(place: Placement, unit: int, most: int) -> Ints:
    """The hosts that lack the least for a unit, of those that could hold it alone."""
    need = place.fleet.need[:, [unit]]
    fit = place.open_to(unit) & (place.slack >= -SLIP * 10).all(axis=0) & (place.limits >= need - SLIP).all(axis=0)
    hosts = np.flatnonzero(fit)
    short = (np.maximum(0, need - place.slack[:, hosts]) / np.maximum(need, SLIP)).sum(axis=0)
    return hosts[np.argsort(short, kind="stable")[:most]]


def _clear_out(place: Placement, unit: int, price: float, rule: int, until: float) -> bool:
    """Make room for a large unit on one host: the cheapest set there that fits elsewhere leaves it."""
    fleet = place.fleet
    for host in _nearest(place, unit, CLEARED).tolist():
        if place.ended(until):
            return False
        there = np.flatnonzero((place.at == host) & fleet.movable)
        there = there[place.somewhere(there)]
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
        if fleet.clock.over():
            break
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
