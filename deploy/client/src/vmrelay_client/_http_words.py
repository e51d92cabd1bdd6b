"""What the HTTP API answers, as values: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vmrelay_client._celery_words import PERFORM_FROM, PERFORM_TO, batch_of
from vmrelay_client._sse import Frame
from vmrelay_client.errors import Denied, IdempotencyConflict, Rejected, RelayError, Unavailable
from vmrelay_client.types import Batch, Event, Migration, Problem, State

SHARES = {"begin": 0, "prepare": 3, "perform": PERFORM_FROM, "finish": PERFORM_TO, "confirm": 97}
"""Where each phase begins, in percent of a migration: the same as over Celery."""
CONTROL_ANSWERS = {"over": "over", "not-over": "over", "nothing-failed": "none"}
"""What a batch answers over Celery where the API refuses."""
_CONFLICTS = (IdempotencyConflict.code, "batch-exists")
_NO_ROUTE = ("", "not-found", "method-not-allowed")
"""Codes of answers that are not the relay's to this request: another server's, or another version's."""
_RUNNING = ("active", "backoff")
_OUTCOMES: Mapping[str, State] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "rejected": "rejected",
}


def migration(document: Mapping[str, Any]) -> Migration:
    """A migration from its document."""
    ident, state = _named(document)
    error = _problem(document.get("error"))
    if state == "ended":
        outcome = _OUTCOMES.get(str(document.get("outcome")), "in-doubt")
        text = error.message if error else f"{document.get('domain')} moved to {document.get('destination')}"
        return Migration(ident, outcome, percent=100, text=text, error=error, document=document)
    if state == "in-doubt":
        error = error or Problem("in-doubt", "an operator must look")
        error = Problem("in-doubt", error.message)
        return Migration(ident, "in-doubt", text=error.message, error=error, document=document)
    if state in _RUNNING:
        return _running(ident, document)
    known = state != "queued"
    text = "waits for its turn" if known else "waits for a scheduler"
    return Migration(ident, "waiting", text=text, known=known, document=document)


def _running(ident: str, document: Mapping[str, Any]) -> Migration:
    phase = document.get("phase")
    host = document.get("source") if phase in ("begin", "perform", "confirm") else document.get("destination")
    progress = document.get("progress") or {}
    percent = SHARES.get(str(phase), 0 if phase is None else PERFORM_FROM)
    if phase == "perform":
        percent += (PERFORM_TO - PERFORM_FROM) * int(progress.get("percent") or 0) // 100
    if waiting := document.get("waiting"):
        text, host = f"waits for {waiting['host']}: {waiting['why']}", waiting["host"]
    elif phase is None:
        text, host = "waits for its next attempt", None
    elif phase == "recover":
        text, host = "is recovered", None
    else:
        text = str(progress.get("description") or "") or f"{phase} on {host}"
    return Migration(ident, "running", percent=percent, text=text, phase=phase, host=host, document=document)


def batch(document: Mapping[str, Any]) -> Batch:
    """A batch from its document."""
    ident, state = _named(document)
    if state == "queued":
        return Batch(ident, "waiting", known=False, document=document)
    return batch_of(document)


def event(frame: Frame) -> Event:
    """An event of the stream."""
    try:
        told = json.loads(frame.data)
    except ValueError:
        raise Unavailable("the event stream is not vmrelay's") from None
    data = {name: value for name, value in told.items() if name not in ("at", "type")}
    return Event(str(told.get("type", frame.event)), float(told.get("at", 0.0)), data, frame.id)


def error(status: int, document: object, retry_after: str | None, what: str) -> RelayError:
    """The error that an answer tells of (RFC 9457)."""
    told = document if isinstance(document, dict) else {}
    code = str(told.get("code") or "")
    message = str(told.get("detail") or told.get("title") or f"{what} was answered with HTTP status {status}")
    if status in (401, 403):
        return Denied(message, code=code)
    if not 400 <= status < 500 or status == 429 or code in _NO_ROUTE:
        lost = Unavailable(message, code=code or f"http-{status}")
        if retry_after and retry_after.isascii() and retry_after.isdigit():  # the other form is a date: not ours
            lost.retry_after = float(retry_after)
        return lost
    return (IdempotencyConflict if code in _CONFLICTS else Rejected)(message, code=code)


def _named(document: Mapping[str, Any]) -> tuple[str, str]:
    """Which one a document is of, and its state."""
    if not {"id", "state"} <= document.keys():
        raise Unavailable("the answer is no document of vmrelay's: is this its HTTP API?")
    return str(document["id"]), str(document["state"])


def _problem(told: object) -> Problem | None:
    return Problem(str(told["code"]), str(told["message"])) if isinstance(told, dict) else None
