"""The picture of a plan for many hosts: heat maps, sorted loads, and the hosts that were too full. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from worker.cli.plan_bars import hot_after, hot_before
from worker.cli.svg import number, rect, short, tag, text, title
from worker.contract.plans import HostView, Plan

GAP = 32.0
CHART = 120.0
MOST_ROWS = 16
KINDS = ("memory", "cpu")


def heat_map(plan: Plan, top: float, left: float, width: float) -> tuple[float, list[str]]:
    """The parts of the picture below the header, and where they end."""
    ordered = sorted(plan.hosts, key=lambda host: (-max(host.before.memory, host.before.cpu), host.name))
    half = (width - GAP) / 2
    y, parts = top + 8, list[str]()
    for kind in KINDS:
        height = 0.0
        for n, when in enumerate(("before", "after")):
            height, cells = _map(ordered, kind, when, left + n * (half + GAP), y, half)
            parts += cells
        y += height + 20
    parts += _scale(left, y)
    y += 34
    for n, kind in enumerate(KINDS):
        parts += _curves(ordered, kind, left + n * (half + GAP), y, half)
    y += CHART + 68
    return _hot(ordered, left, y, half, parts)


def _load(host: HostView, kind: str, when: str) -> float:
    load: float = getattr(getattr(host, when), kind)
    return load


def _ceiling(host: HostView, kind: str) -> float:
    ceiling: float = getattr(host, f"ceiling_{kind}")
    return ceiling


def _above(host: HostView, kind: str, when: str) -> bool:
    return 0 < _ceiling(host, kind) < _load(host, kind, when) - 1e-6


def _map(
    hosts: Sequence[HostView], kind: str, when: str, left: float, top: float, width: float
) -> tuple[float, list[str]]:
    """Each host a cell, the same one before and after."""
    columns = max(20, math.ceil(math.sqrt(len(hosts) * 5)))
    size = width / columns
    loads = [_load(host, kind, when) for host in hosts]
    hot = sum(_above(host, kind, when) for host in hosts)
    told = f"{kind} {when}: at most {100 * max(loads):.0f} %, mean {100 * sum(loads) / len(loads):.0f} %, {hot} hot"
    parts = [text(left, top + 12, told, "ink")]
    for n, (host, load) in enumerate(zip(hosts, loads, strict=True)):
        colour = "hot" if _above(host, kind, when) else f"c{min(9, int(load * 10))}"
        x, y = left + size * (n % columns), top + 20 + size * (n // columns)
        label = title(f"{host.name}: {kind} {100 * load:.0f} % {when}")
        parts.append(rect(x + 0.5, y + 0.5, size - 1, size - 1, colour, label))
    return 20 + size * math.ceil(len(hosts) / columns), parts


def _scale(left: float, top: float) -> list[str]:
    """What the colours mean."""
    parts = [text(left, top + 11, "0 %", "dim small")]
    parts += [rect(left + 28 + 16 * n, top, 16, 13, f"c{n}") for n in range(10)]
    parts += [text(left + 194, top + 11, "100 %", "dim small"), rect(left + 250, top, 16, 13, "hot")]
    return [*parts, text(left + 272, top + 11, "above its ceiling", "dim small")]


def _curves(hosts: Sequence[HostView], kind: str, left: float, top: float, width: float) -> list[str]:
    """Loads from the fullest host to the emptiest, before and after."""
    parts = [text(left, top + 10, f"{kind}, fullest host first", "ink")]
    base, x0, wide = top + 20 + CHART, left + 34, width - 34
    most = max(1.0, *(_load(host, kind, when) for host in hosts for when in ("before", "after")))
    for share in (0.0, 0.5, 1.0):
        y = base - CHART * share / most
        parts.append(text(left + 28, y + 4, f"{100 * share:.0f} %", "dim small", "end"))
        parts.append(rect(x0, y, wide, 1, "track"))
    for when, style in (("before", "was"), ("after", "will")):
        loads = sorted((_load(host, kind, when) for host in hosts), reverse=True)
        step = wide / max(len(loads) - 1, 1)
        points = " ".join(
            f"{number(x0 + n * step)},{number(base - CHART * load / most)}" for n, load in enumerate(loads)
        )
        parts.append(tag("polyline", points=points, class_=style))
    limits = sorted({round(_ceiling(host, kind), 3) for host in hosts if 0 < _ceiling(host, kind) <= most})
    for ceiling in limits[:: max(len(limits) - 1, 1)]:
        y = base - CHART * ceiling / most
        parts.append(tag("line", x1=x0, y1=y, x2=x0 + wide, y2=y, class_="limit"))
    y = base + 18
    for n, (style, words) in enumerate((("was", "before"), ("will", "after"), ("limit", "ceiling"))):
        x = x0 + 90 * n
        parts.append(tag("line", x1=x, y1=y - 4, x2=x + 20, y2=y - 4, class_=style))
        parts.append(text(x + 26, y, words, "dim small"))
    return parts


def _hot(hosts: Sequence[HostView], left: float, top: float, half: float, parts: list[str]) -> tuple[float, list[str]]:
    """The hosts that were or are too full, by name."""
    found = sorted((h for h in hosts if hot_before(h) or hot_after(h)), key=lambda host: not hot_after(host))
    if not found:
        return top, parts
    shown = found[:MOST_ROWS]
    more = f", {len(shown)} of {len(found)}" if len(found) > len(shown) else ""
    parts.append(text(left, top, f"Hosts above a ceiling{more}", "strong"))
    rows = math.ceil(len(shown) / 2)
    for n, host in enumerate(shown):
        x, y = left + (half + GAP) * (n // rows), top + 20 + 17 * (n % rows)
        pairs = [(kind, _load(host, kind, "before"), _load(host, kind, "after")) for kind in KINDS]
        told = ", ".join(f"{kind} {100 * had:.0f} → {100 * has:.0f} %" for kind, had, has in pairs)
        state = "still hot" if hot_after(host) else "relieved"
        parts.append(text(x, y, f"{short(host.name, 24)}: {told}, {state}", "ink small"))
    return top + 20 + 17 * rows, parts
