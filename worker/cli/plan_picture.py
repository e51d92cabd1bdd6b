"""A plan as a picture: every host before and after it, and what goes where. Pure, and the same for the same plan.

Up to ``FEW`` hosts have a row each, with arrows between before and after; more are cells of a heat map.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from worker.cli import plan_words
from worker.cli.plan_bars import FEW, hot_after, hot_before
from worker.cli.plan_heat import heat_map
from worker.cli.svg import number, page, rect, short, tag, text, title
from worker.cli.words import many
from worker.contract.plans import HostView, Load, Plan, Step

WIDTH = 960.0
MARGIN = 24.0
NAME = 118.0
BAR = 170.0
LEFT = MARGIN + NAME
RIGHT = WIDTH - MARGIN - BAR - 92
"""Where the bars begin: before, and after."""
MOST_MOVES = 24
"""So many moves are listed below."""
LABELLED = 14
"""So many arrows have their numbers beside them; more would hide each other."""


def svg(plan: Plan) -> str:
    """The picture as an SVG document, in light or dark as the page that shows it is."""
    top, parts = _header(plan)
    if not plan.hosts:
        parts.append(text(MARGIN, top + 20, "The plan names no hosts.", "dim"))
        bottom = top + 40
    elif len(plan.hosts) <= FEW:
        bottom, rows = _few(plan, top)
        parts += rows
    else:
        bottom, cells = heat_map(plan, top, MARGIN, WIDTH - 2 * MARGIN)
        parts += cells
    return page(WIDTH, bottom + MARGIN, f"Plan {plan.id}: {plan_words.wanted(plan.goal)}", parts)


def _header(plan: Plan) -> tuple[float, list[str]]:
    all_ = plan.totals
    lines = [
        f"{plan_words.wanted(plan.goal, plan.hosts)}",
        f"{many(all_.moves, 'move')}, {all_.gib:.1f} GiB, about {plan_words.about(all_.seconds)}; "
        f"hosts above a ceiling: {all_.hot_before} → {all_.hot_after}; {plan_words.status(plan)}",
    ]
    parts = [text(MARGIN, 36, f"Plan {short(plan.id, 60)}", "strong")]
    parts += [text(MARGIN, 56 + 18 * n, short(line, 140), "dim") for n, line in enumerate(lines)]
    return 56 + 18 * len(lines) + 6, parts


# -- a row for each host --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flow:
    """All that goes from one host to another."""

    source: str
    destination: str
    guests: tuple[str, ...]
    gib: float


def flows(steps: Iterable[Step]) -> list[Flow]:
    """The moves of a plan, one flow for each pair of hosts."""
    found: dict[tuple[str, str], list[Step]] = defaultdict(list)
    for step in steps:
        found[step.source, step.destination].append(step)
    return [
        Flow(source, destination, tuple(s.domain for s in moved), sum(s.memory_mib for s in moved) / 1024)
        for (source, destination), moved in found.items()
    ]


def _few(plan: Plan, top: float) -> tuple[float, list[str]]:
    pitch = 58.0 if len(plan.hosts) <= 12 else 44.0
    first = top + 26
    rows = {host.name: first + pitch * n for n, host in enumerate(plan.hosts)}
    parts = [text(LEFT, first - 8, "before", "dim"), text(RIGHT, first - 8, "after", "dim")]
    parts += _arrows(plan, rows, pitch)
    for host in plan.hosts:
        y = rows[host.name]
        name = short(host.name, 15)
        parts.append(tag("g", title(host.name), text(MARGIN, y + 15, name, "strong")))
        parts.append(text(MARGIN, y + 31, f"{host.before.guests} → {many(host.after.guests, 'guest')}", "dim small"))
        parts += _bars(LEFT, y, host, host.before, 0.0, hot=hot_before(host))
        parts += _bars(RIGHT, y, host, host.after, host.peak_memory, hot=hot_after(host))
    bottom = first + pitch * len(plan.hosts)
    parts += _legend(bottom + 10)
    return _moves(plan.steps, bottom + 34, parts)


def _bars(x: float, top: float, host: HostView, load: Load, peak: float, *, hot: bool) -> list[str]:
    parts = []
    for n, kind in enumerate(("cpu", "memory")):
        share, ceiling, y = getattr(load, kind), getattr(host, f"ceiling_{kind}"), top + 4 + 17 * n
        above = ceiling > 0 and share > ceiling + 1e-6
        told = f"{host.name}: {kind} {100 * share:.0f} %, ceiling {100 * ceiling:.0f} %"
        told += f", at most {100 * peak:.0f} % while guests move" if peak and kind == "memory" else ""
        parts.append(rect(x, y, BAR, 13, "track", title(told)))
        if kind == "memory" and peak > share:
            parts.append(rect(x, y, BAR * min(peak, 1), 13, "peak", title(told)))
        parts.append(rect(x, y, BAR * min(share, 1), 13, "hot" if above else "load", title(told)))
        if 0 < ceiling <= 1:
            at = x + BAR * ceiling
            parts.append(tag("line", x1=at, y1=y - 2, x2=at, y2=y + 15, class_="mark"))
        parts.append(text(x + BAR + 6, y + 11, f"{100 * share:.0f} % {'cpu' if kind == 'cpu' else 'mem'}", "ink small"))
    if hot:
        parts.append(text(x + BAR + 68, top + 23, "hot", "warn small"))
    return parts


def _arrows(plan: Plan, rows: dict[str, float], pitch: float) -> list[str]:
    found = [flow for flow in flows(plan.steps) if flow.source in rows and flow.destination in rows]
    order = {name: n for n, name in enumerate(rows)}
    found.sort(key=lambda flow: (order[flow.source], order[flow.destination]))
    leaving, entering = defaultdict(list), defaultdict(list)
    for flow in found:
        leaving[flow.source].append(flow)
        entering[flow.destination].append(flow)
    heaviest = max((flow.gib for flow in found), default=0.0) or 1.0
    start, end = LEFT + BAR + 96, RIGHT - 14
    parts, labels = [], []
    for flow in found:
        y1 = _port(rows[flow.source], leaving[flow.source].index(flow), len(leaving[flow.source]), pitch)
        y2 = _port(
            rows[flow.destination], entering[flow.destination].index(flow), len(entering[flow.destination]), pitch
        )
        wide = 1 + 4 * flow.gib / heaviest
        parts.append(_arrow(flow, (start, y1), (end, y2), wide))
        if len(found) <= LABELLED:
            # On the side that the arrow does not come from.
            y = y2 + wide / 2 + 12 if y1 < y2 else y2 - wide / 2 - 5
            labels.append(text(end - 8, y, _told(flow), "dim small halo", "end"))
    return parts + labels


def _port(top: float, n: int, count: int, pitch: float) -> float:
    """Where the n-th of so many arrows touches a host's row."""
    return top + (pitch - 8) * (n + 1) / (count + 1)


