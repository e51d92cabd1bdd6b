"""One migration as the journal keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from worker.hypervisors.convergence import Convergence, StallAction


@dataclass(frozen=True, slots=True)
class PhaseRun:
    """One phase of one attempt that has ended."""

    attempt: int
    name: str
    host: str
    seconds: float
    queued_seconds: float = 0.0
    """From the end of the phase before to this one's start."""
    error: str | None = None

    def document(self) -> dict[str, Any]:
        """As shown to users."""
        shown: dict[str, Any] = {
            "name": self.name,
            "host": self.host,
            "seconds": self.seconds,
            "queued_seconds": round(self.queued_seconds, 6),
            "attempt": self.attempt,
        }
        return shown | ({"error": self.error} if self.error else {})


HIDDEN = ("destination_xml", "persistent_xml")
"""Parameters that are domain definitions: the journal has them sealed, and users see that they were given."""
SHOWN_CHARACTERS, SHOWN_ITEMS = 200, 64
"""So much of a parameter is shown at most."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the journal says of a migration. Times are milliseconds of Redis's clock."""

    id: str
    state: str
    """``pending``, ``active``, ``backoff``, ``in-doubt`` or ``ended``."""
    domain: str = ""
    uuid: str = ""
    source: str = ""
    destination: str = ""
    destination_name: str = ""
    driver: str = ""
    flags: int = 0
    flags_label: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    deadline_seconds: float | None = None
    attempts_allowed: int = 1
    """So many attempts in all: those asked for, and one more for each that gave way to an agent being stopped."""
    convergence: Convergence = field(default_factory=Convergence)
    requested_by: str = ""
    request_reason: str = ""
    priority: str = "normal"
    batch: str = ""
    """The batch that asked for it."""
    item: int = 0
    """Which of that batch's moves it is, from 1."""
    cost: int = 1
    """How many slots of each host it takes."""
    traceparent: str = ""
    """The trace that the request belongs to (W3C Trace Context)."""
    fingerprint: str = field(default="", repr=False)
    """Of the request; empty where that was malformed, and in what a version before this one wrote."""

    attempt: int = 0
    epoch: int = 0
    phase: str = ""
    step: str = ""
    token: str = field(default="", repr=False)
    """Of the claim that holds the running phase."""
    owner: str = ""
    """The host whose agent made that claim."""
    incarnation: str = ""
    """Which life of that agent it was."""
    host: str = ""
    """Whose queue the message of the present phase is for."""
    waiting: dict[str, Any] | None = None
    """The host that has to come back before anything can be done, why, and since when."""
    retries: int = 0
    cancel: bool = False
    progress: dict[str, Any] = field(default_factory=dict)

    outcome: str = ""
    reason: str = ""
    """The stable code of the error that decided the outcome."""
    error: str = ""
    error_phase: str = ""
    """The phase that it came from; empty where no phase ran."""
    downtime_seconds: float | None = None
    transferred_bytes: int | None = None
    total_seconds: float | None = None
    iterations: int | None = None
    stalled: dict[str, Any] | None = None
    """The last verdict that perform would not come to an end, JSON."""
    warning: str = ""
    """What went wrong although the domain moved."""
    phases: tuple[PhaseRun, ...] = ()
    created: int = 0
    started: int = 0
    ended: int = 0

    @property
    def seconds(self) -> float | None:
        """From the first phase's admission to the end."""
        return (self.ended - self.started) / 1000 if self.ended and self.started else None

    def seconds_until(self, now: float) -> float | None:
        """The same, to ``now`` (a Unix time of Redis's clock) where it goes on; ``None`` before it, and in doubt."""
        if self.started and self.state in ("active", "backoff"):
            return max(now - self.started / 1000, 0.0)
        return self.seconds

    @property
    def asked(self) -> dict[str, Any]:
        """What perform was asked for besides flags, as users see it; only what is not the default."""
        defaults = asdict(Convergence())
        steering = {name: value for name, value in asdict(self.convergence).items() if value != defaults[name]}
        if self.convergence.timeout_seconds is not None:
            steering["on_timeout"] = self.convergence.on_timeout
        return {
            "params": {name: "(hidden)" if name in HIDDEN else _cut(value) for name, value in self.params.items()},
            "deadline_seconds": self.deadline_seconds,
            "convergence": {name: str(v) if isinstance(v, StallAction) else v for name, v in steering.items()},
        }

    @property
    def asked_fields(self) -> dict[str, str | int | float | None]:
        """What the journal stores of a new record: what was asked for."""
        return {
            "domain": self.domain,
            "uuid": self.uuid,
            "source": self.source,
            "destination": self.destination,
            "destination_name": self.destination_name,
            "driver": self.driver,
            "flags": self.flags,
            "flags_label": self.flags_label,
            "params": json.dumps(self.params) if self.params else None,
            "deadline_seconds": self.deadline_seconds,
            "attempts_allowed": self.attempts_allowed,
            "convergence": convergence_text(self.convergence),
            "requested_by": self.requested_by,
            "request_reason": self.request_reason,
            "priority": self.priority if self.priority != "normal" else None,
            "batch": self.batch or None,
            "item": self.item or None,
            "cost": self.cost if self.cost != 1 else None,
            "traceparent": self.traceparent or None,
            "fingerprint": self.fingerprint or None,
        }

    def document(self) -> dict[str, Any]:
        """The migration as users see it: the result of the task, and ``-o json``."""
        return {
            "id": self.id,
            "state": self.state,
            "outcome": self.outcome or None,
            "domain": self.domain,
            "uuid": self.uuid,
            "source": self.source,
            "destination": self.destination,
            "destination_name": self.destination_name or self.domain,
            "driver": self.driver,
            "flags": self.flags_label.split(",") if self.flags_label else [],
            **self.asked,
            "attempts": self.attempt,
            "retries": self.retries,
            "phases": [run.document() for run in self.phases],
            "phase": (self.state == "active" and self.phase) or None,
            "progress": (self.state == "active" and self.progress) or None,
            "waiting": (self.state == "active" and self.waiting) or None,
            "seconds": self.seconds,
            "downtime_seconds": self.downtime_seconds,
            "transferred_bytes": self.transferred_bytes,
            "total_seconds": self.total_seconds,
            "iterations": self.iterations,
            "stalled": self.stalled,
            "warning": self.warning or None,
            "error": {"code": self.reason, "message": self.error} if self.error else None,
            "requested_by": self.requested_by,
            "reason": self.request_reason,
            "priority": self.priority,
            "batch": self.batch or None,
            "traceparent": self.traceparent or None,
            "created": self.created / 1000 if self.created else None,
            "ended": self.ended / 1000 if self.ended else None,
        }


