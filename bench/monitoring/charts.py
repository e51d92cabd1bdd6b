"""What is in a panel, drawn as SVG: lines, bars, a number, a table, bands. Pure; coordinates are pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.monitoring.dashboards import Line, Span
from bench.monitoring.report import shown
from worker.cli.svg import rect, short, tag, text

Json = Mapping[str, Any]
PALETTE = 8
"""So many colours there are for series without one of their own."""
LETTER = 6.2
"""About the width of a small letter."""


@dataclass(frozen=True)
class Box:
    """Where something is drawn."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Scale:
    """From values and times to places."""

    box: Box
    span: Span
    top: float

    def x(self, at: float) -> float:
        """Where a time is."""
        return self.box.x + (at - self.span.start) / (self.span.end - self.span.start) * self.box.width

    def y(self, value: float) -> float:
        """Where a value is."""
        return self.box.y + self.box.height * (1 - min(max(value / self.top, 0), 1))


def unit_of(panel: Json) -> str:
    """Grafana's unit of its values."""
    return str(panel["fieldConfig"]["defaults"]["unit"])


def limits(panel: Json) -> list[tuple[float, str]]:
    """Its thresholds: from this value on, this colour."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return [(-math.inf if step["value"] is None else step["value"], step["color"]) for step in steps]


def colour_at(panel: Json, value: float) -> str:
    """The colour of a value by the panel's thresholds."""
    return next((colour for limit, colour in reversed(limits(panel)) if value >= limit), "text")


def word(panel: Json, value: float) -> str:
    """What a value is called."""
    for mapping in panel["fieldConfig"]["defaults"]["mappings"]:
        if found := mapping["options"].get(f"{value:g}"):
            return str(found["text"])
    return shown(value, unit_of(panel))


def colours(panel: Json, lines: Sequence[Line]) -> list[str]:
    """The class of each series: its own colour, or the next one of the palette."""
    own = {
        each["matcher"]["options"]: each["properties"][0]["value"]["fixedColor"]
        for each in panel["fieldConfig"]["overrides"]
    }
    return [own.get(line.name, f"n{number % PALETTE}") for number, line in enumerate(lines)]


# -- graphs ---------------------------------------------------------------------------------------


def graph(panel: Json, lines: Sequence[Line], span: Span, box: Box) -> Iterator[str]:
    """Lines or stacked bars over time, with axes and a legend."""
    custom = panel["fieldConfig"]["defaults"]["custom"]
    stacked = custom["stacking"]["mode"] == "normal"
    inner = Box(box.x + 58, box.y + 6, box.width - 66, box.height - 50)
    lines = [line for line in lines if not all(math.isnan(value) for _, value in line.points)]
    scale = Scale(inner, span, top_of(highest(lines, stacked), unit_of(panel)))
    yield from _axes(scale, unit_of(panel))
    yield from _thresholds(panel, scale)
    kinds = colours(panel, lines)
    yield from _bars(lines, kinds, scale) if stacked else _curves(lines, kinds, scale)
    yield from _legend(lines, kinds, Box(box.x + 10, box.y + box.height - 10, box.width - 16, 0))


def highest(lines: Sequence[Line], stacked: bool) -> float:
    """The highest value, or sum of values at one time."""
    if not stacked:
        return max((value for line in lines for _, value in line.points if not math.isnan(value)), default=0)
    sums: dict[float, float] = {}
    for line in lines:
        for at, value in line.points:
            sums[at] = sums.get(at, 0) + (0 if math.isnan(value) else value)
    return max(sums.values(), default=0)


def nice(value: float) -> float:
    """The end of an axis: 1, 2, 2.5, 4 or 5 times a power of ten, not below the value; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 4, 5, 10) if step * power >= value * 0.999)


def top_of(value: float, unit: str) -> float:
    """The same in the unit's own steps: of 1024 for bytes."""
    step = 1024.0 ** max(math.floor(math.log(value, 1024)), 0) if value > 0 and unit in ("bytes", "binBps") else 1.0
    return nice(value / step) * step


