"""Where every unit is while a plan is made, and vector best fit: which host takes the next one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tasks.planner.fleet import CPU, MEMORY, SLIP, UNKNOWN, Bools, Fleet, Floats, Ints

AIR = -1
"""Taken off its host, not placed yet."""


class Placement:
    """Units on hosts, with what a search needs to know fast. Every change can be undone."""

    def __init__(self, fleet: Fleet, limits: Floats, at: Ints | None = None) -> None:
        self.fleet, self.limits = fleet, limits
        self.at: Ints = (fleet.start if at is None else at).copy()
        self.last: Ints = self.at.copy()
        """The host that each is on, or was lifted from: its ``apart`` rules hold there until it is put down."""
        self.slack: Floats = limits - fleet.loads(self.at)
        """(2, hosts): what is free under the limits; negative where a host is above them."""
        self.reasons: dict[int, str] = {}
        """Why a unit was moved that the goal itself did not ask to move."""
        self.closed: Bools = np.zeros(len(fleet.hosts), dtype=bool)
        """Hosts that nothing is sent to for now."""
        self.spent = 0.0
        """Estimated seconds of searching so far: from sizes, not from a clock, so that a seed decides the outcome."""
        self._log: list[tuple[int, int, int]] = []
        self._zones = [self._count(rule) for rule in range(len(fleet.aparts))]

    def _count(self, rule: int) -> dict[int, int]:
        apart, counts = self.fleet.aparts[rule], dict[int, int]()
        for unit in apart.units:
            zone = int(apart.zones[self.at[unit]])
            counts[zone] = counts.get(zone, 0) + 1
        return counts

    def move(self, unit: int, host: int) -> None:
        """Put a unit on a host, or in the ``AIR``."""
        last = int(self.last[unit])
        self._log.append((unit, int(self.at[unit]), last))
        self._set(unit, host, last if host == AIR else host)

    def _set(self, unit: int, host: int, last: int) -> None:
        need, before = self.fleet.need[:, unit], int(self.at[unit])
        if before != AIR:
            self.slack[:, before] += need
        if host != AIR:
            self.slack[:, host] -= need
        if last != self.last[unit]:
            for rule in self.fleet.rules_of.get(unit, ()):
                zones, counts = self.fleet.aparts[rule].zones, self._zones[rule]
                counts[int(zones[self.last[unit]])] -= 1
                counts[int(zones[last])] = counts.get(int(zones[last]), 0) + 1
        self.at[unit], self.last[unit] = host, last

    def mark(self) -> int:
        """A point to go back to."""
        return len(self._log)

    def undo(self, mark: int) -> None:
        """Go back to it."""
        while len(self._log) > mark:
            self._set(*self._log.pop())

    def changes(self, mark: int) -> list[tuple[int, int]]:
        """What was moved since then, and where it is."""
        units = dict.fromkeys(unit for unit, _, _ in self._log[mark:])
        return [(unit, int(self.at[unit])) for unit in units]

    def open_to(self, unit: int) -> Bools:
        """(hosts): where the rules let a unit go now, whatever its size; never where it is."""
        fleet = self.fleet
        mask: Bools = fleet.allowed[fleet.look[unit]] & ~self.closed
        if self.at[unit] != AIR:
            mask[self.at[unit]] = False
        for rule in fleet.rules_of.get(unit, ()):
            apart = fleet.aparts[rule]
            own = int(apart.zones[self.last[unit]])
            taken = [zone for zone, count in self._zones[rule].items() if count > (zone == own)]
            if apart.plain:
                mask[taken] = False
            else:
                mask &= ~np.isin(apart.zones, taken)
        return mask

    def clear_of_rules(self, unit: int, host: int) -> bool:
        """Whether no ``apart`` rule keeps a unit off a host; none keeps it off the one that it was lifted from."""
        for rule in self.fleet.rules_of.get(unit, ()):
            zones = self.fleet.aparts[rule].zones
            own = zones[self.last[unit]] == zones[host]
            if self.last[unit] != host and self._zones[rule].get(int(zones[host]), 0) > own:
                return False
        return True

    def fitting(self, unit: int) -> Ints:
        """Hosts that can take a unit now."""
        self.spent += 2e-5 + 2e-8 * self.closed.size
        cpu, memory = self.fleet.need[:, unit].tolist()
        fits = (self.slack[MEMORY] >= memory - SLIP) & (self.slack[CPU] >= cpu - SLIP)
        return np.flatnonzero(fits & self.open_to(unit)) if fits.any() else np.empty(0, dtype=np.int64)

    def somewhere(self, units: Ints) -> Bools:
        """(units): whether some host has room for each, by kind, labels and size; ``apart`` rules are not asked."""
        fleet = self.fleet
        self.spent += 1.5e-4 + 3e-9 * self.closed.size * len(units)
        hosts = np.flatnonzero(~self.closed & (self.slack > -SLIP).all(axis=0))
        need, slack = fleet.need[:, units], self.slack[:, hosts]
        fits = (slack[MEMORY] >= need[MEMORY, :, None] - SLIP) & (slack[CPU] >= need[CPU, :, None] - SLIP)
        fits &= fleet.allowed[np.ix_(fleet.look[units], hosts)]
        fits &= self.at[units][:, None] != hosts
        found: Bools = fits.any(axis=1)
        return found

    def ended(self, until: float) -> bool:
        """Whether searching has to end: more than this was spent, or the clock says so."""
        return self.spent > until or self.fleet.clock.over()

    def moved(self) -> Ints:
        """Units that are not where they started."""
        return np.flatnonzero(self.at != self.fleet.start)

    def cost(self, price: float) -> float:
        """Memory moved and the price of each move (MiB)."""
        moved = self.moved()
        return float(self.fleet.need[MEMORY, moved].sum() + price * len(moved))


def roomiest(place: Placement, unit: int, hosts: Ints) -> int:
    """The host that is left the emptiest, by the scarcer of its resources: loads stay even."""
    left = _left(place, unit, hosts)
    return int(hosts[int(np.argmax(left.min(axis=0)))])


def alike(place: Placement, unit: int, hosts: Ints) -> int:
    """The host whose room is shaped like the unit: what is left of CPU and memory stays usable together."""
    left = _left(place, unit, hosts)
    return int(hosts[int(np.argmin(np.abs(left[CPU] - left[MEMORY]) - left.min(axis=0)))])


def fullest(place: Placement, unit: int, hosts: Ints) -> int:
    """The host that is left the fullest: large room is kept for large guests."""
    left = _left(place, unit, hosts)
    return int(hosts[int(np.argmin(left.sum(axis=0)))])


def _left(place: Placement, unit: int, hosts: Ints) -> Floats:
    """(2, hosts): what stays free, as a part of each limit; 1 where a resource is not limited."""
    limits = place.limits[:, hosts]
    limited = (limits > 0) & (limits < UNKNOWN / 100)
    left = np.ones_like(limits)
    np.divide(place.slack[:, hosts] - place.fleet.need[:, [unit]], limits, out=left, where=limited)
    return left


RULES = (roomiest, alike, fullest)


def settle(place: Placement, unit: int, rule: int = 0) -> bool:
    """Place a unit by the rule; its home is preferred. ``False`` where nothing takes it."""
    hosts = place.fitting(unit)
    if not len(hosts):
        return False
    home = int(place.fleet.home[unit])
    start = int(place.fleet.start[unit])
    if home >= 0 and home in hosts:
        place.move(unit, home)
    elif place.at[unit] != start and start in hosts:
        place.move(unit, start)  # costs nothing
    else:
        place.move(unit, RULES[rule](place, unit, hosts))
    return True


def largest_first(place: Placement, units: Iterable[int]) -> list[int]:
    """By the larger of a unit's shares of an average host; the hardest come first."""
    fleet = place.fleet
    room = np.where(fleet.known, fleet.room, 0)
    mean = np.maximum(room.mean(axis=1), 1.0)
    size = (fleet.need / mean[:, None]).max(axis=0)
    return sorted(units, key=lambda unit: (-size[unit], unit))
