"""From a record and its events to one migration's page: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.cli import words
from worker.cli.words import clean
from worker.hints import hint
from worker.journal.record import Record
from worker.web.page.overview import clock, moving_item, way_out
from worker.web.page.view import Item, View, item

Event = tuple[str, str, Mapping[str, Any]]
"""As the journal tells it: stream id, kind, data."""
SCHEDULER = "scheduler"
"""The lane of what happens at no host: standing in line, and the pause between two attempts. A host's has a colon."""
LEAST_PERCENT = 0.4
"""A bar is drawn so wide at least: a phase of some milliseconds is to be seen, too."""
MOST_EVENTS = 300


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a migration's time. Times are Unix seconds."""

    lane: str
    kind: str
    """A phase, or ``queue``, ``pause`` or ``retry``."""
    begin: float
    end: float | None
    """``None`` for what goes on."""
    attempt: int = 1
    error: str = ""


def bars(events: Sequence[Event]) -> list[Bar]:
    """What went on where and when, by the events; a phase whose end nobody told ends with what came next."""
    found: list[Bar] = []
    open_: Bar | None = None

    def close(at: float, error: str = "") -> None:
        nonlocal open_
        if open_ is not None:
            found.append(Bar(open_.lane, open_.kind, open_.begin, at, open_.attempt, error))
            open_ = None

    for ident, kind, data in events:
        at = int(ident.split("-")[0]) / 1000
        match kind:
            case "accepted":
                open_ = Bar(SCHEDULER, "queue", at, None)
            case "phase":
                close(at)
                open_ = Bar(
                    f"host:{data.get('host', '')}", str(data.get("phase", "")), at, None, int(data.get("attempt", 1))
                )
            case "phase-ended":
                close(at, str(data.get("error") or ""))
            case "backoff":
                close(at)
                open_ = Bar(SCHEDULER, "pause", at, None, int(data.get("attempt", 1)))
            case "retry":
                found.append(Bar(f"host:{data.get('host', '')}", "retry", at, at, int(data.get("attempt", 1))))
            case "started" | "recovering" | "in-doubt" | "ended":
                close(at)
    return [*found, open_] if open_ is not None else found


def timeline(record: Record, events: Sequence[Event], now: float) -> View:
    """Everything on the page of one migration. ``now`` is in seconds of Redis's clock."""
    drawn = bars(events)
    begin = record.created / 1000 or (drawn[0].begin if drawn else now)
    over = record.state == "ended"
    end = max((record.ended / 1000) if over and record.ended else now, begin + 0.001)
    lanes = [
        (SCHEDULER, "before and between"),
        *((f"host:{name}", name) for name in dict.fromkeys((record.source, record.destination)) if name),
    ]
    if not record.source:
        lanes = []
    lists = {
        "lanes": [(f"l/{key}", item(name=clean(name), bars=f"bars/{key}")) for key, name in lanes],
        "facts": _facts(record),
        "runs": _runs(record),
        "events": _told(events),
    }
    for key, _ in lanes:
        placed = [_bar(bar, begin, end) for bar in drawn if bar.lane == key]
        lists[f"bars/{key}"] = [(f"s/{key}/{number}", shown) for number, shown in enumerate(placed)]
    items = {key: fields for listed in lists.values() for key, fields in listed}
    items["one"] = _one(record, end - begin)
    return View(items, {name: tuple(key for key, _ in listed) for name, listed in lists.items() if listed})


def _one(record: Record, seconds: float) -> Item:
    doubt, over = record.state == "in-doubt", record.state == "ended"
    shown = dict(moving_item(record))
    if record.state == "pending":
        shown |= {"phase": "waits for slots", "stage": "prepares"}
    if doubt or over:
        for name in ("phase", "note", "wrong", "percent_text"):
            shown.pop(name, None)
    failed = over and record.outcome != "succeeded"
    more = item(
        state=record.outcome or record.state,
        runs=record.state in ("active", "backoff", "pending"),
        error=clean(record.error) if doubt or failed else "",
        code=record.reason if failed else "",
        hint=clean(hint(record.reason, record.error)) if failed else "",
        warning=clean(record.warning),
        **way_out(record),
        doubt=doubt,
        took=words.duration(seconds),
        can_cancel=not over and not doubt and not record.cancel,
        can_retry=(over and record.outcome in ("failed", "cancelled")) or record.state == "backoff",
    )
    return {**shown, **more}


def _spoken(name: str, drawn: Sequence[Bar], lane: str) -> str:
    """A lane for those who do not see it."""
    return f"{clean(name)}: {', '.join(bar.kind for bar in drawn if bar.lane == lane) or 'nothing'}"


def _bar(bar: Bar, begin: float, end: float) -> Item:
    whole = end - begin
    last = end if bar.end is None else min(bar.end, end)
    left = min(max(100 * (bar.begin - begin) / whole, 0.0), 100 - LEAST_PERCENT)
    width = min(max(100 * (last - bar.begin) / whole, LEAST_PERCENT), 100 - left)
    seconds = words.duration(max(last - bar.begin, 0))
    wrong = f", failed: {bar.error}" if bar.error else ", goes on" if bar.end is None else ""
    return item(
        x=f"{left:.2f}%",
        width=f"{width:.2f}%",
        kind=bar.kind,
        failed=bool(bar.error),
        label=bar.kind if width > 7 else "",
        title=clean(f"{bar.kind}, attempt {bar.attempt}: {seconds}{wrong}"),
    )


def _facts(record: Record) -> list[tuple[str, Item]]:
    told = [(name, value) for name, value in words.rows(record.document()) if name not in ("progress", "phase")]
    return [(f"f/{name}", item(label=name, value=clean(value))) for name, value in told]


def _runs(record: Record) -> list[tuple[str, Item]]:
    return [
        (
            f"p/{run.attempt}/{run.name}",
            item(
                attempt=run.attempt,
                name=run.name,
                host=clean(run.host),
                queued=words.duration(run.queued_seconds),
                took=words.duration(run.seconds),
                error=clean(run.error or ""),
            ),
        )
        for run in record.phases
    ]


def _told(events: Sequence[Event]) -> list[tuple[str, Item]]:
    """What happened, the last first; how far perform is, is shown by its bar."""
    kept = [event for event in events if event[1] != "progress"][-MOST_EVENTS:]
    return [
        (f"e/{ident}", item(clock=clock(int(ident.split("-")[0]) / 1000), kind=kind, text=_said(kind, data)))
        for ident, kind, data in reversed(kept)
    ]


def _said(kind: str, data: Mapping[str, Any]) -> str:
    """An event in words; none for one that another version wrote otherwise: the page is there all the same."""
    try:
        return clean(words.line_of(kind, dict(data)) or "")
    except (LookupError, TypeError, ValueError, AttributeError):
        return ""
