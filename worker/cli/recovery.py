"""``vmrelay recovery table``: what is done about an interrupted attempt."""

from __future__ import annotations

from collections.abc import Iterable

import click

from worker.cli import client
from worker.tables import Row, Table, listed, registered

HEADINGS = ("stage", "source", "destination", "only when", "action", "where", "why")


@click.group(short_help="Print how interrupted migrations are recovered.")
def recovery() -> None:
    """Print how interrupted migrations are recovered.

    \b
    Example:
      vmrelay recovery table qemu
    """


@recovery.command(short_help="Print the decision tables.")
@click.argument("name", metavar="[TABLE]", required=False)
@click.option(
    "--cell",
    nargs=3,
    metavar="STAGE SOURCE DESTINATION",
    help="Only what is done when the attempt was so far, and the two hosts show this.",
)
@client.output
def table(name: str | None, cell: tuple[str, str, str] | None, output: str) -> None:
    """Print what is done about an attempt that nobody carries on: qemu, qemu-p2p, qemu-offline, vz, or all tables.

    \b
    Examples:
      vmrelay recovery table qemu
      vmrelay recovery table vz --cell performing paused-out absent

    The first row that fits decides. Before anything is resumed or removed both hosts have been looked at, less than
    five seconds ago.
    """
    chosen = _chosen(name)
    if cell is not None:
        _check(cell, chosen[0])
    found = {one.name: list(one.cell(*cell)) if cell else list(one.rows) for one in chosen}
    if output == "json":
        client.as_json(
            [
                {"table": one.name, "about": one.about, "rows": [row.document() for row in found[one.name]]}
                for one in chosen
            ]
        )
        return
    for one in chosen:
        click.echo(f"{one.name}: {one.about}")
        _print(one, found[one.name], whole=cell is None)
        click.echo()


def _chosen(name: str | None) -> list[Table]:
    from worker.app import app

    app.loader.import_default_modules()  # the tasks, which register their tables
    tables = {one.name: one for one in registered()}
    if name is None:
        return list(tables.values())
    if name not in tables:
        raise click.BadParameter(f"'{name}' is none of {', '.join(tables)}", param_hint="TABLE")
    return [tables[name]]


def _check(cell: tuple[str, str, str], known: Table) -> None:
    for word, kind, words in zip(cell, HEADINGS, (known.stages, known.shown, known.shown), strict=False):
        if word not in words:
            raise click.BadParameter(f"{kind} '{word}' is none of {', '.join(words)}", param_hint="--cell")


def _print(of: Table, rows: Iterable[Row], *, whole: bool) -> None:
    from rich.table import Table as Shown
    from rich.text import Text

    shown = Shown(*(HEADINGS if whole else HEADINGS[3:]), box=None, pad_edge=False)
    for row in rows:
        where = [listed(row.stages, of.stages), listed(row.source, of.shown), listed(row.destination, of.shown)]
        answer = [row.only, row.action, row.side, row.why]
        shown.add_row(*map(Text, where + answer if whole else answer))
    client.show_table(shown)
