"""The recovery tables: their rows, and what follows from them for every cell."""

from __future__ import annotations

from itertools import product

from page import code, described, page, prose, table

from tasks import recovery as decisions
from tasks.explained import tables
from worker.tables import Row, Table, listed

INTRO = (
    "What is done about an attempt that nobody carries on any more, by what the journal says (the stage) and what "
    "the two hosts show. Looks at both hosts are at most {fresh:.0f} seconds old when something is decided. The first "
    "row that fits decides; the last one of each table fits all that is left. `vmrelay recovery table` prints the "
    "same. How it works is in [recovery](../recovery.md), what an operator does in [in doubt](../howto/in-doubt.md)."
)
LIMITS = (
    "What is only looked at again for {patience:.0f} seconds, and an attempt that was made to go on {rounds} times, is "
    "given to an operator."
)


def recovery() -> str:
    """``docs/reference/recovery.md``."""
    limits = LIMITS.format(patience=decisions.PATIENCE_SECONDS, rounds=decisions.MOST_ROUNDS)
    return page(
        "Recovery tables",
        "tasks/recovery_tables.py and tasks/recovery.py",
        INTRO.format(fresh=decisions.FRESH_SECONDS),
        _words("Stages", "stage", decisions.Stage),
        _words("What a side shows", "word", decisions.Shown),
        _words("Actions", "action", decisions.Do) + f"\n\n{limits}",
        *(part for one in tables() for part in _table(one)),
    )


KNOWN = {
    "ABSENT": "the host answers, and has nothing of it",
    "RUNNING": "it executes here",
    "PAUSED": "its user (or what a stall asked for) has paused it",
    "PAUSED_OUT": "it was stopped here so that it can go on at the destination",
    "PAUSED_IN": "it has arrived, or is arriving, and never ran here",
    "SHUTOFF": "a definition, or a stub, that does not run",
    "CRASHED": "the same after a crash of the guest",
    "MIGRATING": "it is being copied to another host, or from one",
}
"""What the class leaves to ``base.DomainState``."""


def _words(title: str, heading: str, kind: type[decisions.Stage | decisions.Shown | decisions.Do]) -> str:
    meanings = described(kind)
    rows = [[code(word), prose(meanings[word.name]) or KNOWN[word.name]] for word in kind]
    return f"## {title}\n\n" + table([heading, "meaning"], rows)


def _table(one: Table) -> list[str]:
    parts = [f"## Table `{one.name}`\n\n{one.about}.\n\n" + _rows(one)]
    return parts + [_grid(one, stage) for stage in one.stages]


def _rows(one: Table) -> str:
    headings = ["stage", "source", "destination", "only when", "action", "where", "why"]
    return table(headings, (_row(one, row) for row in one.rows))


def _row(one: Table, row: Row) -> list[str]:
    where = [listed(row.stages, one.stages), listed(row.source, one.shown), listed(row.destination, one.shown)]
    return [*where, row.only, code(row.action), row.side, row.why]


def _grid(one: Table, stage: str) -> str:
    cells = {pair: _actions(one, stage, *pair) for pair in product(one.shown, repeat=2)}
    rows = [[code(source), *(cells[source, there] for there in one.shown)] for source in one.shown]
    return (
        f"### `{one.name}`, {stage}\n\nRows: what the source shows. Columns: what the destination shows.\n\n"
        + table(["source", *map(code, one.shown)], rows)
    )


def _actions(one: Table, stage: str, source: str, destination: str) -> str:
    return " or ".join(dict.fromkeys(row.action for row in one.cell(stage, source, destination)))
