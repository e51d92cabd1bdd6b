"""What travels from phase to phase. A baton of a newer or older version is understood as far as it goes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from worker.errors import HypervisorError, RelayError, Retry
from worker.hypervisors.base import DomainState, Move, ParamValue
from worker.hypervisors.convergence import Convergence
from worker.hypervisors.flags import MigrateFlag


class ErrorInfo(BaseModel):
    """The first error of an attempt, as it travels to the last phase."""

    model_config = ConfigDict(defer_build=True, frozen=True)

    code: str
    message: str
    phase: str
    cancelled: bool = False
    retry: Retry = Retry.PERMANENT
    after: Retry = Retry.PERMANENT

    @classmethod
    def of(cls, error: RelayError, phase: str, *, cancelled: bool = False) -> ErrorInfo:
        """What is kept of an exception."""
        if isinstance(error, HypervisorError):
            return cls(code=error.code, message=error.message, phase=phase, retry=error.retry, after=error.after)
        return cls(code=error.code, message=error.message, phase=phase, cancelled=cancelled)


class Look(BaseModel):
    """What one side showed of the domain, and when (seconds of Redis's clock)."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    shown: str
    at: float
    busy: str = ""
    """The phase that this side's agent is still in, of this very attempt."""
    assumed: bool = False
    """Nobody looked: an operator says that the host is down for good."""


class Recovering(BaseModel):
    """What a recovery knows, on its way between the two hosts."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    stage: str
    phase: str
    """The phase that was interrupted, or that nobody began."""
    host: str
    """Where that was."""
    why: str
    since: float
    """Seconds of Redis's clock."""
    epoch: int = 0
    """The interrupted phase's."""
    at: str
    """The host that looks next."""
    still: float = 0.0
    """Since when both sides show what they show."""
    acted: bool = False
    """Something was done to a copy already."""
    source: Look | None = None
    destination: Look | None = None
    dead: list[str] = Field(default_factory=list)
    """Hosts that an operator says are down for good: nothing runs there."""
    by: str = ""
    """Who asked for it; empty where nobody did."""


class Baton(BaseModel):
    """What one phase task hands to the next. Cookies and definitions in it are sealed (``seal.py``)."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    migration: str
    attempt: int
    epoch: int
    domain: str
    uuid: str
    source: str
    destination: str
    flags: int
    params: dict[str, ParamValue] = Field(default_factory=dict)
    deadline_seconds: float | None = None
    convergence: Convergence = Convergence()
    last_attempt: bool = False

    xml: str = ""
    cookie: str = ""
    uri: str = ""
    paused: bool = False
    """The guest was paused by its user when the attempt began."""
    performed: bool = False
    """Perform was started: only a look at both sides says where the domain is."""
    error: ErrorInfo | None = None
    source_state: DomainState | None = None
    destination_state: DomainState | None = None
    """What finish saw on the destination in this attempt."""
    downtime_seconds: float | None = None
    transferred_bytes: int | None = None
    total_seconds: float | None = None
    iterations: int | None = None
    recovery: Recovering | None = None
    recoveries: int = 0
    """So often this attempt was recovered and went on."""
    dead: list[str] = Field(default_factory=list)
    """Hosts that an operator says are down for good, and that were when the chain went on: no phase waits for them."""

    @property
    def was(self) -> DomainState:
        """The domain's state on the source before the attempt."""
        if self.flags & MigrateFlag.OFFLINE:
            return DomainState.SHUTOFF
        return DomainState.PAUSED if self.paused else DomainState.RUNNING

    @property
    def cancelled(self) -> bool:
        """Whether the later phases are to undo: an error happened."""
        return self.error is not None

    @property
    def move(self) -> Move:
        """The value that the drivers take."""
        return Move(self.domain, self.uuid, self.flags, self.params, self.deadline_seconds, self.convergence)

    def context(self, kind: str) -> str:
        """What a sealed cookie or definition of this attempt is bound to."""
        return f"{self.migration}/{self.attempt}/{kind}"

    def document(self) -> dict[str, Any]:
        """As JSON types."""
        return self.model_dump(mode="json", exclude_defaults=True)
