"""What the commands that talk to a running vmrelay share: wait, follow, show."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import redis

from worker import asking
from worker.asking import ACCEPT_SECONDS, ask, enqueue, refusal_of
from worker.cli import words
from worker.errors import Unavailable
from worker.journal import Journal, Record
from worker.runtime import runtime

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["ACCEPT_SECONDS", "ask", "enqueue", "refusal_of"]

output = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to show it."
)

LINE = 10_000
"""Longer than any row of a table."""
Listener = Callable[[str, dict[str, Any]], None]
line_of = words.line_of


def journal() -> Journal:
    """The journal of the configured Redis. Raises ``Unavailable`` where that does not answer."""
    found = runtime().journal
    try:
        found.client.ping()
    except redis.RedisError as lost:
        raise Unavailable(
            f"Redis does not answer ({lost}); start 'vmrelay up' or set VMRELAY_REDIS_URL", code="redis-unavailable"
        ) from None
    return found


def await_record(ident: str, seconds: float = ACCEPT_SECONDS) -> Record | None:
    """The record of an enqueued migration, once a scheduler has accepted or rejected it."""
    return asking.await_record(journal(), ident, seconds)


def is_over(record: Record) -> bool:
    """Whether nothing more happens to a migration by itself."""
    return record.state in ("ended", "in-doubt")


def follow(
    ident: str,
    listener: Listener,
    seconds: float | None,
    look: Callable[[Record], None] | None = None,
    *,
    after: str = "0",
    over: Callable[[Record], bool] = is_over,
) -> Record | None:
    """Hand a migration's events (those after ``after``) to ``listener`` until it is over; ``None`` on time-out.

    ``look`` gets the record itself, at least once a second.
    """
    book = journal()
    deadline = time.monotonic() + seconds if seconds is not None else None
    while True:
        left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
        if left <= 0:
            return None
        for at, kind, data in book.events(ident, after, left):
            after = at
            listener(kind, data)
        record = book.record(ident)
        if record is None or over(record):
            for _, kind, data in book.events(ident, after):
                listener(kind, data)
            return record
        if look is not None:
            look(record)


def show_table(table: RenderableType) -> None:
    """A table on standard output: as wide as a terminal, and whole, a line for each row, where a program reads it."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    whole = Console(width=LINE, color_system=None)
    with whole.capture() as text:
        whole.print(table)
    click.echo("\n".join(line.rstrip() for line in text.get().splitlines()))


def as_json(document: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, default=str))
