"""A lab of real libvirt hosts, guests on them, and the driver of each: what several folders of tests share.

The fixtures around it are in ``tests/conftest.py``: one lab serves a whole test run. Nothing of libvirt is imported
before a test asks for it: a run without the lab needs no libvirt.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from worker.errors import HypervisorError
from worker.hypervisors.base import Begun, DomainState, HostConfig, Move, Prepared, Progress, RetryPolicy, Stop
from worker.hypervisors.convergence import Stall, StallAction, Tuning
from worker.hypervisors.flags import MigrateFlag as Flag

if TYPE_CHECKING:
    from worker.hypervisors.libvirt.driver import LibvirtHypervisor

COMMANDS = Path(__file__).parents[2] / "deploy" / "lab"
LIVE = int(Flag.LIVE | Flag.PERSIST_DEST | Flag.UNDEFINE_SOURCE)
DEADLINE_SECONDS = 30.0


def command(name: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run one of the lab's commands; what it said on standard error goes into the failure."""
    done = subprocess.run(
        [str(COMMANDS / name), *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )
    if done.returncode:
        raise AssertionError(f"deploy/lab/{name} ended with {done.returncode}: {done.stderr.strip()}")
    return done


def virsh(uri: str, *words: str | Path) -> str:
    """What virsh prints."""
    done = subprocess.run(["virsh", "-q", "-c", uri, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def traces_of(folder: Path) -> list[str]:
    """What is there of a lab outside of its folder: processes, mounts of its hosts, devices of its network."""
    prefix = f"lab{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}-"
    traces = [device.name for device in Path("/sys/class/net").iterdir() if device.name.startswith(prefix)]
    for process in Path("/proc").glob("[0-9]*"):
        for file in ("cmdline", "mountinfo"):
            try:
                text = (process / file).read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it ended meanwhile
            if f"{folder}/" in text:
                traces.append(f"{process.name} {file}: {text[:200]}")
    return traces


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds, or fail."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


@dataclass
class Recorder:
    """A ``Watch`` that remembers, and says stop when it is told to."""

    stopping: Callable[[], Stop | None] = lambda: None
    seen: list[Progress] = field(default_factory=list)
    retried: list[HypervisorError] = field(default_factory=list)
    stalls: list[tuple[Stall, StallAction, str]] = field(default_factory=list)

    def progress(self, progress: Progress) -> None:
        """Remember how far it is."""
        self.seen.append(progress)

    def stop(self) -> Stop | None:
        """What the test wants."""
        return self.stopping()

    def retrying(self, error: HypervisorError, number: int, delay_seconds: float) -> None:
        """Remember what is retried."""
        self.retried.append(error)

    def tuning(self) -> Tuning | None:
        """Nobody wishes anything."""
        return None

    def tuned(self, tuning: Tuning, error: HypervisorError | None) -> None:
        """Nothing was wished."""

    def stalled(self, stall: Stall, action: StallAction, detail: str) -> None:
        """Remember a stall."""
        self.stalls.append((stall, action, detail))


@dataclass(frozen=True)
class Lab:
    """A running lab."""

    folder: Path
    uris: dict[str, str]
    """By which the tests reach each host."""
    peers: dict[str, str]
    """By which each host reaches the others: what ``HostConfig.peer_uri`` wants."""


def load_heartbeat() -> ModuleType:
    """The module deploy/lab/heartbeat.py."""
    spec = importlib.util.spec_from_file_location("heartbeat", COMMANDS / "heartbeat.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["heartbeat"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def two_hosts(*options: str) -> Iterator[Lab]:
    """Two hosts, alpha and beta, removed at the end whatever happens; the options are those of deploy/lab/up."""
    # pytest's own folders are closed to other users, and their paths too long for sockets
    folder = Path(tempfile.mkdtemp(prefix="lab.", dir="/tmp"))
    try:
        lines = command("up", *options, "-d", folder).stdout.splitlines()
        uris = dict(line.split(" ", 1) for line in lines)
        yield Lab(folder, uris, {name: (folder / name / "peer").read_text().strip() for name in uris})
    finally:
        if (folder / "lab").exists():
            command("down", folder)
        shutil.rmtree(folder, ignore_errors=True)


def driver(lab: Lab, name: str) -> LibvirtHypervisor:
    """A new driver of one of the lab's hosts, connected."""
    from worker.hypervisors.libvirt.driver import LibvirtHypervisor

    retry = RetryPolicy(tries=3, initial=0.05, slow_initial=0.05)
    config = HostConfig(name, lab.uris[name], name, retry=retry, poll_seconds=0.05, peer_uri=lab.peers[name])
    hypervisor = LibvirtHypervisor(config)
    hypervisor.open()
    return hypervisor


@dataclass
class Guest:
    """A guest on two hosts' stage: where it is and how its heart beats."""

    name: str
    uuid: str
    serial: Path
    heartbeat: ModuleType

    def move(self, flags: int = LIVE, **rest: Any) -> Move:
        """What an attempt with this guest is to do."""
        return Move(self.name, self.uuid, flags, **rest)

    def some_beats(self) -> None:
        """Wait until new beats come."""
        before = self.heartbeat.read(self.serial).beats
        eventually(lambda: self.heartbeat.read(self.serial).beats > before + 2, f"beats of {self.name}")

    def beats_on(self) -> None:
        """Wait until new beats come, and see that none was lost, repeated or begun anew."""
        self.some_beats()
        seen = self.heartbeat.read(self.serial)
        assert seen.unbroken, seen


@dataclass
class Stage:
    """The source, the destination, and the phases between them."""

    lab: Lab
    heartbeat: ModuleType
    source: LibvirtHypervisor
    destination: LibvirtHypervisor
    watch: Recorder = field(default_factory=Recorder)
    guests: list[str] = field(default_factory=list)

    def guest(self, name: str, host: str = "alpha", memory: int = 32, rate: int = 2, disk: int = 0) -> Guest:
        """Start a guest and wait for its first beats; all sizes in MiB, without a disk for 0."""
        words = ["guest", self.lab.folder, host, name, "-m", str(memory), "-r", str(rate), "-d", str(disk)]
        serial = Path(command(*words).stdout.strip())  # type: ignore[arg-type]
        owner = self.source if host == "alpha" else self.destination
        uuid = next(domain.uuid for domain in owner.domains() if domain.name == name)
        self.guests.append(uuid)
        eventually(lambda: self.heartbeat.read(serial).beats > 2, f"first beats of {name}")
        return Guest(name, uuid, serial, self.heartbeat)

    def up_to_prepare(self, move: Move) -> tuple[Begun, Prepared]:
        """Begin and prepare."""
        begun = self.source.begin(move, self.watch)
        return begun, self.destination.prepare(move, begun.xml, begun.cookie, self.watch)

    def up_to_perform(self, move: Move) -> bytes:
        """Begin, prepare, perform: the guest stands still on both sides."""
        begun, prepared = self.up_to_prepare(move)
        performed = self.source.perform(move, begun.xml, prepared.uri, prepared.cookie, self.watch)
        return performed.cookie

    def migrate(self, move: Move) -> None:
        """All five phases."""
        finished = self.destination.finish(move, self.up_to_perform(move), False, self.watch)
        assert self.source.confirm(move, finished.cookie, False, self.watch).state is DomainState.ABSENT

    def lose_daemon_in_perform(self, move: Move, host: str) -> HypervisorError:
        """Begin, prepare, and a perform while which the host's daemon is killed, and started again after it.

        Returns what perform raised.
        """
        begun, prepared = self.up_to_prepare(move)
        killed: list[bool] = []

        def kill() -> Stop | None:
            if not killed and self.watch.seen and self.watch.seen[-1].total_bytes:
                killed.append(True)
                command("host", self.lab.folder, host, "kill")
            return None

        self.watch.stopping = kill
        try:
            self.source.perform(move, begun.xml, prepared.uri, prepared.cookie, self.watch)
        except HypervisorError as error:
            return error
        finally:
            command("host", self.lab.folder, host, "start")
        raise AssertionError(f"perform went well although the daemon of {host} was killed")

    def drop(self, move: Move) -> None:
        """What follows a failed attempt: the destination drops what it has, the source runs on."""
        dropped = self.destination.finish(move, b"", True, self.watch)
        assert dropped.domain.state is DomainState.ABSENT
        assert self.source.confirm(move, b"", True, self.watch).state is DomainState.RUNNING

    @contextmanager
    def by_hand(self, host: str, uuid: str) -> Iterator[Any]:
        """The domain as anybody but the driver has it: a ``libvirt.virDomain`` over a connection of its own."""
        import libvirt

        connection = libvirt.open(self.lab.uris[host])
        try:
            yield connection.lookupByUUIDString(uuid)
        finally:
            connection.close()

    def states(self, uuid: str) -> tuple[DomainState, DomainState]:
        """What source and destination show."""
        return self.source.inspect(uuid).state, self.destination.inspect(uuid).state

    def turned(self) -> Stage:
        """The same stage for the way back."""
        return Stage(self.lab, self.heartbeat, self.destination, self.source, self.watch)


def open_stage(lab: Lab, heartbeat: ModuleType) -> Iterator[Stage]:
    """Connected drivers of both hosts; the guests that were started on it are removed afterwards."""
    stage = Stage(lab, heartbeat, driver(lab, "alpha"), driver(lab, "beta"))
    yield stage
    for hypervisor in (stage.source, stage.destination):
        hypervisor.close()  # ends what is in flight
        for uuid in stage.guests:
            hypervisor.remove(uuid)
            assert hypervisor.inspect(uuid).state is DomainState.ABSENT
        hypervisor.close()
