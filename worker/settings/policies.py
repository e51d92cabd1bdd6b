"""Settings of how often, how long and how many."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from worker.hypervisors.base import RetryPolicy
from worker.hypervisors.convergence import StallAction, StallPolicy


class RetrySettings(BaseModel):
    """Retries inside a phase (seconds)."""

    model_config = ConfigDict(defer_build=True, extra="forbid")

    tries: int = Field(default=5, ge=1)
    """So often a call with a transient error is made again, unless the error's row allows fewer."""
    initial: float = Field(default=5.0, ge=0)
    """The first pause."""
    factor: float = Field(default=2.0, ge=1)
    """Each pause is so many times the one before."""
    maximum: float = Field(default=120.0, ge=0)
    """The longest pause, before jitter."""
    jitter: float = Field(default=0.2, ge=0, le=1)
    """Up to this share of a pause is added at random."""
    slow_initial: float = Field(default=30.0, ge=0)
    """The first pause after an error that takes long to go away (locks, shutdowns)."""
    slow_maximum: float = Field(default=600.0, ge=0)
    """The longest of those."""

    def policy(self) -> RetryPolicy:
        """The value that the drivers take."""
        return RetryPolicy(**self.model_dump())


class StallSettings(BaseModel):
    """When a running perform counts as stalled, and what is done about it."""

    model_config = ConfigDict(defer_build=True, extra="forbid")

    action: StallAction = StallAction.REPORT
    """``report``, ``abort``, ``suspend``, ``postcopy`` or ``downtime``, where the request names none.

    Where the driver cannot steer a running perform or the flags do not allow post-copy, a stall is only reported.
    """
    rounds: int = Field(default=3, ge=1)
    """So many whole rounds of copying in a row that do not get nearer to the end."""
    no_data_seconds: float = Field(default=60.0, gt=0)
    """So long without a byte sent."""
    downtime_step_seconds: float = Field(default=0.3, gt=0)
    """The action ``downtime`` raises the downtime by so much at a time."""
    downtime_limit_seconds: float = Field(default=3.0, gt=0)
    """And so far at most."""

    def policy(self) -> StallPolicy:
        """The value that the drivers take."""
        return StallPolicy(**self.model_dump(exclude={"action"}))


class AttemptSettings(BaseModel):
    """New attempts of a whole migration after a transient failure (seconds)."""

    model_config = ConfigDict(defer_build=True, extra="forbid")

    maximum: int = Field(default=3, ge=1)
    """So many attempts in all, where the request names no number."""
    initial: float = Field(default=10.0, ge=0)
    """The pause before the second attempt; up to a fifth is added at random."""
    factor: float = Field(default=2.0, ge=1)
    """Each pause is so many times the one before."""
    limit: float = Field(default=300.0, ge=0)
    """The longest pause."""


class AdmissionSettings(BaseModel):
    """Who starts next, and how many run at once."""

    model_config = ConfigDict(defer_build=True, extra="forbid")

    max_migrations: int | None = Field(default=None, ge=0)
    """So many run at once in all; no limit besides the hosts' and networks' where not given."""
    urgent_slots: int = Field(default=0, ge=0)
    """So many slots of each host and direction are left to urgent migrations, where a host has more than that."""
    heavy_memory_gib: float = Field(default=128, gt=0)
    """A guest takes one slot more for each so much memory (never more than its hosts have)."""
    heavy_dirty_mib_per_second: float = Field(default=1000, gt=0)
    """And one more for each so much memory that it writes in a second."""
    half_life_seconds: float = Field(default=60, gt=0)
    """How soon past migrations no longer count against a batch or a requester in sharing slots."""
    ageing_seconds: float = Field(default=900, gt=0)
    """What waits longer, while others with a claim to the same hosts start, has slots kept free for it."""


class PlanningSettings(BaseModel):
    """Defaults of rebalancing and draining."""

    model_config = ConfigDict(defer_build=True, extra="forbid")

    ceiling_points: float = Field(default=10, ge=0, le=100)
    """How far above the mean of all hosts, in percentage points, a host may be before it is relieved."""
    most_percent: float = Field(default=95, gt=0, le=100)
    """No guest is sent to a host that would then use more than this of its memory."""
    price_per_move_gib: float = Field(default=1, ge=0)
    """What a migration costs besides its memory, as if it moved so many GiB more."""
    plan_seconds: float = Field(default=5, gt=0, le=600)
    """How long the search for a better plan may take."""
    load_seconds: float = Field(default=10, gt=0)
    """How often an agent measures what its guests use."""
    load_window_seconds: float = Field(default=900, gt=0)
    """Over how long; the 95th percentile is planned with."""
    process_mib: int = Field(default=2048, ge=256)
    """How much memory the process that plans may take."""
    replans: int = Field(default=3, ge=0)
    """How often a batch plans anew, because a move failed or a drained host has other guests, before it ends."""
