"""What would be cheaper or possible with other limits: told from bounds alone, which are cheap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tasks.planner.bound import hot, relief
from tasks.planner.ceilings import ceilings, price_mib
from tasks.planner.clock import TIMES
from tasks.planner.explain import LONGEST, listed
from tasks.planner.fleet import MEMORY, MIB, Ints
from tasks.planner.mend import broken
from tasks.planner.pools import available
from tasks.planner.solve import Solution

POINTS = 2.0
"""How much higher a ceiling is asked about."""


def notes(solution: Solution, at: Ints) -> Iterator[str]:
    """Sentences for people."""
    goal = solution.fleet.problem.goal
    if goal.kind == "balance" and solution.relief is not None and solution.relief.sets:
        yield from _ceiling(solution)
        yield from _price(solution)
    if goal.kind == "balance" and solution.relief is not None:
        yield from _pins(solution)
    if goal.kind == "consolidate":
        yield from _emptied(solution, at)
    if solution.fleet.clock.rang:
        yield f"search took more than {TIMES:g} times {goal.plan_seconds:g} s and was ended: a new plan may be better"
    yield from _solver(solution, at)
    yield from _broken(solution, at)


def _solver(solution: Solution, at: Ints) -> Iterator[str]:
    """What a solver might still place, where there is none."""
    fleet, over = solution.fleet, 0
    if fleet.problem.goal.kind == "drain":
        over = int((fleet.drained[at] & fleet.movable).sum()) if len(at) else 0
        what = "guests could not be placed"
    elif fleet.problem.goal.kind == "balance" and solution.relief is not None:
        hosts = hot(fleet, solution.limits - fleet.loads(at)).tolist()
        over, what = sum(host in solution.relief.sets for host in hosts), "hosts could not be relieved"
    if over and not available():
        yield f"{over} {what}; with the extra vmrelay[planner] a solver tries to repack hosts for them"


def _ceiling(solution: Solution) -> Iterator[str]:
    fleet = solution.fleet
    higher = relief(fleet, fleet.start, ceilings(fleet, fleet.start, POINTS), price_mib(fleet.problem.goal))
    saved = ((solution.bound_mib or 0) - higher.mib) / MIB
    if saved >= 1:
        hosts = len(solution.relief.covers) - len(higher.covers) if solution.relief else 0
        fewer = f", and {hosts} hosts less would have to be relieved" if hosts > 0 else ""
        yield f"a ceiling {POINTS:g} points higher would move about {saved:.0f} GiB less{fewer}"


def _price(solution: Solution) -> Iterator[str]:
    price = solution.fleet.problem.goal.price_per_move_gib
    if price and solution.relief is not None:
        moved = solution.at != solution.fleet.start
        gib = float(solution.fleet.need[MEMORY, moved].sum()) / MIB
        saved = gib - solution.relief.mib / MIB
        if saved >= 1:
            yield f"without the price of {price:g} GiB per move {saved:.0f} GiB less would move, in more migrations"


def _pins(solution: Solution) -> Iterator[str]:
    """What pins cost: the same bounds, as if nobody were pinned."""
    fleet, found = solution.fleet, solution.relief
    pinned = [unit for unit, (code, _) in fleet.barred.items() if code == "pinned"]
    over = {*found.covers, *found.hopeless} if found else set()
    hosts = sorted({int(fleet.start[unit]) for unit in pinned} & over)
    if found is None or not hosts:
        return
    movable = fleet.movable.copy()
    movable[pinned] = True
    free = relief(
        replace(fleet, movable=movable), fleet.start, solution.limits, price_mib(fleet.problem.goal), np.array(hosts)
    )
    saved = sum(found.covers[host].mib - free.covers[host].mib for host in hosts if host in found.covers) / MIB
    more = len(set(found.hopeless) & set(free.covers))
    gains = [f"about {saved:.0f} GiB less would have to move"] if saved >= 1 else []
    gains += [f"{more} hosts more could be relieved"] if more else []
    if gains:
        yield f"without pinned guests {' and '.join(gains)}"


def _emptied(solution: Solution, at: Ints) -> Iterator[str]:
    fleet = solution.fleet
    before = np.bincount(fleet.start, minlength=len(fleet.hosts)) > 0
    after = np.bincount(at, minlength=len(fleet.hosts)) > 0
    emptied = [fleet.hosts[host].name for host in np.flatnonzero(before & ~after).tolist()]
    if emptied:
        yield f"{len(emptied)} hosts are empty afterwards: {listed(emptied, 20)}"[:LONGEST]
    held = {int(fleet.start[unit]): unit for unit in fleet.barred}
    if held:
        names = [
            f"{fleet.hosts[host].name} ({fleet.name(unit)} {fleet.barred[unit][0]})" for host, unit in held.items()
        ]
        yield f"{len(held)} hosts keep guests that may not move: {listed(names)}"[:LONGEST]


def _broken(solution: Solution, at: Ints) -> Iterator[str]:
    """Rules that do not hold now; a plan never makes that worse."""
    names = broken(solution.fleet, at)
    if names:
        yield f"{len(names)} rules do not hold before the plan, and it does not mend them: {listed(names)}"[:LONGEST]
