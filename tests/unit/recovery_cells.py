"""Every cell of the recovery tables, for the tests that go through all of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from tasks.recovery import Action, Interrupted, Shown, View, decide
from tasks.recovery_tables import cells

Cell = tuple[Interrupted, Shown, Shown]
NOW = 1000.0


@cache
def table_cells(table: str) -> tuple[tuple[Cell, Action], ...]:
    """Every cell of a table, seen freshly from both sides, and what is decided about it."""
    return tuple(_table_cells(table))


def _table_cells(table: str) -> Iterator[tuple[Cell, Action]]:
    for case, source, destination in cells():
        here = Interrupted(table, case.stage, paused=case.paused, cancel=case.cancel, still=NOW)
        views = View(source, NOW), View(destination, NOW)
        yield (here, source, destination), decide(here, *views, NOW)


def told(cell: Cell, action: Action) -> str:
    """A cell in words, for a failure's message."""
    case, source, destination = cell
    return f"{case.table}, {case.stage}, paused={case.paused}, cancel={case.cancel}: {source} x {destination}: {action}"
