"""``vmrelay hosts``: what they are, closing them to what is new, and opening them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from worker.cli import client
from worker.cli.drains import drain, return_
from worker.cli.words import clean
from worker.contract import HOST
from worker.fleet.used import percent
from worker.journal.cordons import Cordon
from worker.overview import described
from worker.runtime import runtime

domains_option = click.option("--domains", is_flag=True, help="Show each domain, too.")
requested_by = click.option("--requested-by", default="", help="Who asks, for the record.")
names = click.argument("host", nargs=-1, required=True)


@click.group(invoke_without_command=True, short_help="List the hosts; cordon, drain and return them.")
@domains_option
@client.output
@click.pass_context
def hosts(ctx: click.Context, domains: bool, output: str) -> None:
    """List the hosts of the inventory: their agent, how full they are, their domains as last published.

    An agent is up, draining or down; 'no answer' is one whose hypervisor does not answer it. 'cpu' and 'memory' are
    what its guests use of what the host has for them, as planning counts it. 'wait' counts the
    migrations that can only go on when the host is back. The last column says by whom a host is cordoned and why,
    what drains it, and how many of its guests a drain has taken away.

    \b
    Examples:
      vmrelay hosts --domains
      vmrelay hosts cordon beta --reason "new DIMMs"
      vmrelay hosts drain beta
      vmrelay hosts return beta
    """
    if ctx.invoked_subcommand is None:
        _list(domains, output)


@hosts.command(name="list", short_help="List the hosts, as 'vmrelay hosts' does.")
@domains_option
@client.output
def list_(domains: bool, output: str) -> None:
    """List the hosts, as 'vmrelay hosts' does.

    \b
    Example:
      vmrelay hosts list --domains
    """
    _list(domains, output)


@hosts.command(short_help="Let nothing new be sent to hosts.")
@names
@click.option("--reason", default="", help="Why, for everybody whose migration is refused.")
@requested_by
@client.output
def cordon(host: tuple[str, ...], reason: str, requested_by: str, output: str) -> None:
    """Let nothing new be sent to each HOST, until 'vmrelay hosts uncordon HOST'.

    \b
    Example:
      vmrelay hosts cordon beta --reason "new DIMMs"

    Requests towards it are refused. Migrations that were accepted before and still wait are ended (code cordoned);
    what runs already ends as it does. Guests on it stay there: 'vmrelay drain HOST' moves them away.
    """
    _change({"hosts": host, "action": "cordon", "reason": reason, "requested_by": requested_by}, output)


@hosts.command(short_help="Let hosts take domains again.")
@names
@requested_by
@client.output
def uncordon(host: tuple[str, ...], requested_by: str, output: str) -> None:
    """Let each HOST take domains again. What a drain took away stays away: 'vmrelay hosts return HOST' brings it back.

    \b
    Example:
      vmrelay hosts uncordon beta

    Refused where the settings cordon the host, and while a drain of it is not over.
    """
    _change({"hosts": host, "action": "uncordon", "requested_by": requested_by}, output)


hosts.add_command(drain)
hosts.add_command(return_)


def _change(arguments: dict[str, Any], output: str) -> None:
    answer = client.ask(HOST, arguments)
    if output == "json":
        client.as_json(answer)
        return
    done = f"{arguments['action']}ed"
    for name, told in answer["hosts"].items():
        turned = f"; {told['turned_away']} waiting migrations towards it were ended" if told["turned_away"] else ""
        still = " (the settings cordon it, too)" if (told["cordon"] or {}).get("settings") else ""
        click.echo(f"{name} {'is' if told['changed'] else 'was already'} {done}{turned}{still}")


# -- the listing ----------------------------------------------------------------------------------------


def _list(domains: bool, output: str) -> None:
    shown = described(client.journal(), runtime().inventory)
    if output == "json":
        client.as_json(shown)
        return
    from rich.table import Table
    from rich.text import Text

    loaded = any(host["load"] for host in shown)
    table = Table(
        "host", "driver", "agent", *(["cpu", "memory"] if loaded else []), "out", "in", "wait", "domains", "", box=None
    )
    for host in shown:
        own = host["domains"]
        cells = (
            host["name"] + (" (cordoned)" if host["cordoned"] else ""),
            host["driver"],
            host["agent"],
            *(percent((host["load"] or {}).get(kind)) for kind in (("cpu", "memory") if loaded else ())),
            f"{host['outgoing']}/{host['max_outgoing']}",
            f"{host['incoming']}/{host['max_incoming']}",
            str(host["waiting"]),
            ", ".join(f"{clean(d['name'])} ({d['state']})" for d in own) if domains else str(len(own)),
            clean(notes(host)),
        )
        table.add_row(*map(Text, cells))
    client.show_table(table)


def notes(host: Mapping[str, Any]) -> str:
    """What else is to be said of a host: its cordon, its drain, and who is away. Pure."""
    words = Cordon(**host["cordon"]).words if host["cordon"] else ""
    parts = (
        f"cordoned {words}".strip() if host["cordoned"] else "",
        f"drained by batch {host['draining']}" if host["draining"] else "",
        f"{host['homes_away']} away from home" if host["homes_away"] else "",
    )
    return ", ".join(part for part in parts if part)
