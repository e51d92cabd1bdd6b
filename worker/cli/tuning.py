"""``vmrelay set-downtime``, ``set-speed`` and ``postcopy``: wishes for a running perform."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from worker.cli import client, words
from worker.cli.exits import FAILED, MOVED, TIMED_OUT
from worker.cli.migrations import find_open
from worker.cli.types import seconds
from worker.contract import TUNE, TUNING_RANGES
from worker.hypervisors.convergence import TuningKind
from worker.journal import Journal

Command = Callable[..., None]


def _shared(command: Command) -> Command:
    for option in (
        client.output,
        click.option(
            "--timeout",
            type=seconds,
            metavar="SECONDS",
            default=10.0,
            show_default=True,
            help="Wait so many seconds at most.",
        ),
        click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for what the hypervisor says."),
        click.option("--requested-by", default="", help="Who asks, for the record."),
    ):
        command = option(command)
    return command


@click.command(name="set-downtime", short_help="Change how long a guest may stand still.")
@click.argument("migration")
@click.argument("milliseconds", type=int)
@_shared
@click.pass_context
def set_downtime(ctx: click.Context, /, migration: str, milliseconds: int, **more: Any) -> None:  # noqa: ANN401
    """Allow the guest of MIGRATION to stand still for MILLISECONDS when it changes hosts.

    \b
    Example:
      vmrelay set-downtime 3f2a91 500

    As 'virsh migrate-setmaxdowntime'. Works while the migration performs. Exit codes: 0 done,
    1 the hypervisor refused, 2 refused before it was asked, 4 no answer in time.
    """
    ctx.exit(_tune(migration, TuningKind.DOWNTIME, milliseconds, **more))


@click.command(name="set-speed", short_help="Change the bandwidth of a migration.")
@click.argument("migration")
@click.argument("mib_per_second", type=int)
@click.option("--postcopy", is_flag=True, help="The limit after the switch to post-copy; 0 is no limit.")
@_shared
@click.pass_context
def set_speed(
    ctx: click.Context,
    /,
    migration: str,
    mib_per_second: int,
    postcopy: bool,
    **more: Any,  # noqa: ANN401
) -> None:
    """Let MIGRATION send MIB_PER_SECOND at most.

    \b
    Examples:
      vmrelay set-speed 3f2a91 200
      vmrelay set-speed 3f2a91 0 --postcopy

    As 'virsh migrate-setspeed'. Works while the migration performs. Exit codes: 0 done,
    1 the hypervisor refused, 2 refused before it was asked, 4 no answer in time.
    """
    kind = TuningKind.POSTCOPY_SPEED if postcopy else TuningKind.SPEED
    ctx.exit(_tune(migration, kind, mib_per_second, **more))


@click.command(short_help="Switch a migration to post-copy.")
@click.argument("migration")
@_shared
@click.pass_context
def postcopy(ctx: click.Context, /, migration: str, **more: Any) -> None:  # noqa: ANN401
    """Let the guest of MIGRATION run on the destination now, and fetch the rest of its memory from there.

    \b
    Example:
      vmrelay postcopy 3f2a91

    As 'virsh migrate-postcopy'. The migration must have been asked for with --postcopy. From here on
    it cannot be cancelled: the guest's memory is on both hosts. Exit codes: 0 done,
    1 the hypervisor refused, 2 refused before it was asked, 4 no answer in time.
    """
    ctx.exit(_tune(migration, TuningKind.POSTCOPY, None, **more))


def _tune(
    migration: str, kind: TuningKind, value: int | None, *, requested_by: str, wait: bool, timeout: float, output: str
) -> int:
    check_value(kind, value)
    record = find_open(migration)
    wish = {"migration": record.id, "kind": str(kind), "value": value, "requested_by": requested_by}
    answer = client.ask(TUNE, {name: given for name, given in wish.items() if given not in (None, "")})
    became = await_tuned(client.journal(), record.id, answer["tuning"], timeout) if wait else None
    error = became.get("error") if became else None
    if output == "json":
        said = "asked" if became is None else "refused" if error else "done"
        client.as_json(answer | {"kind": str(kind), "value": value, "answer": said, "error": error})
    elif became is not None:
        click.echo(words.tuned(became), err=bool(error))
    elif not wait:
        click.echo(f"{record.id} {answer['answer']}")
    if wait and became is None:
        click.echo(f"no answer after {timeout:g} s; it may still come: vmrelay status {record.id} --events", err=True)
        return TIMED_OUT
    return FAILED if error else MOVED


def check_value(kind: TuningKind, value: int | None) -> None:
    """Raises ``click.UsageError`` for a value that no hypervisor takes."""
    low, high = TUNING_RANGES.get(kind, (0, 0))
    if value is not None and not low <= value <= high:
        raise click.UsageError(f"{kind} takes a value of {low} to {high} {words.UNITS[kind]}")


def await_tuned(journal: Journal, ident: str, tuning: str, seconds: float) -> dict[str, Any] | None:
    """What the hypervisor said to a wish (the event ``tuned``); ``None`` where it said nothing in time."""
    after, deadline = "0", time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        # Nothing follows the end of a record: its events are read once more after it was seen to be over.
        record = journal.record(ident)
        over = record is None or record.state in ("ended", "in-doubt")
        for at, kind, data in journal.events(ident, after, None if over else min(left, 1.0)):
            after = at
            if kind == "tuned" and data["tuning"] == tuning:
                return data
        if over:
            error = {"code": "over", "message": "the migration ended before it was done"}
            return {"tuning": tuning, "kind": "tuning", "error": error}
    return None