def _axes(scale: Scale, unit: str) -> Iterator[str]:
    box = scale.box
    for part in (0, 0.25, 0.5, 0.75, 1):
        y = scale.y(scale.top * part)
        yield tag("line", x1=box.x, x2=box.x + box.width, y1=y, y2=y, class_="grid")
        if part in (0, 0.5, 1):
            yield text(box.x - 6, y + 4, shown(scale.top * part, unit), "dim small", "end")
    seconds = scale.span.end - scale.span.start
    for part in (0, 0.25, 0.5, 0.75, 1):
        at = scale.span.start + seconds * part
        label = f"{int(seconds * part) // 60}:{int(seconds * part) % 60:02}"
        anchor = "start" if part == 0 else "end" if part == 1 else "middle"
        yield text(scale.x(at), box.y + box.height + 15, label, "dim small", anchor)


def _thresholds(panel: Json, scale: Scale) -> Iterator[str]:
    for limit, colour in limits(panel)[1:]:
        if limit <= scale.top:
            y, box = scale.y(limit), scale.box
            yield tag("line", x1=box.x, x2=box.x + box.width, y1=y, y2=y, class_=f"limit l-{colour}")


def _curves(lines: Sequence[Line], kinds: Sequence[str], scale: Scale) -> Iterator[str]:
    for line, kind in zip(lines, kinds, strict=True):
        for part in pieces(line.points, scale.span.step):
            points = " ".join(f"{scale.x(at):.1f},{scale.y(value):.1f}" for at, value in part)
            if len(part) == 1:
                at, value = part[0]
                yield tag("circle", cx=scale.x(at), cy=scale.y(value), r=1.5, class_=f"f-{kind}")
            else:
                yield tag("polyline", points=points, class_=f"curve s-{kind}")


def pieces(points: Sequence[tuple[float, float]], step: float) -> list[list[tuple[float, float]]]:
    """The points without what is no number, cut where some are missing."""
    there = [(at, value) for at, value in points if not math.isnan(value)]
    found = [there[:1]] if there else []
    for before, after in pairwise(there):
        if after[0] - before[0] > 1.5 * step:
            found.append([])
        found[-1].append(after)
    return found


def _bars(lines: Sequence[Line], kinds: Sequence[str], scale: Scale) -> Iterator[str]:
    width = max(scale.span.step / (scale.span.end - scale.span.start) * scale.box.width - 0.6, 0.8)
    below: dict[float, float] = {}
    for line, kind in zip(lines, kinds, strict=True):
        for at, value in line.points:
            if math.isnan(value) or value <= 0:
                continue
            bottom = below.get(at, 0)
            below[at] = bottom + value
            y = scale.y(bottom + value)
            yield rect(scale.x(at) - width / 2, y, width, scale.y(bottom) - y, f"f-{kind}")


def _legend(lines: Sequence[Line], kinds: Sequence[str], box: Box) -> Iterator[str]:
    x = box.x
    for line, kind in zip(lines, kinds, strict=True):
        name = short(line.name, 36)
        if x + len(name) * LETTER + 16 > box.x + box.width:
            yield text(x, box.y, "…", "dim small")
            return
        yield rect(x, box.y - 8, 10, 4, f"f-{kind}")
        yield text(x + 14, box.y - 1, name, "dim small")
        x += len(name) * LETTER + 30


# -- numbers, tables, bands -----------------------------------------------------------------------


def stat(panel: Json, lines: Sequence[Line], span: Span, box: Box) -> Iterator[str]:
    """One large number, in the colour of its threshold."""
    value = lines[0].last if lines else math.nan
    if math.isnan(value):
        label, kind = str(panel["fieldConfig"]["defaults"].get("noValue", "no data")), "text"
    else:
        label, kind = word(panel, value), colour_at(panel, value)
    size = min(30.0, (box.width - 16) / max(len(label), 1) * 1.75)
    words = tag("tspan", label)
    yield tag(
        "text", words, x=box.x + box.width / 2, y=box.y + box.height / 2 + 6, class_=f"f-{kind}",
        text_anchor="middle", style=f"font-size:{size:.0f}px;font-weight:600",
    )  # fmt: skip


