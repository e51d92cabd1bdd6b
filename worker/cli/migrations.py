"""``vmrelay cancel``, ``status``, ``list`` and ``watch``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from worker.cli import client, words
from worker.cli.exits import FAILED
from worker.cli.types import seconds
from worker.contract import CANCEL, RECOVER
from worker.errors import Rejected
from worker.hints import hint, way_on
from worker.journal import Record
from worker.journal.hosts import closed
from worker.journal.lists import Filters
from worker.runtime import runtime

STATES = {"pending": "pending", "running": "active", "waiting": "backoff", "in-doubt": "in-doubt", "ended": "ended"}
OUTCOMES = ("succeeded", "failed", "cancelled", "rejected")
AT_ONCE = 500
"""So many are read in one page."""


def find(ident: str) -> Record:
    """A migration by its id or a beginning of it that only one has. Raises ``Rejected``."""
    book = client.journal()
    record = book.record(ident)
    if record:
        return record
    found = book.named(ident) if len(ident) >= 4 else []
    if len(found) == 1 and (record := book.record(found[0])):
        return record
    many = f"{len(found)} migrations begin with" if found else "there is no migration"
    raise Rejected(f"{many} '{ident[:80]}'; see 'vmrelay list'", code="unknown-migration")


def find_open(ident: str) -> Record:
    """The same, of one that is not over. Raises ``Rejected``."""
    record = find(ident)
    if record.state == "ended":
        raise Rejected(f"migration {record.id} is over: {record.outcome}", code="over")
    return record


def waits_for(record: Record, agents: Mapping[str, Mapping[str, Any]]) -> str:
    """What keeps a migration that waits from starting, or from going on; empty for one that does not wait. Pure."""
    if record.state == "active" and record.waiting:
        return words.waits(record.waiting)
    if record.state not in ("pending", "backoff"):
        return ""
    hosts = {host: closed(agents.get(host)) for host in (record.source, record.destination)}
    shut = [f"{host}: {why}" for host, why in hosts.items() if why]
    return "; ".join(shut) or ("slots" if record.state == "pending" else "its next attempt")


def short_id(ident: str) -> str:
    """An id as lists show it: the beginning of a random one; whole where somebody chose it, or a batch numbered it."""
    return ident[:8] if len(ident) == 36 and ident.count("-") == 4 else ident


def _state(record: Record) -> str:
    if record.state != "active":
        return record.state
    return f"{record.phase} (waits)" if record.waiting else record.phase


def _agents_of(records: list[Record]) -> dict[str, dict[str, Any]]:
    """The live agents of the hosts that waiting migrations wait for."""
    waiting = [record for record in records if record.state in ("pending", "backoff")]
    return client.journal().agents({host for record in waiting for host in (record.source, record.destination)})


@click.command(short_help="Stop a migration.")
@click.argument("migration")
@click.option("--requested-by", default="", help="Who asks, for the record.")
@click.option("--wait/--no-wait", default=False, help="Wait for what becomes of it.")
@click.option("--timeout", type=seconds, metavar="SECONDS", help="Wait so long at most.")
@client.output
@click.pass_context
def cancel(
    ctx: click.Context, /, migration: str, requested_by: str, wait: bool, timeout: float | None, output: str
) -> None:
    """Cancel MIGRATION (its id, or the beginning of it): the domain stays on its source.

    \b
    Example:
      vmrelay cancel 3f2a91 --wait

    One that waits ends at once. A running one stops at its next look. After perform it is too late (exit
    code 2): the guest has left, and nothing is changed.
    """
    record = find_open(migration)
    answer = client.ask(CANCEL, {"migration": record.id, "requested_by": requested_by})
    if answer["answer"] == "too-late":
        raise Rejected(
            f"too late: the guest is on its way to {record.destination}; it ends as moved, see 'vmrelay watch "
            f"{record.id}'",
            code="too-late",
        )
    if wait:
        from worker.cli.progress import wait_for

        code = wait_for(record.id, timeout, output, verbose=False)
        ended = client.journal().record(record.id)
        ctx.exit(0 if ended and ended.outcome == "cancelled" else code or FAILED)
    client.as_json(answer) if output == "json" else click.echo(f"{record.id} {answer['answer']}")


@click.command(short_help="Show one migration.")
@click.argument("migration")
@click.option("--events", is_flag=True, help="Show everything that happened to it, too.")
@client.output
def status(migration: str, events: bool, output: str) -> None:
    """Show MIGRATION (its id, or the beginning of it).

    \b
    Example:
      vmrelay status 3f2a91 --events
    """
    record = find(migration)
    happened = client.journal().events(record.id) if events else []
    waits = waits_for(record, _agents_of([record]))
    if output == "json":
        more = [{"at": int(at.split("-")[0]) / 1000, "type": kind} | data for at, kind, data in happened]
        held = {"waits_for": waits} if waits else {}
        client.as_json(record.document() | held | ({"events": more} if events else {}))
        return
    from rich.table import Table
    from rich.text import Text

    way_out = way_on(record) or hint(record.reason, record.error)
    shown = words.rows(record.document()) + [row for row in (("waits for", waits), ("next", way_out)) if row[1]]
    for run in record.phases:
        failed = f"  failed: {run.error}" if run.error else ""
        took = f"{run.seconds:.3f} s" if run.name != RECOVER else ""
        shown.append((f"attempt {run.attempt}", f"{run.name:<8} {run.host:<12} {took}{failed}"))
    shown += [(kind, words.line_of(kind, data) or "") for _, kind, data in happened]
    table = Table(show_header=False, box=None)
    for name, value in shown:
        table.add_row(Text(name), Text(value))
    client.show_table(table)


def _listed(filters: Filters, most: int) -> list[Record]:
    found: list[Record] = []
    cursor: str | None = ""
    while cursor is not None and len(found) < most:
        some, cursor = client.journal().page(filters, min(most - len(found), AT_ONCE), cursor or None)
        found += some
    return found


@click.command(name="list", short_help="List migrations.")
@click.option("--state", type=click.Choice(list(STATES)), multiple=True, help="Only these.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Only those that ended so.")
@click.option("--host", help="Only those that leave or enter this host.")
@click.option("--domain", help="Only those of this domain: its name or uuid.")
@click.option("--batch", help="Only those that this batch asked for.")
@click.option("--requested-by", help="Only those that they asked for.")
@click.option("-n", "--limit", type=click.IntRange(1, 10000), default=50, show_default=True, help="So many at most.")
@client.output
def list_(
    state: tuple[str, ...],
    outcome: str | None,
    host: str | None,
    domain: str | None,
    batch: str | None,
    requested_by: str | None,
    limit: int,
    output: str,
) -> None:
    """List migrations, newest first.

    \b
    Examples:
      vmrelay list --state running
      vmrelay list --outcome failed --host alpha -o json
      vmrelay list --domain web-1 -n 5
    """
    if host is not None:
        runtime().inventory.host(host)
    states = tuple(STATES[name] for name in dict.fromkeys(state))
    records = _listed(Filters(states, outcome or "", host or "", domain or "", batch or "", requested_by or ""), limit)
    if output == "json":
        client.as_json([record.document() for record in records])
        return
    from rich.table import Table

    agents = _agents_of(records)
    now, _ = client.journal().client.time()
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True, min_width=8)
    for column in ("state", "domain", "from", "to", "attempts", "seconds", "downtime"):
        table.add_column(column, no_wrap=True)
    table.add_column("error", overflow="ellipsis")  # the only one that may wrap: it gives way first
    for record in records:
        table.add_row(
            short_id(record.id),
            record.outcome or _state(record),
            record.domain,
            record.source,
            record.destination,
            str(record.attempt),
            f"{seconds:.1f}" if (seconds := record.seconds_until(now)) is not None else "",
            f"{record.downtime_seconds:.3f}" if record.downtime_seconds is not None else "",
            (record.reason if record.outcome != "succeeded" else "") or waits_for(record, agents),
        )
    client.show_table(table)


@click.command(short_help="Follow a migration.")
@click.argument("migration")
@click.option("--timeout", type=seconds, metavar="SECONDS", help="Wait so long at most.")
@client.output
@click.pass_context
def watch(ctx: click.Context, /, migration: str, timeout: float | None, output: str) -> None:
    """Follow MIGRATION to its end; the exit code is that of ``migrate``.

    \b
    Example:
      vmrelay watch 3f2a91
    """
    from worker.cli.progress import wait_for

    ctx.exit(wait_for(find(migration).id, timeout, output, verbose=True))
