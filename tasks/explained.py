"""The recovery tables as people read them: ``vmrelay recovery table`` and docs/reference/recovery.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import product

from tasks import recovery
from tasks.recovery import SIDE_OF, Interrupted, Shown, Stage
from worker.tables import Row, Table, on_print

CONDITIONS = {
    ("paused", True): "it is to arrive paused",
    ("paused", False): "it is to arrive running",
    ("cancel", True): "somebody wants it to stop",
    ("cancel", False): "nobody wants it to stop",
}


@on_print
def tables() -> Sequence[Table]:
    """Every recovery table."""
    from tasks.recovery_tables import TABLES  # not with every agent's start: its rows are tried on every cell

    return [_table(table) for table in TABLES.values()]


def _table(table: recovery.Table) -> Table:
    def cell(stage: str, source: str, destination: str) -> list[Row]:
        cases = (
            Interrupted(table.name, Stage(stage), paused=paused, cancel=cancel)
            for paused, cancel in product((True, False), repeat=2)
        )
        found = {id(row): row for row in (table.row(case, Shown(source), Shown(destination)) for case in cases)}
        return [_row(row) for row in table.rows if id(row) in found]

    return Table(table.name, table.about, tuple(Stage), tuple(Shown), tuple(map(_row, table.rows)), cell)


def _row(row: recovery.Row) -> Row:
    conditions = [
        CONDITIONS[name, value] for name, value in (("paused", row.paused), ("cancel", row.cancel)) if value is not None
    ]
    return Row(
        stages=_words(row.stages, Stage),
        source=_words(row.sources, Shown),
        destination=_words(row.destinations, Shown),
        only=" and ".join(conditions),
        action=row.do,
        side=row.side or SIDE_OF.get(row.do) or "",
        why=row.why,
    )


def _words(some: Iterable[StrEnum], every: type[StrEnum]) -> tuple[str, ...]:
    """In the order of the words' definition; nothing for all of them."""
    chosen = set(some)
    return tuple(str(word) for word in every if word in chosen) if chosen != set(every) else ()
