"""``vmrelay rolling``: hosts drained one after the other, each seen to, and filled again before the next."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from typing import Any

import click

from worker.cli import client
from worker.cli.bulk import EPILOG, bulk_arguments, bulk_options
from worker.cli.drains import known, limit_options
from worker.cli.exits import FAILED, INTERRUPTED, MOVED, TIMED_OUT
from worker.cli.rebalance import goal_of
from worker.cli.rolls import line_of, show_roll, show_rolls
from worker.cli.types import seconds
from worker.contract import ROLL, ROLL_CONTROL
from worker.errors import Rejected
from worker.journal.rolls import Roll

BLOCK_SECONDS = 1.0
command_option = click.option(
    "--command",
    metavar="CMD",
    help="Run CMD here, by the shell, for each drained host, which is in VMRELAY_HOST; the roll goes on when it has "
    "ended with 0.",
)
time_limit = click.option("--timeout", type=seconds, metavar="SECONDS", help="Wait so long at most.")
requested_by = click.option("--requested-by", default="", help="Who asks, for the record.")


class HostsOrCommand(click.Group):
    """``rolling alpha beta`` is short for ``rolling start alpha beta``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See ``click.Group``."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["start", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See ``click.Group``."""
        if args and self.get_command(ctx, args[0]) is None:
            args = ["start", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=HostsOrCommand, short_help="Drain hosts one after the other, and return each.")
def rolling() -> None:
    """Drain hosts one after the other; see to each of them; bring its guests home; go on with the next.

    \b
    Examples:
      vmrelay rolling alpha beta gamma --command 'ssh root@$VMRELAY_HOST update-and-reboot'
      vmrelay rolling alpha beta --check agent
      vmrelay rolling alpha beta            then for each: vmrelay rolling continue ID
      vmrelay rolling status
    """


@rolling.command(short_help="Begin; 'vmrelay rolling HOST…' does the same.", epilog=EPILOG)
@click.argument("host", nargs=-1, required=True)
@command_option
@click.option("--check", type=click.Choice(["agent"]), help="Go on when the host's agent was started anew and answers.")
@click.option("--no-return", "back", flag_value=False, default=True, type=bool, help="Uncordon each host only.")
@limit_options
@bulk_options
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it to its end.")
@time_limit
@client.output
@click.pass_context
def start(
    ctx: click.Context,
    /,
    host: tuple[str, ...],
    command: str | None,
    check: str | None,
    back: bool,
    wait: bool,
    timeout: float | None,
    output: str,
    **given: Any,  # noqa: ANN401
) -> None:
    """Drain each HOST in turn, wait until it is ready, uncordon it, bring its guests home, go on with the next.

    \b
    Examples:
      vmrelay rolling start alpha beta --check agent
      vmrelay rolling alpha beta --command 'ssh root@$VMRELAY_HOST update-and-reboot'

    What a drained host is waited for: --command CMD, which this command runs; --check agent, for hosts that restart by
    themselves; otherwise 'vmrelay rolling continue ID'. A host is not returned to before its agent answers.

    A drain that leaves guests behind stops the roll: put right what holds them and say 'continue', and the host is
    drained again; or cancel. The schedulers carry the roll on: this command may be ended, and taken up again with
    'vmrelay rolling attach ID'.

    Exit codes: 0 all done, 1 stopped or cancelled, or CMD failed, 2 refused, 4 timed out waiting, 130 interrupted
    (the roll goes on).
    """
    if command and (check or not wait):
        raise click.UsageError("--command is run by this command: it excludes --check and --no-wait")
    ident = str(given.get("batch") or f"r-{uuid.uuid4().hex[:12]}")
    goal = goal_of("drain", given).model_dump(mode="json", exclude_unset=True)
    asked = {"hosts": known(host), "batch": ident, "wait": "agent" if check else "operator", "back": back, "goal": goal}
    if client.ask(ROLL, bulk_arguments(given) | asked)["answer"] == "same":
        click.echo(f"there is this roll already: {ident}; nothing is done twice", err=True)
    if not wait:
        client.as_json({"roll": ident}) if output == "json" else click.echo(ident)
        return
    ctx.exit(follow(ident, command, timeout, output))


@rolling.command(short_help="Show one roll, or list them.")
@click.argument("roll", required=False)
@client.output
def status(roll: str | None, output: str) -> None:
    """Show ROLL (its id, or the beginning of it), or all that are remembered.

    \b
    Example:
      vmrelay rolling status
    """
    if roll is None:
        show_rolls(client.journal().rolls(), output)
    else:
        show_roll(find(roll), output)


