"""The durable part of a host: its virtual machines and what QEMU does with them.

One file of JSON lines for each host, written at every change of registration or state. Everything
else a dispatcher knows (sessions, locks, tasks, the state MIGRATING) dies with it (vz-sdk 3.4), while
QEMU runs on: a guest's heartbeat goes on counting through a crash of its dispatcher.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from uuid import uuid4

from worker.errors import SettingsError
from worker.hypervisors.simulator.config import CPU_PERCENT, GuestState, SimulatedVm

BEATS_PER_SECOND = 100
MOST_HISTORY = 2000
"""Lines of outdated changes that the file may hold."""

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


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
    cpu_percent: float = CPU_PERCENT
    """How much of its CPUs it uses while it runs."""
    came: float = 0.0
    """What ``ran`` was when its QEMU was started on this host: the time before counts on another."""

    def heartbeat(self) -> int:
        """A counter that grows only while the guest runs and starts anew with each boot."""
        return int(self._ran() * BEATS_PER_SECOND)

    def cpu_seconds(self) -> float:
        """CPU time that its QEMU has used; it starts anew with each boot and on each host."""
        return max(0.0, self._ran() - self.came) * self.cpus * self.cpu_percent / 100

    def _ran(self) -> float:
        running = time.time() - self.since if self.state == "running" else 0.0
        return self.ran + max(0.0, running)

    def enter(self, state: GuestState) -> None:
        """Run, pause or stop. Starting from stopped boots; anything else keeps what the guest was."""
        now = time.time()
        if self.state == "running":
            self.ran += max(0.0, now - self.since)
        if self.state == "stopped" and state != "stopped":
            self.boot_id, self.boots, self.ran, self.came = str(uuid4()), self.boots + 1, 0.0, 0.0
        self.since = now if state == "running" else 0.0
        self.state = state

    def arrive(self, state: GuestState, boot_id: str, ran: float) -> None:
        """Go on with the memory of a guest that was stopped on another host."""
        self.boot_id, self.ran, self.came, self.state = boot_id, ran, ran, state
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
        cpu_percent=vm.cpu_percent,
    )
    if vm.state != "stopped":
        guest.enter(vm.state)
    return guest


class Directory:
    """The virtual machines of one host, on disk.

    Each change is one line appended to the file, so that it costs the same however many there are; a
    line torn by a crash is a change that never was. The file is rewritten at each start, and when most
    of it is history.
    """

    def __init__(self, path: Path, *, sync: bool) -> None:
        """``sync``: have each change on the disk itself before going on."""
        self._path = path
        self._sync = sync
        self._guests: dict[str, Guest] = {}
        self._named: dict[str, Guest] = {}
        self._homes: set[str] = set()
        self._file: IO[bytes] | None = None
        self._lines = 0
        self.is_new = not path.exists()
        """Nothing was there yet: this is the host's first start."""
        if not self.is_new:
            self._load()
            self._rewrite()

    def get(self, uuid: str) -> Guest | None:
        """By plain uuid."""
        return self._guests.get(uuid)

    def by_name(self, name: str) -> Guest | None:
        """By name."""
        return self._named.get(name)

    def has_home(self, home: str) -> bool:
        """Whether a guest lives in this directory."""
        return home in self._homes

    def all(self) -> list[Guest]:
        """Every guest, in order of registration."""
        return list(self._guests.values())

    def create(self, guests: Iterable[Guest]) -> None:
        """The first start: register these, all or none."""
        for guest in guests:
            self._put(guest)
        self._rewrite()

    def save(self, guest: Guest) -> None:
        """Register a guest, or keep its changed state."""
        self._put(guest)
        self._append(_line(guest))

    def remove(self, uuid: str) -> None:
        """Forget a guest; harmless where there is none."""
        if self._drop(uuid):
            self._append(_encoder.encode({"gone": uuid}))

    def _put(self, guest: Guest) -> None:
        self._guests[guest.uuid] = self._named[guest.name] = guest
        self._homes.add(guest.home)

    def _drop(self, uuid: str) -> bool:
        guest = self._guests.pop(uuid, None)
        if guest is None:
            return False
        self._named.pop(guest.name, None)
        self._homes.discard(guest.home)
        return True

    def close(self) -> None:
        """Nothing more is going to change."""
        if self._file is not None:
            self._file.close()

    def _append(self, line: str) -> None:
        if self._file is None or self._lines > MOST_HISTORY + 4 * len(self._guests):
            self._rewrite()  # which holds this change already
            return
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        if self._sync:
            os.fsync(self._file.fileno())
        self._lines += 1

    def _load(self) -> None:
        try:
            *lines, _torn = self._path.read_bytes().split(b"\n")
            for change in map(json.loads, lines):
                if "gone" in change:
                    self._drop(change["gone"])
                else:
                    self._put(Guest(**change))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"the simulator's state file {self._path} cannot be read ({error}); "
                "remove it to start again with the virtual machines of the TOML file"
            ) from error

    def _rewrite(self) -> None:
        """Put a file without history in the old one's place, all or nothing."""
        if self._file is not None:
            self._file.close()
        temporary = self._path.with_name(self._path.name + ".new")
        with temporary.open("wb") as fresh:
            fresh.writelines(_line(guest).encode() + b"\n" for guest in self._guests.values())
            fresh.flush()
            os.fsync(fresh.fileno())
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._file = self._path.open("ab")
        self._lines = len(self._guests)


def _line(guest: Guest) -> str:
    return _encoder.encode(vars(guest))
