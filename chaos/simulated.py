"""The stage over simulated Virtuozzo hosts, and eyes on what their guests truly do."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from chaos.stage import READY_SECONDS, Copy, Guest, NotReached, Stage, until
from worker.errors import RelayError, Unavailable
from worker.hypervisors.simulator.control import ask

MEMORY_MIB = 20_000
"""Copied in a fraction of a second, at the simulation's pace."""
HALF_WAY_SECONDS = 2.0
"""So long (real) a perform that is held stands still half way, then goes on."""
SCALE = 100
SIMULATION = f"""
clock_scale = {SCALE}
bandwidth_mib = 1000
[hosts.alpha]
[hosts.beta]
"""


class _Eyes:
    """Follows the file in which one host keeps its guests: what they do, whether its process lives or not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()  # several threads look
        self._inode = self._offset = 0
        self._guests: dict[str, Copy] = {}

    def copy(self, uuid: str) -> Copy | None:
        """This host's copy of a guest now."""
        with self._lock:
            with suppress(FileNotFoundError):
                self._read()
            return self._guests.get(uuid)

    def _read(self) -> None:
        with self._path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._offset:  # rewritten as a whole
                self._inode, self._offset, self._guests = found.st_ino, 0, {}
            file.seek(self._offset)
            whole, newline, _torn = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.splitlines():
            change = json.loads(line)
            if "gone" in change:
                self._guests.pop(change["gone"], None)
            else:
                self._guests[change["uuid"]] = Copy(change["state"], change["boots"], change["boot_id"])


class SimulatedStage(Stage):
    """Two simulated hosts, one process each; killed, such a host forgets its jobs while its guests run on."""

    simulation: ClassVar[str] = SIMULATION
    """The simulator's configuration."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "simulator").mkdir()
        (folder / "simulator.toml").write_text(self.simulation)
        self._eyes = {host: _Eyes(folder / "simulator" / f"{host}.jsonl") for host in self.hosts}

    def inventory(self) -> str:
        """See ``Stage``."""
        return "".join(f'[hosts.{h}]\nuri = "vzsim://{{state_dir}}/simulator/{h}.sock"\n' for h in self.hosts)

    def start_hosts(self) -> None:
        """See ``Stage``."""
        folder = self.folder
        config = ("--config", str(folder / "simulator.toml"), "--state-dir", str(folder / "simulator"))
        for host in self.hosts:
            command = [sys.executable, "-m", "worker.hypervisors.simulator", host, *config]
            self.keeper.add(self.host_process(host), command)

    def await_hosts(self) -> None:
        """See ``Stage``."""
        until(lambda: all(self._answers(host) for host in self.hosts), "the simulated hosts answer", READY_SECONDS)

    def host_process(self, host: str) -> str:
        """See ``Stage``."""
        return f"simulator-{host}"

    def new_guest(self, cell_number: int, paused: bool) -> Guest:
        """See ``Stage``."""
        host, name, state = self.hosts[0], f"vm-{cell_number}", "paused" if paused else "running"
        wanted = {"name": name, "memory_mib": MEMORY_MIB, "dirty_mib_per_second": 1, "state": state}
        uuid = str(self.ask(host, "vm-create", vm=wanted)["uuid"])
        until(lambda: self.journal.find_domain(name, [host]), f"{name} is published")
        copy = self._eyes[host].copy(uuid)
        if copy is None:
            raise NotReached(f"{name} is not on {host}")
        return Guest(name, uuid, state, copy)

    def remove_guest(self, guest: Guest) -> None:
        """See ``Stage``."""
        for host in self.copies(guest):
            self.ask(host, "vm-delete", name=guest.name)
        for host in self.hosts:
            self.ask(host, "clear")

    def copies(self, guest: Guest) -> dict[str, Copy]:
        """See ``Stage``."""
        return {host: copy for host, eyes in self._eyes.items() if (copy := eyes.copy(guest.uuid)) is not None}

    def leftovers(self, guest: Guest) -> list[str]:
        """See ``Stage``."""
        found = []
        for host in self.hosts:
            shown = self.ask(host, "show")
            if any(job["vm"] == guest.name for job in shown["outgoing"]) or guest.name in shown["incoming"]:
                found.append(f"{host} still has a migration job of {guest.name}")
            if guest.uuid in shown["locks"]:
                found.append(f"{host} still holds a lock on {guest.name}")
        return found

    def hold_copying(self, guest: Guest) -> Callable[[], bool]:
        """See ``Stage``."""
        source = self.hosts[0]
        seconds = HALF_WAY_SECONDS * SCALE
        self.ask(source, "fault", fault={"kind": "delay", "step": 10, "vm": guest.name, "seconds": seconds})
        return lambda: not self.ask(source, "faults")["faults"]

    def ask(self, host: str, action: str, **arguments: object) -> dict[str, Any]:
        """Ask a simulated host's control channel."""
        return ask(self.folder / "simulator" / f"{host}.sock", action, **arguments)

    def _answers(self, host: str) -> bool:
        with suppress(Unavailable, RelayError):
            return bool(self.ask(host, "show"))
        return False
