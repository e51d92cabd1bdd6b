"""What a dashboard is made of: rows of panels, their queries, and variables. What they show stands elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GREEN, YELLOW, RED, BLUE, PURPLE, GREY = "green", "yellow", "red", "blue", "purple", "text"


@dataclass(frozen=True)
class Query:
    """One query of a panel; ``legend`` is Grafana's format, ``once`` asks for the end of the range only."""

    expr: str
    legend: str = ""
    once: bool = False


@dataclass(frozen=True)
class Panel:
    """A panel without its place. ``limits`` are (from this value on, colour); below the first one it is ``base``."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int = 8
    height: int = 8
    kind: str = "timeseries"
    limits: Sequence[tuple[float, str]] = ()
    base: str = GREEN
    decimals: int | None = None
    stacked: bool = False
    words: Sequence[tuple[str, str, str]] = ()
    """What values are called: (value, text, colour)."""
    colours: Sequence[tuple[str, str]] = ()
    """Colours of series by name."""
    columns: Sequence[tuple[str, str]] = ()
    """Of a table: (label, heading), in this order; the last one is ``Value``."""
    none: str = ""
    """What a stat says where the query returns nothing."""
    least: float | None = 0
    """The lower end of the axis; ``None`` where values may be negative."""
    link: tuple[str, str] | None = None
    """(title, address) to follow from a value."""
    runbook: str = ""
    """The alert whose runbook tells what to do when this looks wrong."""


@dataclass(frozen=True)
class Row:
    """A heading, and the panels below it from left to right."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A variable filled by ``label_values(metric, label)``.

    All means all values that there are, or ``everything`` where that is given: what has not the label, too.
    """

    name: str
    title: str
    values: str
    many: bool = True
    everything: str = ""


@dataclass(frozen=True)
class Dashboard:
    """A page of panels."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()
    since: str = "now-1h"
