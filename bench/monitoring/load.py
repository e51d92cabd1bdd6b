"""What is asked of a relay so that every panel has something to show: successes, refusals, failures, retries, a
cancel, a batch, a drain, a cordon, and a recovery after an agent was killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, Protocol

from worker.journal import Journal, Record

PATIENCE = 60.0
"""Seconds until something counts as missed; the machine may be busy."""
TRANSIENT, PERMANENT, NEW_ATTEMPT = "0x80000404", "0x80031004", "0x80030001"
"""Return codes of the SDK: the call is made again; the migration fails; another attempt follows."""
FLAG_SETS: Sequence[dict[str, Any]] = ({}, {"options": {"paused": True}}, {})
PRIORITIES = ("normal", "high", "low", "urgent")


class Relay(Protocol):
    """What the load needs of a relay that runs on simulated hosts."""

    journal: Journal

    @property
    def hosts(self) -> Sequence[str]:
        """Three of them."""

    def send(self, task: str, **arguments: Any) -> str:  # noqa: ANN401 - JSON
        """Enqueue a task by name; its id."""

    def ask(self, host: str, action: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """The control channel of a simulated host."""

    def interrupt(self, host: str) -> None:
        """Kill the host's agent, and have it back."""


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until it is true. Raises ``TimeoutError``."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {PATIENCE:g} s")
        time.sleep(0.05)


class Load:
    """Guests of its own (named ``load-…``), and what is done to them, turn by turn."""

    def __init__(self, relay: Relay, guests: int = 8, sizes: Sequence[int] = (64,), held: float = 200) -> None:
        """Guests of these sizes (MiB); ``held`` is for how long a move is held that is cancelled or interrupted,
        in simulated seconds.
        """
        self.relay, self.journal = relay, relay.journal
        self.held = held
        self.names = [f"load-{number}" for number in range(guests)]
        self.asked: list[str] = []
        """The ids of all migrations that were asked for, but not those of batches."""
        self.batches: list[str] = []
        self._turn = 0
        for name, host, size in zip(self.names, cycle(relay.hosts), cycle(sizes), strict=False):
            vm = {"name": name, "memory_mib": size, "dirty_mib_per_second": size // 100}
            relay.ask(host, "vm-create", vm=vm)
        until(lambda: len(self._found()) == guests, "guests are published")

    def turn(self, whole: bool = True) -> None:
        """Everything once, and wait until all of it has ended; not ``whole`` kills no agent and drains no host."""
        begun = len(self.asked)
        self._turn += 1
        self._refused()
        self._ring()
        self._finished(begun)
        self._cancelled(self.names[3])
        self._batch()
        if whole:
            self._interrupted(self.names[4])
            self._drain(self.relay.hosts[-1])

    # -- the parts ------------------------------------------------------------------------------------

    def _refused(self) -> None:
        """A flag that the driver refuses, and a host that nobody knows."""
        first = self.names[0]
        self._migrate(first, self.relay.hosts[1], options={"tunnelled": True})
        self._migrate(first, "no-such-host")

    def _ring(self) -> None:
        """Every guest to the next host, of every priority; one call fails and is made again, one fails for good."""
        where = self._found()
        for number, (name, code) in enumerate(((self.names[0], TRANSIENT), (self.names[1], PERMANENT))):
            count = 9 if number else 1
            self._fault(where[name], code, name, count)
        self._fault(where[self.names[2]], NEW_ATTEMPT, self.names[2], 1)
        for number, name in enumerate(self.names):
            more = FLAG_SETS[number % len(FLAG_SETS)] | {"priority": PRIORITIES[number % len(PRIORITIES)]}
            self._migrate(name, self._next(where[name]), **more)

    def _cancelled(self, name: str) -> None:
        """Stopped while its memory is copied."""
        ident = self._copying(name)
        self.relay.send("vmrelay.v1.cancel", migration=ident)
        self._ended(ident)

    def _interrupted(self, name: str) -> None:
        """The source's agent is killed while the guest's memory is copied: recovery brings it to an end."""
        ident = self._copying(name)
        self.relay.interrupt(self._record(ident).source)
        self._ended(ident)

    def _batch(self) -> None:
        """A list of moves, one of which is skipped since the guest is there already."""
        where = self._found()
        moves = [{"domain": name, "destination": self._next(where[name])} for name in self.names[:3]]
        self._batched("vmrelay.v1.batch", moves=moves, reason="monitoring")

    def _drain(self, host: str) -> None:
        """A host is emptied, stays cordoned, and gets its guests back."""
        self._batched("vmrelay.v1.drain", hosts=[host], reason="monitoring")
        self._batched("vmrelay.v1.return", hosts=[host], reason="monitoring")

    # -- steps ----------------------------------------------------------------------------------------

    def _fault(self, host: str, code: str, vm: str, count: int) -> None:
        self.relay.ask(host, "fault", fault={"kind": "fail", "code": code, "vm": vm, "count": count})

    def _found(self) -> dict[str, str]:
        """Where each guest is."""
        found: dict[str, str] = {}
        for host in self.relay.hosts:
            for vm in self.journal.domains(host):
                found[vm["name"]] = host
        return {name: found[name] for name in self.names if name in found}

    def _next(self, host: str) -> str:
        return self.relay.hosts[(self.relay.hosts.index(host) + 1) % len(self.relay.hosts)]

    def _migrate(self, domain: str, destination: str, **more: Any) -> str:  # noqa: ANN401 - JSON
        ident = self.relay.send("vmrelay.v1.migrate", domain=domain, destination=destination, **more)
        self.asked.append(ident)
        return ident

    def _copying(self, name: str) -> str:
        """Ask for a move that is held while memory is copied, and wait until it is there; the migration's id."""
        host = self._found()[name]
        fault = {"kind": "delay", "vm": name, "step": 10, "seconds": self.held}
        self.relay.ask(host, "fault", fault=fault)
        ident = self._migrate(name, self._next(host), priority="urgent")

        def copies() -> bool:
            return any(one["vm"] == name and one["step"] >= 10 for one in self.relay.ask(host, "show")["outgoing"])

        until(copies, f"{name} is copied")
        return ident

    def _batched(self, task: str, **arguments: Any) -> None:  # noqa: ANN401 - JSON
        ident = self.relay.send(task, **arguments)
        self.batches.append(ident)

        def finished() -> bool:
            batch = self.journal.batch(ident)
            return batch is not None and batch.state == "finished"

        until(finished, f"{task} has finished")

    def _record(self, ident: str) -> Record:
        found = self.journal.record(ident)
        if found is None:
            raise LookupError(f"no record of {ident}")
        return found

    def _ended(self, ident: str) -> None:
        def ended() -> bool:
            record = self.journal.record(ident)
            return record is not None and record.state == "ended"

        until(ended, f"{ident} has ended")

    def _finished(self, since: int) -> None:
        for ident in self.asked[since:]:
            self._ended(ident)
