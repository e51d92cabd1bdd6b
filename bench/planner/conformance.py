"""Ganeti's own cluster files with the outcomes that its shell tests expect, asked of this project's planner.

Each expectation (``expectations.py``) says what Ganeti expects of a file, and either what is claimed here and how that
is checked, or why this planner's model has no equivalent. What has none is never counted as passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.planner import ganeti
from bench.planner.bound import bound
from bench.planner.cases import after
from bench.planner.metrics import judged
from bench.planner.moves import Found
from bench.planner.ours import moves_of
from bench.planner.scene import scene
from worker.contract.plans import Goal, Plan, Problem
from worker.errors import RelayError

Planner = Callable[[Problem], Plan]


class Unmet(AssertionError):
    """What was claimed does not hold; it says what came instead."""


@dataclass(frozen=True)
class Answer:
    """A plan that was carried out on paper."""

    problem: Problem
    plan: Plan
    place: dict[str, str]
    """The host of each guest in the end, by id."""

    @property
    def moved(self) -> set[str]:
        """Guests that ended elsewhere."""
        return {guest.id for guest in self.problem.guests if self.place[guest.id] != guest.host}

    def counts(self) -> dict[str, int]:
        """Guests on each host."""
        found = Counter(self.place.values())
        return {host.name: found[host.name] for host in self.problem.hosts}


@dataclass(frozen=True)
class Trial:
    """A cluster file and a planner: what a check works with."""

    text: str
    planner: Planner

    def ask(
        self, goal: Goal, *, exclusive: Sequence[str] = (), loads: float | None = None, most: int | None = None
    ) -> Answer:
        """Plan for the file's cluster. Raises ``Unmet`` where the plan is bad, or has over ``most`` moves."""
        answer = solve(ganeti.read(self.text, goal, exclusive=exclusive, loads=loads), self.planner)
        if most is not None and len(answer.plan.steps) > most:
            raise Unmet(f"{len(answer.plan.steps)} moves instead of {most}")
        return answer


@dataclass(frozen=True)
class Expectation:
    """What Ganeti expects, and what is claimed here."""

    file: str
    """Name in Ganeti's test data; ``*`` stands for several files."""
    expects: str
    claim: str = ""
    check: Callable[[Trial], str] | None = None
    """Returns what came, in a few words; raises ``Unmet``."""
    reason: str = ""
    """Why there is no equivalent."""


def solve(problem: Problem, planner: Planner) -> Answer:
    """Plan, and judge the plan as every other. Raises ``Unmet`` where carrying it out breaks anything."""
    plan = planner(problem)
    at = scene(problem)
    row = judged(at, bound(at), Found("planner", moves_of(plan), plan=plan))
    for fault in (
        "error",
        "wrong",
        "overcommitted",
        "overcommitted_shaken",
        "over_limit",
        "too_close",
        "never_started",
    ):
        if row.get(fault):
            raise Unmet(f"the plan itself is bad: {fault} is {row[fault]}")
    if row["broken_rules"] > 0:
        raise Unmet(f"the plan breaks {row['broken_rules']} rules that held")
    place = {guest.id: guest.host for guest in problem.guests}
    place |= {step.guest: step.destination for step in plan.steps}
    return Answer(problem, plan, place)


def refusal(ask: Callable[[], Answer], code: str, subject: str) -> str:
    """Check that a problem is refused, or a part of it found impossible, by name."""
    try:
        answer = ask()
    except RelayError as refused:
        if subject not in refused.message:
            raise Unmet(f"refused without the name {subject}: {refused.message}") from None
        return f"refused: {refused.message}"
    for one in answer.plan.impossible:
        if one.code == code and subject in f"{one.subject} {one.why}":
            return f"impossible: {one.why}"
    raise Unmet(f"{subject} was not complained of; status {answer.plan.status}")


def idempotent(answer: Answer, planner: Planner) -> str:
    """Check that a plan that moves something leaves nothing to move."""
    if not answer.plan.steps:
        raise Unmet("the first plan moves nothing")
    again = solve(after(answer.problem, answer.plan), planner)
    if again.plan.steps:
        raise Unmet(f"{len(again.plan.steps)} moves after its own {len(answer.plan.steps)}")
    return f"{len(answer.plan.steps)} moves, then none"


def conformance(expectations: Iterable[Expectation], folder: Path, planner: Planner) -> list[dict[str, Any]]:
    """One row for each expectation; ``result`` is pass, fail, no data, or not applicable."""
    return [_row(expectation, folder, planner) for expectation in expectations]


def _row(expectation: Expectation, folder: Path, planner: Planner) -> dict[str, Any]:
    row = {"file": expectation.file, "expects": expectation.expects, "claim": expectation.claim}
    if expectation.check is None:
        return row | {"result": "not applicable", "detail": expectation.reason}
    path = folder / f"{expectation.file}.data"
    try:
        text = path.read_text()
    except OSError as missing:
        return row | {"result": "no data", "detail": f"{path}: {missing.strerror}"}
    try:
        return row | {"result": "pass", "detail": expectation.check(Trial(text, planner))}
    except Unmet as unmet:
        return row | {"result": "fail", "detail": str(unmet)}
    except RelayError as refused:
        return row | {"result": "fail", "detail": f"refused: {refused.message}"}
    except Exception as broken:  # a planner that raises is a row that fails, not the end of the benchmark
        return row | {"result": "fail", "detail": f"{type(broken).__name__}: {broken}"[:300]}
