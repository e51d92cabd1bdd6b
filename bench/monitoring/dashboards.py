"""The committed dashboards, asked as Grafana asks: variables filled in, each query over its range or at its end."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.monitoring.prometheus import Prometheus

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
POINTS = 200
"""How many steps a graph has at most."""
Json = dict[str, Any]
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Span:
    """A range of time as a dashboard shows it; everything in seconds."""

    start: float
    end: float
    interval: float
    """Between two scrapes."""
    rate: float = 0
    """The least that rates look back."""

    @property
    def step(self) -> float:
        """Between two points."""
        return max(self.interval, (self.end - self.start) / POINTS)

    def words(self) -> dict[str, str]:
        """Grafana's own variables. ``$__rate_interval`` is max(step + scrape interval, 4 scrape intervals)."""
        rate = max(self.step + self.interval, 4 * self.interval, self.rate)
        named = {"__rate_interval": rate, "__interval": self.step, "__range": self.end - self.start}
        return {name: f"{math.ceil(seconds * 1000)}ms" for name, seconds in named.items()}


@dataclass(frozen=True)
class Line:
    """One series of an answer; ``name`` is its legend."""

    name: str
    labels: Labels
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        """The last value that is a number; NaN where there is none."""
        return next((value for _, value in reversed(self.points) if not math.isnan(value)), math.nan)


@dataclass(frozen=True)
class Asked:
    """A query of a panel as it was asked, and its answer."""

    dashboard: str
    panel: Json
    written: str
    """As the panel has it, with its variables."""
    expr: str
    lines: Sequence[Line]

    @property
    def title(self) -> str:
        """Where it stands."""
        return f"{self.dashboard}: {self.panel['title']}"


def load() -> list[Json]:
    """All dashboards, by name of file."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))]


def panels(dashboard: Json) -> Iterator[Json]:
    """Its panels without the headings of rows."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


# -- variables ------------------------------------------------------------------------------------


def filled(text: str, values: Mapping[str, str]) -> str:
    """``$name`` and ``${name}`` replaced; raises ``KeyError`` for a variable that nobody defines."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: values[found[1] or found[2]], text)


def label_values(query: str) -> tuple[str, str]:
    """Selector and label of ``label_values(selector, label)``."""
    found = re.fullmatch(r"label_values\((.*), *(\w+)\)", query)
    if not found:
        raise ValueError(f"not label_values(metric, label): {query}")
    return found[1], found[2]


def escaped(value: str) -> str:
    """A value inside a regular expression inside a string, as Grafana escapes it for Prometheus."""
    return re.sub(r"[\\^$*+?.()|\[\]{}]", r"\\\\\g<0>", value)


def chosen(variable: Json, values: Sequence[str]) -> str:
    """What Grafana puts in for a variable: All where it has that, else the first value."""
    if not variable["includeAll"]:
        return values[0]
    return variable.get("allValue") or f"({'|'.join(escaped(value) for value in values)})"


def variables(dashboard: Json, prometheus: Prometheus, span: Span) -> dict[str, str]:
    """What is put in for each variable: its real values. Raises ``LookupError`` where it has none."""
    known = span.words()
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = label_values(filled(variable["query"]["query"], known))
            found = prometheus.label_values(label, selector)
            if not found:
                raise LookupError(f"{dashboard['title']}: the variable {variable['name']} has no values")
            known[variable["name"]] = chosen(variable, found)
    return known


# -- queries --------------------------------------------------------------------------------------


def ask(dashboard: Json, prometheus: Prometheus, span: Span) -> Iterator[Asked]:
    """Every query of every panel, with its answer."""
    known = variables(dashboard, prometheus, span)
    for panel in panels(dashboard):
        for target in panel["targets"]:
            expr = filled(target["expr"], known)
            yield Asked(dashboard["title"], panel, target["expr"], expr, answered(prometheus, target, expr, span))


def answered(prometheus: Prometheus, target: Json, expr: str, span: Span) -> list[Line]:
    """The series that come back for one query."""
    if target["instant"]:
        raw = [(labels, [(span.end, value)]) for labels, value in prometheus.query(expr, span.end)]
    else:
        raw = prometheus.query_range(expr, span.start, span.end, span.step)
    return [Line(legend(target["legendFormat"], labels), labels, points) for labels, points in raw]


def legend(form: str, labels: Labels) -> str:
    """A series' name as Grafana makes it."""
    if form == "__auto":
        return ", ".join(value for name, value in sorted(labels.items()) if name != "__name__")
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), form)
