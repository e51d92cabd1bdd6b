"""``vmrelay plan``: look at plans that lie in files."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click
from pydantic import ValidationError

from worker.cli import client
from worker.cli.exits import FAILED
from worker.cli.plan_bars import letters_for, picture
from worker.cli.plan_diff import difference, lines
from worker.cli.plans import FORMATS, save_picture, show_plan
from worker.contract.plans import Plan
from worker.errors import Rejected

PLAN = click.argument("file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE")


def load(file: Path) -> Plan:
    """The plan in a file (``-`` is standard input). Raises ``Rejected`` (``bad-file``) that says what is wrong."""
    origin = "standard input" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        return Plan.model_validate_json(text)
    except OSError as lost:
        raise Rejected(f"cannot read the plan {origin}: {lost.strerror}", code="bad-file") from None
    except UnicodeDecodeError:
        raise Rejected(f"{origin} is no plan: it is not UTF-8 text", code="bad-file") from None
    except ValidationError as wrong:
        told = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}".lstrip(": ") for each in wrong.errors()[:3]
        )
        raise Rejected(f"{origin} is no plan: {told}", code="bad-file") from None


@click.group(short_help="Show, compare and draw plans.")
def plan() -> None:
    """Show, compare and draw plans, as 'vmrelay rebalance --dry-run -o json' makes them. No relay is needed.

    \b
    Examples:
      vmrelay rebalance --dry-run -o json > plan.json
      vmrelay plan show plan.json
      vmrelay plan picture plan.json -o plan.svg
      vmrelay batch run plan.json
    """


@plan.command(short_help="Show a plan.")
@PLAN
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="How to show it.")
@click.option("-v", "--verbose", is_flag=True, help="Show every step, host and guest.")
def show(file: Path, output: str, verbose: bool) -> None:
    """Show the plan in FILE ('-': standard input).

    \b
    Example:
      vmrelay plan show plan.json --verbose
    """
    show_plan(load(file), output, verbose=verbose)


@plan.command(short_help="Compare two plans.")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@client.output
@click.pass_context
def diff(ctx: click.Context, /, old: Path, new: Path, output: str) -> None:
    """Show what the plan in NEW does otherwise than the one in OLD.

    \b
    Example:
      vmrelay plan diff monday.json tuesday.json

    Exit codes: 0 both move the same guests to the same hosts, 1 they do not, 2 one of them is no plan.
    """
    found = difference(load(old), load(new))
    if output == "json":
        client.as_json(found.document())
    else:
        click.echo("\n".join(lines(found, letters_for(sys.stdout).arrow)))
    ctx.exit(0 if found.none else FAILED)


@plan.command(name="picture", short_help="Draw a plan.")
@PLAN
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write an SVG there; else draw with letters.",
)
@click.option("--ascii", "plain", is_flag=True, help="Draw with ASCII letters only.")
def picture_(file: Path, output: Path | None, plain: bool) -> None:
    """Draw the hosts before and after the plan in FILE ('-': standard input).

    \b
    Example:
      vmrelay plan picture plan.json -o plan.svg
    """
    from worker.cli.plan_bars import ASCII

    found = load(file)
    if output is not None:
        show_plan(found, "svg") if str(output) == "-" else save_picture(found, output)
        return
    letters = ASCII if plain else letters_for(sys.stdout)
    click.echo("\n".join(picture(found, shutil.get_terminal_size().columns, letters)))
