"""``vmrelay batch``: many migrations asked for together, watched, paused, resumed, cancelled and retried."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from worker.asking import refuse_control
from worker.cli import client
from worker.cli.batch_file import read
from worker.cli.batch_words import counts, what
from worker.cli.bulk import EPILOG, begun, bulk_arguments, bulk_options
from worker.cli.exits import FAILED, MOVED
from worker.cli.receipt import show_receipt, wait_for_batch
from worker.cli.types import seconds
from worker.contract import BATCH, CONTROL
from worker.contract.bulk import BatchRequest
from worker.errors import Rejected
from worker.journal.batch import Batch

Command = TypeVar("Command", bound=Callable[..., Any])

ID = click.argument("batch_id", metavar="BATCH")
BY = click.option("--requested-by", default="", help="Who asks, for the record.")
TIMEOUT = click.option("--timeout", type=seconds, metavar="SECONDS", help="Wait so long at most; the batch goes on.")
WAIT = click.option("--wait/--no-wait", default=False, show_default=True, help="Wait until the batch is over.")
STATES = {"open": ("open",), "finished": ("ended",)}


def find(ident: str) -> Batch:
    """A batch by its id or a beginning of it that only one has. Raises ``Rejected`` (``unknown-batch``)."""
    book = client.journal()
    if batch := book.batch(ident):
        return batch
    found = [batch for batch in book.batches() if batch.id.startswith(ident)] if len(ident) >= 4 else []
    if len(found) == 1:
        return found[0]
    many = f"{len(found)} batches begin with" if found else "there is no batch"
    raise Rejected(f"{many} '{ident[:80]}'; see 'vmrelay batch list'", code="unknown-batch")


@click.group(short_help="Many migrations asked for together.")
def batch() -> None:
    """Run lists of moves and plans as batches, and look after every batch: rebalances, drains and returns, too.

    \b
    Examples:
      vmrelay batch run moves.csv --wait
      vmrelay batch list
      vmrelay batch watch b-3f2a91c0a7d4
      vmrelay batch retry b-3f2a91c0a7d4

    A batch is kept like a migration: whatever is killed, it goes on, and no guest moves twice.
    """


@batch.command(short_help="Move what a plan or a list says.", epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option(
    "--on-change",
    type=click.Choice(["refuse", "replan"]),
    help="What becomes of a plan that no longer fits what runs where (default: refuse).",
)
@bulk_options
@click.option("--wait/--no-wait", default=None, help="Wait until it is over (default: on a terminal).")
@TIMEOUT
@click.option("-v", "--verbose", is_flag=True, help="Tell of each migration as it ends.")
@client.output
@click.pass_context
def run(ctx: click.Context, /, file: Path, on_change: str | None, output: str, **given: Any) -> None:  # noqa: ANN401
    """Move what FILE says ('-': standard input): a plan, or a list of moves.

    \b
    Examples:
      vmrelay rebalance --dry-run -o json > plan.json && vmrelay batch run plan.json
      echo "web-1 beta" | vmrelay batch run - --wait
      vmrelay batch run moves.csv --id week-47 --priority low --bandwidth 200

    A list has a move in each line, as words or CSV: DOMAIN DESTINATION [SOURCE]; or it is a JSON array of
    {"domain", "destination", "source", "after"}. Moves start in any order as there is room; "after" names moves
    (from 1) that have to end well before. The same --id again is the same batch: nothing moves twice.

    Exit codes: 0 all moved (or enqueued, with --no-wait), 1 something failed or was skipped, 2 refused,
    3 something is in doubt, 4 timed out waiting, 130 interrupted (the batch goes on).
    """
    request = read(_text(file), "standard input" if str(file) == "-" else str(file)) | bulk_arguments(given)
    if on_change:
        request["on_change"] = on_change
    BatchRequest.parse(request)
    ident = begun(BATCH, request)
    if given["wait"] if given["wait"] is not None else sys.stderr.isatty():
        ctx.exit(wait_for_batch(ident, given["timeout"], output, verbose=given["verbose"]))
    client.as_json({"batch": ident}) if output == "json" else click.echo(ident)


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as lost:
        raise Rejected(f"cannot read {file}: {lost.strerror}", code="bad-file") from None
    except UnicodeDecodeError:
        raise Rejected(f"cannot read {file}: it is not UTF-8 text", code="bad-file") from None


@batch.command(name="list", short_help="List batches.")
@click.option("--state", type=click.Choice(list(STATES)), multiple=True, help="Only these.")
@click.option("-n", "--limit", type=click.IntRange(1, 10000), default=50, show_default=True, help="So many at most.")
@client.output
def list_(state: tuple[str, ...], limit: int, output: str) -> None:
    """List batches, newest first.

    \b
    Example:
      vmrelay batch list --state running
    """
    found = client.journal().batches(*(index for name in state for index in STATES[name]), most=limit)
    if output == "json":
        client.as_json([each.document() for each in found])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("id", "what", "state", "priority", "moves"):
        table.add_column(column, no_wrap=True)
    table.add_column("reason", overflow="ellipsis")
    for each in found:
        about = each.reason or (f"by {each.requested_by}" if each.requested_by else "")
        table.add_row(*map(Text, (each.id, what(each), each.state, each.priority, counts(each), about)))
    client.show_table(table)


@batch.command(short_help="Show what became of a batch.")
@ID
@click.option("--items", is_flag=True, help="Show every move; otherwise those that failed or were skipped.")
@click.option("--failed", is_flag=True, help="Only what failed, with -o json, too.")
@client.output
def show(batch_id: str, items: bool, failed: bool, output: str) -> None:
    """Show BATCH (its id, or the beginning of it): counts, what failed or stays, and why.

    \b
    Example:
      vmrelay batch show b-3f2a91c0a7d4 --items
    """
    found = find(batch_id)
    book = client.journal()
    rows = book.items_in(found.id, "failed") if failed else book.items(found.id)
    show_receipt(found, rows, output, every=items or failed)


@batch.command(short_help="Follow a batch.")
@ID
@TIMEOUT
@client.output
@click.pass_context
def watch(ctx: click.Context, /, batch_id: str, timeout: float | None, output: str) -> None:
    """Follow BATCH to its end: how many moved, what runs, how fast, and when it may be over.

    \b
    Example:
      vmrelay batch watch b-3f2a91c0a7d4 --timeout 600

    The exit code is that of 'batch run'.
    """
    ctx.exit(wait_for_batch(find(batch_id).id, timeout, output, verbose=True))


def _control(ctx: click.Context, batch_id: str, action: str, output: str, **given: Any) -> None:  # noqa: ANN401
    found = find(batch_id)
    wish = {"batch": found.id, "action": action, "requested_by": given["requested_by"], "abort": given.get("abort")}
    answer = client.ask(CONTROL, {name: value for name, value in wish.items() if value})
    refuse_control(action, found.id, answer["answer"], answer["state"])
    if given.get("wait"):
        code = wait_for_batch(found.id, given["timeout"], output)
        cancelled = action == "cancel" and code == FAILED
        ctx.exit(MOVED if cancelled else code)
    already = " already" if answer["answer"] == "same" else ""
    client.as_json(answer) if output == "json" else click.echo(f"{found.id} {answer['state']}{already}")


@batch.command(short_help="Start nothing more of a batch.")
@ID
@BY
@client.output
@click.pass_context
def pause(ctx: click.Context, /, batch_id: str, **given: Any) -> None:  # noqa: ANN401
    """Start nothing more of BATCH until 'vmrelay batch resume'; what runs ends.

    \b
    Example:
      vmrelay batch pause b-3f2a91c0a7d4
    """
    _control(ctx, batch_id, "pause", **given)


@batch.command(short_help="Go on with a batch.")
@ID
@BY
@WAIT
@TIMEOUT
@client.output
@click.pass_context
def resume(ctx: click.Context, /, batch_id: str, **given: Any) -> None:  # noqa: ANN401
    """Go on with BATCH, which was paused or held.

    \b
    Example:
      vmrelay batch resume b-3f2a91c0a7d4 --wait
    """
    _control(ctx, batch_id, "resume", **given)


@batch.command(short_help="End a batch.")
@ID
@click.option("--abort", is_flag=True, help="Cancel also the migrations that run.")
@BY
@WAIT
@TIMEOUT
@client.output
@click.pass_context
def cancel(ctx: click.Context, /, batch_id: str, **given: Any) -> None:  # noqa: ANN401
    """Start nothing more of BATCH, ever: what waits is skipped, what runs ends (or is cancelled: --abort).

    \b
    Example:
      vmrelay batch cancel b-3f2a91c0a7d4 --abort --wait

    With --wait, exit code 0 means that it has been cancelled, whatever had moved by then.
    """
    _control(ctx, batch_id, "cancel", **given)


@batch.command(short_help="Ask again for what failed.")
@ID
@BY
@WAIT
@TIMEOUT
@client.output
@click.pass_context
def retry(ctx: click.Context, /, batch_id: str, **given: Any) -> None:  # noqa: ANN401
    """Ask anew for what failed in BATCH; what was planned is planned anew for where everything is now.

    \b
    Example:
      vmrelay batch retry b-3f2a91c0a7d4 --wait
    """
    _control(ctx, batch_id, "retry", **given)
