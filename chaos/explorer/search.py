"""Visits all states, breadth first, and says what is wrong in them."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from chaos.explorer.faults import faults
from chaos.explorer.state import State
from chaos.explorer.world import World

MOST_TOLD = 5
"""So many violations of one kind are told with a trace; all are counted."""


@dataclass(slots=True)
class Violation:
    """What went wrong, and the shortest way there."""

    what: str
    trace: list[str]


@dataclass(slots=True)
class Report:
    """What a search found."""

    states: int = 0
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    complete: bool = True
    """Every state within the budget was visited."""
    violations: list[Violation] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    """How many states break which rule."""
    ends: Counter[str] = field(default_factory=Counter)
    """How the migrations ended."""
    asks: Counter[str] = field(default_factory=Counter)
    """What an operator is asked about."""


class Search:
    """One search from the start of one world."""

    def __init__(self, world: World, most: int = 0, seconds: float = 0.0, stop_at_first: bool = False) -> None:
        self._world, self._most, self._seconds = world, most, seconds
        self._stop_at_first = stop_at_first
        self._numbers: dict[State, int] = {}
        self._states: list[State] = []
        self._came: list[tuple[int, str]] = []
        self._depths: list[int] = []
        self._into: list[list[int]] = []
        """For each state those from which it is reached without a fault."""
        self.report = Report()

    def run(self) -> Report:
        """Visit everything; the report says what was found."""
        began = time.monotonic()
        report = self.report
        self._add(self._world.start(), -1, "the request is accepted")
        waiting = deque([0])
        while waiting:
            number = waiting.popleft()
            for after in self._expand(number):
                waiting.append(after)
            late = self._seconds and time.monotonic() - began > self._seconds
            if late or (self._most and len(self._states) > self._most):
                report.complete = False
                break
            if self._stop_at_first and report.violations:
                report.complete = False
                break
        if report.complete:
            self._judge_ends()
        report.states, report.depth = len(self._states), max(self._depths)
        report.seconds = round(time.monotonic() - began, 1)
        return report

    def _expand(self, number: int) -> Iterable[int]:
        state = self._states[number]
        if state.pair.wrong:
            self._violated(number, state.pair.wrong)
            return
        for label, after in self._world.steps(state):
            new, there = self._add(after, number, label)
            self._into[there].append(number)
            self.report.transitions += 1
            if new:
                yield there
        for label, after in faults(self._world, state):
            new, there = self._add(after, number, label)
            self.report.transitions += 1
            if new:
                yield there

    def _add(self, state: State, came: int, label: str) -> tuple[bool, int]:
        known = self._numbers.get(state)
        if known is not None:
            return False, known
        number = self._numbers[state] = len(self._states)
        self._states.append(state)
        self._came.append((came, label))
        self._depths.append(self._depths[came] + 1 if came >= 0 else 0)
        self._into.append([])
        return True, number

    # -- the end ------------------------------------------------------------------------------------------------------

    def _judge_ends(self) -> None:
        """From every state a good end must be reachable without another fault: then every fair run comes to one."""
        good = []
        for number, state in enumerate(self._states):
            what, bad = judged(self._world, state)
            if bad:
                self._violated(number, bad)
            elif what:
                self.report.ends[what] += 1
                good.append(number)
        reached = bytearray(len(self._states))
        for number in good:
            reached[number] = 1
        todo = deque(good)
        while todo:
            for before in self._into[todo.popleft()]:
                if not reached[before]:
                    reached[before] = 1
                    todo.append(before)
        for number, state in enumerate(self._states):
            if not reached[number] and not state.pair.wrong:
                self._violated(number, "no end: nothing that may happen from here leads to one")

    def _violated(self, number: int, what: str) -> None:
        self.report.wrong[what] += 1
        if self.report.wrong[what] <= MOST_TOLD:
            self.report.violations.append(Violation(what, self.trace(number)))

    def trace(self, number: int) -> list[str]:
        """The steps from the start to a state, in words."""
        steps: list[str] = []
        while number >= 0:
            came, label = self._came[number]
            steps.append(f"{label}\n       {told(self._world, self._states[number])}")
            number = came
        return [f"{position:3}. {step}" for position, step in enumerate(reversed(steps))]


def told(world: World, state: State) -> str:
    """A state in one line."""
    fields = world.fields(state)
    if fields.get("state") == "active":
        journal = f"{fields['phase']} {fields['step']}, epoch {fields['epoch']}"
        journal += f", {fields['token']} of {fields['incarnation']}" if fields.get("token") else ""
    else:
        journal = " ".join(filter(None, (fields.get("state"), fields.get("outcome"))))
    away = [f"{name} away" for name, agent in zip(("alpha", "beta"), state.agents, strict=True) if not agent.up]
    away += [f"{name} cut off" for name, agent in zip(("alpha", "beta"), state.agents, strict=True) if agent.cut]
    return "; ".join([f"journal: {journal}", state.pair.told(), *away])


def judged(world: World, state: State) -> tuple[str, str]:
    """How this state ends the migration (empty where it does not), and what is wrong with that end."""
    fields = world.fields(state)
    if state.tasks or state.pair.goes_on():
        return "", ""
    gone = [agent.gone for agent in state.agents]
    if fields.get("state") == "active":
        # A host that is away for good: nothing is guessed, the migration waits and says so.
        host = ("alpha", "beta").index(fields["host"]) if fields["step"] == "queued" else -1
        return ("waits for a host that is gone", "") if host >= 0 and gone[host] else ("", "")
    if any(agent.cut or (not agent.up and not agent.gone) for agent in state.agents):
        return "", ""
    if fields.get("state") == "in-doubt":
        return f"in doubt: {state.pair.told()}", ""
    if fields.get("state") != "ended":
        return "", ""
    return _ended(state, fields["outcome"], gone, world.ledger.snapshots[state.redis.journal].outcomes)


def _ended(state: State, outcome: str, gone: list[bool], counted: int) -> tuple[str, str]:
    where = state.pair.copies()
    if counted != 1:
        return "", f"{counted} outcomes were counted"
    if where == "nowhere":
        return ("", "the guest is nowhere") if not state.pair.is_lost else (f"{outcome}; it died with its host", "")
    if state.pair.is_lost and where.startswith("left"):
        return f"{outcome}; it died with its host", ""
    if any(gone):
        return f"{outcome}, {where}, without a host that is gone", ""
    if where.startswith("left"):
        return "", f"{outcome}, and the guest is not in one place: {where}"
    expected = {"succeeded": "destination"}.get(outcome, "source")
    if where != expected and not state.pair.is_lost:
        return "", f"{outcome}, and the guest is on its {where}"
    remains = state.pair.remains()
    return f"{outcome}, on the {where}{f'; {remains}' if remains else ''}", ""


Chooser = Callable[[State], bool]
