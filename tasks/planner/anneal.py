"""Simulated annealing over a whole placement, thousands of exchanges at a time.

An exchange sends a unit to another host, or swaps it with a unit there. A batch is drawn and valued with array
operations; of those that Metropolis' rule accepts, the ones are made that share no host with an earlier one, so that
each changes the cost by what it was valued at. What a host has above its limits costs little at first and more and
more: early on hosts may be too full while guests change places.

S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi, "Optimization by Simulated Annealing", Science 220 (1983).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from tasks.planner.ceilings import hard
from tasks.planner.fleet import CPU, MEMORY, MIB, SLIP, UNKNOWN, Bools, Floats, Ints
from tasks.planner.place import Placement

HOT_SHARE, AWAY_SHARE = 0.6, 0.35
"""Of a batch: units on hosts above their limits, units that are not where they started. The rest are any."""
HOME_SHARE, SWAP_SHARE = 0.5, 0.5
"""Of units that are away: those sent home. Of all: those that change places with another one."""
RESORT = 8
"""So many batches are drawn between two looks at which units each host has."""
PER_MOVE = 0.1
"""GiB: of two placements that move the same memory the one with fewer moves is better."""


WAITING = 0.2
"""What a guest costs that cannot come before another one has left, as a part of its memory."""
SMALLEST, LARGEST = 128, 3000
"""Exchanges in a batch; in between four for each host."""
BATCH, EXCHANGE = 3e-4, 4.5e-7
"""Seconds that a batch takes, and each exchange in it (measured)."""


def batch_size(hosts: int) -> int:
    """How many exchanges are drawn at once: few enough that those accepted rarely share a host."""
    return min(max(4 * hosts, SMALLEST), LARGEST)


def batch_seconds(size: int) -> float:
    """What a batch takes, estimated, so that the outcome does not depend on a clock."""
    return BATCH + size * EXCHANGE


@dataclass(frozen=True)
class Schedule:
    """From the first batch to the last, geometrically, in GiB."""

    heat: tuple[float, float] = (1.0, 0.1)
    """Of Metropolis' rule: what an exchange may cost."""
    weight: tuple[float, float] = (1.2, 4.0)
    """What a GiB above a limit costs (CPU counts as the memory of an equal share of the host)."""
    charge: tuple[float, float] = (5.0, 80.0)
    """What a host above its limits costs besides."""


@dataclass(frozen=True)
class Exchanges:
    """Units ``one`` on hosts ``here`` change places with ``other`` on hosts ``there``."""

    one: Ints
    other: Ints
    """The last unit of all, which needs nothing, where nobody comes back."""
    here: Ints
    there: Ints

    def __getitem__(self, which: Ints) -> Exchanges:
        return Exchanges(self.one.take(which), self.other.take(which), self.here.take(which), self.there.take(which))


