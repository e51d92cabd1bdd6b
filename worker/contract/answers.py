"""What tasks answer, and what ``AsyncResult`` shows of a migration or a batch under way: for the published schemas."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from worker.contract.shown import Batch, BatchState, Cordon, Count, PhaseName, Shown

Percent = Annotated[int, Field(ge=0, le=100)]


class MigrationState(Shown):
    """The meta of the state ``PROGRESS`` of a migration, as ``celery-progress`` reads it."""

    current: Percent
    total: Literal[100]
    percent: Percent
    description: str
    """For people."""
    phase: PhaseName
    host: str
    """Whose turn it is."""
    remaining_bytes: Count = 0
    """This and the following are there while memory is copied."""
    bandwidth_bytes_per_second: Count = 0
    dirty_bytes_per_second: Count = 0
    iteration: Count = 0
    expected_downtime_seconds: float | None = None


class BatchProgress(Shown):
    """The same of a batch."""

    current: Count
    """Moves that are over."""
    total: Count
    percent: Percent
    description: str
    batch: Batch


class Failure(Shown):
    """An error as the result back end has it (state ``FAILURE``): Celery makes the exception of it."""

    exc_type: Literal["Rejected", "Failed", "Cancelled", "InDoubt"]
    exc_message: Annotated[tuple[str, ...], Field(min_length=1)]
    """The text for people. It ends with the error's code: ``[code]`` of ``Rejected``, ``(phase, code)`` otherwise."""
    exc_module: str
    """Where vmrelay has it; whoever reads it needs not."""


class CancelAnswer(Shown):
    """Of ``vmrelay.v1.cancel``."""

    migration: str
    answer: Literal["ended", "asked", "too-late", "over"]
    detail: str
    """The outcome where it is over, the phase where it is too late."""


class TuneAnswer(Shown):
    """Of ``vmrelay.v1.tune``."""

    migration: str
    tuning: str
    """Its id: the event ``tuned`` that names it tells what became of it."""
    answer: Literal["asked"]


class ResolveAnswer(Shown):
    """Of ``vmrelay.v1.resolve``."""

    migration: str
    answer: Literal["looking"]


class RetryAnswer(Shown):
    """Of ``vmrelay.v1.retry``."""

    migration: str
    """The new one, or the same where it was hastened."""
    answer: Literal["asked", "hastened"]


class BatchAnswer(Shown):
    """Of a task that makes a batch under another id than its own."""

    batch: str
    answer: Literal["accepted", "same"]
    state: BatchState


class ControlAnswer(Shown):
    """Of ``vmrelay.v1.control``."""

    batch: str
    answer: Literal["ok", "same", "over", "none"]
    state: BatchState


class HostChange(Shown):
    """What became of one host."""

    changed: bool
    turned_away: Count
    """Migrations that waited towards it and were ended."""
    cordon: Cordon | None


class HostAnswer(Shown):
    """Of ``vmrelay.v1.host``."""

    action: Literal["cordon", "uncordon"]
    hosts: dict[str, HostChange]


class Room(Shown):
    """How much of a limit is used."""

    used: Count
    limit: Count | None = None
    """In force; absent where there is none."""
    asked: Count | None = None
    """What somebody asked for, or the settings."""


class HostRoom(Shown):
    """The limits of one host."""

    outgoing: Room
    incoming: Room
    at_most: Count
    """What its agent has threads for, in both directions together."""


class Limits(Shown):
    """All limits in force."""

    hosts: dict[str, HostRoom]
    networks: dict[str, Room]
    migrations: Room


class LimitsAnswer(Shown):
    """Of ``vmrelay.v1.limits``."""

    changed: Count
    limits: Limits


class RollAnswer(Shown):
    """Of ``vmrelay.v1.roll``."""

    roll: str
    answer: Literal["begun", "same"]


class RollControlAnswer(Shown):
    """Of ``vmrelay.v1.roll.control``."""

    roll: str
    answer: Literal["asked"]
    host: str
    """The one that the roll is at."""
