"""What a planner is asked, and what it answers: documents that travel as JSON, and lie in files.

Memory is MiB, CPU is cores in use, time is seconds. Guests are named by uuid (``id``); names are for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.contract.names import HostName, Name, Text

Share = Annotated[float, Field(ge=0)]
"""A part of a host's capacity: 1.0 is all of it."""


class Document(BaseModel):
    """An immutable part of a plan or of a problem; an unknown field is refused, and a number that JSON cannot hold."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, allow_inf_nan=False)


class HostSpec(Document):
    """A host as a planner sees it."""

    name: HostName
    kind: str = ""
    """Its driver; a guest moves between hosts of one kind only."""
    cpu_cores: float = Field(default=0, ge=0)
    """0 where it is not known: its CPU is not planned."""
    memory_mib: int = Field(ge=0)
    reserve_cpu_cores: float = Field(default=0, ge=0)
    """Kept free of guests."""
    reserve_memory_mib: int = Field(default=0, ge=0)
    labels: dict[str, str] = Field(default_factory=dict)
    takes: bool = True
    """Whether guests may be sent here."""
    gives: bool = True
    """Whether guests can leave it now."""
    why: Text = ""
    """Why it does not take, or does not give: ``cordoned``, ``its agent is away``, …"""
    max_outgoing: int = Field(default=2, ge=0)
    max_incoming: int = Field(default=2, ge=0)
    network: str = ""
    """The migration network that it sends and receives over; see ``Problem.networks``."""
    mib_per_second: float = Field(default=1000, gt=0)
    """What its migration link carries, shared by the migrations that leave or enter it."""


class GuestSpec(Document):
    """A guest as a planner sees it."""

    id: str = Field(min_length=1, max_length=255)
    name: Name
    host: HostName
    cpu_cores: float = Field(default=0, ge=0)
    """In use (a high percentile of the recent past)."""
    memory_mib: int = Field(ge=0)
    """What it occupies on its host, overhead included."""
    dirty_mib_per_second: float = Field(default=0, ge=0)
    """How fast it writes memory; only durations follow from it."""
    requires: dict[str, str] = Field(default_factory=dict)
    """Labels that its host must have."""
    pinned: Text = ""
    """Why it must stay where it is; empty where it may move."""
    home: str = ""
    """The host that it was drained from."""


class Rule(Document):
    """What must hold between guests, or between guests and hosts."""

    name: str
    kind: Literal["apart", "together", "among"]
    """``apart``: no two of the guests on one host (or on hosts that share ``label``); ``together``: all of them on
    one host; ``among``: all of them within one of ``parts`` (or on hosts that share ``label``)."""
    guests: tuple[str, ...]
    """Ids."""
    label: str = ""
    """Hosts of which this label is equal (a rack, a zone) count as one with ``apart``, and are one part with ``among``
    that names no ``parts``. A host without it is one by itself with ``apart``, and of no part with ``among``."""
    parts: tuple[tuple[HostName, ...], ...] = ()
    """With ``among``: sets of hosts."""

    def sets(self, hosts: Iterable[HostSpec]) -> tuple[tuple[HostName, ...], ...]:
        """``among``: the sets of hosts of which its guests have to share one, in the order of ``parts`` or of hosts."""
        if self.parts or not self.label:
            return self.parts
        found: dict[str, list[HostName]] = {}
        for host in hosts:
            if (value := host.labels.get(self.label)) is not None:
                found.setdefault(value, []).append(host.name)
        return tuple(map(tuple, found.values()))


class Goal(Document):
    """What a plan is for."""

    kind: Literal["balance", "drain", "consolidate", "place"]
    """``balance``: every host under its ceiling with the least memory moved. ``drain``: nothing left on ``hosts``.
    ``consolidate``: as few hosts in use as possible. ``place``: each guest of ``targets`` there."""
    hosts: tuple[HostName, ...] = ()
    """``drain``: those to be emptied. Otherwise: only guests of these hosts are moved (all hosts where empty)."""
    targets: dict[str, HostName] = Field(default_factory=dict)
    """With ``place``: the guest's id and its host-to-be."""
    ceiling_points: float = Field(default=10, ge=0, le=100)
    """With ``balance``: how many percentage points of CPU and memory a host may be above the mean of the hosts of its
    kind that take guests."""
    ceiling_percent: float | None = Field(default=None, gt=0, le=100)
    """Instead of ``ceiling_points``: the ceiling itself, in percent of a host's capacity less its reserve."""
    most_percent: float = Field(default=98, gt=0, le=100)
    """No guest is sent to a host that would then use more than this of its memory less its reserve, at any step."""
    price_per_move_gib: float = Field(default=1, ge=0)
    """What a migration costs besides its memory, as if it moved so many GiB more: a higher price makes fewer moves."""
    max_moves: int | None = Field(default=None, ge=0)
    """At most so many migrations."""
    max_gib: float | None = Field(default=None, ge=0)
    """At most so much memory moved, in GiB."""
    max_minutes: float | None = Field(default=None, ge=0)
    """Only what is expected to end so soon."""
    select: tuple[Name, ...] = ()
    """Only these guests (names or ids, ``*`` allowed) may move."""
    exclude: tuple[Name, ...] = ()
    """These may not."""
    seed: int = 1
    """The same problem with the same seed makes the same plan."""
    plan_seconds: float = Field(default=5, gt=0, le=600)
    """How long the search may take."""


