"""What the contract suite knows of a kind of hypervisor: a pair of hosts and a way to make guests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from worker.errors import HypervisorError
from worker.hypervisors.base import DomainState, Hypervisor, Move, Progress, Stall, StallAction, Stop, Tuning
from worker.hypervisors.flags import MigrateFlag

PATIENCE_SECONDS = 20.0


class Guests(Protocol):
    """How a kind of hypervisor makes a running guest on the source."""

    def __call__(self, *, endless: bool = False) -> str:
        """Its uuid; an ``endless`` one is still being copied when the test is long over."""


@dataclass
class Pair:
    """A source and a destination, opened, and the flags that a plain live migration needs there."""

    source: Hypervisor
    destination: Hypervisor
    guests: Guests
    flags: MigrateFlag

    def move(self, *, endless: bool = False, flags: MigrateFlag | None = None, **params: str) -> Move:
        """A new guest on the source, and what is to be done with it."""
        uuid = self.guests(endless=endless)
        name = self.source.inspect(uuid).name
        return Move(name, uuid, int(flags if flags is not None else self.flags), params)

    def turned(self) -> Pair:
        """The way back."""
        return Pair(self.destination, self.source, self.guests, self.flags)

    def states(self, uuid: str) -> tuple[DomainState, DomainState]:
        """What source and destination show."""
        return self.source.inspect(uuid).state, self.destination.inspect(uuid).state


@dataclass
class Recorder:
    """A ``Watch`` that remembers, and stops when told to or at the first progress of the guest's memory."""

    stop_at: Callable[[Progress], bool] = lambda _: False
    wish: Stop | None = None
    seen: list[Progress] = field(default_factory=list)
    retried: list[HypervisorError] = field(default_factory=list)
    stalls: list[tuple[Stall, StallAction, str]] = field(default_factory=list)

    def progress(self, progress: Progress) -> None:
        self.seen.append(progress)
        if self.stop_at(progress):
            self.wish = Stop.CANCEL

    def stop(self) -> Stop | None:
        return self.wish

    def retrying(self, error: HypervisorError, number: int, delay_seconds: float) -> None:
        self.retried.append(error)

    def tuning(self) -> Tuning | None:
        """Nobody wishes anything."""
        return None

    def tuned(self, tuning: Tuning, error: HypervisorError | None) -> None:
        """Nothing was wished."""

    def stalled(self, stall: Stall, action: StallAction, detail: str) -> None:
        """Remember a stall."""
        self.stalls.append((stall, action, detail))


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, or fail."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.01)
