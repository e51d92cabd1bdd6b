"""Rows of a dashboard as an SVG picture, from the answers of a run: a preview, and no picture of Grafana. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

from bench.monitoring.charts import KINDS, Box
from bench.monitoring.dashboards import Asked, Line, Span
from worker.cli.svg import page, short, tag, text, title

Json = Mapping[str, Any]
WIDTH = 1200.0
MARGIN = 14.0
COLUMN = (WIDTH - 2 * MARGIN) / 24
UNIT = 25.0
"""Pixels of one row of Grafana's grid."""
GAP = 8.0
CAPTION = "preview, drawn from a run; not Grafana"
STYLE = """
.card{fill:#fff;stroke:#d1d9e0}.grid{stroke:#e3e7eb;stroke-width:1}.page{fill:#f4f6f8}
.curve{fill:none;stroke-width:1.6;stroke-linejoin:round}.limit{opacity:.7}
.f-n0{fill:#2f6fb7}.f-n1{fill:#c4752b}.f-n2{fill:#6b4fa3}.f-n3{fill:#2a8f8a}.f-n4{fill:#b0407f}.f-n5{fill:#7d8b1f}.f-n6{fill:#5c6b78}.f-n7{fill:#a8483f}
.s-n0{stroke:#2f6fb7}.s-n1{stroke:#c4752b}.s-n2{stroke:#6b4fa3}.s-n3{stroke:#2a8f8a}.s-n4{stroke:#b0407f}.s-n5{stroke:#7d8b1f}.s-n6{stroke:#5c6b78}.s-n7{stroke:#a8483f}
.f-green{fill:#2d8a4e}.f-yellow{fill:#c08a1e}.f-red{fill:#c0342b}.f-blue{fill:#2f6fb7}.f-purple{fill:#7a52b3}.f-text{fill:#59636e}
.s-green{stroke:#2d8a4e}.s-yellow{stroke:#c08a1e}.s-red{stroke:#c0342b}.s-blue{stroke:#2f6fb7}
.l-green{stroke:#2d8a4e}.l-yellow{stroke:#c08a1e}.l-red{stroke:#c0342b}
@media(prefers-color-scheme:dark){
.card{fill:#161b22;stroke:#30363d}.grid{stroke:#262c36}.page{fill:#0d1117}
.f-n0{fill:#5b9bea}.f-n1{fill:#e2a15f}.f-n2{fill:#a78be0}.f-n3{fill:#4fc0b8}.f-n4{fill:#e07ab0}.f-n5{fill:#b7c74f}.f-n6{fill:#9aa7b3}.f-n7{fill:#e58479}
.s-n0{stroke:#5b9bea}.s-n1{stroke:#e2a15f}.s-n2{stroke:#a78be0}.s-n3{stroke:#4fc0b8}.s-n4{stroke:#e07ab0}.s-n5{stroke:#b7c74f}.s-n6{stroke:#9aa7b3}.s-n7{stroke:#e58479}
.f-green{fill:#4ac26b}.f-yellow{fill:#dfb04a}.f-red{fill:#f0635a}.f-blue{fill:#5b9bea}.f-purple{fill:#b08ae8}.f-text{fill:#9198a1}
.s-green{stroke:#4ac26b}.s-yellow{stroke:#dfb04a}.s-red{stroke:#f0635a}.s-blue{stroke:#5b9bea}
.l-green{stroke:#4ac26b}.l-yellow{stroke:#dfb04a}.l-red{stroke:#f0635a}}
""".replace("\n", "")


def picture(dashboard: Json, answers: Iterable[Asked], span: Span, rows: Sequence[str], host: str = "") -> str:
    """The rows of these titles, one below the other; ``host`` stands for ``$host`` in titles."""
    found = {number: [line for asked in part for line in asked.lines] for number, part in _by_panel(answers)}
    parts, y = [tag("style", escape(STYLE)), *_heading(dashboard, span, host)], 62.0
    for row in rows:
        inside = _row(dashboard["panels"], row)
        top = inside[0]["gridPos"]["y"]
        parts.append(text(MARGIN + 2, y + 14, row.replace("$host", host), "strong"))
        y += 22
        for panel in inside:
            parts += _panel(panel, found.get(panel["id"], []), span, y - top * UNIT)
        y += max(panel["gridPos"]["y"] + panel["gridPos"]["h"] - top for panel in inside) * UNIT + 10
    return page(WIDTH, y + MARGIN, f"{dashboard['title']}: {CAPTION}", parts)


def _by_panel(answers: Iterable[Asked]) -> Iterable[tuple[int, Iterable[Asked]]]:
    return groupby(answers, key=lambda asked: int(asked.panel["id"]))


def _row(panels: Sequence[Json], name: str) -> list[Json]:
    """The panels below a heading. Raises ``LookupError`` where there is none of this title."""
    for number, panel in enumerate(panels):
        if panel["type"] == "row" and panel["title"] == name:
            rest = panels[number + 1 :]
            end = next((n for n, other in enumerate(rest) if other["type"] == "row"), len(rest))
            return list(rest[:end])
    raise LookupError(f"no row {name!r}")


def _heading(dashboard: Json, span: Span, host: str) -> list[str]:
    seconds = span.end - span.start
    name = f"{dashboard['title']}{f': {host}' if host else ''}"
    return [
        text(MARGIN + 2, 28, name, "strong"),
        text(MARGIN + 2, 46, f"{CAPTION}; {seconds:.0f} seconds of three simulated hosts under load", "dim small"),
    ]


def _panel(panel: Json, lines: Sequence[Line], span: Span, above: float) -> list[str]:
    place = panel["gridPos"]
    box = Box(
        MARGIN + place["x"] * COLUMN + GAP / 2,
        above + place["y"] * UNIT + GAP / 2,
        place["w"] * COLUMN - GAP,
        place["h"] * UNIT - GAP,
    )
    inner = Box(box.x, box.y + 28, box.width, box.height - 34)
    heading = short(panel["title"], int(box.width / 7.4))
    return [
        tag(
            "rect",
            title(panel["description"]),
            x=box.x,
            y=box.y,
            width=box.width,
            height=box.height,
            rx=4,
            class_="card",
        ),
        text(box.x + 10, box.y + 19, heading, "ink small" if panel["type"] == "stat" else "strong small"),
        *KINDS[panel["type"]](panel, lines, span, inner),
    ]
