"""The goals that the rows are held against, each met or not: nothing is rounded in anybody's favour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """One figure of the planner's rows."""

    text: str
    case: str
    """A pattern that the names of its cases fit."""
    field: str
    met: Callable[[Any], bool]

    def rows(self, rows: Iterable[Row]) -> list[Row]:
        """The rows that it is about."""
        return [row for row in rows if row["method"] == "planner" and fnmatchcase(row["case"], self.case)]


def _at_most(limit: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and value <= limit


def _is_zero(value: object) -> bool:
    return value == 0


GOALS = (
    Goal("30 hosts: planned in 3 s", "balance 30 hosts*", "seconds", _at_most(3)),
    Goal("30 hosts: gap proved 0, or shown", "balance 30 hosts*", "claimed_gap", lambda value: value is not None),
    Goal("100 hosts: planned in 1 s", "balance 100 hosts*", "inside_seconds", _at_most(1)),
    Goal("100 hosts: the same with the process's start", "balance 100 hosts*", "seconds", _at_most(1)),
    Goal("100 hosts: gap at most 1 %", "balance 100 hosts*", "gap", _at_most(0.01)),
    Goal("1,000 hosts: planned in 5 s", "balance 1000 hosts*", "inside_seconds", _at_most(5)),
    Goal("1,000 hosts: planned, ordered and checked in 10 s", "balance 1000 hosts*", "seconds", _at_most(10)),
    Goal("1,000 hosts: under 500 MiB", "*1000 hosts*", "rss_mib", _at_most(500)),
    Goal("1,000 hosts, +5: gap at most 3 %", "balance 1000 hosts*+5", "gap", _at_most(0.03)),
    Goal("1,000 hosts, +10: gap at most 1 %", "balance 1000 hosts*+10", "gap", _at_most(0.01)),
    Goal("li_r6_c100: read, planned, ordered in 15 s", "btrplace li_r6_c100", "end_to_end_seconds", _at_most(15)),
    Goal("replanned in 2 s after a failed move", "replan*", "seconds", _at_most(2)),
    Goal("its own outcome fed back: nothing to move", "fed back*", "moves", _is_zero),
    Goal("no overcommitted start", "*", "overcommitted", _is_zero),
    Goal("none where migrations take half or twice as long", "*", "overcommitted_shaken", _is_zero),
    Goal("no host left hot that can be cooled", "balance*", "avoidably_hot", _is_zero),
    Goal("nothing stuck", "*", "stuck", _is_zero),
)
PRICED = "a move"
"""Rows with a price per move pay memory for fewer moves: their gap is no goal."""


def held(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Each goal, what was missed and by how much; one that no row was run for is not met."""
    found = []
    for goal in GOALS:
        mine = [row for row in goal.rows(rows) if not (goal.field == "gap" and PRICED in row["case"])]
        values = [(row["case"], row.get("error", row.get(goal.field)), "error" in row) for row in mine]
        missed = [{"case": case, "value": value} for case, value, failed in values if failed or not goal.met(value)]
        numbers = [value for _, value, _ in values if isinstance(value, int | float)]
        found.append(
            {
                "goal": goal.text,
                "met": bool(mine) and not missed,
                "worst": max(numbers, default=None),
                "rows": len(mine),
                "missed": missed,
            }
        )
    return found


def told(goal: Row) -> Iterable[str]:
    """A goal for people."""
    if not goal["rows"]:
        yield f"NOT RUN  {goal['goal']}"
        return
    verdict = "met     " if goal["met"] else "NOT MET "
    yield f"{verdict} {goal['goal']}: worst of {goal['rows']} rows {goal['worst']}"
    for miss in goal["missed"]:
        yield f"           {miss['case']}: {miss['value']}"
