"""``vmrelay hosts``."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from worker.cli import client
from worker.runtime import runtime


@click.command(short_help="List the hosts and their domains.")
@click.option("--domains", is_flag=True, help="Show each domain, too.")
@client.output
def hosts(domains: bool, output: str) -> None:
    """List the hosts of the inventory: their agent, their load, their domains as last published.

    An agent is up, draining or down; 'no answer' is one whose hypervisor does not answer it. 'wait' counts the
    migrations that can only go on when the host is back.

    \b
    Example:
      vmrelay hosts --domains
    """
    book, inventory = client.journal(), runtime().inventory
    agents = book.agents(inventory)
    waiting = Counter(record.waiting["host"] for record in book.standing() if record.waiting)
    shown: list[dict[str, Any]] = []
    for name, host in inventory.items():
        leaving, entering = book.load_of(name)
        shown.append(
            {
                "name": name,
                "driver": host.profile,
                "agent": _agent_state(agents.get(name)),
                "cordoned": host.settings.cordoned,
                "outgoing": leaving,
                "max_outgoing": host.settings.max_outgoing,
                "incoming": entering,
                "max_incoming": host.settings.max_incoming,
                "waiting": waiting[name],
                "labels": host.settings.labels,
                "domains": book.domains(name),
            }
        )
    if output == "json":
        client.as_json(shown)
        return
    from rich.table import Table

    table = Table("host", "driver", "agent", "out", "in", "wait", "domains", box=None)
    for host_shown in shown:
        own = host_shown["domains"]
        table.add_row(
            host_shown["name"] + (" (cordoned)" if host_shown["cordoned"] else ""),
            host_shown["driver"],
            host_shown["agent"],
            f"{host_shown['outgoing']}/{host_shown['max_outgoing']}",
            f"{host_shown['incoming']}/{host_shown['max_incoming']}",
            str(host_shown["waiting"]),
            ", ".join(f"{d['name']} ({d['state']})" for d in own) if domains else str(len(own)),
        )
    client.show_table(table)


def _agent_state(agent: dict[str, Any] | None) -> str:
    if agent is None:
        return "down"
    if not agent.get("answers", True):
        return "no answer"
    return "draining" if agent.get("draining") else "up"
