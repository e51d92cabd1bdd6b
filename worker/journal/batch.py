"""One batch as the journal keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STATES = ("planning", "planned", "running", "paused", "cancelling", "finished")
KINDS = ("list", "plan", "rebalance", "drain", "return")


@dataclass(frozen=True, slots=True)
class Item:
    """One move of a batch, and what became of it."""

    n: int
    """From 1."""
    domain: str
    uuid: str = ""
    source: str = ""
    destination: str = ""
    after: tuple[int, ...] = ()
    state: str = "waiting"
    """``waiting`` (for others or for its turn), ``asked`` (it has a migration), ``moved``, ``failed``, ``skipped``, or
    ``replaced`` (a later plan of the same batch does without it; not counted)."""
    migration: str = ""
    """Its id: ``<batch>.<n>``, and ``<batch>.<n>.<try>`` when it is asked again."""
    code: str = ""
    """Why it failed or was skipped, as a stable code."""
    why: str = ""
    """The same in words."""

    def document(self) -> dict[str, Any]:
        """As users see it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Batch:
    """What the journal says of a batch, without its items. Times are milliseconds of Redis's clock."""

    id: str
    kind: str
    state: str
    hosts: tuple[str, ...] = ()
    """Those that are drained or returned to."""
    priority: str = "normal"
    requested_by: str = ""
    reason: str = ""
    request: dict[str, Any] = field(default_factory=dict)
    """As it was asked for."""
    total: int = 0
    moved: int = 0
    failed: int = 0
    skipped: int = 0
    asked: int = 0
    """Migrations that are queued or run now."""
    replans: int = 0
    notes: tuple[str, ...] = ()
    left: tuple[dict[str, Any], ...] = ()
    """What could not be moved, and why: ``Left`` documents of the last plan, and what a last look showed."""
    created: int = 0
    started: int = 0
    ended: int = 0
