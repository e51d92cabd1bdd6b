"""A plan on standard output, and dry runs: what a command would do, said and not done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli import client, plan_words, words
from worker.cli.exits import FAILED, MOVED
from worker.cli.plan_bars import Letters, bar, heat, hot_after, hot_before, legend, letters_for, percent
from worker.contract.plans import Goal, HostView, Plan, Problem, Step
from worker.errors import Unavailable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

MOST_STEPS = 20
MOST_HOSTS = 40
MOST_LEFT = 20
"""So many rows of each table, unless all of them are asked for."""
BAR = 8
RIGHT = ("guests", "peak", "out/in")
FORMATS = ("table", "json", "svg", "markdown")


def show_plan(plan: Plan, output: str = "table", *, verbose: bool = False) -> None:
    """Print a plan as ``table``, ``json`` (the document itself), ``svg`` or ``markdown``.

    ``verbose`` shows every step, host and guest where a table has many.
    """
    match output:
        case "json":
            client.as_json(plan.model_dump(mode="json"))
        case "svg":
            from worker.cli.plan_picture import svg

            click.echo(svg(plan))
        case "markdown":
            from worker.cli.plan_markdown import markdown

            click.echo(markdown(plan, time.time()))
        case _:
            client.show_table(rendered(plan, time.time(), letters_for(sys.stdout), verbose=verbose))


def save_picture(plan: Plan, file: Path) -> None:
    """Write a plan's picture to a file. Raises ``Unavailable`` where that cannot be written."""
    from worker.cli.plan_picture import svg

    try:
        file.write_text(svg(plan) + "\n", encoding="utf-8")
    except OSError as wrong:
        raise Unavailable(f"cannot write the picture to {file}: {wrong.strerror}", code="file") from None


def code_of(plan: Plan) -> int:
    """The exit code of a dry run: 0 where the plan reaches its goal, or nothing has to be done."""
    return FAILED if plan.status in ("best-effort", "impossible") else MOVED


def dry_run(
    goal: Goal,
    output: str = "table",
    *,
    problem: Problem | None = None,
    picture: Path | None = None,
    verbose: bool = False,
) -> int:
    """Plan for ``goal`` on what the journal knows now, or for ``problem``, and show the plan; returns the exit code.

    Nothing is asked of any host. Raises ``Rejected`` for what makes no sense, ``Unavailable`` where no plan came.
    """
    from worker import planning
    from worker.settings import current

    with _thinking(goal):
        plan = planning.make(problem or live(goal), current().planning.process_mib)
    if picture is not None:
        save_picture(plan, picture)
    show_plan(plan, output, verbose=verbose)
    return code_of(plan)


def live(goal: Goal) -> Problem:
    """The hosts and guests as the journal knows them now. Raises ``Unavailable`` where Redis does not answer."""
    from worker import fleet, planning
    from worker.runtime import runtime

    parts, book = runtime(), client.journal()
    return fleet.problem(parts.settings, parts.inventory, book, planning.filled(goal, parts.settings.planning))


