"""What Celery's result back end holds, as values: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vmrelay_client.types import Batch, Event, Migration, Problem, State

_STATES: Mapping[str, State] = {
    "Rejected": "rejected",
    "Failed": "failed",
    "Cancelled": "cancelled",
    "InDoubt": "in-doubt",
}
_CODE = re.compile(r"(?P<message>.*) \[(?P<code>[\w-]+)\]", re.DOTALL)
"""The end of what ``Rejected`` says."""
_PHASE_AND_CODE = re.compile(r".* \([a-z]+, (?P<code>[\w-]+)\)", re.DOTALL)
"""The end of what ``Failed`` and ``Cancelled`` say."""
PERFORM_FROM, PERFORM_TO = 6, 94
"""Where perform begins and ends, in percent of a migration."""
SHOWN = (
    "remaining_bytes",
    "bandwidth_bytes_per_second",
    "dirty_bytes_per_second",
    "iteration",
    "expected_downtime_seconds",
)
"""What a running perform tells besides its percentage."""


def problem(kind: str, text: str) -> Problem:
    """What an exception of a result says; of an exception only its class's name and its text travel."""
    if kind == "Rejected":
        found = _CODE.fullmatch(text)
        return Problem(found["code"], found["message"]) if found else Problem("rejected", text)
    if kind in ("Failed", "Cancelled"):
        found = _PHASE_AND_CODE.fullmatch(text)
        return Problem(found["code"] if found else kind.lower(), text)
    return Problem("in-doubt", text) if kind == "InDoubt" else Problem("unknown-error", f"{kind}: {text}")


def migration(ident: str, status: str, result: object) -> Migration:
    """A migration from its task's status and result."""
    if status == "PROGRESS" and isinstance(result, dict):
        return Migration(
            ident,
            "running",
            percent=int(result.get("percent", 0)),
            text=str(result.get("description", "")),
            phase=result.get("phase"),
            host=result.get("host"),
            document=result,
        )
    if status == "SUCCESS" and isinstance(result, dict):
        text = f"{result.get('domain')} moved to {result.get('destination')}"
        return Migration(ident, "succeeded", percent=100, text=text, document=result)
    if status == "FAILURE":
        kind, text = type(result).__name__, str(result)
        # Nobody knows what another class of error leaves behind: that is for an operator, too.
        state = _STATES.get(kind, "in-doubt")
        percent = 0 if state == "in-doubt" else 100
        return Migration(ident, state, percent=percent, text=text, error=problem(kind, text))
    return Migration(ident, "waiting", text="waits for a scheduler or for its turn", known=False)


def batch(ident: str, status: str, result: object) -> Batch:
    """A batch from its task's status and result."""
    if status == "FAILURE":
        return Batch(ident, "rejected", error=problem(type(result).__name__, str(result)))
    told = result.get("batch") if status == "PROGRESS" and isinstance(result, dict) else result
    if status in ("PROGRESS", "SUCCESS") and isinstance(told, dict) and "state" in told:
        return batch_of(told)
    return Batch(ident, "waiting", known=False)


def batch_of(document: Mapping[str, Any]) -> Batch:
    """A batch from the document that the relay shows."""
    return Batch(
        document["id"],
        document["state"],
        total=int(document.get("total") or 0),
        moved=int(document.get("moved") or 0),
        failed=int(document.get("failed") or 0),
        skipped=int(document.get("skipped") or 0),
        in_doubt=tuple(document.get("in_doubt") or ()),
        document=document,
    )


def events(before: Migration | None, now: Migration, at: float) -> list[Event]:
    """What happened between two looks, as far as they show it."""
    told: list[Event] = []
    if now.state == "running":
        if now.phase and (before is None or (before.phase, before.host) != (now.phase, now.host)):
            kind = "recovering" if now.phase == "recover" else "phase"
            told.append(Event(kind, at, {"phase": now.phase, "host": now.host}))
        if now.phase == "perform" and "remaining_bytes" in now.document and _moved_on(before, now):
            told.append(Event("progress", at, _progress(now)))
    elif before is None or before.state != now.state:
        if now.state == "in-doubt":
            told.append(Event("in-doubt", at, {"why": now.text}))
        elif now.over:
            told.append(Event("ended", at, {"outcome": now.state, "reason": now.error.code if now.error else ""}))
    return told


def _moved_on(before: Migration | None, now: Migration) -> bool:
    return before is None or before.document != now.document


def _progress(now: Migration) -> dict[str, Any]:
    """As the event stream tells it: there ``percent`` is that of perform alone."""
    percent = round(100 * (now.percent - PERFORM_FROM) / (PERFORM_TO - PERFORM_FROM))
    told = {name: now.document[name] for name in SHOWN if name in now.document}
    return {"percent": min(100, max(0, percent))} | told
