"""The overview as a table in a terminal: each query of it with the value that it has now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench.monitoring.dashboards import Asked, Line

MOST = 6
"""So many series of one query are shown."""
SCALES = {
    "s": ((1, "ms", 1e3), (120, "s", 1), (7200, "min", 1 / 60), (math.inf, "h", 1 / 3600)),
    "bytes": ((2**10, "B", 1), (2**20, "KiB", 2**-10), (2**30, "MiB", 2**-20), (math.inf, "GiB", 2**-30)),
}
"""By unit of Grafana: below this value in this unit, times this."""


def shown(value: float, unit: str) -> str:
    """A value in its unit of Grafana, as people read it."""
    if math.isnan(value):
        return "-"
    if unit == "dateTimeFromNow":
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%H:%M:%S")
    if unit == "percentunit":
        return f"{value * 100:.4g} %"
    if unit == "cpm":
        return f"{plain(value)}/min"
    scale = SCALES.get({"binBps": "bytes"}.get(unit, unit))
    if scale is None or value == 0:
        return plain(value)
    name, factor = next((name, factor) for limit, name, factor in scale if abs(value) < limit)
    return f"{value * factor:.3g} {name}{'/s' if unit == 'binBps' else ''}"


def plain(value: float) -> str:
    """A number in three digits, or all before its point."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def cell(lines: Sequence[Line], unit: str) -> str:
    """All series of an answer: the highest first, each with its name."""
    if not lines:
        return "nothing"
    ordered = sorted(lines, key=lambda line: (math.isnan(line.last), -line.last, line.name))
    told = [f"{line.name} {shown(line.last, unit)}".strip() for line in ordered[:MOST]]
    return "\n".join([*told, *([f"and {len(lines) - MOST} more"] if len(lines) > MOST else [])])


def rows(answers: Iterable[Asked]) -> Iterator[tuple[str, str, str]]:
    """Panel, value and query of each; a graph's value is its last one."""
    before = ""
    for asked in answers:
        title = str(asked.panel["title"])
        unit = str(asked.panel["fieldConfig"]["defaults"]["unit"])
        yield ("" if title == before else title), cell(asked.lines, unit), asked.written
        before = title


def table(answers: Iterable[Asked]) -> Table:
    """To print."""
    made = Table(box=SIMPLE_HEAD)
    made.add_column("panel", no_wrap=True)
    made.add_column("now", no_wrap=True, max_width=60)
    made.add_column("query", overflow="fold", style="dim")
    for row in rows(answers):
        made.add_row(*map(Text, row))
    return made
