"""``vmrelay limits``: how many migrations may run at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from worker.cli import client
from worker.contract import LIMITS
from worker.runtime import runtime

DEFAULT = "default"


@click.command(short_help="Show or change how many migrations may run at once.")
@click.option("--outgoing", multiple=True, metavar="HOST=N", help="So many may leave HOST.")
@click.option("--incoming", multiple=True, metavar="HOST=N", help="So many may enter HOST.")
@click.option("--network", multiple=True, metavar="NETWORK=N", help="So many may use a migration network.")
@click.option("--all", "everything", metavar="N", help="So many may run in all.")
@click.option("--requested-by", default="", help="Who asks, for the record.")
@client.output
def limits(
    outgoing: tuple[str, ...],
    incoming: tuple[str, ...],
    network: tuple[str, ...],
    everything: str | None,
    requested_by: str,
    output: str,
) -> None:
    """Show how many migrations may run at once and how many do, or change it while everything runs.

    \b
    Examples:
      vmrelay limits
      vmrelay limits --outgoing alpha=4 --incoming beta=1
      vmrelay limits --network storage=8 --all 20
      vmrelay limits --outgoing alpha=default

    A change holds until it is given back with 'default', also after restarts. What runs over a lowered limit runs on;
    0 lets nothing start. A host never gets more in both directions together than its agent has threads for.
    """
    arguments = {
        "outgoing": _pairs("--outgoing", outgoing),
        "incoming": _pairs("--incoming", incoming),
        "networks": _pairs("--network", network),
        "cluster": {} if everything is None else {"migrations": _number("--all", everything)},
    }
    if any(arguments.values()):
        told = client.ask(LIMITS, arguments | {"requested_by": requested_by})["limits"]
    else:
        told = client.journal().limits(runtime().inventory.terms)
    if output == "json":
        client.as_json(told)
        return
    from rich.table import Table

    table = Table("", "out", "in", "", box=None)
    for name, both in sorted(told["hosts"].items()):
        table.add_row(name, _used(both["outgoing"]), _used(both["incoming"]), _capped(both))
    for name, room in sorted(told["networks"].items()):
        table.add_row(f"network {name}", _used(room), "", "")
    table.add_row("all", _used(told["migrations"]), "", "")
    client.show_table(table)


def _pairs(option: str, given: Iterable[str]) -> dict[str, int | None]:
    """Names and numbers. Raises ``click.UsageError`` for anything else."""
    named: dict[str, int | None] = {}
    for text in given:
        name, sign, number = text.rpartition("=")
        if not name or not sign:
            raise click.UsageError(f"{option} takes NAME=N, as in alpha=4, and not '{text}'")
        named[name] = _number(option, number)
    return named


def _number(option: str, text: str) -> int | None:
    if text == DEFAULT:
        return None
    if not text.isascii() or not text.isdigit():
        raise click.UsageError(f"{option} takes a number or '{DEFAULT}', and not '{text}'")
    return int(text)


def _used(room: dict[str, Any]) -> str:
    return f"{room['used']}/{room.get('limit', '-')}"


def _capped(both: dict[str, Any]) -> str:
    """Why a host has less than was asked for; empty where it has not."""
    asked = [both[direction]["asked"] for direction in ("outgoing", "incoming")]
    if asked == [both[direction]["limit"] for direction in ("outgoing", "incoming")]:
        return ""
    return f"{asked[0]} and {asked[1]} were asked for; its agent has threads for {both['at_most']} in all"
