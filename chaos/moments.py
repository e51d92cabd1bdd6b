"""Walks a migration to one moment of one hop, step by step, so that a fault strikes there and nowhere else.

Whoever is to take the next message is stopped before that is sent, and the host whose call is to be met in
progress is stopped before it is made. So every moment is reached for certain, however busy the machine is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from chaos.cells import ENTRY, HOPS, When
from chaos.stage import Guest, NotReached, Stage, until


@dataclass
class Walk:
    """One migration on its way to the moment."""

    stage: Stage
    guest: Guest
    ident: str = ""
    marks: list[int] = field(default_factory=list)
    """The append-only file's length at each moment when all stood still."""
    message: tuple[str, str] | None = None
    """The hop's message as it lay in the queue: list and text."""
    _held: set[str] = field(default_factory=set)
    _frozen: set[str] = field(default_factory=set)

    def to(self, hop: str, when: str, catch: str = "") -> None:
        """Start the migration and bring it to the moment; everything that stands still is left so.

        ``catch`` is a hop up to this one whose message is to be kept as ``message``.
        """
        target = HOPS.index(hop)
        for number, current in enumerate(HOPS):
            consumer, goal = self.consumer(current), number == target
            if number == 0:
                self.hold(consumer, delivered=goal and when == When.AFTER)
                self.ident = self.stage.migrate(self.guest, self.stage.hosts[1])
            self._queued(current, catch == current)
            self.marks.append(self.stage.mark())
            if goal and when == When.BEFORE:
                return
            if goal and current == ENTRY:
                return  # in the scheduler's hands
            self._run(current, goal and when == When.DURING)
            if goal and when == When.DURING:
                return
            self._end(current, goal and when == When.AFTER)
            if goal:
                return

    def consumer(self, hop: str) -> str:
        """Who takes a hop's message: a host's agent, or the scheduler."""
        if hop == ENTRY:
            return "scheduler"
        source, destination = self.stage.hosts
        return destination if hop in ("prepare", "finish") else source

    @property
    def caught(self) -> tuple[str, str]:
        """The message that was caught, and the list that it lay in."""
        if self.message is None:
            raise NotReached("no message was caught")
        return self.message

    def go_on(self, *, without: tuple[str, ...] = ()) -> None:
        """Let everything that stands still go on, but for processes that were killed."""
        for name in self._held:
            if self.stage.process(name) not in without:
                self.stage.release(name)
        for host in self._frozen:
            if self.stage.host_process(host) not in without:
                self.stage.keeper.thaw(self.stage.host_process(host))
        self._held.clear()
        self._frozen.clear()

    # -- the steps of a hop ---------------------------------------------------------------------------

    def _queued(self, hop: str, catch: bool) -> None:
        """Wait until the hop's message is on its way."""
        if hop != ENTRY:
            self.stage.in_phase(self.ident, hop, "queued")
        if catch:
            (self.message,) = until(lambda: self.stage.messages(self.consumer(hop)), f"the message of {hop}")

    def _run(self, hop: str, stay: bool) -> None:
        """Let the hop's message be taken; the host stands still, so that the phase runs and does not end."""
        if hop == ENTRY:
            self.hold(self.consumer("begin"), delivered=False)
            self._release("scheduler")
            return
        host = self.consumer(hop)
        copying: Callable[[], bool] | None = None
        if stay and hop == "perform":
            copying = self.stage.hold_copying(self.guest)
        self._freeze(host)
        self._release(host)
        self.stage.in_phase(self.ident, hop, "running")
        self.marks.append(self.stage.mark())
        if copying is not None:
            self._thaw(host)
            until(copying, "the guest is copied half way")
            self.stage.in_phase(self.ident, hop, "running")

    def _end(self, hop: str, stay: bool) -> None:
        """Let the phase end, and have the next one's message wait for its agent."""
        if hop == ENTRY:
            return
        if hop == "confirm":
            self._thaw(self.consumer(hop))
            until(self.has_ended, "the migration has ended")
            return
        following = HOPS[HOPS.index(hop) + 1]
        self.hold(self.consumer(following), delivered=stay)
        self._thaw(self.consumer(hop))
        self.stage.in_phase(self.ident, following, "queued")

    def has_ended(self) -> bool:
        """Whether the migration is terminal."""
        record = self.stage.record(self.ident)
        return record is not None and record.state == "ended"

    def hold(self, name: str, *, delivered: bool = False) -> None:
        """Have the consumer of a queue stand still; see ``Stage.hold``."""
        self.stage.hold(name, delivered=delivered)
        self._held.add(name)

    def _release(self, name: str) -> None:
        self.stage.release(name)
        self._held.discard(name)

    def _freeze(self, host: str) -> None:
        self.stage.keeper.freeze(self.stage.host_process(host))
        self._frozen.add(host)

    def _thaw(self, host: str) -> None:
        self.stage.keeper.thaw(self.stage.host_process(host))
        self._frozen.discard(host)
