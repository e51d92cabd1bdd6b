"""Waiting for a migration: a live bar on a terminal, one line for each event elsewhere."""

from __future__ import annotations

import sys
from typing import Any

import click

from worker.cli import client
from worker.cli.exits import INTERRUPTED, for_record
from worker.journal import Record


def wait_for(ident: str, timeout: float | None, output: str) -> int:
    """Follow a migration to its end and show the outcome; returns the exit code."""
    try:
        if sys.stderr.isatty() and output == "table":
            record = _with_bar(ident, timeout)
        else:
            record = client.follow(ident, _line, timeout)
    except KeyboardInterrupt:
        click.echo(f"\ndetached; the migration goes on: vmrelay watch {ident}", err=True)
        return INTERRUPTED
    if record is None:
        click.echo(f"not over after {timeout:g} s; the migration goes on: vmrelay watch {ident}", err=True)
        return for_record(None)
    if output == "json":
        client.as_json(record.document())
    elif record.outcome == "succeeded":
        downtime = f", {record.downtime_seconds:.3f} s downtime" if record.downtime_seconds is not None else ""
        name = record.destination_name or record.domain
        click.echo(f"{name} is on {record.destination} ({record.seconds or 0:.1f} s{downtime})")
    else:
        what = record.outcome or record.state
        click.echo(f"{what}: {record.domain}: {record.error} [{record.reason}]", err=True)
    return for_record(record)


def _line(kind: str, data: dict[str, Any]) -> None:
    if kind != "progress" and (text := client.line_of(kind, data)):
        click.echo(text, err=True)


def _with_bar(ident: str, timeout: float | None) -> Record | None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("waiting", total=100)

        def listener(kind: str, data: dict[str, Any]) -> None:
            if kind == "progress":
                bars.update(bar, completed=data["percent"])
            elif kind == "phase":
                bars.update(bar, description=f"{data['phase']} on {data['host']}")
            elif kind in ("retry", "backoff", "cancel", "in-doubt", "republished"):
                bars.console.print(client.line_of(kind, data))

        return client.follow(ident, listener, timeout)
