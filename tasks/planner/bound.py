"""What must leave each host above its ceiling, at least: the sum over the hosts bounds every plan."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tasks.planner.fleet import CPU, MEMORY, SLIP, Bools, Fleet, Floats, Ints
from tasks.planner.knapsack import Cover, cover


@dataclass
class Relief:
    """What must leave the hosts above their ceilings."""

    sets: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """For each such host the cheapest units."""
    covers: dict[int, Cover] = field(default_factory=dict)
    hopeless: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Hosts that no departure of units that may leave and fit anywhere brings under the ceiling, and by which
    resources (``CPU``, ``MEMORY``)."""

    @property
    def mib(self) -> float:
        """No plan that relieves all these hosts (but the hopeless) moves less memory."""
        return sum(one.mib for one in self.covers.values())

    @property
    def cost(self) -> float:
        """Nor costs less."""
        return sum(one.cost for one in self.covers.values())


def hot(fleet: Fleet, slack: Floats) -> Ints:
    """Hosts above a ceiling, by more than a millionth of what they have."""
    room = np.where(fleet.known, fleet.room, 0)
    return np.flatnonzero((slack < -1e-6 * room - SLIP).any(axis=0))


def relief(fleet: Fleet, at: Ints, limits: Floats, price: float, only: Ints | None = None) -> Relief:
    """For each host above its ceiling (or ``only`` for some) the cheapest departures, and what bounds them."""
    slack = limits - fleet.loads(at)
    hosts = hot(fleet, slack) if only is None else only
    found = Relief()
    by_host = fleet.by_host(at)
    can_go = placeable(fleet, limits, np.concatenate([by_host[host] for host in hosts])) if len(hosts) else None
    for host in hosts.tolist():
        units = by_host[host]
        units = units[fleet.movable[units] & can_go[units]] if can_go is not None else units
        one = covering(fleet, units, slack[:, host], price)
        if one is None:
            sums = fleet.need[:, units].sum(axis=1)
            found.hopeless[host] = tuple(r for r in (CPU, MEMORY) if sums[r] < -slack[r, host] - SLIP)
        else:
            found.covers[host] = one
            found.sets[host] = tuple(int(units[n]) for n in one.chosen)
    return found


def covering(fleet: Fleet, units: Ints, slack: Floats, price: float) -> Cover | None:
    """The cheapest of the units whose departure brings a host with this slack to its limits."""
    memory = np.rint(fleet.need[MEMORY, units]).astype(np.int64)
    return cover(memory, fleet.need[CPU, units], -float(slack[MEMORY]), -float(slack[CPU]), price)


def placeable(fleet: Fleet, limits: Floats, units: Ints) -> Bools:
    """(all units): whether one of them fits on some other host that were empty, by rules on hosts and by size."""
    can = np.zeros(len(fleet.start), dtype=bool)
    for row in np.unique(fleet.look[units]).tolist():
        allowed = fleet.allowed[row]
        hosts = np.flatnonzero(allowed)
        if not len(hosts):
            continue
        mine = units[fleet.look[units] == row]
        need, start = fleet.need[:, mine], fleet.start[mine]
        for host in {int(hosts[np.argmax(limits[r, hosts])]) for r in (CPU, MEMORY)}:
            can[mine] |= (need <= limits[:, host, None] + SLIP).all(axis=0) & (start != host)
        for unit in mine[~can[mine]].tolist():  # few: not even the widest hosts have room for them
            fits = (fleet.need[:, unit, None] <= limits[:, hosts] + SLIP).all(axis=0)
            can[unit] = bool((fits & (hosts != fleet.start[unit])).any())
    return can
