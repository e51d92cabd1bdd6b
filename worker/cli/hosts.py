"""``vmrelay hosts`` and ``doctor``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import redis

from worker.cli import client
from worker.cli.exits import FAILED
from worker.errors import RelayError
from worker.runtime import Runtime, runtime


@click.command(short_help="List the hosts and their domains.")
@click.option("--domains", is_flag=True, help="Show each domain, too.")
@client.output
def hosts(domains: bool, output: str) -> None:
    """List the hosts of the inventory: their agent, their load, their domains as last published.

    An agent is up, draining or down; 'no answer' is one whose hypervisor does not answer it.

    \b
    Example:
      vmrelay hosts --domains
    """
    book, inventory = client.journal(), runtime().inventory
    agents = book.agents(inventory)
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
                "labels": host.settings.labels,
                "domains": book.domains(name),
            }
        )
    if output == "json":
        client.as_json(shown)
        return
    from rich.table import Table

    table = Table("host", "driver", "agent", "out", "in", "domains", box=None)
    for host_shown in shown:
        own = host_shown["domains"]
        table.add_row(
            host_shown["name"] + (" (cordoned)" if host_shown["cordoned"] else ""),
            host_shown["driver"],
            host_shown["agent"],
            f"{host_shown['outgoing']}/{host_shown['max_outgoing']}",
            f"{host_shown['incoming']}/{host_shown['max_incoming']}",
            ", ".join(f"{d['name']} ({d['state']})" for d in own) if domains else str(len(own)),
        )
    client.show_table(table)


def _agent_state(agent: dict[str, Any] | None) -> str:
    if agent is None:
        return "down"
    if not agent.get("answers", True):
        return "no answer"
    return "draining" if agent.get("draining") else "up"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that doctor looked at."""

    name: str
    ok: bool
    detail: str
    fatal: bool = True
    """Whether vmrelay cannot work without it; the rest is advice."""


@click.command(short_help="Check that everything vmrelay needs is there.")
@client.output
@click.pass_context
def doctor(ctx: click.Context, /, output: str) -> None:
    """Check settings, seal key, Redis and agents; exit code 1 where something necessary is missing.

    \b
    Example:
      vmrelay doctor
    """
    found = list(_checks())
    if output == "json":
        client.as_json([{"name": c.name, "ok": c.ok, "detail": c.detail, "fatal": c.fatal} for c in found])
    else:
        from rich.table import Table

        table = Table(box=None, show_header=False)
        for check in found:
            word = "[green]ok[/]" if check.ok else "[red]FAIL[/]" if check.fatal else "[yellow]advice[/]"
            table.add_row(word, check.name, check.detail)
        client.show_table(table)
    ctx.exit(0 if all(check.ok or not check.fatal for check in found) else FAILED)


def _checks() -> Iterator[Check]:
    try:
        parts = runtime()
    except RelayError as wrong:
        yield Check("settings", False, str(wrong))
        return
    number = len(parts.inventory)
    yield Check("settings", number > 0, f"{number} hosts" if number else "no hosts; name them in [hosts.NAME]")
    yield _key(parts)
    try:
        yield from _redis(parts)
        yield from _agents(parts)
    except redis.RedisError as lost:
        yield Check("redis", False, f"does not answer: {lost}")


def _key(parts: Runtime) -> Check:
    from worker.seal import load_key

    try:
        load_key(parts.settings.key_file)
    except RelayError as wrong:
        return Check("seal key", False, str(wrong))
    return Check("seal key", True, str(parts.settings.key_file))


def _redis(parts: Runtime) -> Iterator[Check]:
    server = parts.journal.client
    about = server.info()
    yield Check("redis", True, f"version {about.get('valkey_version') or about['redis_version']}")
    policy = about.get("maxmemory_policy", "unknown")
    yield Check("eviction", policy == "noeviction", f"maxmemory-policy is {policy}, must be noeviction")
    persists = about.get("aof_enabled") == 1
    yield Check("persistence", persists, f"append-only file is {'on' if persists else 'off: a restart forgets'}", False)
    seconds, micros = server.time()
    skew = abs(time.time() - seconds - micros / 1e6)
    yield Check("clock", skew < 5, f"{skew:.1f} s between this machine and Redis", False)


def _agents(parts: Runtime) -> Iterator[Check]:
    alive = parts.journal.agents([*parts.inventory, "scheduler"])
    leader = alive.get("scheduler")
    yield Check("scheduler", leader is not None, f"pid {leader['pid']} leads" if leader else "none is running", False)
    for name in parts.inventory:
        yield _agent(name, alive.get(name))
    advice = "running as root: whoever may use libvirt, Redis and the seal key is enough"
    yield Check("user", os.geteuid() != 0, advice if os.geteuid() == 0 else "not root", False)


def _agent(host: str, agent: dict[str, Any] | None) -> Check:
    if agent is None:
        return Check(f"agent {host}", False, f"down: vmrelay agent {host}", False)
    where = f"pid {agent['pid']} on {agent['node']}"
    if agent.get("answers", True):
        return Check(f"agent {host}", True, where, False)
    silent = "the hypervisor does not answer it, its log says why; what is known of the domains is old"
    return Check(f"agent {host}", False, f"{where}: {silent}", False)
