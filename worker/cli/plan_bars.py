"""How full hosts are, drawn with letters: bars for a few hosts, a strip of cells for many. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TextIO

from worker.cli.words import clean, many
from worker.contract.plans import HostView, Plan

FEW = 40
"""Up to so many hosts have a bar each; more are cells of a strip."""


@dataclass(frozen=True, slots=True)
class Letters:
    """What bars and strips are drawn with."""

    stays: str
    leaves: str
    arrives: str
    free: str
    ceiling: str
    arrow: str
    levels: str
    """Cells of a strip, from empty to full."""


UNICODE = Letters("█", "░", "▒", "·", "│", "→", " ▁▂▃▄▅▆▇█")
ASCII = Letters("#", "-", "+", ".", "|", "->", "0123456789")


def letters_for(stream: TextIO) -> Letters:
    """What can be written to a stream."""
    try:
        "".join((UNICODE.stays, UNICODE.arrives, UNICODE.arrow, UNICODE.levels)).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def bar(before: float, after: float, ceiling: float, width: int, letters: Letters) -> str:
    """Two loads in one bar: what stays, what leaves or arrives, and where the ceiling is.

    The whole bar is 100 %; more than that is cut.
    """
    had, has = (min(round(share * width), width) for share in (before, after))
    drawn = letters.stays * min(had, has) + letters.leaves * (had - has) + letters.arrives * (has - had)
    drawn = drawn.ljust(width, letters.free)
    mark = min(round(ceiling * width), width)
    if 0 < ceiling < 1 and mark < width and drawn[mark] == letters.free:
        drawn = drawn[:mark] + letters.ceiling + drawn[mark + 1 :]
    return drawn


def legend(letters: Letters) -> str:
    """What the letters of a bar mean."""
    return f"{letters.stays} stays  {letters.leaves} leaves  {letters.arrives} arrives  {letters.ceiling} ceiling"


def is_hot(cpu: float, memory: float, host: HostView) -> bool:
    """Whether such loads are above a host's ceilings (0 is none); a millionth above is rounding."""
    above = ((cpu, host.ceiling_cpu), (memory, host.ceiling_memory))
    return any(ceiling > 0 and load > ceiling + 1e-6 for load, ceiling in above)


def hot_before(host: HostView) -> bool:
    """Whether it is above a ceiling before the plan."""
    return is_hot(host.before.cpu, host.before.memory, host)


def hot_after(host: HostView) -> bool:
    """Whether it is above a ceiling after it."""
    return is_hot(host.after.cpu, host.after.memory, host)


def heat(host: HostView) -> str:
    """In a word or two what becomes of a host that is too full; empty where it never is."""
    was, stays = hot_before(host), hot_after(host)
    if was:
        return "still hot" if stays else "relieved"
    return "gets hot" if stays else ""


def percent(share: float) -> str:
    """A share as whole percent, right in four letters: `` 92%``."""
    return f"{100 * share:3.0f}%"


# -- the picture ----------------------------------------------------------------------------------------


def picture(plan: Plan, width: int, letters: Letters) -> list[str]:
    """A plan's hosts before and after, in lines of at most ``width`` letters (60 at least)."""
    width = max(width, 60)
    if not plan.hosts:
        return ["the plan names no hosts"]
    lines = _bars(plan.hosts, width, letters) if len(plan.hosts) <= FEW else _strips(plan.hosts, width, letters)
    moves = f"{many(plan.totals.moves, 'move')}, {plan.totals.gib:.1f} GiB"
    end = f"{moves}; hosts above a ceiling: {plan.totals.hot_before} {letters.arrow} {plan.totals.hot_after}"
    return [*lines, *wrap(end, width)]


def _bars(hosts: Sequence[HostView], width: int, letters: Letters) -> list[str]:
    name = max(4, *(min(len(host.name), 20) for host in hosts))
    room = (width - name - 34) // 2
    arrow = f" {letters.arrow} "
    lines = []
    for host in hosts:
        for kind, label in (("cpu", host.name[:name]), ("memory", "")):
            before, after = getattr(host.before, kind), getattr(host.after, kind)
            ceiling = getattr(host, f"ceiling_{kind}")
            was = bar(before, before, ceiling, room, letters)
            will = bar(after, after, ceiling, room, letters)
            note = heat(host) if label else f"{host.before.guests}{letters.arrow}{many(host.after.guests, 'guest')}"
            lines.append(
                f"{label:<{name}} {kind:<6} {was}{percent(before)}{arrow}{will}{percent(after)}  {note}".rstrip()
            )
    return [f"{'':<{name + 8}}{'before':<{room + 4 + len(arrow)}}after", *lines, legend(letters)]


def _strips(hosts: Sequence[HostView], width: int, letters: Letters) -> list[str]:
    """Every host a cell, in the same place before and after; fullest first, as they were."""
    ordered = sorted(hosts, key=lambda host: (-max(host.before.memory, host.before.cpu), host.name))
    lines = []
    for kind in ("memory", "cpu"):
        for when in ("before", "after"):
            loads = [getattr(getattr(host, when), kind) for host in ordered]
            most, mean = max(loads), sum(loads) / len(loads)
            lines.append(f"{kind} {when}: at most{percent(most)}, on average{percent(mean)}")
            cells = "".join(_cell(load, letters) for load in loads)
            lines += [f"  {cells[at : at + width - 2]}" for at in range(0, len(cells), width - 2)]
    for label, found in (
        ("hot before", [host.name for host in ordered if hot_before(host)]),
        ("hot after", [host.name for host in ordered if hot_after(host)]),
    ):
        lines += wrap(f"{label}: {some(found)}", width)
    scale = f"{letters.levels[0]!r} is an empty host, {letters.levels[-1]!r} a full one"
    return [*wrap(f"{len(hosts)} hosts, each a letter: {scale}; fullest first", width), *lines]


def _cell(load: float, letters: Letters) -> str:
    last = len(letters.levels) - 1
    return letters.levels[min(last, int(load * (last + 1)))]


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of many names, and how many more there are."""
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(clean(name) for name in names[:most]) + more
