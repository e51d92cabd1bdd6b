"""Bring every host under its ceiling with the least memory moved.

The cheapest units leave each hot host (``bound.relief``) and are placed by best fit. A host of which not all could be
placed tries other sets and makes room; where that fails, too, it keeps everything: half a relief costs and cures not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.planner.anneal import Annealing, Schedule, batch_seconds, batch_size
from tasks.planner.bound import Relief, covering, hot
from tasks.planner.ceilings import hard
from tasks.planner.fleet import MEMORY, SLIP, Fleet, Floats, Ints
from tasks.planner.place import AIR, RULES, Placement, largest_first, settle
from tasks.planner.pools import Pools
from tasks.planner.search import homewards, squeeze, squeeze_all

ROUNDS = 3
EFFORT = 0.6
"""Of a plan's seconds, for relieving hosts that the cheapest sets did not."""
SHARE = 0.01
"""Of a plan's seconds, for one of them at a time: the same whether few or many are left, so that a host for which it
was not enough is left alone when the outcome is fed back, too."""
FEW = 0.1
"""Where best fit left no more than this part of the units, hosts are relieved one by one before all is annealed."""
CLOSE = 0.008
"""So near to the bound a placement is good enough."""
ANNEALING, OTHERS = 0.9, 2.3e-3
"""Of a plan's seconds, for annealing; less what each host takes in the other parts. At least a third is."""
TRIES = 5000
"""Exchanges that are drawn for each unit that has to leave a host."""
SCHEDULES = (
    (Schedule(), 1.0),
    (Schedule(heat=(0.5, 0.1), weight=(3.0, 8.0), charge=(100.0, 200.0)), 0.2),
    (Schedule(heat=(2.0, 0.1), weight=(2.0, 16.0), charge=(50.0, 400.0)), 0.2),
)
"""And parts of the time; those after the first only while hosts are hot."""
SETS = 6
"""So many other sets of units are tried for a host of which the cheapest set could not be placed."""


@dataclass
class Work:
    """A balance under way."""

    place: Placement
    relief: Relief
    price: float
    rule: int = 0

    @property
    def fleet(self) -> Fleet:
        return self.place.fleet


def balance(fleet: Fleet, limits: Floats, price: float, found: Relief) -> Placement:
    """Units where they bring as many hosts as possible under the limits."""
    work = _first(fleet, limits, price, found)
    place, seconds = work.place, fleet.problem.goal.plan_seconds
    leaving = [unit for units in found.sets.values() for unit in units]
    waiting = [host for host in found.sets if _in_air(work, host)]
    if len(_lifted(work)) <= FEW * len(leaving):
        waiting = _rounds(work, waiting)
    for unit in _lifted(work):
        place.move(unit, int(fleet.start[unit]))
    if _hot_of(work) or place.cost(price) > found.cost * (1 + CLOSE):
        _annealed(work, len(leaving))
    waiting = _rounds(work, _hot_of(work))
    _by_pools(work, waiting)
    given_up = set(_hot_of(work)) | set(found.hopeless)
    for host in sorted(given_up):
        _give_back(work, host)
    if len(given_up) == len(found.sets) + len(found.hopeless):  # nothing was gained
        place = work.place = Placement(fleet, limits)
    _at_least_hard(work, given_up, place.spent + seconds * EFFORT / 10)
    place.closed[:] = False
    place.closed[list(given_up)] = True
    _cheaper(work, given_up, place.spent + seconds * EFFORT / 4)
    place.closed[:] = False
    return place


def _rounds(work: Work, waiting: list[int]) -> list[int]:
    """Relieve hosts one by one, the easiest first; those that are left."""
    place, seconds = work.place, work.fleet.problem.goal.plan_seconds
    most = place.spent + EFFORT * seconds
    for turn in range(ROUNDS):
        failed = []
        for host in _easiest(work, waiting):
            until = min(most, place.spent + SHARE * seconds)
            if not _relieve(work, host, 1 + turn, until):
                failed.append(host)
        waiting = failed
        if not failed:
            break
    return waiting