class Annealing:
    """One placement under way; nothing is sent to ``fixed`` hosts (a mask), nor leaves them."""

    def __init__(self, place: Placement, price: float, fixed: Bools) -> None:
        fleet, limits = place.fleet, place.limits
        self.fleet = fleet
        self.nobody = len(fleet.start)
        self.random = np.random.default_rng(fleet.problem.goal.seed)
        scale = np.array([1.0, 1 / MIB])[:, None]
        self.need: Floats = np.append(fleet.need, np.zeros((2, 1)), axis=1) * scale
        self.at: Ints = np.append(place.at, -1)
        self.home: Ints = np.append(fleet.start, -2)
        self.slack: Floats = place.slack * scale
        start = fleet.loads(fleet.start)
        self.room: Floats = (hard(fleet) - start)[MEMORY] / MIB
        """What each host has free before anything moves."""
        self.least: Floats = np.minimum(0, limits - np.maximum(start, np.minimum(limits, hard(fleet)))) * scale
        """Nobody is sent where this would be undercut: hosts are never fuller than before, nor than they can be."""
        cores = np.maximum(fleet.room[CPU], SLIP)
        self.weight: Floats = np.where(fleet.room[CPU] < UNKNOWN, fleet.room[MEMORY] / MIB / cores, 0.0)
        """GiB that count as much as a core of each host."""
        self.cost: Floats = self.need[MEMORY] + price / MIB + PER_MOVE
        self.cost[self.nobody] = 0
        self.free: Bools = np.append(fleet.movable & ~fixed[place.at], True)
        self.units: Ints = np.flatnonzero(self.free[:-1])
        self.look = np.append(fleet.look, 0)
        self.open: Bools = fleet.allowed & ~fixed
        self.takers: Ints = np.flatnonzero(self.open.any(axis=0))
        self.watched: Bools = ~fixed
        self.ruled = np.zeros(self.nobody + 1, dtype=bool)
        self.ruled[list(fleet.rules_of)] = True
        self.zones = [Counter(rule.zones[self.at[list(rule.units)]].tolist()) for rule in fleet.aparts]
        self.paid = float(self.cost[:-1][place.at != fleet.start].sum())

    def run(self, seconds: float, schedule: Schedule, enough: float) -> Ints:
        """The best placement met in about so many seconds: the fewest hosts above their limits, then the least cost.

        It ends where all hosts are relieved for ``enough`` (MiB), than which nothing is cheaper.
        """
        size = batch_size(len(self.watched))
        batches = int(seconds / batch_seconds(size)) + 1
        best = self._worth(), self.at[:-1].copy()
        if not len(self.units) or not len(self.takers):
            return best[1]
        for turn in range(batches):
            if self.fleet.clock.over():
                break
            heat, weight, charge = (
                a * (b / a) ** (turn / batches) for a, b in (schedule.heat, schedule.weight, schedule.charge)
            )
            if turn % RESORT == 0:
                self._sort()
            self._batch(size, heat, weight, charge)
            if (worth := self._worth()) < best[0]:
                best = worth, self.at[:-1].copy()
                if not worth[0] and self._price() <= enough / MIB + SLIP:
                    break
        return best[1]

    def _price(self) -> float:
        """What is paid but for what prefers fewer moves."""
        return self.paid - PER_MOVE * int((self.at[:-1] != self.home[:-1]).sum())

    def _worth(self) -> tuple[int, float]:
        return int(self._hot().sum()), round(self.paid, 6)

    def _hot(self) -> Bools:
        over = self.slack < -SLIP
        hot: Bools = (over[CPU] | over[MEMORY]) & self.watched
        return hot

    def _sort(self) -> None:
        """Which units each host has: ``order[first[h]:first[h + 1]]``. Old between two calls, so it is looked up."""
        at = self.at[:-1].astype(np.int32)
        self.order = np.argsort(at, kind="stable")
        self.first = np.searchsorted(at[self.order], np.arange(len(self.watched) + 1))

    def _batch(self, size: int, heat: float, weight: float, charge: float) -> None:
        drawn = self._drawn(size)
        moved = self.need.take(drawn.one, axis=1) - self.need.take(drawn.other, axis=1)
        fits = self._fits(drawn.there, -moved) & self._fits(drawn.here, moved)
        kept = np.flatnonzero(fits)
        drawn, moved = drawn[kept], moved.take(kept, axis=1)
        here, there = self.slack.take(drawn.here, axis=1), self.slack.take(drawn.there, axis=1)
        after_here, after_there = here + moved, there - moved
        cost = paid = self._paid(drawn)
        for hosts, before, after in ((drawn.here, here, after_here), (drawn.there, there, after_there)):
            cost = cost + self._over(after, hosts, weight, charge) - self._over(before, hosts, weight, charge)
        chosen = np.flatnonzero(cost <= -heat * np.log(1 - self.random.random(len(cost))))
        if not len(chosen):
            return
        chosen = chosen[self._disjoint(drawn[chosen])]
        chosen = self._lawful(drawn, chosen)
        made = drawn[chosen]
        self.slack[:, made.here] = after_here[:, chosen]
        self.slack[:, made.there] = after_there[:, chosen]
        self.at[made.one] = made.there
        back = made.other != self.nobody
        self.at[made.other[back]] = made.here[back]
        self.paid += float(paid[chosen].sum())

    def _fits(self, hosts: Ints, more: Floats) -> Bools:
        """Whether hosts may become so much emptier: always, where it is not less than nothing."""
        after, least = self.slack.take(hosts, axis=1) + more, self.least.take(hosts, axis=1)
        good = (after >= least - SLIP) | (more >= 0)
        fits: Bools = good[CPU] & good[MEMORY]
        return fits

    def _drawn(self, size: int) -> Exchanges:
        """Exchanges that kinds, labels and parts allow."""
        draw, at = self.random, self.at
        hot = self.units[self._hot()[at[self.units]]]
        away = self.units[at[self.units] != self.home[self.units]]
        many = int(size * HOT_SHARE) if len(hot) else 0
        some = int(size * AWAY_SHARE) if len(away) else 0
        pools = ((hot, many), (away, some), (self.units, size - many - some))
        one = np.concatenate([pool[draw.integers(0, len(pool), count)] for pool, count in pools if count])
        draw.shuffle(one)
        here, home = at.take(one), self.home.take(one)
        there = self.takers[draw.integers(0, len(self.takers), size)]
        there = np.where((home >= 0) & (home != here) & (draw.random(size) < HOME_SHARE), home, there)
        count = self.first[there + 1] - self.first[there]
        place = self.first[there] + (draw.random(size) * count).astype(np.int64)
        swaps = (draw.random(size) < SWAP_SHARE) & (count > 0)
        other = np.where(swaps, self.order[np.minimum(place, self.nobody - 1)], self.nobody)
        good = (here != there) & (~swaps | ((at.take(other) == there) & self.free.take(other)))
        drawn = Exchanges(one, other, here, there)[np.flatnonzero(good)]
        good = self._may(drawn.one, drawn.there) & ((drawn.other == self.nobody) | self._may(drawn.other, drawn.here))
        return drawn if good.all() else drawn[np.flatnonzero(good)]

    def _may(self, units: Ints, hosts: Ints) -> Bools:
        may: Bools = self.open[self.look[units], hosts] | ((self.home[units] == hosts) & self.watched[hosts])
        return may

    def _over(self, slack: Floats, hosts: Ints, weight: float, charge: float) -> Floats:
        """What being above limits costs."""
        over = np.maximum(-slack[CPU], 0) * self.weight.take(hosts) + np.maximum(-slack[MEMORY], 0)
        cost: Floats = over * weight + (over > SLIP) * charge
        return cost

    def _paid(self, drawn: Exchanges) -> Floats:
        """What the exchanges move more than before."""
        one, other = self.home[drawn.one], self.home[drawn.other]
        leaves = (drawn.there != one) * 1.0 - (drawn.here != one)
        comes = (drawn.here != other) * 1.0 - (drawn.there != other)
        paid: Floats = self.cost.take(drawn.one) * leaves + self.cost.take(drawn.other) * comes
        paid += self._waits(drawn.one, drawn.there) - self._waits(drawn.one, drawn.here)
        paid += self._waits(drawn.other, drawn.here) - self._waits(drawn.other, drawn.there)
        return paid

    def _waits(self, units: Ints, hosts: Ints) -> Floats:
        """A little for who goes where there is no room before others have left: such chains take long."""
        memory = self.need[MEMORY].take(units)
        waits: Floats = memory * WAITING * ((memory > self.room.take(hosts)) & (self.home.take(units) != hosts))
        return waits

    def _disjoint(self, drawn: Exchanges) -> Bools:
        """Those of which no host is in an earlier exchange."""
        hosts = np.stack((drawn.here, drawn.there), axis=1).ravel()
        numbers = np.repeat(np.arange(len(drawn.one)), 2)
        first = np.full(len(self.watched), len(drawn.one))
        np.minimum.at(first, hosts, numbers)
        mine = np.arange(len(drawn.one))
        alone: Bools = (first[drawn.here] == mine) & (first[drawn.there] == mine)
        return alone

    def _lawful(self, drawn: Exchanges, chosen: Ints) -> Ints:
        """Those that bring no two units of an ``apart`` rule into one zone; what they occupy is noted."""
        ruled = self.ruled[drawn.one[chosen]] | self.ruled[drawn.other[chosen]]
        bad = [n for n in np.flatnonzero(ruled).tolist() if not self._parted(drawn, int(chosen[n]))]
        return np.delete(chosen, bad) if bad else chosen

    def _parted(self, drawn: Exchanges, n: int) -> bool:
        here, there = int(drawn.here[n]), int(drawn.there[n])
        moves = [(int(drawn.one[n]), here, there), (int(drawn.other[n]), there, here)]
        entered = self._enter(moves)
        if all(self.zones[rule][zone] <= 1 for rule, zone in entered):
            return True
        self._enter([(unit, target, source) for unit, source, target in moves])
        return False

    def _enter(self, moves: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
        """Move units between the zones of their rules; the zones that they are in then."""
        entered = []
        for unit, source, target in moves:
            for rule in self.fleet.rules_of.get(unit, ()):
                zones, counts = self.fleet.aparts[rule].zones, self.zones[rule]
                before, after = int(zones[source]), int(zones[target])
                counts[before] -= 1
                counts[after] += 1
                if before != after:
                    entered.append((rule, after))
        return entered
