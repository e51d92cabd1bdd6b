"""Waiting for a migration: a live bar on a terminal, short lines elsewhere, both on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from worker.cli import client, words
from worker.cli.exits import INTERRUPTED, for_record
from worker.contract import RECOVER
from worker.hints import hint, way_on
from worker.journal import Record

STEP_PERCENT = 10
STEP_SECONDS = 10.0
"""Without a terminal, progress is a line after so much more of it, or after so long."""


def wait_for(ident: str, timeout: float | None, output: str, *, verbose: bool) -> int:
    """Follow a migration to its end and show the outcome; returns the exit code.

    ``verbose`` shows progress without a terminal, too.
    """
    try:
        if sys.stderr.isatty() and output == "table":
            with Bar(Console(stderr=True)) as bar:
                record = client.follow(ident, bar.event, timeout, bar.look)
        else:
            lines = Lines(lambda text: click.echo(text, err=True), verbose=verbose)
            record = client.follow(ident, lines.event, timeout, lines.look)
    except KeyboardInterrupt:
        click.echo(f"\ndetached; the migration goes on: vmrelay watch {ident}", err=True)
        return INTERRUPTED
    if record is None:
        click.echo(f"not over after {timeout:g} s; the migration goes on: vmrelay watch {ident}", err=True)
        return for_record(None)
    if output == "json":
        client.as_json(record.document())
    else:
        say_outcome(record)
    return for_record(record)


def say_outcome(record: Record) -> None:
    """The outcome in a line, and what to do about it."""
    if record.outcome == "succeeded":
        downtime = f", {record.downtime_seconds:.3f} s downtime" if record.downtime_seconds is not None else ""
        name = record.destination_name or record.domain
        click.echo(f"{name} is on {record.destination} ({record.seconds or 0:.1f} s{downtime})")
    else:
        what = record.outcome or record.state
        click.echo(f"{what}: {record.domain}: {record.error} [{record.reason}]", err=True)
        if way_out := way_on(record) or hint(record.reason, record.error):
            click.echo(f"next: {way_out}", err=True)


class Lines:
    """Events as lines; progress, where it is wanted at all, only now and then."""

    def __init__(
        self, say: Callable[[str], None], *, verbose: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._verbose = verbose
        self._clock = clock
        self._told: dict[str, Any] = {}
        self._at = float("-inf")

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Say what happened."""
        if kind == "progress":
            self._progress(data)
        elif text := words.line_of(kind, data):
            self._say(text)

    def look(self, record: Record) -> None:
        """Say how far a perform is whose percentage stands still."""
        if words.is_moving(record.state, record.phase) and record.progress:
            self._progress(record.progress)

    def _progress(self, data: dict[str, Any]) -> None:
        if not self._verbose or data == self._told:
            return
        further = abs(data["percent"] - self._told.get("percent", -STEP_PERCENT)) >= STEP_PERCENT
        if further or self._clock() - self._at >= STEP_SECONDS:
            self._told, self._at = data, self._clock()
            self._say(words.line_of("progress", data) or "")


class Bar(Progress):
    """One bar for one migration, and below it what perform tells of itself."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<24}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        self.details = ""
        super().__init__(*columns, TimeElapsedColumn(), console=console, transient=True)
        self._bar = self.add_task("waiting", total=100)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and a line of details."""
        yield from super().get_renderables()
        if self.details:
            yield Text(self.details, style="dim", no_wrap=True, overflow="ellipsis")

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Move the bar, or print what is worth a line of its own above it."""
        match kind:
            case "progress":
                self._show(data)
            case "phase":
                self.details = ""
                self.update(self._bar, description=words.doing(data))
            case "started" | "accepted" | "phase-ended" | "ended":
                if kind == "phase-ended" and (data.get("error") or data["phase"] == RECOVER):
                    self._say(kind, data)
            case _:
                self._say(kind, data)

    def look(self, record: Record) -> None:
        """Take the newest figures: events come only when the percentage changes."""
        if words.is_moving(record.state, record.phase) and record.progress:
            self._show(record.progress)

    def _show(self, data: dict[str, Any]) -> None:
        self.details = words.details(data)
        self.update(self._bar, completed=None if words.uncounted(data) else data["percent"])

    def _say(self, kind: str, data: dict[str, Any]) -> None:
        if text := words.line_of(kind, data):
            self.console.print(Text(text), soft_wrap=True)
