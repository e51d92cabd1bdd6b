"""What guests use of their hosts: from looks to the loads that agents publish and planning reads. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.hypervisors.usage import MIB, GuestUsage, Usage

PERCENTILE = 0.95
"""Planned with what a guest uses most of the time: a mean hides the hours in which it is busy, a peak wastes hosts."""


@dataclass(frozen=True, slots=True)
class GuestLoad:
    """What one guest uses."""

    cpu: float
    """Cores in use: the 95th percentile of the time that ``seconds`` covers."""
    memory_mib: int
    """What it occupies on its host, overhead included."""
    dirty: float = 0.0
    """MiB that it writes in a second; 0 where nobody has measured it."""
    seconds: float = 0.0
    """How much of the recent past was measured."""
    left: int = 0
    """When the guest had left the host (Redis's clock, milliseconds); 0 where it is there."""

    def document(self) -> dict[str, Any]:
        """As the journal keeps it."""
        shown: dict[str, Any] = {"cpu": round(self.cpu, 3), "memory_mib": self.memory_mib}
        shown |= {"dirty": round(self.dirty, 1)} if self.dirty else {}
        return shown | {"seconds": round(self.seconds, 1)} | ({"left": self.left} if self.left else {})


@dataclass(frozen=True, slots=True)
class HostLoad:
    """What one host has, and what its guests use of it."""

    at: int
    """When it was measured (Redis's clock, milliseconds)."""
    seconds: float
    """How much of the recent past it covers."""
    cpu_cores: float
    """What the host has for guests; 0 where it is not known."""
    memory_mib: int
    guests: Mapping[str, GuestLoad] = field(default_factory=dict)
    """By uuid; those that left within the window, too."""

    @property
    def present(self) -> dict[str, GuestLoad]:
        """The guests that are there."""
        return {uuid: load for uuid, load in self.guests.items() if not load.left}

    def document(self) -> dict[str, Any]:
        """As the journal keeps it."""
        return {
            "at": self.at,
            "seconds": round(self.seconds, 1),
            "cpu_cores": self.cpu_cores,
            "memory_mib": self.memory_mib,
            "guests": {uuid: load.document() for uuid, load in self.guests.items()},
        }


@dataclass(frozen=True, slots=True)
class Span:
    """A time between two looks."""

    end: float
    """In seconds of the monotonic clock."""
    seconds: float
    cores: float
    """In use on average."""

    def since(self, start: float) -> float:
        """So much of it, in seconds, is after ``start``."""
        return min(self.seconds, max(self.end - start, 0.0))


@dataclass(slots=True)
class _Track:
    """One guest's past."""

    spans: deque[Span] = field(default_factory=deque)
    memory_mib: int = 0
    dirty: float = 0.0
    counter: tuple[float, float] | None = None
    """When its CPU time was last told, and how much it was."""
    gone: float | None = None
    """Since when it is not here any more."""

    def take(self, guest: GuestUsage, at: float, cpus: float) -> None:
        """Take in what one look shows. A counter that has begun anew starts a new span."""
        before = None if self.gone is not None else self.counter
        self.gone = None
        self.memory_mib = -(-guest.memory_bytes // MIB)
        self.dirty = guest.dirty_bytes_per_second / MIB
        self.counter = None if guest.cpu_seconds is None else (at, guest.cpu_seconds)
        if before and self.counter and at > before[0] and self.counter[1] >= before[1]:
            seconds = at - before[0]
            cores = (self.counter[1] - before[1]) / seconds
            self.spans.append(Span(at, seconds, min(cores, cpus) if cpus else cores))


class History:
    """What the guests of one host used within a window of time, look by look."""

    def __init__(self, window_seconds: float) -> None:
        self._window = window_seconds
        self._tracks: dict[str, _Track] = {}
        self._first: float | None = None
        self._last: Usage | None = None

    def resume(self, before: HostLoad, at: float, age_seconds: float) -> None:
        """Go on with what a former process measured, ``age_seconds`` before ``at``: as one span at its percentile."""
        taken = at - age_seconds
        self._first = taken - before.seconds
        for uuid, load in before.guests.items():
            gone = taken - max(before.at - load.left, 0) / 1000 if load.left else None
            spans = deque([Span(taken if gone is None else gone, load.seconds, load.cpu)] if load.seconds else [])
            self._tracks[uuid] = _Track(spans, load.memory_mib, load.dirty, None, gone)

    def add(self, look: Usage) -> None:
        """Take in one look."""
        self._first = look.at if self._first is None else self._first
        self._last = look
        here = set()
        for guest in look.guests:
            here.add(guest.uuid)
            self._tracks.setdefault(guest.uuid, _Track()).take(guest, look.at, look.cpus)
        start = look.at - self._window
        for uuid, track in list(self._tracks.items()):
            while track.spans and track.spans[0].end <= start:
                track.spans.popleft()
            if uuid not in here:
                track.gone = look.at if track.gone is None else track.gone
                if not track.spans or track.gone <= start:
                    del self._tracks[uuid]

    def load(self, now_ms: int) -> HostLoad:
        """The loads at the last look, which was just made: at ``now_ms`` of Redis's clock. There must be one."""
        last, first = self._last, self._first
        if last is None or first is None:
            raise ValueError("there was no look yet")
        start = last.at - self._window
        guests = {}
        for uuid, track in sorted(self._tracks.items()):
            left = 0 if track.gone is None else now_ms - round((last.at - track.gone) * 1000)
            spans = [(span.cores, span.since(start)) for span in track.spans]
            cores, seconds = percentile(spans), sum(seconds for _, seconds in spans)
            guests[uuid] = GuestLoad(cores, track.memory_mib, track.dirty, seconds, left)
        covered = min(last.at - first, self._window)
        return HostLoad(now_ms, covered, last.cpus, last.memory_bytes // MIB, guests)


def percentile(values: Iterable[tuple[float, float]], share: float = PERCENTILE) -> float:
    """The least of these values that is not exceeded for ``share`` of the time; each comes with how long it held."""
    ordered = sorted(values)
    left = sum(seconds for _, seconds in ordered) * share
    for value, seconds in ordered:
        left -= seconds
        if left <= 1e-9:
            return value
    return ordered[-1][0] if ordered else 0.0


def from_document(told: Mapping[str, Any]) -> HostLoad:
    """What ``HostLoad.document`` wrote; a field that this version does not know is left out."""
    return HostLoad(
        at=int(told["at"]),
        seconds=float(told.get("seconds", 0)),
        cpu_cores=float(told.get("cpu_cores", 0)),
        memory_mib=int(told.get("memory_mib", 0)),
        guests={
            uuid: GuestLoad(
                cpu=float(load.get("cpu", 0)),
                memory_mib=int(load.get("memory_mib", 0)),
                dirty=float(load.get("dirty", 0)),
                seconds=float(load.get("seconds", 0)),
                left=int(load.get("left", 0)),
            )
            for uuid, load in told.get("guests", {}).items()
        },
    )
