"""How a running perform is brought to its end: what may be wished for it, and what is said of one that stalls."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StallAction(StrEnum):
    """What is done about a perform that will not come to an end by itself."""

    REPORT = "report"
    """Say so, and go on."""
    ABORT = "abort"
    """Give up: the guest runs on where it is."""
    SUSPEND = "suspend"
    """Pause the guest until it has moved, so that it dirties no more memory."""
    POSTCOPY = "postcopy"
    """Let it run on the destination and fetch the rest from there (needs the flag POSTCOPY)."""
    DOWNTIME = "downtime"
    """Allow it to stand still a step longer, again and again up to a limit."""


@dataclass(frozen=True, slots=True)
class Convergence:
    """What perform does so that it comes to an end. Drivers that cannot steer a running perform ignore it."""

    on_stall: StallAction = StallAction.REPORT
    timeout_seconds: float | None = None
    """After so many seconds of perform ``on_timeout`` is done (``virsh migrate --timeout``)."""
    on_timeout: StallAction = StallAction.SUSPEND
    """``SUSPEND`` (``--timeout-suspend``) or ``POSTCOPY`` (``--timeout-postcopy``)."""
    postcopy_after_precopy: bool = False
    """Switch to post-copy after the first round of copying (``--postcopy-after-precopy``)."""


class TuningKind(StrEnum):
    """What can be changed about a running perform."""

    DOWNTIME = "set-downtime"
    """``virDomainMigrateSetMaxDowntime``: milliseconds."""
    SPEED = "set-speed"
    """``virDomainMigrateSetMaxSpeed``: MiB/s."""
    POSTCOPY_SPEED = "set-postcopy-speed"
    """The same with ``VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY``: MiB/s after the switch."""
    POSTCOPY = "postcopy"
    """``virDomainMigrateStartPostCopy``; no value."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """An operator's wish for a running perform."""

    id: str
    kind: TuningKind
    value: int = 0


class StallKind(StrEnum):
    """Why a perform will not come to an end by itself."""

    NOT_CONVERGING = "not-converging"
    """Memory is dirtied as fast as it is copied, round after round."""
    NO_DATA = "no-data"
    """Nothing has been sent for a while."""
    TIMEOUT = "timeout"
    """It still goes on after ``Convergence.timeout_seconds``."""


@dataclass(frozen=True, slots=True)
class Stall:
    """The verdict on a perform, with the numbers it was reached from in ``reason``."""

    kind: StallKind
    reason: str
    iteration: int = 0
    dirty_bytes_per_second: int = 0
    bandwidth_bytes_per_second: int = 0
    expected_downtime_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StallPolicy:
    """When a running perform counts as stalled, and how far its downtime may be raised."""

    rounds: int = 3
    """So many whole rounds of copying in a row that do not get nearer to the end."""
    no_data_seconds: float = 60.0
    """So long without a byte sent."""
    downtime_step_seconds: float = 0.3
    """``StallAction.DOWNTIME`` raises the downtime by so much at a time."""
    downtime_limit_seconds: float = 3.0
    """And so far at most."""
