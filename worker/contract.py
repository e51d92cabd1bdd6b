"""What travels: the request that a web application enqueues, and the baton between phases.

Both are JSON documents. A request is refused when it holds an unknown field; a baton written by a newer
or older version is understood as far as it goes.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from worker.errors import HypervisorError, Rejected, RelayError, Retry
from worker.hypervisors.base import DomainState, Move, ParamValue
from worker.hypervisors.convergence import Convergence, StallAction, TuningKind
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.params import out_of_range

MIGRATE = "vmrelay.v1.migrate"
CANCEL = "vmrelay.v1.cancel"
TUNE = "vmrelay.v1.tune"
RESOLVE = "vmrelay.v1.resolve"
RETRY = "vmrelay.v1.retry"
PHASE = "vmrelay.v1.phase."
"""Task names: ``PHASE + "begin"`` and so on."""
SCHEDULER_QUEUE = "scheduler"
RECOVER = "recover"
"""What follows ``PHASE`` in the task that recovers an interrupted attempt; no phase of libvirt's."""
PROGRESS = "PROGRESS"
"""The custom Celery state of a migration under way."""

IDENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
"""A migration's id is the id of the task that asked for it, and part of the names of Redis keys."""

Ident = Annotated[str, StringConstraints(pattern=f"^{IDENT.pattern}$", max_length=128)]
NAME = re.compile(r"[^\x00-\x1f/]{1,255}")
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f/]+$")]
FlagText = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Value = Annotated[str, StringConstraints(max_length=262_144, pattern=r"^[^\x00]*$")]


def canonical(document: dict[str, Any]) -> str:
    """The one way in which a document is written, so that two copies can be compared as text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class MigrateRequest(BaseModel):
    """The arguments of ``vmrelay.v1.migrate``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    domain: Name
    """Name or uuid."""
    destination: Name
    """A host of the inventory."""
    source: Name | None = None
    """The host on which the domain must be now; looked up where not given."""
    flags: int | FlagText | list[Name] | None = None
    """A raw flag set, checked strictly: a mask, ``"LIVE,PAUSED"`` or a list of names. Excludes ``options``."""
    options: dict[Name, bool | None] = Field(default_factory=dict, max_length=64)
    """Tri-state options by lower-case flag name; what is not given takes the driver's default."""
    params: dict[Name, Value | int | bool | list[Value]] = Field(default_factory=dict, max_length=64)
    """libvirt's typed migration parameters by wire name."""
    deadline_seconds: float | None = Field(default=None, gt=0, le=30 * 86400)
    """Abort a perform that takes longer; ``perform_deadline_seconds`` of the settings where not given."""
    attempts: int | None = Field(default=None, ge=1, le=20)
    """So many attempts in all after transient failures; ``attempts.maximum`` where not given."""
    on_stall: StallAction | None = None
    """What to do about a perform that does not converge; ``stall.action`` of the settings where not given."""
    timeout_seconds: float | None = Field(default=None, gt=0, le=30 * 86400)
    """After so many seconds of perform do ``on_timeout`` (``virsh migrate --timeout``)."""
    on_timeout: Literal[StallAction.SUSPEND, StallAction.POSTCOPY] | None = None
    """``suspend`` (the default) or ``postcopy``; needs ``timeout_seconds``."""
    postcopy_after_precopy: bool = False
    """Switch to post-copy after the first round of copying; needs POSTCOPY."""
    requested_by: Text = ""
    """Who asks, for the record."""
    reason: Text = ""
    """Why, for the record."""

    @field_validator("on_stall", "on_timeout", mode="before")
    @classmethod
    def _action(cls, value: object) -> object:
        return StallAction(value) if isinstance(value, str) and value in list(StallAction) else value

    @field_validator("deadline_seconds", "timeout_seconds", mode="before")
    @classmethod
    def _whole_seconds(cls, value: object) -> object:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("params")
    @classmethod
    def _sensible(cls, params: dict[str, Any]) -> dict[str, Any]:
        wrong = [text for name, value in params.items() if (text := out_of_range(name, value))]
        there = params.get("destination_name")
        # libvirt makes paths of it: "a/b" was a directory of the destination.
        if isinstance(there, str) and (there in (".", "..") or not NAME.fullmatch(there)):
            wrong.append(
                "destination_name is 1 to 255 characters, without '/' and control characters, and no '.' or '..'"
            )
        if wrong:
            raise ValueError("; ".join(wrong))
        return params

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Check a request. Raises ``Rejected`` (``malformed``) that names every wrong field."""
        request = _parsed(cls, document)
        if request.flags is not None and request.options:
            raise Rejected("the request names both flags and options; name one", code="malformed")
        return request


TUNING_RANGES = {
    TuningKind.DOWNTIME: (1, 2_000_000),
    TuningKind.SPEED: (1, 8_796_093_022_207),
    TuningKind.POSTCOPY_SPEED: (0, 17_592_186_044_415),
}
"""What a tuning may be set to, ends included: QEMU allows 2000 s of downtime, the rest is libvirt's."""


