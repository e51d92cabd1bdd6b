"""What became of a batch, and waiting for it: shared by every command that makes one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from worker.cli import client
from worker.cli.exits import INTERRUPTED, TIMED_OUT, for_batch
from worker.cli.words import clean, duration
from worker.journal.batch import Batch, Item

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 40
"""So many rows of failed and skipped moves are shown to people, unless they ask for all of them."""
COUNTED = ("moved", "failed", "skipped")


def document(batch: Batch, items: Iterable[Item]) -> dict[str, Any]:
    """A receipt as programs read it: the batch's own document, and one for each of ``items``."""
    return batch.document() | {"items": [item.document() for item in items]}


def counts(batch: Batch) -> str:
    """How it stands in a few words: ``12 moved, 1 failed, 2 skipped of 15``."""
    told = ", ".join(f"{getattr(batch, name)} {name}" for name in COUNTED)
    return f"{told} of {batch.total}"


def headline(batch: Batch) -> str:
    """A batch in one line. Pure."""
    what = f"{batch.kind} {' '.join(batch.hosts)}".strip()
    took = f" in {duration((batch.ended - batch.started) / 1000)}" if batch.ended and batch.started else ""
    return f"{batch.id}  {what}  {batch.state}: {counts(batch)}{took}"


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
    if batch.state == "finished" and batch.failed:
        click.echo(f"next: vmrelay batch retry {batch.id}", err=True)


def left_line(left: dict[str, Any]) -> str:
    """A guest that stays, and why, in a line; from a ``Left`` document."""
    unblock = f"; {clean(left['unblock'])}" if left.get("unblock") else ""
    return f"{clean(left['domain'])} on {left['host']}: {clean(left['why'])} [{left['code']}]{unblock}"


def _table(items: Sequence[Item]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("", "n", "domain", "from", "to"):
        table.add_column(column, no_wrap=True)
    table.add_column("why", overflow="fold")
    for item in items:
        why = f"{clean(item.why)} [{item.code}]" if item.code else clean(item.why)
        cells = (item.state, str(item.n), clean(item.domain), item.source, item.destination, why)
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
