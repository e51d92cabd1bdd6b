"""The durable part of a host: its virtual machines and what QEMU does with them.

One JSON file for each host, replaced atomically at every change of registration or state. Everything
else a dispatcher knows (sessions, locks, tasks, the state MIGRATING) dies with it (vz-sdk 3.4), while
QEMU runs on: a guest's heartbeat goes on counting through a crash of its dispatcher.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

from worker.errors import SettingsError
from worker.hypervisors.simulator.config import GuestState, SimulatedVm

BEATS_PER_SECOND = 100


@dataclass
class Guest:
    """One registered virtual machine. ``uuid`` is plain lower case, without braces."""

    uuid: str
    name: str
    home: str
    memory_mib: int
    cpus: int
    cpu_model: str
    disk_gib: float
    dirty_mib_per_second: float
    shared: bool
    linked_clone: bool = False
    remote_device: bool = False
    snapshots: bool = False
    state: GuestState = "stopped"
    boot_id: str = ""
    """A new one at each start from stopped: the same one proves that the guest was never restarted."""
    boots: int = 0
    ran: float = 0.0
    """Seconds the guest ran since it was booted, up to ``since``."""
    since: float = field(default=0.0)
    """Unix time since which it runs; 0 while it does not."""

    def heartbeat(self) -> int:
        """A counter that grows only while the guest runs and starts anew with each boot."""
        running = time.time() - self.since if self.state == "running" else 0.0
        return int((self.ran + max(0.0, running)) * BEATS_PER_SECOND)

    def enter(self, state: GuestState) -> None:
        """Run, pause or stop. Starting from stopped boots; anything else keeps what the guest was."""
        now = time.time()
        if self.state == "running":
            self.ran += max(0.0, now - self.since)
        if self.state == "stopped" and state != "stopped":
            self.boot_id, self.boots, self.ran = str(uuid4()), self.boots + 1, 0.0
        self.since = now if state == "running" else 0.0
        self.state = state

    def arrive(self, state: GuestState, boot_id: str, ran: float) -> None:
        """Go on with the memory of a guest that was stopped on another host."""
        self.boot_id, self.ran, self.state = boot_id, ran, state
        self.since = time.time() if state == "running" else 0.0


def guest_from(vm: SimulatedVm, home: str, cpu_model: str) -> Guest:
    """A new guest as the TOML file or the control command describes it."""
    guest = Guest(
        uuid=vm.plain_uuid,
        name=vm.name,
        home=home,
        memory_mib=vm.memory_mib,
        cpus=vm.cpus,
        cpu_model=cpu_model,
        disk_gib=vm.disk_gib,
        dirty_mib_per_second=vm.dirty_mib_per_second,
        shared=vm.shared,
        linked_clone=vm.linked_clone,
        remote_device=vm.remote_device,
        snapshots=vm.snapshots,
    )
    if vm.state != "stopped":
        guest.enter(vm.state)
    return guest


class Directory:
    """The virtual machines of one host, on disk."""

    def __init__(self, path: Path, *, sync: bool) -> None:
        """``sync``: have each change on the disk itself before going on."""
        self._path = path
        self._sync = sync
        self._guests: dict[str, Guest] = {}
        self._lines: dict[str, str] = {}
        self.is_new = not path.exists()
        """Nothing was there yet: this is the host's first start."""
        if not self.is_new:
            self._load()

    def get(self, uuid: str) -> Guest | None:
        """By plain uuid."""
        return self._guests.get(uuid)

    def by_name(self, name: str) -> Guest | None:
        """By name."""
        return next((guest for guest in self._guests.values() if guest.name == name), None)

    def all(self) -> list[Guest]:
        """Every guest, in order of registration."""
        return list(self._guests.values())

    def save(self, *guests: Guest) -> None:
        """Register these guests, or keep their changed state."""
        for guest in guests:
            self._guests[guest.uuid] = guest
            self._lines[guest.uuid] = json.dumps(vars(guest), ensure_ascii=False)
        self._write()

    def remove(self, uuid: str) -> None:
        """Forget a guest; harmless where there is none."""
        if self._guests.pop(uuid, None) is not None:
            del self._lines[uuid]
            self._write()

    def _load(self) -> None:
        try:
            document = json.loads(self._path.read_text())
            guests = [Guest(**entry) for entry in document["vms"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"the simulator's state file {self._path} cannot be read ({error}); "
                "remove it to start again with the virtual machines of the TOML file"
            ) from error
        self._guests = {guest.uuid: guest for guest in guests}
        self._lines = {guest.uuid: json.dumps(asdict(guest), ensure_ascii=False) for guest in guests}

    def _write(self) -> None:
        _replace(self._path, _document(self._lines.values()), sync=self._sync)


def _document(lines: Iterable[str]) -> bytes:
    return ('{"vms": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def _replace(path: Path, content: bytes, *, sync: bool) -> None:
    """Put the content in the file's place, all or nothing."""
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, content)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    if sync:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
