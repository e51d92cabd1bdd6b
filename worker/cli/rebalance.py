"""``vmrelay rebalance``: plan which guests go where, and move them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from worker.cli import client
from worker.cli.batch_watch import planned
from worker.cli.batch_words import headline
from worker.cli.bulk import EPILOG, begun, bulk_arguments, bulk_options
from worker.cli.exits import MOVED, TIMED_OUT, for_batch
from worker.cli.plans import FORMATS, dry_run, save_picture, show_plan
from worker.cli.receipt import wait_for_batch
from worker.cli.types import seconds
from worker.contract import REBALANCE
from worker.contract.plans import Goal, Problem

Command = TypeVar("Command", bound=Callable[..., Any])

GOAL = (
    click.option("--points", "ceiling_points", type=float, metavar="N", help="A host may be N points above the mean."),
    click.option("--ceiling", "ceiling_percent", type=float, metavar="PCT", help="A host may be PCT percent full."),
    click.option("--host", "hosts", multiple=True, metavar="HOST", help="Only guests of HOST move; may be repeated."),
    click.option("--max-moves", type=int, metavar="N", help="So many migrations at most."),
    click.option("--max-gib", type=float, metavar="GIB", help="So much memory moved at most."),
    click.option("--max-minutes", type=float, metavar="MIN", help="So long at most, as expected."),
    click.option(
        "--price", "price_per_move_gib", type=float, metavar="GIB", help="A move costs GIB more than it moves."
    ),
    click.option("--select", multiple=True, metavar="NAME", help="Only these guests may move; * stands for any text."),
    click.option("--exclude", multiple=True, metavar="NAME", help="These guests may not move."),
    click.option("--seed", type=int, help="Another seed may find another plan; the same one finds the same."),
    click.option("--plan-seconds", type=float, metavar="SECONDS", help="Look so long for a better plan."),
)
"""What a goal is made of; what is not given is as in ``[planning]`` of the settings."""
FIELDS = tuple(Goal.model_fields)


def goal_options(command: Command) -> Command:
    """Add the options of a goal; ``goal_of`` reads them."""
    for option in reversed(GOAL):
        command = option(command)
    return command


def goal_of(kind: str, given: Mapping[str, Any]) -> Goal:
    """The goal that a parsed command line asks for; only what was given is set. Raises ``click.UsageError``."""
    asked = {name: given[name] for name in FIELDS if given.get(name) not in (None, ())}
    if "ceiling_points" in asked and "ceiling_percent" in asked:
        raise click.UsageError("--points and --ceiling exclude each other")
    try:
        return Goal(kind=kind, **asked)
    except ValidationError as wrong:
        told = "; ".join(f"{each['loc'][0]}: {each['msg']}" for each in wrong.errors())
        raise click.UsageError(told) from None


@click.command(short_help="Move guests so that no host is too full.", epilog=EPILOG)
@click.option("--dry-run", is_flag=True, help="Show the plan, and move nothing.")
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="How to show it.")
@click.option("-v", "--verbose", is_flag=True, help="Show every step and host, and each migration as it ends.")
@click.option("--from", "source", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="With --dry-run: plan for the hosts and guests in FILE; no relay is needed.")  # fmt: skip
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write a picture of the plan to FILE (SVG), too.")  # fmt: skip
@click.option("--consolidate", is_flag=True, help="Use as few hosts as possible instead.")
@goal_options
@bulk_options
@click.option("--wait/--no-wait", default=None, help="Wait until it is over (default: on a terminal).")
@click.option("--timeout", type=seconds, metavar="SECONDS", help="Wait so long at most; the batch goes on.")
@click.pass_context
def rebalance(ctx: click.Context, /, output: str, **given: Any) -> None:  # noqa: ANN401
    """Bring every host under its ceiling of CPU and memory with the least memory moved.

    \b
    Examples:
      vmrelay rebalance --dry-run                            show the plan, move nothing
      vmrelay rebalance --dry-run -o json > plan.json        and 'vmrelay batch run plan.json' moves
      vmrelay rebalance --points 5 --max-moves 20 --wait     plan, move, and wait for the receipt
      vmrelay rebalance --from cluster.json --dry-run        plan for a file
      vmrelay rebalance --hold                               show the plan, and wait for 'vmrelay batch resume'

    The plan says why each guest moves, what stays and why, and how far from the best it can be at most.
    Loads are those that agents measured; a plan is made anew when moves fail.

    Exit codes: 0 balanced, planned, enqueued or nothing to do; 1 something failed, was skipped or stays too full (with
    --dry-run: the plan does not reach its goal); 2 refused; 3 something is in doubt; 4 timed out waiting;
    130 interrupted (the batch goes on).
    """
    goal = goal_of("consolidate" if given["consolidate"] else "balance", given)
    if given["dry_run"]:
        ctx.exit(_dry(goal, output, given))
    if given["source"] is not None:
        raise click.UsageError("--from is for --dry-run; what it plans runs by 'vmrelay batch run'")
    if output not in ("table", "json"):
        raise click.UsageError(f"-o {output} is for --dry-run")
    ctx.exit(_run(goal, output, given))


def _dry(goal: Goal, output: str, given: Mapping[str, Any]) -> int:
    problem = _from_file(given["source"], goal) if given["source"] is not None else None
    return dry_run(goal, output, problem=problem, picture=given["picture"], verbose=given["verbose"])


def _from_file(file: Path, goal: Goal) -> Problem:
    """The problem in a file, with what the command line says of the goal instead of what the file says."""
    from worker import planning
    from worker.fleet import problem_from_file
    from worker.settings import current

    found = problem_from_file(file, goal)
    own = found.goal.model_dump(exclude_unset=True)
    both = Goal.model_validate(own | goal.model_dump(exclude_unset=True, exclude={"kind"}) | _kind(goal, found.goal))
    return found.model_copy(update={"goal": planning.filled(both, current().planning)})


def _kind(asked: Goal, own: Goal) -> dict[str, str]:
    return {"kind": asked.kind if asked.kind == "consolidate" else own.kind}


def _run(goal: Goal, output: str, given: Mapping[str, Any]) -> int:
    """Ask for it, show the plan when it is made, and wait where that is wanted; the exit code."""
    arguments = bulk_arguments(dict(given)) | {"goal": goal.model_dump(mode="json", exclude_unset=True)}
    ident = begun(REBALANCE, arguments)
    waits = given["wait"] if given["wait"] is not None else sys.stderr.isatty()
    if not (waits or given["hold"] or given["picture"]):
        return _said(ident, output)
    plan = planned(ident, given["timeout"])
    if plan is not None and given["picture"] is not None:
        save_picture(plan, given["picture"])
    if plan is not None and output == "table":
        show_plan(plan, verbose=given["verbose"])
    if given["hold"]:
        return _held(ident, output)
    return wait_for_batch(ident, given["timeout"], output, verbose=given["verbose"]) if waits else _said(ident, output)


def _said(ident: str, output: str) -> int:
    client.as_json({"batch": ident}) if output == "json" else click.echo(ident)
    return MOVED


def _held(ident: str, output: str) -> int:
    batch = client.journal().batch(ident)
    if batch is None or batch.state == "planning":
        click.echo(f"not planned yet: vmrelay batch watch {ident}", err=True)
        return TIMED_OUT
    client.as_json(batch.document()) if output == "json" else click.echo(headline(batch))
    if batch.state == "planned":
        click.echo(f"next: vmrelay batch resume {ident} (or cancel)", err=True)
        return MOVED
    return for_batch(batch)