def _thinking(goal: Goal) -> AbstractContextManager[object]:
    """On a terminal, what is waited for."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(f"planning (a better plan is looked for up to {goal.plan_seconds:g} s)")


# -- tables ---------------------------------------------------------------------------------------------


def rendered(plan: Plan, now: float, letters: Letters, *, verbose: bool = False) -> Group:
    """All that is said of a plan, for a console of any width. Pure."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table(show_header=False, box=None, pad_edge=False)
    for name, value in [*plan_words.header(plan, now), *plan_words.totals(plan, letters.arrow)]:
        facts.add_row(Text(name, style="bold"), Text(value))
    parts: list[Table | Text] = [facts]
    if plan.impossible:
        parts += _lines("No plan can do this:", map(plan_words.impossible_line, plan.impossible))
    if plan.steps:
        steps = plan.steps if verbose else plan.steps[:MOST_STEPS]
        parts += [Text(), _steps(steps), *_more(len(plan.steps) - len(steps), "steps")]
    if plan.hosts:
        hosts = plan.hosts if verbose or len(plan.hosts) <= MOST_HOSTS else notable(plan.hosts)
        shown = [Text(), _hosts(hosts, letters), *_more(len(plan.hosts) - len(hosts), "hosts")]
        parts += [*shown, Text(f"  {legend(letters)}", style="dim")]
    for title, stays in (("Not moved:", plan.left), ("No order can do this:", plan.stuck)):
        rows = stays if verbose else stays[:MOST_LEFT]
        if rows:
            table = _table("guest", "host", last="why")
            table.add_column("what would let it move", overflow="fold")
            for left in rows:
                table.add_row(*map(Text, plan_words.left_row(left)))
            parts += [Text(f"\n{title}", style="bold"), table, *_more(len(stays) - len(rows), "guests")]
    if gains := plan_words.gains(plan):
        parts += _lines("Stopping early:", [gains])
    if plan.notes:
        parts += _lines("Notes:", map(words.clean, plan.notes))
    return Group(*parts)


def _lines(title: str, lines: Iterable[str]) -> list[Table | Text]:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for line in lines:
        table.add_row(Text("-"), Text(line))
    return [Text(f"\n{title}", style="bold"), table]


def _more(count: int, what: str) -> list[Table | Text]:
    from rich.text import Text

    return [Text(f"  and {count} more {what}; --verbose shows them", style="dim")] if count else []


def _table(*columns: str, last: str = "", right: Sequence[str] = ()) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    if last:
        table.add_column(last, overflow="fold")
    return table


def _steps(steps: Sequence[Step]) -> Table:
    from rich.text import Text

    *columns, last = plan_words.STEPS
    table = _table(*columns, last=last, right=("step", "GiB", "start", "takes"))
    for step in steps:
        table.add_row(*map(Text, plan_words.step_row(step)))
    return table


def _hosts(hosts: Sequence[HostView], letters: Letters) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("host", no_wrap=True, overflow="ellipsis")  # long names give way, nothing else does
    wide = 2 * 3 + len(letters.arrow) + 3 + BAR
    for column, least in (("guests", 6), ("cpu", wide), ("memory", wide), ("peak", 4), ("out/in", 6), ("", 8)):
        table.add_column(column, no_wrap=True, min_width=least, justify="right" if column in RIGHT else "left")
    tightest = max(hosts, key=lambda host: host.peak_memory)
    for host in hosts:
        before, after = host.before, host.after
        note = heat(host) or ("tightest" if host is tightest and host.incoming else "")
        table.add_row(
            Text(host.name),
            f"{before.guests}{letters.arrow}{after.guests}",
            Text(_load(before.cpu, after.cpu, host.ceiling_cpu, letters)),
            Text(_load(before.memory, after.memory, host.ceiling_memory, letters)),
            percent(host.peak_memory),
            f"{host.outgoing}/{host.incoming}",
            Text(note),
            style="bold" if hot_after(host) else "",
        )
    return table


def _load(before: float, after: float, ceiling: float, letters: Letters) -> str:
    figures = f"{100 * before:3.0f}{letters.arrow}{100 * after:.0f}%"
    return f"{figures:<{8 + len(letters.arrow)}}{bar(before, after, ceiling, BAR, letters)}"


def notable(hosts: Sequence[HostView], most: int = MOST_HOSTS // 2) -> list[HostView]:
    """Of many hosts those that are or become too full, and those that change most; in the order given. Pure."""

    def weight(host: HostView) -> tuple[bool, bool, float]:
        change = abs(host.after.cpu - host.before.cpu) + abs(host.after.memory - host.before.memory)
        return hot_after(host), hot_before(host), change

    chosen = {host.name for host in sorted(hosts, key=weight, reverse=True)[:most]}
    return [host for host in hosts if host.name in chosen]