@rolling.command(name="continue", short_help="The host is ready; or drain it again after a stop.")
@click.argument("roll")
@click.option("--host", help="Refuse where the roll is at another host.")
@requested_by
@client.output
def continue_(roll: str, host: str | None, requested_by: str, output: str) -> None:
    """Let ROLL go on: its drained host is ready; or it stopped, what held it is put right, and it tries again.

    \b
    Example:
      vmrelay rolling continue 3f2a91 --host beta
    """
    found = find(roll)
    asked = {"roll": found.id, "action": "continue", "requested_by": requested_by} | ({"host": host} if host else {})
    answer = client.ask(ROLL_CONTROL, asked)
    client.as_json(answer) if output == "json" else click.echo(f"{found.id} goes on with {answer['host']}")


@rolling.command(short_help="End a roll where it is.")
@click.argument("roll")
@requested_by
@client.output
def cancel(roll: str, requested_by: str, output: str) -> None:
    """Cancel ROLL: what runs ends as it does, nothing more is drained or returned.

    \b
    Example:
      vmrelay rolling cancel 3f2a91

    The host that it is at stays cordoned: 'vmrelay hosts return HOST' opens it and brings its guests back.
    """
    found = find(roll)
    answer = client.ask(ROLL_CONTROL, {"roll": found.id, "action": "cancel", "requested_by": requested_by})
    client.as_json(answer) if output == "json" else click.echo(f"{found.id} is cancelled, at {answer['host']}")


@rolling.command(short_help="Follow a roll again.")
@click.argument("roll")
@command_option
@time_limit
@client.output
@click.pass_context
def attach(ctx: click.Context, /, roll: str, command: str | None, timeout: float | None, output: str) -> None:
    """Follow ROLL to its end, and with --command go on where an ended 'vmrelay rolling' left it.

    \b
    Example:
      vmrelay rolling attach 3f2a91 --command 'ssh root@$VMRELAY_HOST update-and-reboot'

    A command that was cut off is run again for the same host.
    """
    ctx.exit(follow(find(roll).id, command, timeout, output))


def find(ident: str) -> Roll:
    """A roll by its id or a beginning of it that only one has. Raises ``Rejected``."""
    book = client.journal()
    if roll := book.roll(ident):
        return roll
    found = [roll for roll in book.rolls() if roll.id.startswith(ident)] if len(ident) >= 4 else []
    if len(found) == 1:
        return found[0]
    many = f"{len(found)} rolls begin with" if found else "there is no roll"
    raise Rejected(f"{many} '{ident[:80]}'; see 'vmrelay rolling status'", code="unknown-roll")


# -- following ------------------------------------------------------------------------------------------


def follow(ident: str, command: str | None, timeout: float | None, output: str) -> int:
    """Tell of a roll's steps until it is over, running ``command`` for each drained host; the exit code."""
    try:
        roll = _followed(ident, command, timeout)
    except KeyboardInterrupt:
        again = " --command CMD" if command else ""
        click.echo(f"\ndetached; the roll goes on: vmrelay rolling attach {ident}{again}", err=True)
        return INTERRUPTED
    if roll is None:
        click.echo(f"not over after {timeout:g} s; the roll goes on: vmrelay rolling attach {ident}", err=True)
        return TIMED_OUT
    show_roll(roll, output)
    return MOVED if roll.state == "finished" else FAILED


def _followed(ident: str, command: str | None, timeout: float | None) -> Roll | None:
    """The roll when it is over, or stopped, or its command failed; ``None`` on time-out."""
    book = client.journal()
    deadline = time.monotonic() + timeout if timeout is not None else None
    after, told = "0", ""
    while True:
        left = BLOCK_SECONDS if deadline is None else min(BLOCK_SECONDS, deadline - time.monotonic())
        if left <= 0:
            return None
        for at, kind, data in book.roll_events(ident, after, left):
            after = at
            click.echo(line_of(ident, kind, data), err=True)
        roll = book.roll(ident)
        if roll is None:
            raise Rejected(f"roll {ident} is forgotten", code="unknown-roll")
        if roll.is_over or roll.state == "stopped":
            return roll
        if command and roll.state == "running" and roll.step == "wait" and not _seen_to(roll, command):
            return roll
        batch = book.batch(roll.batch)
        line = f"{roll.host}: {batch.moved} of {batch.total} moved" if batch and batch.state == "running" else ""
        if line and line != told:
            click.echo(line, err=True)
        told = line


def _seen_to(roll: Roll, command: str) -> bool:
    """Run the operator's command for a drained host; whether it went well, and the roll was told so."""
    click.echo(f"{roll.host}: {command}", err=True)
    environment = os.environ | {"VMRELAY_HOST": roll.host, "VMRELAY_ROLL": roll.id}
    code = subprocess.run(["/bin/sh", "-c", command], env=environment, check=False).returncode
    if code:
        click.echo(
            f"the command ended with {code}; {roll.host} is drained and waits. next: put it right, and "
            f"'vmrelay rolling attach {roll.id} --command CMD', or 'vmrelay rolling continue {roll.id}'",
            err=True,
        )
        return False
    client.ask(ROLL_CONTROL, {"roll": roll.id, "action": "continue", "host": roll.host})
    return True
