"""``vmrelay webhook``: where outcomes are told, and whether that works."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import Any

import click

from worker.cli import client, words
from worker.cli.exits import FAILED
from worker.errors import SettingsError
from worker.journal.webhooks import Standing
from worker.runtime import runtime
from worker.webhooks import policy
from worker.webhooks.policy import Result

TEST = "webhook.test"


@click.group(short_help="Show what webhooks wait for, and try one.")
def webhook() -> None:
    """Show what the webhooks of the settings ([webhooks.NAME]) are to be told, and try one.

    \b
    Examples:
      vmrelay webhook list
      vmrelay webhook test cmdb
    """


@webhook.command("list", short_help="Show what waits, and how it went last.")
@client.output
def list_(output: str) -> None:
    """Show of each webhook what it is to be told, when it last was, and what went wrong when it last did.

    \b
    Example:
      vmrelay webhook list
    """
    named = runtime().settings.webhooks
    standings = client.journal().webhooks(named)
    if output == "json":
        client.as_json([document(name, each) for name, each in standings.items()])
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("webhook", "waiting", "oldest", "delivered", "last delivered", "last error", box=None)
    for name, each in standings.items():
        oldest = words.duration(each.oldest_seconds) if each.waiting else ""
        told = _time(each.told) if each.told else "never"
        error = f"{_time(each.failed)}: {each.error}" if each.error else ""
        delivered = str(dict(each.counts)["delivered"])
        table.add_row(name, str(each.waiting), oldest, delivered, told, escape(error))
    client.show_table(table)


@webhook.command(short_help="Send one a signed test message.")
@click.argument("name")
@client.output
@click.pass_context
def test(ctx: click.Context, name: str, output: str) -> None:
    """Send the webhook NAME a signed message of the type webhook.test, now and once, and show what it answered.

    \b
    Example:
      vmrelay webhook test cmdb

    Exit code 0 where it answered 2xx, 1 where it did not, 2 where it is not in the settings or its secret is unusable.
    """
    from worker.webhooks.sender import post

    named = runtime().settings.webhooks
    if name not in named:
        raise SettingsError(f"there is no webhook '{name[:80]}'; the settings have {', '.join(named) or 'none'}")
    ident = str(uuid.uuid4())
    answer = post(named[name], ident, {"type": TEST, "id": ident, "at": time.time(), "webhook": name})
    well = policy.result_of(answer) is Result.DELIVERED
    if output == "json":
        told = {"status": answer.status or None, "error": None if well else policy.told(answer)}
        client.as_json({"webhook": name, "delivery": ident, **told, "seconds": round(answer.seconds, 3)})
    else:
        click.echo(f"{name}: {policy.told(answer)} ({answer.seconds:.3f} s, delivery {ident})")
    ctx.exit(0 if well else FAILED)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().isoformat(" ", "seconds")


def document(name: str, each: Standing) -> dict[str, Any]:
    """A webhook as ``-o json`` shows it. Neither URL nor secret: a URL may be a secret, too."""
    return {
        "webhook": name,
        "waiting": each.waiting,
        "oldest_seconds": round(each.oldest_seconds, 3) if each.waiting else None,
        "failures": each.failures,
        "pause_seconds": round(each.pause_seconds, 3),
        "last_error": each.error or None,
        "last_failed": each.failed or None,
        "last_delivered": each.told or None,
        "counts": dict(each.counts),
    }