class Problem(Document):
    """Everything that a plan follows from. The same problem and seed make the same plan."""

    version: Literal[1] = 1
    hosts: tuple[HostSpec, ...]
    guests: tuple[GuestSpec, ...]
    rules: tuple[Rule, ...] = ()
    goal: Goal
    networks: dict[str, int] = Field(default_factory=dict)
    """How many migrations each migration network carries at once."""
    max_migrations: int | None = Field(default=None, ge=0)
    """How many run at once in all."""
    taken: float | None = None
    """When the loads were taken (Unix time)."""
    stale: tuple[str, ...] = ()
    """Hosts whose loads are old, and why; for people."""


class Step(Document):
    """One migration of a plan."""

    n: int = Field(ge=1)
    guest: str
    domain: Name
    source: HostName
    destination: HostName
    memory_mib: int
    cpu_cores: float = 0
    seconds: float = 0
    """How long it is expected to take."""
    start: float = 0
    """When it is expected to start, from the plan's start."""
    after: tuple[int, ...] = ()
    """It fits only when these have ended well."""
    why: Text = ""
    """``cpu 92 % above 80 %``, ``drain h7``, ``make room for vm12``, ``bounce 1 of 2``, …"""
    bounce: int = Field(default=0, ge=0, le=2)
    """1: to a host in between, 2: from there to where it belongs, 0: neither."""


class Left(Document):
    """A guest that the plan leaves where it is although the goal wanted it elsewhere (or it could not be moved)."""

    guest: str
    domain: Name
    host: HostName
    code: str
    """``pinned``, ``no-room``, ``no-host``, ``rule``, ``stuck``, ``limit``, ``excluded``, ``not-worth``,
    ``host-away``, ``state``."""
    why: Text
    unblock: Text = ""
    """What would let it move: ``96 GiB more on any of h3, h9``."""


class Load(Document):
    """How full a host is, as shares of its capacity less its reserve."""

    cpu: Share
    memory: Share
    guests: int


class HostView(Document):
    """A host before, during and after a plan."""

    name: HostName
    before: Load
    after: Load
    peak_memory: Share
    """The most at any moment, guests on their way in included."""
    ceiling_cpu: Share
    ceiling_memory: Share
    incoming: int = 0
    outgoing: int = 0


class Spread(Document):
    """Largest, mean and standard deviation over all hosts."""

    most: Share
    mean: Share
    deviation: Share


class Totals(Document):
    """A plan in numbers."""

    moves: int = 0
    gib: float = 0
    bounces: int = 0
    bounce_gib: float = 0
    """Included in ``gib``."""
    seconds: float = 0
    """Expected, with as many at once as the limits allow."""
    serial_seconds: float = 0
    """Expected, one after the other."""
    bound_seconds: float = 0
    """No order can be faster: what the busiest host has to send or receive, and how long memory is held twice."""
    peak_concurrent: int = 0
    hot_before: int = 0
    """Hosts above their ceiling."""
    hot_after: int = 0
    cpu_before: Spread
    cpu_after: Spread
    memory_before: Spread
    memory_after: Spread


class Impossible(Document):
    """Something that no plan can do, by name."""

    code: str
    """``guest-too-big``, ``rule-too-big``, ``pinned-on-drained``, ``demand-over-ceiling``, ``unknown-guest``, …"""
    subject: str
    """The guest, the host or the rule."""
    why: Text
    unblock: Text = ""


class Gain(Document):
    """What the first moves of a plan achieve."""

    moves: int
    gib: float
    excess_left: Share
    """How much of what was above the ceilings is left."""


class Plan(Document):
    """A plan that was checked step by step."""

    version: Literal[1] = 1
    id: str
    """``p-`` and a hash of everything else but the times: the same plan has the same id."""
    goal: Goal
    made: float = 0
    """Unix time."""
    taken: float | None = None
    stale: tuple[str, ...] = ()
    status: Literal["nothing-to-do", "optimal", "bounded", "best-effort", "impossible"]
    """``optimal``: no plan moves less. ``bounded``: ``gap`` says how much less one could move at most.
    ``best-effort``: not everything that was asked for; ``left`` and ``impossible`` say what and why.
    ``impossible``: nothing of it can be done."""
    bound_gib: float = 0
    """No plan that reaches the goal moves less."""
    gap: float | None = None
    """(moved - bound) / bound, bounces not counted; ``None`` where no bound is known."""
    totals: Totals
    steps: tuple[Step, ...] = ()
    left: tuple[Left, ...] = ()
    stuck: tuple[Left, ...] = ()
    """Moves that no order can do without breaking a limit."""
    hosts: tuple[HostView, ...] = ()
    impossible: tuple[Impossible, ...] = ()
    gains: tuple[Gain, ...] = ()
    """The gain of stopping early."""
    notes: tuple[Text, ...] = ()
    """What would be cheaper or possible with other limits, and what was left out (no solver, time)."""
    spent_seconds: float = 0
    """How long planning took."""
