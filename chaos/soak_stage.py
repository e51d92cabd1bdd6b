"""The stage of a soak: four simulated hosts, two schedulers, many guests, and eyes on all of these."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from chaos.judge import running
from chaos.simulated import SCALE, SimulatedStage
from chaos.soak_memory import Sample, resident_mib
from chaos.stage import Guest, until

HOSTS = ("alpha", "beta", "gamma", "delta")
MORTAL = HOSTS[:2]
"""The hosts that are killed, and their agents; the others live through it all, so that growth shows.

Of the two schedulers one is killed, too.
"""
SIMULATION = f"""
clock_scale = {SCALE}
bandwidth_mib = 1000
""" + "".join(f"[hosts.{host}]\ncpus = 4096\n" for host in HOSTS)
MEMORY_MIB = 2000
SLOTS = 4
KEEP_SECONDS = 20
"""Ended migrations are forgotten after so long, else Redis would grow by what it is asked to keep."""
LOOK_SECONDS = 0.05
SAMPLE_SECONDS = 1.0
YOUNG_SECONDS = 5.0
"""What was just started is still loading: Redis its data, the others their libraries."""


class SoakStage(SimulatedStage):
    """See the module."""

    hosts: ClassVar[tuple[str, ...]] = HOSTS
    simulation: ClassVar[str] = SIMULATION

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # Started later, a process reads it from here.
        self.keeper.environment = {**self.keeper.environment, "VMRELAY_KEEP_SECONDS": str(KEEP_SECONDS)}

    @property
    def mortal(self) -> set[str]:
        """The processes that are killed. One that is started while Redis is away ends by itself, and comes again."""
        return {"redis", "scheduler"} | {name(host) for host in MORTAL for name in (self.process, self.host_process)}

    @property
    def roles(self) -> list[str]:
        """Every process, by the keeper's name."""
        each = [name for host in self.hosts for name in (self.process(host), self.host_process(host))]
        return ["redis", "scheduler", "scheduler-2", *each]

    def inventory(self) -> str:
        """See ``Stage``."""
        return "".join(
            f'[hosts.{h}]\nuri = "vzsim://{{state_dir}}/simulator/{h}.sock"\n'
            f"max_outgoing = {SLOTS}\nmax_incoming = {SLOTS}\n"
            for h in self.hosts
        )

    def start(self) -> None:
        """See ``Stage``."""
        self.keeper.add("scheduler-2", [sys.executable, "-m", "worker.cli.main", "scheduler"])
        super().start()

    def serves(self) -> bool:
        """See ``Stage``: either scheduler may lead."""
        names = [*self.hosts, "scheduler"]
        return len(self.journal.agents(names)) == len(names)

    def new_guests(self, number: int) -> list[Guest]:
        """So many guests, spread over the hosts."""
        made: dict[str, tuple[str, str]] = {}
        for n in range(number):
            host, name = self.hosts[n % len(self.hosts)], f"vm-{n + 1}"
            wanted = {"name": name, "memory_mib": MEMORY_MIB, "cpus": 1, "disk_gib": 1, "dirty_mib_per_second": 1}
            made[name] = host, str(self.ask(host, "vm-create", vm=wanted)["uuid"])
        for name, (host, _) in made.items():
            until(lambda name=name, host=host: self.journal.find_domain(name, [host]), f"{name} is published")  # type: ignore[misc]
        found = []
        for name, (host, uuid) in made.items():
            seen = Guest(name, uuid, "running", None)  # type: ignore[arg-type]
            found.append(Guest(name, uuid, "running", self.copies(seen)[host]))
        return found

    def forget_armed(self) -> None:
        """Faults that met no migration are forgotten."""
        for host in self.hosts:
            self.ask(host, "clear")


@dataclass
class Observer:
    """Looks at all guests and processes all the time, in a thread of its own."""

    stage: SoakStage
    guests: list[Guest]
    ended: int = 0
    """So many migrations have ended; told by whoever counts them."""
    samples: list[Sample] = field(default_factory=list)
    duplicated: dict[str, str] = field(default_factory=dict)
    """Guests that were seen running twice at a time, or started again, and what was seen first."""

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="observer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no longer."""
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        every, turn = round(SAMPLE_SECONDS / LOOK_SECONDS), 0
        while not self._stopped.wait(LOOK_SECONDS):
            for guest in self.guests:
                if seen := self._twice(guest):
                    self.duplicated.setdefault(guest.name, seen)
            if turn % every == 0:
                self._sample()
            turn += 1

    def _twice(self, guest: Guest) -> str:
        """What is wrong with a guest now, or nothing."""
        copies = self.stage.copies(guest)
        if any(copy.boots > guest.copy.boots for copy in copies.values()):
            return f"it was started again: {copies}"
        before = set(running(copies))
        if len(before) < 2:
            return ""
        # A second look: the guest may have moved between one host's answer and the other's.
        both = before & set(running(self.stage.copies(guest)))
        return f"it ran on {' and '.join(sorted(both))}" if len(both) > 1 else ""

    def _sample(self) -> None:
        now = time.monotonic()
        for role in self.stage.roles:
            pid, started = self.stage.keeper.pid(role), self.stage.keeper.restarted(role)
            if started is None or now - started < YOUNG_SECONDS:
                continue
            if pid and (mib := resident_mib(pid)) is not None:
                self.samples.append(Sample(role, pid, self.ended, mib))
