"""``vmrelay drain`` (also ``vmrelay hosts drain``) and ``vmrelay hosts return``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from worker.cli import client, plans
from worker.cli.bulk import EPILOG, begun, bulk_arguments, bulk_options
from worker.cli.exits import FAILED, MOVED
from worker.cli.plans import FORMATS
from worker.cli.rebalance import goal_of
from worker.cli.receipt import wait_for_batch
from worker.cli.types import seconds
from worker.contract import DRAIN, RETURN
from worker.journal.batch import Batch
from worker.runtime import runtime

Command = TypeVar("Command", bound=Callable[..., Any])
names = click.argument("host", nargs=-1, required=True)
waiting = click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it is over.")
time_limit = click.option("--timeout", type=seconds, metavar="SECONDS", help="Wait so long at most; the batch goes on.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Tell of each migration; show all of a plan.")
LIMITS = (
    click.option("--max-moves", type=int, metavar="N", help="So many migrations at most."),
    click.option("--max-gib", type=float, metavar="GIB", help="So much memory moved at most."),
    click.option("--max-minutes", type=float, metavar="MIN", help="So long at most, as expected."),
    click.option("--exclude", multiple=True, metavar="NAME", help="These guests stay; * stands for any text."),
    click.option("--plan-seconds", type=float, metavar="SECONDS", help="Look so long for a better plan."),
)


def limit_options(command: Command) -> Command:
    """Add the limits of a drain's plan; ``goal_of`` reads them."""
    for option in reversed(LIMITS):
        command = option(command)
    return command


def known(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """The hosts, each once. Raises ``Rejected`` (``unknown-host``)."""
    for name in hosts:
        runtime().inventory.host(name)
    return tuple(dict.fromkeys(hosts))


@click.command(short_help="Move everything away from hosts that can be moved.", epilog=EPILOG)
@names
@click.option("--dry-run", is_flag=True, help="Show the plan, and change nothing.")
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="How to show it.")
@limit_options
@bulk_options
@waiting
@time_limit
@verbose_option
@click.pass_context
def drain(
    ctx: click.Context,
    /,
    host: tuple[str, ...],
    dry_run: bool,
    wait: bool,
    timeout: float | None,
    verbose: bool,
    output: str,
    **given: Any,  # noqa: ANN401
) -> None:
    """Cordon each HOST, move its guests to other hosts, and say what could not move and why.

    \b
    Examples:
      vmrelay drain beta --dry-run
      vmrelay drain beta --reason "new DIMMs"
      vmrelay hosts drain beta                  the same command
      vmrelay hosts return beta                 and back again

    No guest is stopped. A guest that cannot move is skipped with its reason, and the drain ends all the same, by a
    look at what is on the host indeed. The host stays cordoned until 'vmrelay hosts uncordon' or 'return'. Ctrl-C
    leaves the drain going; 'vmrelay batch cancel ID' ends it, and 'vmrelay batch pause ID' holds it up.

    Exit codes: 0 the hosts are empty (or planned, or enqueued), 1 something is left there, 2 refused, 3 something is
    in doubt, 4 timed out waiting, 130 interrupted (the drain goes on).
    """
    hosts = known(host)
    goal = goal_of("drain", given | {"hosts": hosts})
    if dry_run:
        ctx.exit(plans.dry_run(goal, output, verbose=verbose))
    if output not in ("table", "json"):
        raise click.UsageError(f"-o {output} is for --dry-run")
    limits = goal.model_dump(mode="json", exclude_unset=True)
    ident = begun(DRAIN, bulk_arguments(given) | {"hosts": hosts, "goal": limits})
    if not wait:
        client.as_json({"batch": ident}) if output == "json" else click.echo(ident)
        return
    if output == "table":
        click.echo(f"batch {ident} drains {' '.join(hosts)}; to end it: vmrelay batch cancel {ident}", err=True)
    code = wait_for_batch(ident, timeout, output, verbose=verbose)
    batch = client.journal().batch(ident)
    if code not in (MOVED, FAILED) or batch is None:
        ctx.exit(code)
    if output == "table":
        _say_what_next(" ".join(hosts), batch)
    ctx.exit(FAILED if batch.staying else MOVED)


def _say_what_next(hosts: str, batch: Batch) -> None:
    """How it stands after a drain, for people."""
    if batch.staying:
        click.echo(f"not empty, and cordoned: {hosts}. next: put right what holds the rest, then", err=True)
        click.echo(f"  vmrelay drain {hosts}", err=True)
    else:
        click.echo(f"empty, and cordoned: {hosts}. afterwards: vmrelay hosts return {hosts}", err=True)


@click.command(name="return", short_help="Bring back what a drain took away.", epilog=EPILOG)
@names
@bulk_options
@waiting
@time_limit
@verbose_option
@client.output
@click.pass_context
def return_(
    ctx: click.Context,
    /,
    host: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    verbose: bool,
    output: str,
    **given: Any,  # noqa: ANN401
) -> None:
    """Uncordon each HOST, and bring home the guests that a drain moved away from it.

    \b
    Example:
      vmrelay hosts return beta

    Those that are no longer where the drain sent them were moved since by somebody: they are listed, left where they
    are, and have no home any more.

    Exit codes: 0 all are back, 1 some are not, and otherwise as of 'vmrelay drain'.
    """
    ident = begun(RETURN, bulk_arguments(given) | {"hosts": known(host)})
    if not wait:
        client.as_json({"batch": ident}) if output == "json" else click.echo(ident)
        return
    ctx.exit(wait_for_batch(ident, timeout, output, verbose=verbose))
