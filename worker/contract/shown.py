"""What users are shown of migrations, batches and hosts: ``-o json``, the results of tasks, the HTTP API.

Every field of these models is there unless it says otherwise. A later version may add fields, and types of events:
whoever reads them passes over what they do not know. ``document()`` of the journal's records writes them;
``tests/unit/test_shown.py`` holds the two together.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from worker.contract.names import Priority
from worker.hypervisors.base import DomainState
from worker.hypervisors.convergence import StallAction, StallKind

State = Literal["pending", "active", "backoff", "in-doubt", "ended"]
Outcome = Literal["succeeded", "failed", "cancelled", "rejected"]
PhaseName = Literal["begin", "prepare", "perform", "finish", "confirm", "recover"]
BatchKind = Literal["list", "plan", "rebalance", "drain", "return"]
BatchState = Literal["planning", "planned", "running", "paused", "cancelling", "finished"]
MoveState = Literal["waiting", "asked", "moved", "failed", "skipped", "replaced"]
AgentState = Literal["up", "draining", "no answer", "down"]
Count = Annotated[int, Field(ge=0)]
UnixTime = Annotated[float, Field(description="Seconds since 1970 of Redis's clock.")]
UnixMilliseconds = Annotated[int, Field(ge=0, description="Milliseconds since 1970 of Redis's clock.")]
ShownItem = TypeVar("ShownItem", bound=BaseModel)


class Shown(BaseModel):
    """A part of what is shown; fields of a later version are kept."""

    model_config = ConfigDict(defer_build=True, extra="allow", frozen=True, allow_inf_nan=False)


# -- migrations -------------------------------------------------------------------------------------


class Error(Shown):
    """What decided an outcome, or why something was refused."""

    code: str
    """Stable: what programs compare."""
    message: str
    """For people."""


class PhaseRun(Shown):
    """One phase of one attempt that has ended."""

    name: PhaseName
    host: str
    attempt: Annotated[int, Field(ge=1)]
    seconds: float
    queued_seconds: float
    """From the end of the phase before to this one's start."""
    error: str | None = None
    """Its code; absent where the phase went well."""


class Progress(Shown):
    """How far a running perform is. Bytes and rates are 0 where the hypervisor does not tell them."""

    percent: Annotated[int, Field(ge=0, le=100)]
    total_bytes: Count = 0
    remaining_bytes: Count = 0
    transferred_bytes: Count = 0
    """Sent so far, pages sent again included."""
    dirty_bytes_per_second: Count = 0
    bandwidth_bytes_per_second: Count = 0
    iteration: Count = 0
    expected_downtime_seconds: float | None = None
    throttle_percent: Count = 0
    """By how much the guest's CPUs are slowed down."""
    elapsed_seconds: float = 0
    postcopy: bool = False
    """The guest runs on the destination already and fetches what is missing."""
    description: str = ""


class Waiting(Shown):
    """What an attempt cannot go on without."""

    host: str
    """The one that has to come back."""
    why: str
    since: UnixMilliseconds


class Steering(Shown):
    """What is done so that perform comes to an end; each is absent where it is the default."""

    on_stall: StallAction | None = None
    timeout_seconds: float | None = None
    on_timeout: StallAction | None = None
    postcopy_after_precopy: bool | None = None


class Stalled(Shown):
    """The last verdict that a perform would not come to an end."""

    kind: StallKind
    reason: str
    iteration: Count = 0
    dirty_bytes_per_second: Count = 0
    bandwidth_bytes_per_second: Count = 0
    expected_downtime_seconds: float | None = None
    action: StallAction
    """What was done about it."""
    detail: str


class Migration(Shown):
    """One migration: the result of its task, ``vmrelay status -o json``, ``GET /v1/migrations/{id}``."""

    id: str
    state: State
    outcome: Outcome | None
    domain: str
    uuid: str
    source: str
    destination: str
    destination_name: str
    driver: str
    flags: tuple[str, ...]
    params: dict[str, Any]
    deadline_seconds: float | None
    convergence: Steering
    attempts: Count
    retries: Count
    phases: tuple[PhaseRun, ...]
    phase: PhaseName | None
    progress: Progress | None
    waiting: Waiting | None
    seconds: float | None
    downtime_seconds: float | None
    transferred_bytes: Count | None
    total_seconds: float | None
    iterations: Count | None
    stalled: Stalled | None
    warning: str | None
    error: Error | None
    requested_by: str
    reason: str
    priority: Priority
    batch: str | None
    traceparent: str | None
    created: UnixTime | None
    ended: UnixTime | None


