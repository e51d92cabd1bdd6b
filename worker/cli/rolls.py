"""Rolls in words: one line for each step, and how one stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from worker.cli import client
from worker.cli.words import clean
from worker.journal.rolls import Roll

LINES = {
    "begun": "{hosts} will be drained one after the other",
    "drained": "{host} is empty: {moved} guests moved away",
    "ready": "{host} is ready: {why}",
    "returned": "{host} has its guests back: {back} came home",
    "finished": "{host} has its guests back: {back} came home; that was the last host",
    "stopped": "stopped at {host}: {why}",
    "resumed": "goes on with {host}",
    "cancelled": "cancelled at {host}",
}
"""What is said of each event."""


def line_of(ident: str, kind: str, data: dict[str, Any]) -> str:
    """An event in a line. Pure."""
    told = {name: ", ".join(value) if isinstance(value, list) else value for name, value in data.items()}
    text = LINES[kind].format(**told) if kind in LINES else kind
    note = f" ({told['note']})" if told.get("note") else ""
    return clean(f"roll {ident[:8]}: {text}{note}")


def stands(roll: Roll) -> str:
    """How a roll stands, and what it waits for. Pure."""
    if roll.is_over or roll.state == "stopped":
        return f"{roll.state}: {clean(roll.why)}" if roll.why else roll.state
    if roll.step == "drain":
        return f"drains {roll.host}"
    if roll.step == "return":
        return f"waits for {roll.host}'s agent, and brings its guests back"
    return f"{roll.host} is drained; waits for " + (
        "its agent to be started anew" if roll.request.get("wait") == "agent" else "'vmrelay rolling continue'"
    )


def show_roll(roll: Roll, output: str) -> None:
    """One roll on standard output, and on standard error what to do about it."""
    if output == "json":
        client.as_json(roll.document())
        return
    click.echo(f"{roll.id}  {stands(roll)}")
    for number, host in enumerate(roll.hosts):
        done = "done" if number < roll.at else "now" if number == roll.at and not roll.is_over else ""
        click.echo(f"  {host:<20} {done}".rstrip())
    for note in roll.notes:
        click.echo(f"  note: {clean(note)}")
    if roll.state == "stopped":
        click.echo(
            f"next: put it right; vmrelay rolling continue {roll.id}; vmrelay rolling attach {roll.id}", err=True
        )
    if roll.state == "cancelled":
        click.echo(f"next: {roll.host} may be cordoned still: vmrelay hosts return {roll.host}", err=True)


def show_rolls(rolls: Sequence[Roll], output: str) -> None:
    """Rolls as rows."""
    if output == "json":
        client.as_json([roll.document() for roll in rolls])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "hosts", "", box=None, pad_edge=False)
    for roll in rolls:
        table.add_row(*map(Text, (roll.id, f"{min(roll.at, len(roll.hosts))} of {len(roll.hosts)} done", stands(roll))))
    client.show_table(table)
