"""The protocol that every kind of hypervisor implements, and the values its phases exchange.

The five phases are libvirt's version 3 migration protocol (``virDomainMigrateVersion3Full``).
One object drives one host; its methods may be called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from worker.errors import HypervisorError
from worker.hypervisors.convergence import Convergence, Stall, StallAction, StallPolicy, Tuning
from worker.hypervisors.usage import Usage

ParamValue = str | int | bool | list[str]


class Phase(StrEnum):
    """One phase of a migration, in the order in which they run."""

    BEGIN = "begin"
    PREPARE = "prepare"
    PERFORM = "perform"
    FINISH = "finish"
    CONFIRM = "confirm"

    @property
    def on_source(self) -> bool:
        """Whether the phase runs on the source host."""
        return self in (Phase.BEGIN, Phase.PERFORM, Phase.CONFIRM)


class DomainState(StrEnum):
    """What a host shows of a domain."""

    ABSENT = "absent"
    RUNNING = "running"
    PAUSED = "paused"
    """Paused by its user (or arrived paused, as asked for)."""
    PAUSED_OUT = "paused-out"
    """Paused on the source by an outgoing migration (after switch-over, before confirm)."""
    PAUSED_IN = "paused-in"
    """On the destination, waiting for the end of an incoming migration."""
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    MIGRATING = "migrating"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Domain:
    """One look at a domain on one host."""

    name: str
    uuid: str
    state: DomainState
    persistent: bool = True
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """What one attempt is to do: the same value goes to all five phases.

    ``domain`` is the name on the source, ``uuid`` its uuid (plain, lower case, no braces).
    ``params`` holds libvirt's typed migration parameters by wire name (``params.py``).
    ``deadline_seconds`` bounds perform; ``None`` means no deadline.
    """

    domain: str
    uuid: str
    flags: int
    params: Mapping[str, ParamValue] = field(default_factory=dict)
    deadline_seconds: float | None = None
    convergence: Convergence = field(default_factory=Convergence)

    @property
    def destination_name(self) -> str:
        """The domain's name on the destination."""
        return str(self.params.get("destination_name") or self.domain)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running perform is. Bytes and rates are 0 where the hypervisor does not tell them."""

    percent: int = 0
    total_bytes: int = 0
    remaining_bytes: int = 0
    dirty_bytes_per_second: int = 0
    bandwidth_bytes_per_second: int = 0
    iteration: int = 0
    expected_downtime_seconds: float | None = None
    description: str = ""
    transferred_bytes: int = 0
    """Sent so far, pages sent again included."""
    throttle_percent: int = 0
    """By how much the guest's CPUs are slowed down (auto-converge)."""
    elapsed_seconds: float = 0.0
    postcopy: bool = False
    """The guest runs on the destination already and fetches what is missing."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What begin returns: the domain definition and the first cookie."""

    xml: str
    cookie: bytes = b""
    paused: bool = False
    """The guest was paused by its user before the migration: it must arrive paused."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What prepare returns: where the data goes, and the cookie for perform."""

    uri: str
    cookie: bytes = b""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a migration measured; ``None`` where the hypervisor does not tell."""

    downtime_seconds: float | None = None
    transferred_bytes: int | None = None
    total_seconds: float | None = None
    """The whole job."""
    iterations: int | None = None
    """Rounds of copying memory."""


@dataclass(frozen=True, slots=True)
class Performed:
    """What perform returns: the cookie for finish, and what was measured."""

    cookie: bytes = b""
    downtime_seconds: float | None = None
    transferred_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """What finish returns: the domain as the destination shows it, and the cookie for confirm."""

    domain: Domain
    cookie: bytes = b""
    downtime_seconds: float | None = None
    transferred_bytes: int | None = None
    total_seconds: float | None = None
    """The whole job, as the destination measured it."""
    iterations: int | None = None
    """Rounds of copying memory."""
    failure: HypervisorError | None = None
    """With ``cancelled``: why the move failed, where the destination knows better than perform's error."""


class Stop(StrEnum):
    """Why a running perform is to be aborted."""

    CANCEL = "cancel"
    DEADLINE = "deadline"
    STALL = "stall"
    DRAIN = "drain"
    """The agent of one of the two hosts is being stopped, and waits no longer; another attempt follows."""


