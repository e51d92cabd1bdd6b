"""What real guests use of real hosts is measured, published and planned with, and a guest that hangs stops nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from libvirt_lab import Stage, eventually

from worker.contract.plans import Goal, GuestSpec, Problem
from worker.fleet import problem
from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.measuring import Measuring
from worker.settings import HostSettings, PlanningSettings, Settings

pytestmark = pytest.mark.lab

PLANNING = PlanningSettings(load_seconds=0.2, load_window_seconds=60)


class Fleet:
    """The lab's hosts as planning sees them; their loads are measured whenever it looks."""

    def __init__(self, stage: Stage, redis_url: str) -> None:
        self.stage = stage
        hosts = {name: HostSettings(uri="qemu:///session") for name in stage.lab.uris}
        self.settings = Settings(redis_url=redis_url, hosts=hosts, planning=PLANNING)
        self.inventory = Inventory(self.settings)
        self.journal = Journal(connect(redis_url))
        self.hypervisors = {"alpha": stage.source, "beta": stage.destination}
        self.measuring = {
            name: Measuring(name, hypervisor, self.journal, PLANNING) for name, hypervisor in self.hypervisors.items()
        }

    def problem(self) -> Problem:
        """One more look at everything, as the agents make it."""
        for name, hypervisor in self.hypervisors.items():
            version = self.journal.inventory_version(name)
            self.journal.lease(name, {"incarnation": name, "answers": True}, 60)
            self.journal.publish(name, version, hypervisor.domains())
            self.measuring[name].look()
        return problem(self.settings, self.inventory, self.journal, Goal(kind="balance"))

    def guest(self, uuid: str) -> GuestSpec:
        """One guest of the problem."""
        return next(guest for guest in self.problem().guests if guest.id == uuid)


@pytest.fixture
def fleet(stage: Stage, redis_url: str) -> Iterator[Fleet]:
    """Both hosts of the lab."""
    made = Fleet(stage, redis_url)
    yield made
    made.journal.client.close()


def test_a_guest_that_burns_cpu_is_seen_to(fleet: Fleet) -> None:
    """A guest that writes memory uses more CPU than one that only beats; both occupy what they have, and a bit more."""
    busy = fleet.stage.guest("burns", memory=64, rate=64)
    idle = fleet.stage.guest("beats", memory=32, rate=0)

    def measured() -> bool:
        return fleet.guest(busy.uuid).cpu_cores > fleet.guest(idle.uuid).cpu_cores > 0

    eventually(measured, "their CPU time is told apart")
    whole = fleet.problem()
    found = {guest.id: guest for guest in whole.guests}
    assert 64 < found[busy.uuid].memory_mib < 64 + 200
    assert 32 < found[idle.uuid].memory_mib < 32 + 200
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    for host in (host for host in whole.hosts if host.name in fleet.hypervisors):
        assert host.cpu_cores == os.cpu_count()
        assert abs(host.memory_mib - memory) <= 1, memory
        assert (host.kind, host.takes, host.gives) == ("qemu", True, True)


def test_a_guest_that_has_moved_keeps_its_load(fleet: Fleet) -> None:
    """Over a real migration, whose CPU counter begins anew, what a guest uses stays known."""
    guest = fleet.stage.guest("travels", memory=32, rate=32)
    eventually(lambda: fleet.guest(guest.uuid).cpu_cores > 0, "it is measured on alpha")
    fleet.stage.migrate(guest.move())
    arrived = fleet.guest(guest.uuid)
    assert arrived.host == "beta"
    assert arrived.cpu_cores > 0
    again = fleet.guest(guest.uuid)
    assert 0 < again.cpu_cores <= (os.cpu_count() or 1)


@contextmanager
def hung(name: str) -> Iterator[None]:
    """Let the QEMU of a guest stand still, as one on storage that is away does."""
    marker = f"guest={name},".encode()
    pids = [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/cmdline") if marker in _read(p)]
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pids[0], signal.SIGCONT)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_guest_that_hangs_holds_up_no_migration(fleet: Fleet) -> None:
    """While a look waits for a QEMU that does not answer, another guest of the host moves; then the look goes on."""
    stage = fleet.stage
    stuck, moving = stage.guest("stuck"), stage.guest("moving")
    looks: list[int] = []

    def look() -> None:
        looks.append(len(stage.source.usage().guests))

    with hung("stuck"):
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        stage.migrate(moving.move())
        assert stage.states(moving.uuid)[1].value == "running"
    thread.join(30)
    assert looks
    stuck.some_beats()
