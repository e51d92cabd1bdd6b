"""``vmrelay doctor``: is everything there, and is it as it must be?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import click
import redis

from worker.cli import client
from worker.cli.exits import FAILED
from worker.contract import SCHEDULER_QUEUE
from worker.errors import RelayError
from worker.journal.health import Finding, Result, judged
from worker.journal.intake import schedulers
from worker.journal.trouble import trouble
from worker.journal.webhooks import Standing
from worker.runtime import Runtime, runtime

SKEW_SECONDS = 2.0
"""Clocks that differ by more are worth a warning: logs, certificates and people compare them."""
LONG_WAIT_SECONDS = 600.0
"""A webhook that works is told sooner."""
LONG_QUEUE = 100
"""So many messages in one queue are more than an agent or a scheduler is merely behind with."""
COLOURS = {Result.OK: "green", Result.WARNING: "yellow", Result.FAILED: "red"}
STEPS = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""kombu keeps one list for each step of priority."""


@click.command(short_help="Check that everything vmrelay needs is there.")
@client.output
@click.pass_context
def doctor(ctx: click.Context, /, output: str) -> None:
    """Check settings, seal key, Redis, clocks, schedulers, agents, queues and webhooks.

    Each line says what was found and, where something is wrong, what to do. Exit code 1 where something failed;
    a warning does not change it.

    \b
    Example:
      vmrelay doctor
    """
    found = list(findings())
    if output == "json":
        client.as_json(
            [{"name": f.name, "result": f.result, "detail": f.detail, "advice": f.advice or None} for f in found]
        )
    else:
        from rich.table import Table

        table = Table(box=None, show_header=False)
        for each in found:
            text = f"{each.detail}; {each.advice}" if each.advice else each.detail
            table.add_row(f"[{COLOURS[each.result]}]{each.result}[/]", each.name, text)
        client.show_table(table)
    ctx.exit(FAILED if any(each.result is Result.FAILED for each in found) else 0)


def findings() -> Iterator[Finding]:
    """Everything that doctor looks at, in this order."""
    try:
        parts = runtime()
    except RelayError as wrong:
        yield Finding("settings", Result.FAILED, str(wrong))
        return
    yield _settings(parts)
    yield _seal_key(parts)
    yield _user()
    try:
        yield from _redis(parts)
        yield from _processes(parts)
        yield from _queues(parts)
        yield from _webhooks(parts)
    except redis.RedisError as lost:
        advice = "start it, or set VMRELAY_REDIS_URL"
        yield Finding("redis", Result.FAILED, f"{trouble(lost) or 'it refuses a command'}: {lost}", advice)


def _settings(parts: Runtime) -> Finding:
    number = len(parts.inventory)
    if not number:
        return Finding("settings", Result.FAILED, "no hosts", "name them in [hosts.NAME]")
    return Finding("settings", Result.OK, f"{number} hosts")


def _seal_key(parts: Runtime) -> Finding:
    from worker.seal import load_key

    try:
        load_key(parts.settings.key_file)
    except RelayError as wrong:
        return Finding("seal key", Result.FAILED, str(wrong))
    return Finding("seal key", Result.OK, str(parts.settings.key_file))


def _user() -> Finding:
    if os.geteuid() != 0:
        return Finding("user", Result.OK, "not root")
    advice = "a user who may use libvirt, Redis and the seal key is enough"
    return Finding("user", Result.WARNING, "running as root", advice)


def _redis(parts: Runtime) -> Iterator[Finding]:
    server = parts.journal.client
    yield from judged(server.info(), _appendfsync(server))
    try:
        parts.journal.load()
    except RelayError as wrong:
        yield Finding("scripts", Result.FAILED, str(wrong), "the user of redis_url needs the commands of @scripting")
    else:
        yield Finding("scripts", Result.OK, "loaded")
    yield clock("clock", parts.journal.clock_offset())


def _appendfsync(server: Any) -> str:  # noqa: ANN401 - redis-py's answers are a union over protocols
    try:
        return str(server.config_get("appendfsync").get("appendfsync", ""))
    except redis.ResponseError:  # a managed Redis does not let everybody read that
        return ""


def clock(name: str, offset: float) -> Finding:
    """A clock by how many seconds it is ahead of Redis's."""
    detail = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} Redis's"
    if abs(offset) < SKEW_SECONDS:
        return Finding(name, Result.OK, detail)
    advice = "let chrony or ntpd set the clocks; leases and deadlines do not depend on them, logs and certificates do"
    return Finding(name, Result.WARNING, detail, advice)