@runtime_checkable
class Watch(Protocol):
    """What a phase tells while it runs, and how it learns that it is to stop.

    A driver calls these from the thread that called the phase, at least every two seconds during
    perform; that call is also the heartbeat. A finish that lasts, because the guest fetches its memory
    from the source (post-copy), reports progress as often; there is no way back then, and nothing is stopped.
    """

    def progress(self, progress: Progress) -> None:
        """Report how far perform is, or that finish still waits for memory (``Progress.postcopy``)."""

    def stop(self) -> Stop | None:
        """Why perform is to be aborted now, or ``None``."""

    def retrying(self, error: HypervisorError, number: int, delay_seconds: float) -> None:
        """Tell that ``error`` is about to be retried, for the ``number``-th time, after a pause."""

    def tuning(self) -> Tuning | None:
        """The oldest of an operator's wishes for this perform that was not handed out yet."""

    def tuned(self, tuning: Tuning, error: HypervisorError | None) -> None:
        """Tell what became of a wish."""

    def stalled(self, stall: Stall, action: StallAction, detail: str) -> None:
        """Tell that perform does not come to an end, and what is being done about it."""


class Hypervisor(Protocol):
    """The driver of one host.

    Every method raises ``HypervisorError``; perform raises ``Cancelled`` when ``watch.stop()`` made it
    abort (for a deadline, a stall or a drain too, with that as its code) and the domain was seen to run on the
    source afterwards.
    """

    profile: str
    """Name of the flag profile (``flags.py``): ``vz``, ``vz-libvirt`` or ``qemu``."""

    def open(self) -> None:
        """Connect; the connection lives until ``close`` and is re-made when it is found lost."""

    def close(self) -> None:
        """Disconnect. Never raises."""

    def domains(self) -> list[Domain]:
        """All domains of this host, in any state."""

    def inspect(self, uuid: str) -> Domain:
        """A fresh look at one domain; state ``ABSENT`` where there is none."""

    def usage(self) -> Usage:
        """What the host has for guests, and what its running and paused ones use.

        Waits for no guest that is occupied, and changes nothing; a guest that goes away meanwhile is left out.
        """

    def begin(self, move: Move, watch: Watch) -> Begun:
        """Source: check the flags again, take the domain's definition."""

    def prepare(self, move: Move, xml: str, cookie: bytes, watch: Watch) -> Prepared:
        """Destination: check the definition, get ready to receive."""

    def perform(self, move: Move, xml: str, uri: str, cookie: bytes, watch: Watch) -> Performed:
        """Source: move the guest. May last hours. At most once per attempt."""

    def finish(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Finished:
        """Destination: let the guest run here, or (``cancelled``) drop what was received.

        After the switch to post-copy it lasts until all memory is there. With ``cancelled`` the returned
        domain says what is really there afterwards.
        """

    def confirm(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Domain:
        """Source: let go of the domain, or (``cancelled``) let it run on here.

        With ``cancelled`` the caller has seen in this attempt that the destination does not run it.
        Returns what the source shows afterwards.
        """

    def follow(self, move: Move, watch: Watch) -> Domain:
        """Source: watch over a move that goes on although the call that started it was lost with its process.

        Lasts until this host does not show the domain migrating any more, and returns what it shows then.
        ``watch`` is told, steers and stops as in perform (``move.deadline_seconds`` counts from here); nothing
        is raised for a wish to stop: whether it came in time is seen in the returned domain. Returns at once
        where nothing migrates. Raises where the host cannot be reached (TRANSIENT, or VERIFY).
        """

    def release(self, move: Move) -> Domain:
        """Source: end this host's copy of a guest as confirm would have; harmless when repeated.

        The caller has just seen the guest on the destination as it was to arrive there (never ``MIGRATING``
        or ``PAUSED_IN``). A copy that may execute here, or that post-copy still reads, is refused (VERIFY).
        Returns what is left: ``ABSENT``, or ``SHUTOFF`` where the flags leave the definition.
        """

    def measured(self, move: Move) -> Measured:
        """Source, after a confirm that was not ``cancelled``: what was measured, where perform and finish told nothing.

        May wait a second for it. Never raises: what is not known is ``None``.
        """

    def abort(self, uuid: str) -> None:
        """Source: abort a running perform of this domain. Harmless when there is none."""

    def resume(self, uuid: str) -> Domain:
        """Let a paused domain run here. The caller has looked at the other side."""

    def remove(self, uuid: str) -> None:
        """Destroy and forget this host's copy. The caller has looked at the other side."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How transient errors are retried inside a phase. Times in seconds."""

    tries: int = 5
    initial: float = 5.0
    factor: float = 2.0
    maximum: float = 120.0
    jitter: float = 0.2
    """Up to this share of a pause is added at random."""
    slow_initial: float = 30.0
    slow_maximum: float = 600.0


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What a driver needs to know of its host."""

    name: str
    uri: str
    address: str
    """Host name or address (optionally ``:port``) at which other hosts reach it for migration data."""
    retry: RetryPolicy = RetryPolicy()
    poll_seconds: float = 0.5
    """How often a running perform is looked at."""
    peer_uri: str = ""
    """Where other hosts' daemons reach this one's (peer-to-peer migration); empty where they cannot."""
    stall: StallPolicy = field(default_factory=StallPolicy)
