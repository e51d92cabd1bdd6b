"""What became of a batch, and waiting for it: shared by every command that makes one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from worker.cli import client
from worker.cli.batch_words import headline, left_line, why
from worker.cli.exits import INTERRUPTED, TIMED_OUT, for_batch
from worker.cli.words import clean
from worker.journal.batch import Batch, Item

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 40
"""So many rows of failed and skipped moves are shown to people, unless they ask for all of them."""


def document(batch: Batch, items: Iterable[Item]) -> dict[str, Any]:
    """A receipt as programs read it: the batch's own document, and one for each of ``items``."""
    return batch.document() | {"items": [item.document() for item in items]}


def show_receipt(batch: Batch, items: Sequence[Item], output: str, *, every: bool = False) -> None:
    """Print what became of a batch: counts, and each move that failed or was skipped, with its reason.

    ``every`` shows all moves. ``output`` is ``table`` or ``json``; JSON always has all of ``items``.
    """
    if output == "json":
        client.as_json(document(batch, items))
        return
    click.echo(headline(batch))
    rows = [item for item in items if every or item.state in ("failed", "skipped")]
    shown = rows if every else rows[:MOST_ROWS]
    if shown:
        client.show_table(_table(shown))
    if len(rows) > len(shown):
        click.echo(f" and {len(rows) - len(shown)} more: vmrelay batch show {batch.id} --items")
    named = {item.uuid or item.domain for item in rows}
    for left in batch.left:
        if left["guest"] not in named and left["domain"] not in named:
            click.echo(f" left: {left_line(left)}")
    for note in batch.notes:
        click.echo(f" note: {clean(note)}")
    for migration in batch.in_doubt:
        click.echo(f"next: {migration} is in doubt: vmrelay status {migration}", err=True)
    if batch.state == "finished" and (batch.failed or batch.exhausted):
        click.echo(f"next: vmrelay batch retry {batch.id}", err=True)


def _table(items: Sequence[Item]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("", "n", "domain", "from", "to"):
        table.add_column(column, no_wrap=True)
    table.add_column("why", overflow="fold")
    for item in items:
        cells = (item.state, str(item.n), clean(item.domain), item.source, item.destination, why(item))
        table.add_row(*map(Text, cells))
    return table


def wait_for_batch(ident: str, timeout: float | None, output: str, *, verbose: bool = False) -> int:
    """Follow a batch to its end and show its receipt; returns the exit code.

    Progress goes to standard error: bars on a terminal, lines elsewhere; ``verbose`` tells of each migration, too.
    """
    from worker.cli.batch_watch import follow

    try:
        batch = follow(ident, timeout, bars=sys.stderr.isatty() and output == "table", verbose=verbose)
    except KeyboardInterrupt:
        click.echo(f"\ndetached; the batch goes on: vmrelay batch watch {ident}", err=True)
        return INTERRUPTED
    if batch is None:
        click.echo(f"not over after {timeout:g} s; the batch goes on: vmrelay batch watch {ident}", err=True)
        return TIMED_OUT
    show_receipt(batch, client.journal().items(ident), output)
    return for_batch(batch)
