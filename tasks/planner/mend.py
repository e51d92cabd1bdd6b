"""Rules that are broken before anything moves: who has to go elsewhere so that they hold.

Of guests that are too close the largest stays (or those that may not move) and the others leave; a guest without its
labels, or outside of its part, goes where it belongs; guests that belong together join those that use most memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tasks.planner.fleet import MEMORY, SLIP, Apart, Fleet, Floats, Ints
from tasks.planner.parts import Parts
from tasks.planner.place import AIR, Placement, largest_first
from tasks.planner.search import squeeze
from worker.contract.plans import Rule

DEEPEST = 3
"""So many guests in a row may make room for one."""


def exiles(fleet: Fleet, at: Ints) -> dict[int, str]:
    """Units that have to leave where they are so that rules hold, and could: the least memory; and for which rule."""
    found: dict[int, str] = {}
    astray = np.flatnonzero(fleet.movable & ~fleet.lawful[fleet.look, at]) if len(at) else at
    for unit in astray.tolist():
        found[unit] = _misses(fleet, unit, int(at[unit]))
    for apart in fleet.aparts:
        for units in _crowded(apart, at):
            fixed = [unit for unit in units if not fleet.movable[unit]]
            stay = fixed or [max(units, key=lambda unit: (unit not in found, fleet.need[MEMORY, unit], -unit))]
            found |= {unit: f"rule {apart.name}" for unit in units if unit not in stay and unit not in found}
    return found


def least_mib(fleet: Fleet) -> tuple[float, int]:
    """What mending the rules has to move at least: memory, and units. Rules that share a unit with an earlier one are
    not counted."""
    counted: set[int] = set()
    mib, moves = 0.0, 0
    for apart in fleet.aparts:
        groups = [] if counted & set(apart.units) else list(_crowded(apart, fleet.start))
        for units in groups:
            sizes = sorted(float(fleet.need[MEMORY, unit]) for unit in units)[:-1]
            mib, moves = mib + sum(sizes), moves + len(sizes)
            counted.update(apart.units)
    return mib, moves


def mend(fleet: Fleet, limits: Floats, price: float) -> Placement:
    """Everything where it is, but for those who leave so that rules hold; whoever finds no room stays."""
    place = Placement(fleet, limits)
    wanted = exiles(fleet, fleet.start)
    for unit in largest_first(place, wanted):
        if _astray(place, unit) and _sent_away(place, unit, price):
            place.reasons[unit] = wanted[unit]
    for rule in fleet.problem.rules:
        if rule.kind == "together":
            _joined(place, rule)
    return place


def _astray(place: Placement, unit: int) -> bool:
    """Whether a unit still breaks a rule where it is, now that others have gone."""
    fleet, host = place.fleet, int(place.at[unit])
    aparts = (fleet.aparts[rule] for rule in fleet.rules_of.get(unit, ()))
    close = any(unit in units for apart in aparts for units in _crowded(apart, place.at))
    return close or not fleet.lawful[fleet.look[unit], host]


def broken(fleet: Fleet, at: Ints) -> list[str]:
    """Names of the rules that do not hold where units are so."""
    number = {guest.id: n for n, guest in enumerate(fleet.guests)}
    names = [apart.name for apart in fleet.aparts if next(_crowded(apart, at), None)]
    known: dict[Parts, list[frozenset[int]]] = {}  # many rules name the same parts
    for rule in fleet.problem.rules:
        hosts = {int(at[fleet.unit_of[number[guest]]]) for guest in rule.guests} if rule.kind != "apart" else set()
        if rule.kind == "among" and rule.parts not in known:
            known[rule.parts] = [frozenset(fleet.index[name] for name in part) for part in rule.parts]
        split = rule.kind == "together" and len(hosts) > 1
        if split or (rule.kind == "among" and hosts and not any(hosts <= part for part in known[rule.parts])):
            names.append(rule.name)
    return names


def _crowded(apart: Apart, at: Ints) -> Iterator[list[int]]:
    """Units of a rule that share a zone."""
    zones = apart.zones[at[list(apart.units)]].tolist()
    if len(set(zones)) == len(zones):
        return
    for zone in dict.fromkeys(zones):
        units = [unit for unit, its in zip(apart.units, zones, strict=True) if its == zone]
        if len(units) > 1:
            yield units


def _misses(fleet: Fleet, unit: int, host: int) -> str:
    """Which rule a unit breaks where it is, or which labels its host lacks."""
    ids = {fleet.guests[n].id for n in fleet.members[unit]}
    wants = {label: value for n in fleet.members[unit] for label, value in fleet.guests[n].requires.items()}
    labels = fleet.hosts[host].labels
    for label, value in sorted(wants.items()):
        if labels.get(label) != value:
            return f"requires {label}={value}"
    names = [rule.name for rule in fleet.problem.rules if rule.kind == "among" and ids & set(rule.guests)]
    return f"rule {names[0]}" if names else "its rules"


def _sent_away(place: Placement, unit: int, price: float) -> bool:
    """Place a unit on another host; ``False``, and nothing changed, where none takes it."""
    here, mark = int(place.at[unit]), place.mark()
    shut = bool(place.closed[here])
    place.closed[here] = True
    place.move(unit, AIR)
    done = any(squeeze(place, unit, price, 0, deep) for deep in range(DEEPEST + 1))
    place.closed[here] = shut
    if not done:
        place.undo(mark)
    return done


def _joined(place: Placement, rule: Rule) -> None:
    """Bring the units of a ``together`` rule to the host where most of them by memory are, or to another of theirs."""
    fleet = place.fleet
    number = {guest.id: n for n, guest in enumerate(fleet.guests)}
    units = list(dict.fromkeys(int(fleet.unit_of[number[guest]]) for guest in rule.guests))
    if len(units) < 2 or len({int(place.at[unit]) for unit in units}) < 2:
        return
    held: dict[int, float] = {}
    for unit in units:
        held[int(place.at[unit])] = held.get(int(place.at[unit]), 0.0) + float(fleet.need[MEMORY, unit])
    for host in sorted(held, key=lambda one: (-held[one], one)):
        movers = [unit for unit in units if place.at[unit] != host]
        mark = place.mark()
        if all(_goes(place, unit, host) for unit in movers):
            place.reasons |= dict.fromkeys(movers, f"rule {rule.name}")
            return
        place.undo(mark)


def _goes(place: Placement, unit: int, host: int) -> bool:
    fleet = place.fleet
    roomy = (place.slack[:, host] >= fleet.need[:, unit] - SLIP).all()
    if not (roomy and fleet.movable[unit] and place.open_to(unit)[host]):
        return False
    place.move(unit, host)
    return True
