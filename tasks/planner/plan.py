"""From a problem to a checked plan."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from tasks.planner import report
from tasks.planner.bound import hot
from tasks.planner.ceilings import price_mib
from tasks.planner.check import check
from tasks.planner.diagnose import impossibilities
from tasks.planner.drain import leaving
from tasks.planner.explain import lefts, stays
from tasks.planner.fleet import Fleet, Ints, fleet_of
from tasks.planner.mend import exiles
from tasks.planner.notes import notes
from tasks.planner.order import Order, order
from tasks.planner.parts import spelled_out
from tasks.planner.sanity import BadProblem, check_sanity
from tasks.planner.solve import Solution, final, solve
from tasks.planner.trim import trim, within
from worker.contract.plans import Left, Plan, Problem
from worker.errors import RelayError

SHORTER = 8
"""So often a plan that takes too long is shortened."""


class PlannerBug(RelayError):
    """A plan that its own check refuses: never handed out."""

    code = "planner-bug"


def plan(problem: Problem) -> Plan:
    """The plan for a problem; the same for the same problem and seed.

    Raises ``BadProblem``; ``PlannerBug`` where the check finds a fault in the plan, which then is not handed out.
    """
    began = time.monotonic()
    problem = spelled_out(problem)
    check_sanity(problem)
    fleet = fleet_of(problem)
    solution = solve(fleet)
    at, found = _ordered(solution)
    impossible = tuple(impossibilities(fleet, solution.limits, solution.relief))
    left = report.sorted_lefts(_left(solution, at, found))
    unfinished = bool(left or found.stuck)
    made = Plan(
        id="p-",
        goal=problem.goal,
        made=time.time(),
        taken=problem.taken,
        stale=problem.stale,
        status=report.status(solution, at, unfinished, bool(impossible), price_mib(problem.goal)),
        bound_gib=(solution.bound_mib or 0) / 1024,
        gap=report.gap(solution, at, _missed(solution, at, unfinished)),
        totals=report.totals(solution, at, found),
        steps=found.steps,
        left=left,
        stuck=found.stuck,
        hosts=report.views(solution, at, found),
        impossible=impossible,
        gains=report.gains(solution, found.steps),
        notes=tuple(notes(solution, at)),
    )
    made = report.named(made).model_copy(update={"spent_seconds": round(time.monotonic() - began, 3)})
    if faults := check(problem, made):
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise PlannerBug(f"the plan is wrong and was not handed out: {'; '.join(faults[:5])}{more}; report this")
    return made


def _ordered(solution: Solution) -> tuple[Ints, Order]:
    """The moves that the limits of the goal leave, in their order, and where everything is afterwards."""
    fleet, goal = solution.fleet, solution.fleet.problem.goal
    at = trim(solution)
    found = _order(solution, at)
    for _ in range(SHORTER if goal.max_minutes is not None else 0):
        if found.seconds <= (goal.max_minutes or 0) * 60:
            break
        at = within(solution, at, found, (goal.max_minutes or 0) * 60)
        found = _order(solution, at)
    if goal.max_minutes is not None and found.seconds > goal.max_minutes * 60:
        at = fleet.start.copy()
        found = _order(solution, at)
    return _carried_out(fleet, at, found), found


def _order(solution: Solution, at: Ints) -> Order:
    fleet = solution.fleet
    targets, why = {}, {}
    for unit in np.flatnonzero(at != fleet.start).tolist():
        for guest in fleet.members[unit]:
            spec = fleet.guests[guest]
            targets[spec.id] = fleet.hosts[int(at[unit])].name
            why[spec.id] = solution.why(unit)
    return order(fleet.problem, targets, why)


def _carried_out(fleet: Fleet, at: Ints, found: Order) -> Ints:
    """What is stuck stays where it is."""
    if not found.stuck:
        return at
    number = {guest.id: n for n, guest in enumerate(fleet.guests)}
    at = at.copy()
    for left in found.stuck:
        unit = int(fleet.unit_of[number[left.guest]])
        at[unit] = fleet.start[unit]
    return at


def _left(solution: Solution, at: Ints, found: Order) -> Iterator[Left]:
    """Whatever the goal wanted elsewhere, or the plan would have moved, and stays."""
    fleet, goal = solution.fleet, solution.fleet.problem.goal
    stuck = {left.guest for left in found.stuck}
    place = final(solution, at)
    cut = set(np.flatnonzero((solution.at != fleet.start) & (at == fleet.start)).tolist())
    for unit in sorted(cut):
        if fleet.guests[fleet.members[unit][0]].id not in stuck:
            target = fleet.hosts[int(solution.at[unit])].name
            yield from lefts(
                fleet, unit, "limit", f"it would go to {target}; the limits given end the plan before", "a higher limit"
            )
    wanted: list[int] = []
    if goal.kind == "drain":
        wanted = np.flatnonzero(fleet.drained[fleet.start] & (at == fleet.start)).tolist() if len(at) else []
    elif goal.kind == "balance":
        wanted = [*_keeps_hot(solution, at), *(unit for unit in exiles(fleet, at) if at[unit] == fleet.start[unit])]
    elif goal.kind == "place":
        wanted = list(solution.refused)
    for unit in wanted:
        if unit not in cut and fleet.guests[fleet.members[unit][0]].id not in stuck:
            yield from stays(place, unit)


def _keeps_hot(solution: Solution, at: Ints) -> list[int]:
    """On hosts that stay hot: what would have had to leave, or cannot."""
    fleet, found = solution.fleet, solution.relief
    if found is None:
        return []
    wanted: list[int] = []
    by_host = fleet.by_host(at)
    for host in hot(fleet, solution.limits - fleet.loads(at)).tolist():
        if host in found.sets:
            wanted += [unit for unit in found.sets[host] if at[unit] == fleet.start[unit]]
        for resource in found.hopeless.get(host, ()):
            fixed = [unit for unit in by_host[host].tolist() if unit in fleet.barred]
            wanted += sorted(fixed, key=lambda unit: -fleet.need[resource, unit])[:3]
    return list(dict.fromkeys(wanted))


def _missed(solution: Solution, at: Ints, unfinished: bool) -> bool:
    """Whether less was done than the bound is about."""
    if solution.fleet.problem.goal.kind != "balance" or solution.relief is None:
        return unfinished and bool(len(leaving(solution.fleet)))
    over = hot(solution.fleet, solution.limits - solution.fleet.loads(at)).tolist()
    return any(host in solution.relief.sets for host in over)


__all__ = ["BadProblem", "PlannerBug", "plan"]