def _annealed(work: Work, leaving: int) -> None:
    """Let all units change places until the hosts are relieved at the least cost."""
    place, fleet = work.place, work.fleet
    fixed = np.zeros(len(fleet.hosts), dtype=bool)
    fixed[list(work.relief.hopeless)] = True
    most, size = fleet.problem.goal.plan_seconds, batch_size(len(fleet.hosts))
    seconds = min(
        max(ANNEALING * most - OTHERS * len(work.relief.sets), most / 3), leaving * TRIES / size * batch_seconds(size)
    )
    for schedule, share in SCHEDULES:
        if not _hot_of(work) and share < 1:
            break
        annealing = Annealing(place, work.price, fixed)
        best = annealing.run(share * seconds, schedule, work.relief.cost)
        for unit in np.flatnonzero(best != place.at).tolist():
            place.move(unit, int(best[unit]))
    place.closed[:] = fixed


def _hot_of(work: Work) -> list[int]:
    """Hosts that can be relieved, and are not yet."""
    return [host for host in work.relief.sets if (work.place.slack[:, host] < -SLIP * 10).any()]


def _lifted(work: Work) -> list[int]:
    lifted: list[int] = np.flatnonzero(work.place.at == AIR).tolist()
    return lifted


def _give_back(work: Work, host: int) -> None:
    """What left a host that stays hot comes back, as far as it does not become fuller than it was."""
    place, fleet = work.place, work.fleet
    before = place.limits[:, host] - fleet.loads(fleet.start)[:, host]
    mine = _mine(work, host)
    for unit in largest_first(place, mine[place.at[mine] != host].tolist()):
        roomy = (place.slack[:, host] - fleet.need[:, unit] >= np.minimum(before, 0) - SLIP).all()
        if roomy and place.clear_of_rules(unit, host):
            place.move(unit, host)
            place.reasons.pop(unit, None)


def _first(fleet: Fleet, limits: Floats, price: float, found: Relief) -> Work:
    """The cheapest sets, placed by the rule that leaves the least in the air."""
    best: tuple[float, Work] | None = None
    for rule in range(len(RULES)):
        place = Placement(fleet, limits)
        place.closed[hot(fleet, place.slack)] = True
        leaving = [unit for units in found.sets.values() for unit in units]
        for unit in leaving:
            place.move(unit, AIR)
        left = [unit for unit in largest_first(place, leaving) if not settle(place, unit, rule)]
        missed = float(fleet.need[MEMORY, left].sum()) + len(left)
        work = Work(place, found, price, rule)
        if best is None or missed < best[0]:
            best = (missed, work)
        if not left:
            break
    work = best[1] if best else Work(Placement(fleet, limits), found, price)
    done = [host for host in found.sets if not _in_air(work, host)]
    work.place.closed[done] = False
    return work


def _mine(work: Work, host: int) -> Ints:
    """What started on a host."""
    return np.flatnonzero(work.fleet.start == host)


def _take_back(work: Work, host: int) -> Ints:
    """Bring back what started on a host, but for what an ``apart`` rule keeps off it by now; what is there then."""
    place, mine = work.place, _mine(work, host)
    for unit in mine[place.at[mine] != host].tolist():
        if place.clear_of_rules(unit, host):
            place.move(unit, host)
    there: Ints = mine[place.at[mine] == host]
    return there


def _in_air(work: Work, host: int) -> list[int]:
    return [unit for unit in work.relief.sets.get(host, ()) if work.place.at[unit] == AIR]


def _easiest(work: Work, hosts: list[int]) -> list[int]:
    """Those first of which the least is in the air, or has to leave."""
    weight = {
        host: float(work.fleet.need[MEMORY, _in_air(work, host) or list(work.relief.sets[host])].sum())
        for host in hosts
    }
    return sorted(hosts, key=lambda host: (weight[host], host))


