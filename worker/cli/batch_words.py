"""Batches in words: one line, one event, one move. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from worker.cli.words import clean, duration
from worker.journal.batch import Batch, Item

Event = dict[str, Any]
EACH_ITEM = ("item-asked", "item-withdrawn", "item-ended")
"""Events that come for each move."""


def counts(batch: Batch) -> str:
    """How it stands in a few words: ``12 moved, 1 failed, 2 skipped of 15``."""
    doubt = f", {len(batch.in_doubt)} in doubt" if batch.in_doubt else ""
    return f"{batch.moved} moved, {batch.failed} failed, {batch.skipped} skipped of {batch.total}{doubt}"


def what(batch: Batch) -> str:
    """What kind of batch it is, and for which hosts: ``drain alpha``."""
    return " ".join((batch.kind, *batch.hosts[:5], *(["…"] if len(batch.hosts) > 5 else [])))


def headline(batch: Batch) -> str:
    """A batch in one line."""
    took = f" in {duration((batch.ended - batch.started) / 1000)}" if batch.ended and batch.started else ""
    return f"{batch.id} ({what(batch)}) {batch.state}: {counts(batch)}{took}"


def route(source: str, destination: str) -> str:
    """From where to where; a move of a list may not say from where."""
    return f"{source} → {destination}" if source else f"to {destination}"


def why(item: Item) -> str:
    """Why a move failed or was skipped; why the plan has it, where it was neither."""
    if item.code:
        return f"{clean(item.why)} [{item.code}]".lstrip()
    return clean(item.why or item.planned)


def left_line(left: Mapping[str, Any]) -> str:
    """A guest that stays, and why, in a line; from a ``Left`` document."""
    unblock = f"; {clean(left['unblock'])}" if left.get("unblock") else ""
    return f"{clean(left['domain'])} on {left['host']}: {clean(left['why'])} [{left['code']}]{unblock}"


def _by(data: Event) -> str:
    return f" by {clean(data['by'])}" if data.get("by") else ""


def _because(data: Event) -> str:
    return f": {clean(data['why'])}" if data.get("why") else ""


def _ended(data: Event) -> str:
    code = f" [{data['code']}]" if data.get("code") else ""
    return f"{clean(data['domain'])} {data['state']}{_because(data)}{code}"


def _state(state: str) -> Callable[[Event], str]:
    return lambda data: f"{state}{_by(data)}{_because(data)}"


EVENTS: Mapping[str, Callable[[Event], str]] = {
    "created": lambda data: f"accepted{_because(data)}",
    "planned": _state("planned"),
    "planning": _state("it is planned"),
    "running": _state("it runs"),
    "paused": _state("paused"),
    "cancelling": _state("cancelling"),
    "finished": _state("finished"),
    "pause": lambda data: f"pause asked for{_by(data)}",
    "resume": lambda data: f"resume asked for{_by(data)}",
    "cancel": lambda data: f"cancel of what runs asked for{_by(data)}",
    "retry": lambda data: f"retry asked for{_by(data)}",
    "conflict": lambda data: f"another request came under its id{_by(data)}",
    "item-asked": lambda data: f"{clean(data['domain'])} asked for as {data['migration']}",
    "item-withdrawn": lambda data: f"{clean(data['domain'])} taken back",
    "item-ended": _ended,
}
"""The kinds of a batch's events, each in words."""


def line_of(kind: str, data: Event) -> str | None:
    """An event in words; ``None`` for a kind that this version does not know."""
    told = EVENTS.get(kind)
    return told(data) if told else None


def tells(kind: str, data: Event) -> bool:
    """Whether an event is of interest to everybody: it is about the batch as a whole, or a move failed."""
    return kind not in EACH_ITEM or data.get("state") == "failed"
