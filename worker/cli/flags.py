"""``vmrelay flags``: the flag profiles as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from worker.hypervisors.flags import PROFILES, FlagProfile, MigrateFlag


@click.command(
    short_help="Print the flag profiles.",
    help="""
    \b
    $ vmrelay flags --driver vz

    Show which migration flags a driver requires, accepts, sets by default or refuses, and why.
    """,
)
@click.option("--driver", type=click.Choice(list(PROFILES)), help="Only this driver; all by default.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def flags(driver: str | None, output: str) -> None:
    """Print the profiles; exit code 0."""
    profiles = [PROFILES[driver]] if driver else list(PROFILES.values())
    if output == "json":
        click.echo(json.dumps([row for profile in profiles for row in _rows(profile)], indent=2))
        return
    for profile in profiles:
        _print(profile)


def _rows(profile: FlagProfile) -> Iterator[dict[str, str | int | bool]]:
    for name, rule in profile.rules.items():
        flag = MigrateFlag[name]
        yield {
            "driver": profile.name,
            "flag": flag.macro,
            "name": name,
            "option": name.lower(),
            "bit": flag.bit_length() - 1,
            "value": f"0x{int(flag):x}",
            "status": str(rule.status),
            "default": rule.default,
            "reason": rule.reason,
        }


def _print(profile: FlagProfile) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Migration flags of driver {profile.name}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("flag", no_wrap=True)
    table.add_column("bit", justify="right")
    table.add_column("status")
    table.add_column("reason", overflow="fold")
    for row in _rows(profile):
        table.add_row(*(Text(str(row[key])) for key in ("name", "bit", "status", "reason")))
    console = Console()
    console.print(table)
    console.print(Text(f"Without a destination daemon (direct): refused: {profile.direct}"))