def _arrow(flow: Flow, start: tuple[float, float], end: tuple[float, float], wide: float) -> str:
    (x1, y1), (x2, y2) = start, end
    bend = (x2 - x1) * 0.5
    curve = (x1, y1), (x1 + bend, y1), (x2 - bend, y2), (x2, y2)
    begin, *rest = (f"{number(x)} {number(y)}" for x, y in curve)
    point = 4 + wide
    head = " ".join(f"{number(x)},{number(y)}" for x, y in ((x2 + 10, y2), (x2 - 2, y2 - point), (x2 - 2, y2 + point)))
    line = tag("path", d=f"M{begin}C{' '.join(rest)}", class_="flow", stroke_width=wide)
    names = ", ".join(flow.guests[:20]) + (", …" if len(flow.guests) > 20 else "")
    told = title(f"{flow.source} → {flow.destination}: {_told(flow)}: {names}")
    return tag("g", told, line, tag("polygon", points=head, class_="head"))


def _told(flow: Flow) -> str:
    who = flow.guests[0] if len(flow.guests) == 1 else f"{len(flow.guests)} guests"
    return f"{short(who, 14)}, {flow.gib:.1f} GiB"


def _legend(y: float) -> list[str]:
    parts, x = [], LEFT
    for kind, words, wide in (
        ("load", "in use", 60),
        ("hot", "above a ceiling", 112),
        ("peak", "at most, while guests move", 178),
    ):
        parts += [rect(x, y, 12, 11, kind), text(x + 17, y + 10, words, "dim small")]
        x += 20 + wide
    mark = tag("line", x1=x + 4, y1=y - 2, x2=x + 4, y2=y + 13, class_="mark")
    return [*parts, mark, text(x + 12, y + 10, "ceiling", "dim small")]


def _moves(steps: Sequence[Step], top: float, parts: list[str]) -> tuple[float, list[str]]:
    """The moves as text, where there are few."""
    if not steps or len(steps) > MOST_MOVES:
        return top, parts
    parts.append(text(MARGIN, top + 16, "Moves, in order", "strong"))
    half = (len(steps) + 1) // 2
    for n, step in enumerate(steps):
        x, y = MARGIN + (WIDTH / 2 - MARGIN) * (n // half), top + 36 + 17 * (n % half)
        bounce = " (by way)" if step.bounce == 1 else ""
        told = f"{step.n}. {short(step.domain, 20)}: {short(step.source, 12)} → {short(step.destination, 12)}{bounce}"
        parts.append(tag("g", title(step.why), text(x, y, f"{told}, {step.memory_mib / 1024:.1f} GiB", "ink small")))
    return top + 36 + 17 * half, parts