class TuneRequest(BaseModel):
    """The arguments of ``vmrelay.v1.tune``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    migration: Ident
    """The id of a migration that performs now."""
    kind: TuningKind
    """``set-downtime``, ``set-speed``, ``set-postcopy-speed`` or ``postcopy``."""
    value: int | None = None
    """Milliseconds for ``set-downtime``; MiB/s for a speed, where 0 (after the switch only) is no limit."""
    requested_by: Text = ""
    """Who asks, for the record."""

    @field_validator("kind", mode="before")
    @classmethod
    def _kind(cls, value: object) -> object:
        return TuningKind(value) if isinstance(value, str) and value in list(TuningKind) else value

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        limits = TUNING_RANGES.get(self.kind)
        if limits is None:
            if self.value is not None:
                raise ValueError(f"{self.kind} takes no value")
        elif self.value is None or not limits[0] <= self.value <= limits[1]:
            unit = "milliseconds" if self.kind is TuningKind.DOWNTIME else "MiB/s"
            raise ValueError(f"{self.kind} takes a value of {limits[0]} to {limits[1]} {unit}")
        return self

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Check a request. Raises ``Rejected`` (``malformed``) that names every wrong field."""
        return _parsed(cls, document)


class ResolveRequest(BaseModel):
    """The arguments of ``vmrelay.v1.resolve``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    migration: Ident
    """The id of a migration that is in doubt, or that nobody carries on."""
    assume_dead: Name | None = None
    """One of its two hosts, which is powered off or fenced: whatever it had of the guest is taken to be gone."""
    requested_by: Text = ""
    """Who asks, for the record."""

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Check a request. Raises ``Rejected`` (``malformed``) that names every wrong field."""
        return _parsed(cls, document)


class RetryRequest(BaseModel):
    """The arguments of ``vmrelay.v1.retry``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    migration: Ident
    """The id of a migration that failed, was cancelled, or waits for its next attempt."""
    requested_by: Text = ""
    """Who asks, for the record."""

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Check a request. Raises ``Rejected`` (``malformed``) that names every wrong field."""
        return _parsed(cls, document)


Request = TypeVar("Request", bound=BaseModel)


def _parsed(model: type[Request], document: dict[str, Any]) -> Request:
    try:
        return model.model_validate(document)
    except ValidationError as wrong:
        fields = {".".join(map(str, error["loc"][:2]))[:80]: error["msg"] for error in wrong.errors()[:10]}
        listing = "; ".join(f"{field}: {text}" if field else text for field, text in fields.items())
        raise Rejected(f"the request is malformed: {listing}", code="malformed") from None


class ErrorInfo(BaseModel):
    """The first error of an attempt, as it travels to the last phase."""

    model_config = ConfigDict(frozen=True)

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

    model_config = ConfigDict(frozen=True, extra="ignore")

    shown: str
    at: float
    busy: str = ""
    """The phase that this side's agent is still in, of this very attempt."""
    assumed: bool = False
    """Nobody looked: an operator says that the host is down for good."""


class Recovering(BaseModel):
    """What a recovery knows, on its way between the two hosts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

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

    model_config = ConfigDict(frozen=True, extra="ignore")

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