class Event(Shown):
    """One thing that happened to a migration, a batch or a roll; its data stands beside these fields."""

    at: UnixTime
    type: str
    """What happened: the reference lists the types; a later version may have more."""


# -- batches ----------------------------------------------------------------------------------------


class Left(Shown):
    """A guest that a batch leaves where it is."""

    guest: str
    """Its uuid."""
    domain: str
    host: str
    code: str
    why: str
    unblock: str = ""
    """What would let it move."""


class Batch(Shown):
    """Many migrations asked for together, without its moves."""

    id: str
    kind: BatchKind
    state: BatchState
    hosts: tuple[str, ...]
    priority: Priority
    requested_by: str
    reason: str
    total: Count
    moved: Count
    failed: Count
    skipped: Count
    asked: Count
    waiting: Count
    in_doubt: tuple[str, ...]
    replans: Count
    planned_seconds: float | None
    notes: tuple[str, ...]
    left: tuple[Left, ...]
    traceparent: str | None
    created: UnixTime | None
    started: UnixTime | None
    ended: UnixTime | None


class BatchItem(Shown):
    """One move of a batch, and what became of it."""

    n: Annotated[int, Field(ge=1)]
    domain: str
    uuid: str | None
    source: str | None
    destination: str | None
    after: tuple[int, ...]
    planned: str | None
    state: MoveState
    migration: str | None
    code: str | None
    why: str | None


class Reason(Shown):
    """Of how many moves the same became."""

    state: Literal["failed", "skipped"]
    code: str
    number: Annotated[int, Field(ge=1)]


class Receipt(Batch):
    """What a batch comes to: the result of its task."""

    summary: str
    reasons: tuple[Reason, ...]
    failures: tuple[BatchItem, ...]
    skips: tuple[BatchItem, ...]


# -- hosts and the queue ----------------------------------------------------------------------------


class Cordon(Shown):
    """Why nothing is sent to a host."""

    by: str
    reason: str
    at: UnixMilliseconds
    batch: str
    """The drain that cordoned it; empty where there is none."""
    settings: bool
    """The settings say so: nothing that runs can undo it."""


class HostUse(Shown):
    """What the guests of a host use, and what it has for them."""

    cpu: float | None
    """The share in use of what is usable; null where it is not known."""
    memory: float | None
    at: UnixTime
    seconds: float
    """How much of the recent past it covers."""
    cpu_cores: float
    cpu_cores_usable: float
    memory_mib: Count
    memory_mib_usable: Count


class HostDomain(Shown):
    """A guest, as its host's agent published it last."""

    name: str
    uuid: str
    state: DomainState
    persistent: bool
    memory_bytes: Count


class Host(Shown):
    """One host: ``vmrelay hosts -o json``, ``GET /v1/hosts/{name}``."""

    name: str
    driver: str
    agent: AgentState
    cordoned: bool
    cordon: Cordon | None
    draining: str | None
    """The batch that empties it now."""
    outgoing: Count
    max_outgoing: Count
    incoming: Count
    max_incoming: Count
    waiting: Count
    """Attempts that cannot go on before it is back."""
    homes_away: Count
    """Guests that belong to it and were drained away."""
    load: HostUse | None
    labels: dict[str, str]
    domains: tuple[HostDomain, ...]


class Line(Shown):
    """What waits for slots at one priority."""

    priority: Priority
    number: Annotated[int, Field(ge=1)]
    oldest_seconds: float
    """How long the first of them has waited."""


class Page(Shown, Generic[ShownItem]):
    """One page of a list, newest first."""

    items: tuple[ShownItem, ...]
    next: str | None
    """The cursor of the page after this one; null where this is the last."""