def rows(panel: Json, lines: Sequence[Line], span: Span, box: Box) -> Iterator[str]:
    """A table: labels in columns, and the value at the right; the highest first."""
    options = panel["transformations"][0]["options"]
    order, names = options["indexByName"], options["renameByName"]
    labels = [name for name in sorted(order, key=lambda name: int(order[name])) if name != "Value"]
    # The last label is short: an outcome or a code; the first one takes the room.
    starts = [box.x + 10 + (box.width - 70) * part for part in ((0, 0.62) if len(labels) > 1 else (0,))]
    if panel["title"] == "Why not":
        starts = [box.x + 10, box.x + 90]
    head = box.y + 8
    for x, label in zip(starts, labels, strict=True):
        yield text(x, head, names.get(label, label), "dim small")
    yield text(box.x + box.width - 12, head, names.get("Value", "Value"), "dim small", "end")
    ordered = sorted(lines, key=lambda line: -line.last)
    for number, line in enumerate(ordered[: int((box.height - 20) // 19)]):
        y = head + 21 + 19 * number
        yield tag("line", x1=box.x + 10, x2=box.x + box.width - 10, y1=y - 14, y2=y - 14, class_="grid")
        for x, label in zip(starts, labels, strict=True):
            yield text(x, y, short(line.labels.get(label, "") or "-", int((box.width - 70) / LETTER)), "ink small")
        yield text(box.x + box.width - 12, y, shown(line.last, unit_of(panel)), "strong small", "end")


def gauge(panel: Json, lines: Sequence[Line], span: Span, box: Box) -> Iterator[str]:
    """A bar for each series."""
    lines = [line for line in lines if not math.isnan(line.last)]
    top = nice(max((line.last for line in lines), default=0))
    for number, line in enumerate(lines[: int(box.height // 26)]):
        y = box.y + 6 + 26 * number
        yield text(box.x + 10, y + 11, short(line.name, 16), "dim small")
        yield rect(box.x + 110, y, box.width - 190, 15, "track")
        yield rect(box.x + 110, y, (box.width - 190) * line.last / top, 15, f"f-{colour_at(panel, line.last)}")
        yield text(box.x + box.width - 12, y + 11, shown(line.last, unit_of(panel)), "ink small", "end")


def bands(panel: Json, lines: Sequence[Line], span: Span, box: Box) -> Iterator[str]:
    """A band for each series, in the colour of its value at each time."""
    inner = Box(box.x + 70, box.y + 4, box.width - 80, box.height - 26)
    scale, height = Scale(inner, span, 1), min(inner.height / max(len(lines), 1), 34)
    for number, line in enumerate(lines):
        y = inner.y + number * height
        yield text(inner.x - 8, y + height / 2 + 3, short(line.name, 9), "dim small", "end")
        for start, end, value in runs(line.points, span):
            kind = f"f-{colour_at(panel, value)}"
            yield rect(scale.x(start), y + 3, scale.x(end) - scale.x(start), height - 6, kind)


def runs(points: Sequence[tuple[float, float]], span: Span) -> list[tuple[float, float, float]]:
    """Stretches of one value: from, until, value."""
    found: list[tuple[float, float, float]] = []
    for at, value in points:
        until = min(at + span.step, span.end)
        if found and found[-1][2] == value and at - found[-1][1] < span.step / 2:
            found[-1] = (found[-1][0], until, value)
        else:
            found.append((at, until, value))
    return found


KINDS = {"timeseries": graph, "stat": stat, "table": rows, "bargauge": gauge, "state-timeline": bands}
"""How each type of panel is drawn."""
