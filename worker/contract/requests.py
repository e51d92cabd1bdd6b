"""The requests about one migration that an application or a command enqueues. An unknown field is refused."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from worker.contract.names import NAME, FlagText, Ident, Name, Priority, Text, TraceParent, Value, parsed
from worker.errors import Rejected
from worker.hypervisors.convergence import StallAction, TuningKind
from worker.hypervisors.params import out_of_range


class MigrateRequest(BaseModel):
    """The arguments of ``vmrelay.v1.migrate``."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, strict=True)

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
    priority: Priority = Priority.NORMAL
    """``low``, ``normal``, ``high`` or ``urgent``: whose turn it is where several wait for the same slots."""
    requested_by: Text = ""
    """Who asks, for the record; requests of one requester share their turns."""
    reason: Text = ""
    """Why, for the record."""
    traceparent: TraceParent | None = None
    """The trace that it belongs to (W3C Trace Context); the message's header of that name where not given."""

    @field_validator("priority", mode="before")
    @classmethod
    def _priority(cls, value: object) -> object:
        return Priority(value) if isinstance(value, str) and value in list(Priority) else value

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
        request = parsed(cls, document)
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

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, strict=True)

    migration: Ident
    """The id of a migration that performs now."""
    kind: TuningKind
    """``set-downtime``, ``set-speed``, ``set-postcopy-speed`` or ``postcopy``."""
    value: int | None = None
    """Milliseconds for ``set-downtime``; MiB/s for a speed, where 0 (after the switch only) is no limit."""
    requested_by: Text = ""
    """Who asks, for the record."""
    traceparent: TraceParent | None = None
    """The trace that it belongs to (W3C Trace Context); the message's header of that name where not given."""

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
        return parsed(cls, document)


class CancelRequest(BaseModel):
    """The arguments of ``vmrelay.v1.cancel``."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, strict=True)

    migration: Ident
    """The id of a migration that is not over."""
    requested_by: str = ""
    """Who asks, for the record, which has the first 200 characters."""
    traceparent: TraceParent | None = None
    """The trace that it belongs to (W3C Trace Context); the message's header of that name where not given."""

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Check a request. Raises ``Rejected`` (``malformed``) that names every wrong field."""
        return parsed(cls, document)


class ResolveRequest(BaseModel):
    """The arguments of ``vmrelay.v1.resolve``."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, strict=True)

    migration: Ident
    """The id of a migration that is in doubt, or that nobody carries on."""
    assume_dead: Name | None = None
    """One of its two hosts, which is powered off or fenced: whatever it had of the guest is taken to be gone."""
    requested_by: Text = ""
    """Who asks, for the record."""
    traceparent: TraceParent | None = None
    """The trace that it belongs to (W3C Trace Context); the message's header of that name where not given."""

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Check a request. Raises ``Rejected`` (``malformed``) that names every wrong field."""
        return parsed(cls, document)


class RetryRequest(BaseModel):
    """The arguments of ``vmrelay.v1.retry``."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, strict=True)

    migration: Ident
    """The id of a migration that failed, was cancelled, or waits for its next attempt."""
    requested_by: Text = ""
    """Who asks, for the record."""
    traceparent: TraceParent | None = None
    """The trace that it belongs to (W3C Trace Context); the message's header of that name where not given."""

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Check a request. Raises ``Rejected`` (``malformed``) that names every wrong field."""
        return parsed(cls, document)
