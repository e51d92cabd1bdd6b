"""The cases: what is asked, of whom, and how long the planner's search may take for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.planner import btrplace, generate
from worker.contract.plans import Goal, Plan, Problem

SIZES = (10, 30, 100, 300, 1000)
POINTS = (5, 10)
DRAINS = ((20, 2), (100, 5), (1000, 50))
CYCLES = (100, 1000)
INSTANCES = ("li3", "li6", "li_r6_c100")
SEARCH_SECONDS = {10: 1.0, 20: 1.0, 30: 1.5, 100: 0.6, 300: 2.0, 1000: 3.5, 5000: 3.0}
"""The search's time, by hosts: what the goals leave after start, reading, ordering and checking."""
REPLAN_SECONDS = 0.5


@dataclass(frozen=True)
class Case:
    """A problem, and who is asked besides the planner."""

    name: str
    make: Callable[[], Problem]
    """May raise ``OSError`` where its data is missing."""
    rivals: tuple[str, ...] = ()
    replans: bool = False
    """Whether a second plan is made after half of the first, with one guest that failed and is pinned."""
    feeds_back: bool = False
    """Whether one is made after all of it: nothing is to be moved then."""


def cases(data: Path, quick: bool) -> Iterable[Case]:
    """All of them; ``quick``: only small ones."""
    sizes = SIZES[:3] if quick else SIZES
    for hosts in sizes:
        for label, fill in generate.FILLS.items():
            for points in POINTS:
                yield Case(
                    f"balance {hosts} hosts, {label}, +{points}",
                    _balanced(hosts, fill, points, price=0),
                    rivals=("greedy", "hbal"),
                    replans=hosts == sizes[-1] and points == 10,
                    feeds_back=hosts <= 100 and points == 10,
                )
    for hosts in (100, sizes[-1]) if not quick else (100,):
        yield Case(f"balance {hosts} hosts, 58 %, +10, 4 GiB a move", _balanced(hosts, 0.60, 10, price=4))
    for hosts, number in DRAINS[:1] if quick else DRAINS:
        for label, fill in generate.FILLS.items():
            yield Case(f"drain {number} of {hosts} hosts, {label}", _drained(hosts, number, fill), ("greedy", "hbal"))
    for hosts in CYCLES[:1] if quick else CYCLES:
        yield Case(f"cycles {hosts} hosts, 96 % full", _cycles(hosts), ("arbitrary",))
    for name in INSTANCES[:1] if quick else INSTANCES:
        yield Case(f"btrplace {name}", _instance(data / "btrplace" / f"{name}.gz"), ("greedy",))


def replanned(problem: Problem, plan: Plan) -> Problem:
    """The problem after half of a plan's steps, when the next one has failed: its guest is pinned where it is."""
    half = len(plan.steps) // 2
    failed = plan.steps[half].guest
    done = after(problem, plan, half)
    guests = tuple(
        guest.model_copy(update={"pinned": "its migration failed"}) if guest.id == failed else guest
        for guest in done.guests
    )
    goal = problem.goal.model_copy(update={"plan_seconds": REPLAN_SECONDS})
    return done.model_copy(update={"guests": guests, "goal": goal})


def after(problem: Problem, plan: Plan, steps: int | None = None) -> Problem:
    """The problem after so many steps of a plan (all of them)."""
    place = {step.guest: step.destination for step in plan.steps[:steps]}
    guests = tuple(
        guest.model_copy(update={"host": place[guest.id]}) if guest.id in place else guest for guest in problem.guests
    )
    return problem.model_copy(update={"guests": guests})


def _balanced(hosts: int, fill: float, points: float, price: float) -> Callable[[], Problem]:
    goal = Goal(
        kind="balance", ceiling_points=points, price_per_move_gib=price, plan_seconds=SEARCH_SECONDS.get(hosts, 5.0)
    )
    return lambda: generate.cluster(hosts, fill, goal)


def _drained(hosts: int, number: int, fill: float) -> Callable[[], Problem]:
    return lambda: _within(generate.drained(hosts, number, fill), SEARCH_SECONDS[hosts])


def _cycles(hosts: int) -> Callable[[], Problem]:
    return lambda: _within(generate.cycles(hosts), SEARCH_SECONDS[hosts])


def _instance(path: Path) -> Callable[[], Problem]:
    return lambda: btrplace.load(path, SEARCH_SECONDS[5000])


def _within(problem: Problem, seconds: float) -> Problem:
    return problem.model_copy(update={"goal": problem.goal.model_copy(update={"plan_seconds": seconds})})
