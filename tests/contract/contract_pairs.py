"""What the contract suite knows of a kind of hypervisor: a pair of hosts, guests, and how the kinds truly differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from libvirt_lab import Recorder as RecordingWatch

from worker.errors import RelayError
from worker.hypervisors.base import (
    Begun,
    Domain,
    DomainState,
    Finished,
    Hypervisor,
    Move,
    ParamValue,
    Performed,
    Phase,
    Prepared,
    Progress,
    Stop,
)
from worker.hypervisors.flags import MigrateFlag

PATIENCE_SECONDS = 30.0

States = tuple[DomainState, DomainState]
"""What source and destination show."""


class Guests(Protocol):
    """How a kind of hypervisor makes guests on the source, and does to them what their users do."""

    def start(self, *, endless: bool = False) -> str:
        """The uuid of a new running one; an ``endless`` one is still being copied when the test is long over."""

    def enter(self, uuid: str, state: DomainState) -> None:
        """Its user pauses it or switches it off."""


@dataclass(frozen=True)
class Kind:
    """In what the kinds of hypervisor differ, and may."""

    flags: MigrateFlag
    """What a plain live migration needs."""
    shows: Mapping[Phase, States]
    """What is seen after each phase of a migration that goes well."""
    copying: States
    """And during perform."""
    aborted: type[RelayError]
    """How perform ends that was aborted by a call of ``abort``: did the driver's own watch say so, or the host?"""
    endless: Mapping[str, ParamValue] = field(default_factory=dict)
    """Parameters with which the copying of an endless guest never ends."""


@dataclass
class Pair:
    """A source and a destination, opened."""

    source: Hypervisor
    destination: Hypervisor
    guests: Guests
    kind: Kind

    @property
    def flags(self) -> MigrateFlag:
        """What a plain live migration needs."""
        return self.kind.flags

    def move(self, *, endless: bool = False, flags: MigrateFlag | None = None, **rest: Any) -> Move:
        """A new guest on the source, and what is to be done with it."""
        uuid = self.guests.start(endless=endless)
        name = self.source.inspect(uuid).name
        params = self.kind.endless if endless else {}
        return Move(name, uuid, int(flags if flags is not None else self.flags), params, **rest)

    def turned(self) -> Pair:
        """The way back."""
        return replace(self, source=self.destination, destination=self.source)

    def states(self, uuid: str) -> States:
        """What source and destination show."""
        return self.source.inspect(uuid).state, self.destination.inspect(uuid).state

    def attempt(self, move: Move, watch: Recorder | None = None) -> Attempt:
        """A migration that is made phase by phase."""
        return Attempt(self, move, watch or Recorder())


_KEPT = {
    Phase.BEGIN: "begun",
    Phase.PREPARE: "prepared",
    Phase.PERFORM: "performed",
    Phase.FINISH: "finished",
    Phase.CONFIRM: "confirmed",
}


@dataclass
class Attempt:
    """The phases of one migration; each call takes what the ones before returned."""

    pair: Pair
    move: Move
    watch: Recorder
    begun: Begun = field(init=False)
    prepared: Prepared = field(init=False)
    performed: Performed = field(init=False)
    finished: Finished = field(init=False)
    confirmed: Domain = field(init=False)

    def call(self, phase: Phase) -> object:
        """Make the call of one phase; what it returns is not kept."""
        source, destination, move, watch = self.pair.source, self.pair.destination, self.move, self.watch
        match phase:
            case Phase.BEGIN:
                return source.begin(move, watch)
            case Phase.PREPARE:
                return destination.prepare(move, self.begun.xml, self.begun.cookie, watch)
            case Phase.PERFORM:
                return source.perform(move, self.begun.xml, self.prepared.uri, self.prepared.cookie, watch)
            case Phase.FINISH:
                return destination.finish(move, self.performed.cookie, False, watch)
            case Phase.CONFIRM:
                return source.confirm(move, self.finished.cookie, False, watch)

    def run(self, first: Phase = Phase.BEGIN, last: Phase = Phase.CONFIRM) -> Attempt:
        """Make the calls from the first to the last of these phases."""
        phases = list(Phase)
        for phase in phases[phases.index(first) : phases.index(last) + 1]:
            setattr(self, _KEPT[phase], self.call(phase))
        return self

    def drop(self) -> DomainState:
        """What follows where an attempt does not go on: the destination first, then the source, by what is seen.

        Returns what the destination shows.
        """
        arrived = self.pair.destination.finish(self.move, b"", True, self.watch).domain.state
        if arrived is DomainState.ABSENT:
            assert self.pair.source.confirm(self.move, b"", True, self.watch).state is DomainState.RUNNING
        return arrived


@dataclass
class Recorder(RecordingWatch):
    """A ``Watch`` that remembers, and stops when told to or at the first progress of the guest's memory."""

    stop_at: Callable[[Progress], bool] = lambda _: False
    wish: Stop | None = None
    why: Stop = Stop.CANCEL

    def progress(self, progress: Progress) -> None:
        """Remember how far it is."""
        super().progress(progress)
        if self.stop_at(progress):
            self.wish = self.why

    def stop(self) -> Stop | None:
        """What the test wants."""
        return self.wish


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, or fail."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.01)
