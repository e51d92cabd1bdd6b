"""A plan as Markdown: for a ticket, or a change that somebody approves. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from worker.cli import plan_words, words
from worker.cli.plan_bars import heat
from worker.contract.plans import Plan

ARROW = "→"


def text(value: str) -> str:
    """A value that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", value)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are shown as they are."""
    lines = [headings, ["---"] * len(headings), *([text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(plan: Plan, now: float) -> str:
    """The whole plan, every step of it."""
    facts = [*plan_words.header(plan, now), *plan_words.totals(plan, ARROW)]
    sections = [f"# Plan {plan.id}", table(("", ""), facts)]
    if plan.impossible:
        sections.append(_list("No plan can do this", map(plan_words.impossible_line, plan.impossible)))
    if plan.steps:
        sections.append("## Steps\n\n" + table(plan_words.STEPS, map(plan_words.step_row, plan.steps)))
    if plan.hosts:
        sections.append("## Hosts\n\n" + _hosts(plan))
    for title, stays in (("Not moved", plan.left), ("No order can do this", plan.stuck)):
        if stays:
            headings = ("guest", "host", "why", "what would let it move")
            sections.append(f"## {title}\n\n" + table(headings, map(plan_words.left_row, stays)))
    if gains := plan_words.gains(plan):
        sections.append(_list("Stopping early", [gains]))
    if plan.notes:
        sections.append(_list("Notes", map(words.clean, plan.notes)))
    return "\n\n".join(sections)


def _list(title: str, lines: Iterable[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {text(line)}" for line in lines)


def _hosts(plan: Plan) -> str:
    def pair(before: float, after: float) -> str:
        return f"{100 * before:.0f} {ARROW} {100 * after:.0f} %"

    rows = [
        (
            host.name,
            f"{host.before.guests} {ARROW} {host.after.guests}",
            pair(host.before.cpu, host.after.cpu),
            pair(host.before.memory, host.after.memory),
            f"{100 * host.peak_memory:.0f} %",
            str(host.outgoing),
            str(host.incoming),
            heat(host),
        )
        for host in plan.hosts
    ]
    return table(("host", "guests", "cpu", "memory", "peak of memory", "out", "in", ""), rows)