def _processes(parts: Runtime) -> Iterator[Finding]:
    alive = parts.journal.agents([*parts.inventory, "scheduler"])
    yield scheduling(alive.get("scheduler"), schedulers(parts.journal))
    for host in parts.inventory:
        yield from agent(host, alive.get(host))


def scheduling(leader: Mapping[str, Any] | None, names: list[str]) -> Finding:
    """The schedulers: one leads, and one is enough."""
    if leader is None:
        detail = "none leads: requests wait, and what was lost is not sent again"
        return Finding("scheduler", Result.WARNING, detail, "start 'vmrelay scheduler'")
    others = f"; {len(names)} run" if len(names) > 1 else ""
    return Finding("scheduler", Result.OK, f"pid {leader['pid']} on {leader['node']} leads{others}")


def agent(host: str, card: Mapping[str, Any] | None) -> Iterator[Finding]:
    """A host's agent, by what it tells with its lease."""
    name = f"agent {host}"
    if card is None:
        yield Finding(name, Result.WARNING, "down: nothing moves from or to its host", f"start 'vmrelay agent {host}'")
        return
    where = f"pid {card['pid']} on {card['node']}"
    if not card.get("answers", True):
        detail = f"{where}: the hypervisor does not answer it, and what is known of the domains is old"
        yield Finding(name, Result.WARNING, detail, "look at the agent's log and at the hypervisor")
    else:
        yield Finding(name, Result.OK, f"{where}, draining" if card.get("draining") else where)
    if abs(offset := float(card.get("clock_offset_seconds", 0))) >= SKEW_SECONDS:
        yield clock(f"clock {host}", offset)


def _queues(parts: Runtime) -> Iterator[Finding]:
    served = {f"host.{host}" for host in parts.journal.agents(parts.inventory)}
    if schedulers(parts.journal):
        served.add(SCHEDULER_QUEUE)
    known = {SCHEDULER_QUEUE, *(f"host.{host}" for host in parts.inventory)}
    found = {str(key).partition("\x06")[0] for key in parts.journal.client.scan_iter("host.*", count=1000)}
    wrong = [
        finding
        for name in sorted(known | found)
        if (finding := queue(name, _length(parts, name), known=name in known, served=name in served))
    ]
    yield from wrong or [Finding("queues", Result.OK, "nothing waits for long")]


def _length(parts: Runtime, name: str) -> int:
    pipe = parts.journal.client.pipeline(transaction=False)
    for step in STEPS:
        pipe.llen(name + step)
    return sum(int(length) for length in pipe.execute())


def queue(name: str, length: int, *, known: bool, served: bool) -> Finding | None:
    """What is strange about a queue, if anything is."""
    title = f"queue {name}"
    if length and not known:
        detail = f"{length} messages for a host that is not in the inventory"
        return Finding(title, Result.WARNING, detail, f"name the host again, or remove them: DEL {name}")
    if length and not served:
        return Finding(title, Result.WARNING, f"{length} messages that nobody takes", "start its process")
    if length > LONG_QUEUE:
        return Finding(
            title, Result.WARNING, f"{length} messages wait", "look at the log of the process that takes them"
        )
    return None


def _webhooks(parts: Runtime) -> Iterator[Finding]:
    from worker.webhooks.signing import read_secret

    named = parts.settings.webhooks
    for name, each in parts.journal.webhooks(named).items():
        try:
            read_secret(named[name].secret_file)
        except RelayError as wrong:
            yield Finding(f"webhook {name}", Result.FAILED, str(wrong))
        else:
            yield webhook(name, each, parts.journal.now())


def webhook(name: str, each: Standing, now: float) -> Finding:
    """A webhook by what waits for it and how the last tries went."""
    told = f"last delivered {now - each.told:.0f} s ago" if each.told else "never told anything yet"
    detail = f"{each.waiting} deliveries wait, {told}"
    if each.failures:
        why = f"{each.failures} tries in a row failed, the last {now - each.failed:.0f} s ago: {each.error}"
        return Finding(f"webhook {name}", Result.WARNING, f"{detail}; {why}", f"try it: vmrelay webhook test {name}")
    if each.oldest_seconds > LONG_WAIT_SECONDS:
        late = f"{detail}; the oldest has waited for {each.oldest_seconds:.0f} s"
        return Finding(f"webhook {name}", Result.WARNING, late, "does a scheduler lead that has it in its settings?")
    return Finding(f"webhook {name}", Result.OK, detail)
