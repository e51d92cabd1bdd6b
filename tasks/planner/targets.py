"""Guests to hosts that were chosen by somebody else: what of it holds in the end."""

from __future__ import annotations

import numpy as np

from tasks.planner.fleet import MEMORY, SLIP, Fleet, Floats, Ints
from tasks.planner.place import Placement


def chosen(fleet: Fleet, limits: Floats) -> tuple[Placement, dict[int, int]]:
    """The placement as asked for, less what cannot be: units that stay, and where they should have gone.

    A move is dropped that a rule or its host's kind forbids, or that is barred; then, from each host that would be too
    full, the smallest arrivals that suffice. What is dropped stays at its source, which may be too full then in turn.
    """
    goal = fleet.problem.goal
    number = {guest.id: n for n, guest in enumerate(fleet.guests)}
    wanted: dict[int, int] = {}
    for ident, name in goal.targets.items():
        wanted[int(fleet.unit_of[number[ident]])] = fleet.index[name]
    wanted = {unit: host for unit, host in wanted.items() if host != fleet.start[unit]}
    refused = {
        unit: host
        for unit, host in wanted.items()
        if not fleet.movable[unit] or not fleet.allowed[fleet.look[unit], host]
    }
    at = fleet.start.copy()
    for unit, host in wanted.items():
        if unit not in refused:
            at[unit] = host
    dropped = True
    while dropped:
        dropped = False
        for unit in _too_many(fleet, limits, at) or _too_close(fleet, at):
            refused[unit] = int(at[unit])
            at[unit] = fleet.start[unit]
            dropped = True
    place = Placement(fleet, limits)
    for unit in np.flatnonzero(at != fleet.start).tolist():
        place.move(unit, int(at[unit]))
    return place, refused


def _too_many(fleet: Fleet, limits: Floats, at: Ints) -> list[int]:
    """Arrivals of memory that a host has no room for, the fewest of the first such host."""
    slack = limits[MEMORY] - fleet.loads(at)[MEMORY]
    arrivals = np.bincount(at[at != fleet.start], minlength=len(fleet.hosts)) > 0
    for host in np.flatnonzero((slack < -SLIP) & arrivals).tolist():
        units = np.flatnonzero((at == host) & (fleet.start != host))
        for unit in sorted(units.tolist(), key=lambda one: (fleet.need[MEMORY, one], one)):
            if fleet.need[MEMORY, unit] >= -slack[host] - SLIP:
                return [unit]
        return [max(units.tolist(), key=lambda one: (fleet.need[MEMORY, one], one))]
    return []


def _too_close(fleet: Fleet, at: Ints) -> list[int]:
    """An arrival that breaks an ``apart`` rule."""
    for apart in fleet.aparts:
        zones: dict[int, list[int]] = {}
        for unit in apart.units:
            zones.setdefault(int(apart.zones[at[unit]]), []).append(unit)
        for zone, units in zones.items():
            came = [unit for unit in units if apart.zones[fleet.start[unit]] != zone]
            if len(units) > 1 and came:
                return [came[-1]]
    return []
