"""What an application is shown: the same values whichever way the relay is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vmrelay_client.errors import Cancelled, Failed, InDoubt, Rejected, RelayError

State = Literal["waiting", "running", "succeeded", "failed", "cancelled", "rejected", "in-doubt"]
BatchState = Literal["waiting", "planning", "planned", "running", "paused", "cancelling", "finished", "rejected"]
Priority = Literal["low", "normal", "high", "urgent"]
StallAction = Literal["report", "abort", "suspend", "postcopy", "downtime"]
Action = Literal["pause", "resume", "cancel", "retry"]


@dataclass(frozen=True)
class Problem:
    """What decided an outcome: ``code`` for programs, ``message`` for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Migration:
    """One look at a migration."""

    id: str
    state: State
    """``waiting`` for a scheduler or for slots, ``running`` (also between two attempts and while it is recovered), its
    outcome, or ``in-doubt``: an operator must look, and an outcome follows once that is settled."""
    percent: int = 0
    """Of the whole migration; starts again with a new attempt. No measure of the time that is left."""
    text: str = ""
    """What it does now, for people."""
    phase: str | None = None
    """``begin``, ``prepare``, ``perform``, ``finish``, ``confirm`` or ``recover``, while it runs."""
    host: str | None = None
    """Where that phase is."""
    error: Problem | None = None
    """Why it failed, was cancelled or rejected, or is in doubt."""
    known: bool = True
    """Whether the relay told anything of it. False: no scheduler has taken it yet, it is forgotten, or there never was
    one. Over Celery also while it waits for slots."""
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """All that the relay told. Over HTTP the migration document, over Celery the result document after success and
    the progress while it runs."""

    @property
    def over(self) -> bool:
        """Whether it has an outcome; what is in doubt has none yet."""
        return self.state in ("succeeded", "failed", "cancelled", "rejected")

    def raise_for_state(self) -> None:
        """Raise ``Rejected``, ``Failed``, ``Cancelled`` or ``InDoubt`` where the state is that; nothing otherwise."""
        kind = _RAISED.get(self.state)
        if kind is not None:
            problem = self.error or Problem(kind.code, f"migration {self.id} is {self.state}")
            raise kind(problem.message, code=problem.code)


_RAISED: Mapping[str, type[RelayError]] = {
    "rejected": Rejected,
    "failed": Failed,
    "cancelled": Cancelled,
    "in-doubt": InDoubt,
}


@dataclass(frozen=True)
class Batch:
    """One look at a batch: a drain, a rebalance, or another one."""

    id: str
    state: BatchState
    """``waiting`` for a scheduler, the relay's states, or ``rejected``."""
    total: int = 0
    moved: int = 0
    failed: int = 0
    skipped: int = 0
    in_doubt: tuple[str, ...] = ()
    """Migrations of it that an operator has to look at; it does not finish before."""
    error: Problem | None = None
    """Why it was rejected."""
    known: bool = True
    """As of ``Migration``."""
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """All that the relay told: the batch document, with the receipt when it has finished over Celery."""

    @property
    def over(self) -> bool:
        """Whether nothing of it waits or runs."""
        return self.state in ("finished", "rejected")

    @property
    def percent(self) -> int:
        """How much of it is done, whatever became of it."""
        if self.state == "finished":
            return 100
        return 100 * (self.moved + self.failed + self.skipped) // self.total if self.total else 0

    def raise_for_state(self) -> None:
        """Raise ``Rejected`` where it was; nothing otherwise, whatever became of its moves."""
        if self.state == "rejected":
            problem = self.error or Problem(Rejected.code, f"batch {self.id} was rejected")
            raise Rejected(problem.message, code=problem.code)


@dataclass(frozen=True)
class Event:
    """One thing that happened to a migration. The relay's reference lists the types; new ones may come."""

    type: str
    at: float
    """Unix time."""
    data: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    """Where the stream goes on after it; empty over Celery."""


@dataclass(frozen=True)
class CancelAnswer:
    """What comes of a cancel."""

    migration: str
    answer: str
    """``ended``: it waited, and is cancelled. ``asked``: it stops at its next look. ``too-late``: the guest has left,
    and it ends as moved. ``over``: it has ended before."""
    detail: str = ""
    """The phase of ``too-late``, the outcome of ``over``."""


@dataclass(frozen=True)
class ControlAnswer:
    """What comes of steering a batch."""

    batch: str
    answer: str
    """``ok``, ``same`` (it is so already), ``over`` (too late, or a retry too early) or ``none`` (nothing to retry)."""
    state: str
    """The batch's state now."""
