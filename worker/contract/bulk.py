"""The requests about many migrations, and about hosts."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from worker.contract.names import HostName, Ident, Name, Priority, Text, TraceParent, parsed
from worker.contract.plans import Document, Goal, Plan
from worker.contract.requests import MigrateRequest
from worker.errors import Rejected

MOST_MOVES = 20_000
OWN = ("domain", "source", "destination", "priority", "requested_by", "reason", "traceparent")
"""Fields of a migration that a batch gives itself."""


class Asked(Document):
    """The arguments of a task."""

    traceparent: TraceParent | None = None
    """The trace that it belongs to (W3C Trace Context); the message's header of that name where not given."""

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Check a request. Raises ``Rejected`` (``malformed``) that names the wrong fields."""
        return parsed(cls, document)


class BulkRequest(Asked):
    """What all requests have in common that make a batch."""

    batch: Ident | None = None
    """The batch's id, the task's own where not given. The same id again is the same batch: nothing is done twice."""
    priority: Priority = Priority.NORMAL
    """``low``, ``normal``, ``high`` or ``urgent``: the batch's share where several wait for the same slots."""
    hold: bool = False
    """Plan, and wait for ``resume`` before anything moves."""
    migration: dict[str, Any] = Field(default_factory=dict, max_length=16)
    """Fields of ``vmrelay.v1.migrate`` for every migration of it: flags, options, params, attempts, …"""
    requested_by: Text = ""
    """Who asks, for the record."""
    reason: Text = ""
    """Why, for the record."""

    @field_validator("migration")
    @classmethod
    def _migratable(cls, shared: dict[str, Any]) -> dict[str, Any]:
        if own := [name for name in OWN if name in shared]:
            raise ValueError(f"{', '.join(own)} cannot be the same for every migration of a batch, or is the batch's")
        try:
            MigrateRequest.parse({"domain": "any", "destination": "any", **shared})
        except Rejected as refusal:
            raise ValueError(refusal.message) from None
        return shared


class BatchMove(Document):
    """One migration of a list."""

    domain: Name
    """Name or uuid."""
    destination: Name
    """The host that it is sent to."""
    source: Name | None = None
    """Where it is; where not given, it is looked for when its turn comes."""
    after: tuple[int, ...] = ()
    """It starts when these moves (counted from 1) have ended well."""


class BatchRequest(BulkRequest):
    """The arguments of ``vmrelay.v1.batch``: a list of moves, or a plan."""

    moves: tuple[BatchMove, ...] = Field(default=(), max_length=MOST_MOVES)
    """In any order; each starts when there is room. Excludes ``plan``."""
    plan: Plan | None = None
    """As ``vmrelay rebalance --dry-run -o json`` made it."""
    on_change: Literal["refuse", "replan"] = "refuse"
    """What becomes of a plan that no longer fits what runs where."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.plan is None) == (not self.moves):
            raise ValueError("name moves or a plan, one of both")
        for number, move in enumerate(self.moves, 1):
            if any(not 1 <= before < number for before in move.after):
                raise ValueError(f"move {number} may only come after moves that are listed before it")
        return self


class RebalanceRequest(BulkRequest):
    """The arguments of ``vmrelay.v1.rebalance``: plan on live loads, and move."""

    goal: Goal = Goal(kind="balance")
    """``balance`` or ``consolidate``."""

    @model_validator(mode="after")
    def _kind(self) -> Self:
        if self.goal.kind not in ("balance", "consolidate"):
            raise ValueError("the goal is balance or consolidate; a drain is vmrelay.v1.drain")
        return self


class DrainRequest(BulkRequest):
    """The arguments of ``vmrelay.v1.drain``: cordon hosts and move everything away that can be moved."""

    hosts: tuple[HostName, ...] = Field(min_length=1, max_length=1000)
    """Those to be emptied, together."""
    goal: Goal | None = None
    """Ceilings, price and limits of the plan; its kind and hosts are this request's."""


class ReturnRequest(BulkRequest):
    """The arguments of ``vmrelay.v1.return``: uncordon hosts and bring back what a drain took away."""

    hosts: tuple[HostName, ...] = Field(min_length=1, max_length=1000)
    """Those whose guests come home."""


class ControlRequest(Asked):
    """The arguments of ``vmrelay.v1.control``."""

    batch: Ident
    """Its id."""
    action: Literal["pause", "resume", "cancel", "retry"]
    """``pause`` and ``cancel`` let what runs end (``abort`` cancels it, too); ``retry`` asks anew for what failed."""
    abort: bool = False
    """With ``cancel``: also cancel the migrations that run."""
    requested_by: Text = ""
    """Who asks, for the record."""


class HostRequest(Asked):
    """The arguments of ``vmrelay.v1.host``."""

    hosts: tuple[HostName, ...] = Field(min_length=1, max_length=1000)
    """All of them are judged before the first one is changed."""
    action: Literal["cordon", "uncordon"]
    """``cordon``: nothing new is sent there; what waits towards it ends. ``uncordon``: it takes domains again."""
    requested_by: Text = ""
    """Who asks, for the record, and for everybody whose migration is refused."""
    reason: Text = ""
    """Why, likewise."""


class LimitsRequest(Asked):
    """The arguments of ``vmrelay.v1.limits``: what is named is changed, ``None`` gives the settings' value back."""

    outgoing: dict[HostName, int | None] = Field(default_factory=dict)
    """How many migrations may leave a host at once."""
    incoming: dict[HostName, int | None] = Field(default_factory=dict)
    """How many may enter it."""
    networks: dict[str, int | None] = Field(default_factory=dict)
    """How many a migration network carries."""
    cluster: dict[Literal["migrations"], int | None] = Field(default_factory=dict)
    """How many run in all."""
    requested_by: Text = ""


class RollRequest(BulkRequest):
    """The arguments of ``vmrelay.v1.roll``: for each host in turn drain, wait, return."""

    hosts: tuple[HostName, ...] = Field(min_length=1, max_length=1000)
    """In this order, one at a time."""
    wait: Literal["agent", "operator"] = "operator"
    """What ends the wait for a drained host: ``operator`` (``vmrelay.v1.roll.control``, which ``vmrelay rolling``
    sends when its command has succeeded), or ``agent`` (its agent has been started anew and its hypervisor answers)."""
    back: bool = True
    """Bring each host's guests home before the next one is drained; otherwise the host is only uncordoned."""
    goal: Goal | None = None
    """Limits of each drain's plan, as of ``vmrelay.v1.drain``."""


class RollControlRequest(Asked):
    """The arguments of ``vmrelay.v1.roll.control``."""

    roll: Ident
    """Its id."""
    action: Literal["continue", "cancel"]
    """``continue``: the drained host is ready, or a stopped roll tries again. ``cancel``: it ends where it is."""
    host: HostName | None = None
    """With ``continue``: the host that is ready; refused where the roll waits for another one."""
    requested_by: Text = ""
    """Who asks, for the record."""
