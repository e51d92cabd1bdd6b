"""``vmrelay resolve`` and ``retry``: what an operator does about a migration that did not come to a good end."""

from __future__ import annotations

import sys

import click

from worker.cli import client, words
from worker.cli.exits import MOVED, TIMED_OUT, for_record
from worker.cli.migrations import find
from worker.cli.progress import Lines, say_outcome, wait_for
from worker.cli.types import seconds
from worker.contract import RESOLVE, RETRY
from worker.errors import Rejected
from worker.hints import way_on
from worker.journal import Record

MEANING = """\
'{host}' is to be taken for dead. That means: it is powered off, or fenced so that no guest runs on it and
it cannot write to shared storage. vmrelay looks at '{other}' only, and goes on from there: a copy of
{domain} that stands still there is let run. If {host} still runs {domain}, there will be two, and
their disks are ruined. When {host} comes back, look for {domain} there before anybody uses it."""

requested_by = click.option("--requested-by", default="", help="Who asks, for the record.")
time_limit = click.option("--timeout", type=seconds, metavar="SECONDS", help="Wait so long at most.")


@click.command(short_help="End a migration that is in doubt.")
@click.argument("migration")
@click.option("--assume-dead", metavar="HOST", help="HOST, one of the two, is powered off or fenced.")
@click.option("--yes", is_flag=True, help="Do not ask whether HOST is dead indeed.")
@requested_by
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for what becomes of it.")
@time_limit
@client.output
@click.pass_context
def resolve(
    ctx: click.Context,
    /,
    migration: str,
    assume_dead: str | None,
    yes: bool,
    requested_by: str,
    wait: bool,
    timeout: float | None,
    output: str,
) -> None:
    """Look at both hosts of MIGRATION (its id, or the beginning of it) again, and bring it to an end.

    \b
    Examples:
      vmrelay resolve 3f2a91
      vmrelay resolve 3f2a91 --assume-dead beta

    For a migration that is in doubt, after you have put right what it was in doubt for, and for one that waits for
    a host that will not come back. What goes on by itself is refused. Exit codes: 0 moved, or it goes on with
    another attempt; 1 ended, and the domain is on its source; 2 refused; 3 still in doubt; 4 it waits for a host.
    """
    record = find(migration)
    if assume_dead is not None and not yes:
        _confirm(record, assume_dead)
    wish = {"migration": record.id, "assume_dead": assume_dead, "requested_by": requested_by}
    events = client.journal().events(record.id)
    answer = client.ask(RESOLVE, {name: given for name, given in wish.items() if given})
    if not wait:
        client.as_json(answer) if output == "json" else click.echo(f"{record.id} {answer['answer']}")
        return
    lines = Lines(lambda text: click.echo(text, err=True), verbose=sys.stderr.isatty())
    settled = client.follow(
        record.id, lines.event, timeout, lines.look, after=events[-1][0] if events else "0", over=_is_settled
    )
    ctx.exit(_say(record.id, settled, timeout, output))


def _is_settled(record: Record) -> bool:
    """Whether nothing more is done about the attempt for now."""
    return client.is_over(record) or record.state in ("backoff", "pending") or bool(record.waiting)


def _confirm(record: Record, dead: str) -> None:
    """Raises ``Rejected`` unless somebody says that the host is dead indeed."""
    if dead not in (record.source, record.destination):
        return  # the scheduler refuses it, and says why
    other = record.destination if dead == record.source else record.source
    click.echo(MEANING.format(host=dead, other=other, domain=record.domain), err=True)
    try:
        typed = click.prompt("Type the host's name to go on", default="", show_default=False, err=True)
    except click.Abort:
        typed = ""
    if typed != dead:
        raise Rejected(
            f"nothing was done: that {dead} is dead was not confirmed; a script says --yes", code="not-confirmed"
        )


def _say(ident: str, record: Record | None, timeout: float | None, output: str) -> int:
    """What came of it; returns the exit code."""
    if record is None:
        click.echo(f"not over after {timeout:g} s; it goes on: vmrelay watch {ident}", err=True)
        return TIMED_OUT
    if output == "json":
        client.as_json(record.document())
    elif client.is_over(record):
        say_outcome(record)
    elif record.waiting:
        click.echo(f"waits for {words.waits(record.waiting)}")
        click.echo(f"next: {way_on(record)}", err=True)
    else:
        click.echo(f"{record.domain} is on {record.source}; another attempt follows: vmrelay watch {ident}")
    if client.is_over(record):
        return for_record(record)
    return TIMED_OUT if record.waiting else MOVED


@click.command(short_help="Ask again for a migration that did not succeed.")
@click.argument("migration")
@requested_by
@click.option("--wait/--no-wait", default=False, help="Wait for what becomes of it.")
@time_limit
@client.output
@click.pass_context
def retry(
    ctx: click.Context, /, migration: str, requested_by: str, wait: bool, timeout: float | None, output: str
) -> None:
    """Ask for MIGRATION (its id, or the beginning of it) again, with the same flags and parameters.

    \b
    Example:
      vmrelay retry 3f2a91 --wait

    One that failed or was cancelled is asked for under a new id, which is printed. One that waits for its next
    attempt keeps its id, and that attempt may start at once. What is in doubt is resolved first ('vmrelay resolve').
    Exit codes as of 'migrate'.
    """
    record = find(migration)
    wish = {"migration": record.id, "requested_by": requested_by}
    answer = client.ask(RETRY, {name: given for name, given in wish.items() if given})
    if wait:
        ctx.exit(wait_for(answer["migration"], timeout, output, verbose=False))
    client.as_json(answer) if output == "json" else click.echo(f"{answer['migration']} {answer['answer']}")