def _cut(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """The beginning of a parameter's value."""
    if isinstance(value, list):
        return [_cut(item) for item in value[:SHOWN_ITEMS]]
    long = isinstance(value, str) and len(value) > SHOWN_CHARACTERS
    return value[:SHOWN_CHARACTERS] + "…" if long else value


ORDER = ("begin", "prepare", "perform", "finish", "confirm", "recover")


def _phases(raw: dict[str, str]) -> tuple[PhaseRun, ...]:
    runs = []
    for key, value in raw.items():
        if key.startswith("phase:"):
            _, attempt, name = key.split(":")
            told = json.loads(value)
            runs.append(
                PhaseRun(
                    int(attempt),
                    name,
                    told["host"],
                    told["seconds"],
                    told.get("queued_seconds", 0.0),
                    told.get("error"),
                )
            )
    return tuple(sorted(runs, key=lambda run: (run.attempt, ORDER.index(run.name))))


def convergence_text(convergence: Convergence) -> str | None:
    """As the journal keeps it: JSON, nothing for the defaults."""
    return json.dumps(asdict(convergence)) if convergence != Convergence() else None


def _convergence(text: str | None) -> Convergence:
    told = json.loads(text or "{}")
    actions = {name: StallAction(told[name]) for name in ("on_stall", "on_timeout") if name in told}
    return Convergence(**told | actions)


def _host(raw: dict[str, str]) -> str:
    """Which host's agent has the message or is to take it; a version before this one wrote none, or left an old one."""
    phase = raw.get("phase", "")
    if not phase or phase == "recover":
        return raw.get("host", "")
    return raw.get("destination" if phase in ("prepare", "finish") else "source", "")


def from_hash(ident: str, raw: dict[str, str]) -> Record:
    """The record that ``HGETALL`` returned."""

    def optional(name: str) -> float | None:
        return float(raw[name]) if raw.get(name) else None

    def count(name: str) -> int | None:
        return int(raw[name]) if raw.get(name) else None

    return Record(
        id=ident,
        state=raw.get("state", ""),
        domain=raw.get("domain", ""),
        uuid=raw.get("uuid", ""),
        source=raw.get("source", ""),
        destination=raw.get("destination", ""),
        destination_name=raw.get("destination_name", ""),
        driver=raw.get("driver", ""),
        flags=int(raw.get("flags") or 0),
        flags_label=raw.get("flags_label", ""),
        params=json.loads(raw.get("params") or "{}"),
        deadline_seconds=optional("deadline_seconds"),
        attempts_allowed=int(raw.get("attempts_allowed") or 1),
        convergence=_convergence(raw.get("convergence")),
        requested_by=raw.get("requested_by", ""),
        request_reason=raw.get("request_reason", ""),
        priority=raw.get("priority") or "normal",
        batch=raw.get("batch", ""),
        item=int(raw.get("item") or 0),
        cost=int(raw.get("cost") or 1),
        traceparent=raw.get("traceparent", ""),
        fingerprint=raw.get("fingerprint", ""),
        attempt=int(raw.get("attempt") or 0),
        epoch=int(raw.get("epoch") or 0),
        phase=raw.get("phase", ""),
        step=raw.get("step", ""),
        token=raw.get("token", ""),
        owner=raw.get("owner", ""),
        incarnation=raw.get("incarnation", ""),
        host=_host(raw),
        waiting=json.loads(raw["waiting"]) if raw.get("waiting") else None,
        retries=int(raw.get("retries") or 0),
        cancel=raw.get("cancel") == "1",
        progress=json.loads(raw.get("progress") or "{}"),
        outcome=raw.get("outcome", ""),
        reason=raw.get("reason", ""),
        error=raw.get("error", ""),
        error_phase=raw.get("error_phase", ""),
        downtime_seconds=optional("downtime_seconds"),
        transferred_bytes=count("transferred_bytes"),
        total_seconds=optional("total_seconds"),
        iterations=count("iterations"),
        stalled=json.loads(raw["stalled"]) if raw.get("stalled") else None,
        warning=raw.get("warning", ""),
        phases=_phases(raw),
        created=int(raw.get("created") or 0),
        started=int(raw.get("started") or 0),
        ended=int(raw.get("ended") or 0),
    )
