"""How a migration of the fake goes: all that it will show, and when. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vmrelay_client._http_words import SHARES
from vmrelay_client.types import Event, Migration, Problem, State

Fate = Literal["succeeded", "failed", "rejected", "in-doubt", "running"]
SOURCE = "source-host"
"""Where a domain is whose request names no source."""
ROUNDS = (0, 20, 40, 60, 80)
"""Percent of perform, a second each; one that never ends stays at the third."""
GUEST_BYTES = 1024**3


@dataclass(frozen=True)
class Script:
    """What becomes of a domain's migrations; ``code`` and ``message`` of its error."""

    fate: Fate = "succeeded"
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Step:
    """What happens at a moment of the fake's clock, and what is shown from then on."""

    at: float
    event: Event | None
    shown: Migration


@dataclass(frozen=True)
class Asked:
    """What a migration was asked for with."""

    id: str
    arguments: Mapping[str, Any]
    at: float

    @property
    def source(self) -> str:
        """As the request said, or made up."""
        return str(self.arguments.get("source") or SOURCE)

    @property
    def destination(self) -> str:
        """As the request said."""
        return str(self.arguments["destination"])


def course(asked: Asked, script: Script) -> list[Step]:
    """Everything, one thing a second: a turn, two phases, five rounds of copying, two phases, the end."""
    first = Migration(asked.id, "waiting", text="waits for a scheduler or for its turn", known=False)
    steps = [Step(asked.at, None, first)]
    if script.fate == "rejected":
        return [*steps, ended(asked, asked.at + 1, "rejected", script)]
    times = iter(range(1, 100))

    def add(type: str, phase: str, data: dict[str, Any], copied: int | None = None) -> None:
        at = asked.at + next(times)
        steps.append(Step(at, Event(type, at, data), running(asked, phase, copied)))

    def begin(phase: str) -> None:
        add("phase", phase, {"attempt": 1, "phase": phase, "host": _host(asked, phase)})

    begin("begin")
    begin("prepare")
    begin("perform")
    for copied in ROUNDS[:3] if script.fate == "running" else ROUNDS:
        add("progress", "perform", {"percent": copied, "remaining_bytes": _remaining(copied)}, copied)
    if script.fate == "running":
        return steps
    if script.fate == "succeeded":
        begin("finish")
        begin("confirm")
    return [*steps, ended(asked, asked.at + next(times), script.fate, script)]


def running(asked: Asked, phase: str, copied: int | None = None) -> Migration:
    """What is shown in a phase; ``copied`` is in percent of perform."""
    host = _host(asked, phase)
    percent = SHARES[phase] + 88 * (copied or 0) // 100
    shown: dict[str, Any] = {"current": percent, "total": 100, "percent": percent, "phase": phase, "host": host}
    shown["description"] = text = f"{phase} on {host}"
    if copied is not None:
        shown["remaining_bytes"] = _remaining(copied)
    return Migration(asked.id, "running", percent, text, phase, host, document=shown)


def ended(asked: Asked, at: float, state: State, script: Script = Script()) -> Step:
    """An outcome, or that it is in doubt."""
    domain = asked.arguments["domain"]
    if state == "succeeded":
        shown = Migration(asked.id, state, 100, f"{domain} moved to {asked.destination}", document=document(asked, at))
        return Step(at, Event("ended", at, {"outcome": state, "reason": ""}), shown)
    error = Problem(script.code or state, script.message or f"{domain} is {state}, as the test wants it")
    if state == "in-doubt":
        error = Problem("in-doubt", error.message)
        shown = Migration(asked.id, state, 0, error.message, error=error)
        return Step(at, Event("in-doubt", at, {"why": error.message}), shown)
    shown = Migration(asked.id, state, 100, error.message, error=error)
    return Step(at, Event("ended", at, {"outcome": state, "reason": error.code}), shown)


def document(asked: Asked, at: float) -> dict[str, Any]:
    """The result document of a migration that succeeded."""
    told = asked.arguments
    runs = {"begin": 1.0, "prepare": 1.0, "perform": 6.0, "finish": 1.0, "confirm": 1.0}
    return {
        "id": asked.id,
        "state": "ended",
        "outcome": "succeeded",
        "domain": told["domain"],
        "uuid": "00000000-0000-4000-8000-000000000000",
        "source": asked.source,
        "destination": asked.destination,
        "destination_name": told.get("params", {}).get("destination_name", told["domain"]),
        "driver": "vz",
        "flags": ["compressed", "live", "persist_dest"],
        "params": dict(told.get("params", {})),
        "deadline_seconds": told.get("deadline_seconds"),
        "convergence": {},
        "attempts": 1,
        "retries": 0,
        "phases": [
            {"name": phase, "host": _host(asked, phase), "attempt": 1, "seconds": seconds, "queued_seconds": 0.0}
            for phase, seconds in runs.items()
        ],
        "phase": None,
        "progress": None,
        "waiting": None,
        "seconds": at - asked.at,
        "downtime_seconds": 0.05,
        "transferred_bytes": GUEST_BYTES,
        "total_seconds": 6.0,
        "iterations": len(ROUNDS),
        "stalled": None,
        "warning": None,
        "error": None,
        "requested_by": told.get("requested_by", ""),
        "reason": told.get("reason", ""),
        "priority": told.get("priority", "normal"),
        "traceparent": told.get("traceparent"),
        "batch": None,
        "created": asked.at,
        "ended": at,
    }


def _host(asked: Asked, phase: str) -> str:
    return asked.source if phase in ("begin", "perform", "confirm") else asked.destination


def _remaining(copied: int) -> int:
    return GUEST_BYTES * (100 - copied) // 100