def _relieve(work: Work, host: int, deep: int, until: float) -> bool:
    """Bring one host under its limits by the cheaper of two ways; ``False``, and nothing changed, where none does.

    One way keeps the set and makes room for it; the other takes units that fit somewhere now.
    """
    place = work.place
    start = place.mark()
    if not _in_air(work, host):  # it was tried before
        for unit in work.relief.sets[host]:
            if place.at[unit] == host:
                place.move(unit, AIR)
    place.closed[host] = False  # what makes room elsewhere may come here, once enough has left
    mark, best = place.mark(), (np.inf, list[tuple[int, int]]())
    for way in (_other_set, _make_room):
        relieved = way(work, host, deep, until) and (place.slack[:, host] >= -SLIP * 10).all()
        if relieved and (cost := place.cost(work.price)) < best[0]:
            best = (cost, place.changes(mark))
        place.undo(mark)
    if best[0] == np.inf:
        place.undo(start)
        place.closed[host] = True
        return False
    for unit, target in best[1]:
        place.move(unit, target)
    return True


def _make_room(work: Work, host: int, deep: int, until: float) -> bool:
    return squeeze_all(work.place, _in_air(work, host), work.price, work.rule, deep, until)


def _other_set(work: Work, host: int, deep: int, until: float, target: Floats | None = None) -> bool:
    """Take all its units back, and choose among those that fit somewhere as things are."""
    place, fleet = work.place, work.fleet
    mine = _take_back(work, host)
    units = mine[fleet.movable[mine]]
    units = units[place.somewhere(units)]
    raised = np.zeros(2) if target is None else target[:, host] - place.limits[:, host]
    for _ in range(SETS):
        place.spent += 1e-3
        chosen = covering(fleet, units, place.slack[:, host] + raised, work.price)
        if chosen is None:
            return False
        mark, failed = place.mark(), -1
        leaving = [int(units[n]) for n in chosen.chosen]
        for unit in leaving:
            place.move(unit, AIR)
        for unit in largest_first(place, leaving):
            if not squeeze(place, unit, work.price, work.rule, deep - 1, until):
                failed = unit
                break
        if failed < 0:
            return True
        place.undo(mark)
        units = units[units != failed]
    return False


def _by_pools(work: Work, hosts: list[int]) -> None:
    """What is left to a solver, where there is one."""
    place, pools = work.place, Pools(work.place, work.price)
    for host in _easiest(work, [host for host in hosts if (place.slack[:, host] < -SLIP * 10).any()]):
        place.closed[host] = not pools.relieved(host, work.relief.sets[host])


def _at_least_hard(work: Work, hosts: set[int], until: float) -> None:
    """Hosts that stay above their ceilings are not left with more than they have, where that is possible."""
    place, fleet = work.place, work.fleet
    limits = hard(fleet)
    place.closed[list(hosts)] = True
    for host in sorted(hosts):
        over = place.slack[:, host] + limits[:, host] - place.limits[:, host]
        if (over < -SLIP * 10).any():
            mark = place.mark()
            if not _other_set(work, host, 2, until, limits):
                place.undo(mark)


def _cheaper(work: Work, keep: set[int], until: float) -> None:
    """Undo moves that are not needed any more, and try the cheapest sets again where others were taken."""
    place, fleet = work.place, work.fleet
    homewards(place, keep)
    for _ in range(ROUNDS):
        gained = False
        for host, bound in work.relief.covers.items():
            if host in keep:
                continue
            mine = _mine(work, host)
            gone = mine[place.at[mine] != host]
            paid = float(fleet.need[MEMORY, gone].sum()) + work.price * len(gone)
            if paid <= bound.cost + SLIP or place.ended(until):
                continue
            mark, before = place.mark(), place.cost(work.price)
            if _other_set(work, host, 1, until) and place.cost(work.price) < before - SLIP:
                gained = True
            else:
                place.undo(mark)
        if not gained or not homewards(place, keep):
            break
