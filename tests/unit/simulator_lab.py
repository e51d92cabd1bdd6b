"""Real simulator processes in a directory of their own, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from worker.errors import Unavailable
from worker.hypervisors.simulator.client import SimulatedServer, connect
from worker.hypervisors.simulator.control import ask
from worker.hypervisors.simulator.handles import SimulatedJob, SimulatedVm
from worker.hypervisors.vz.sdk import Event, EventType, SearchFlag, VmState

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ("alpha", "beta", "gamma")
FLAGS = 0x800002
"""High security, disks are shared: what the driver sends."""
PATIENCE = 60.0
BODY = """
clock_scale = 300
bandwidth_mib = 500
[hosts.alpha]
[hosts.beta]
cpus = 4
disk_free_gib = 5
[hosts.gamma]
address = "192.0.2.3"
storage = "local"
cpu_model = "other"
min_security_level = 1
"""
ENDLESS = 50_000_000
"""MiB: a guest that is still being copied when the test is long over."""
_names = (f"vm-{number}" for number in count())


def until(condition: Callable[[], Any], what: str = "condition") -> Any:
    """Wait for a condition; its value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true")
        time.sleep(0.01)
    return value


def uuid_of(name: str) -> str:
    """The uuid that the simulator derives from a name."""
    return str(uuid5(NAMESPACE_DNS, f"{name}.vm.vmrelay"))


class Client:
    """A logged-in client of one host that keeps what it is told."""

    def __init__(self, path: Path, flags: int = 4, previous: str = "") -> None:
        self.events: list[Event] = []
        self.closed = threading.Event()
        self.server: SimulatedServer = connect(str(path))
        self.server.reg_event_handler(self._keep)
        login = done(self.server.login_local_ex(previous, 0, 2, flags))
        assert login.get_ret_code() == 0, login.get_error()
        self.session = login.get_session_uuid()
        self.login = login

    def _keep(self, event: Event) -> None:
        self.events.append(event)
        if event.type == EventType.DISP_CONNECTION_CLOSED:
            self.closed.set()

    def vm(self, name: str) -> SimulatedVm | None:
        """By name; ``None`` where it is not here."""
        job = done(self.server.get_vm_config(name, SearchFlag.BY_NAME))
        return job.get_vm() if job.get_ret_code() == 0 else None

    def state(self, name: str) -> VmState | None:
        """By name; ``None`` where it is not here."""
        vm = self.vm(name)
        if vm is None:
            return None
        job = done(vm.get_state())
        return job.get_vm_state() if job.get_ret_code() == 0 else None

    def migrate(
        self, name: str, to: Client | str, host: str = "beta", new_name: str = "", flags: int = FLAGS
    ) -> SimulatedJob:
        """Start a migration with another client's session uuid."""
        vm = self.vm(name)
        assert vm is not None
        session = to if isinstance(to, str) else to.session
        return vm.migrate_with_rename_ex(host, 0, session, new_name, "", flags, 0, True)

    def kinds(self, name: str) -> list[int]:
        """Types of the events about one VM, progress left out."""
        issuer = f"{{{uuid_of(name)}}}"
        skip = EventType.VM_MIGRATE_PROGRESS_CHANGED
        return [event.type for event in self.events if event.issuer_id == issuer and event.type != skip]

    def saw(self, kind: int) -> bool:
        """Whether such an event came."""
        return any(event.type == kind for event in self.events)


def done(job: SimulatedJob) -> SimulatedJob:
    """Wait for a job."""
    assert job.wait(int(PATIENCE * 1000)) == 0
    return job


def code(job: SimulatedJob) -> int:
    """The code of a job that is waited for, unsigned."""
    return done(job).get_ret_code() & 0xFFFFFFFF


class Lab:
    """Three hosts. The state directory is short, for the sockets' sake."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "simulator.toml"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: list[Client] = []

    def write(self, body: str) -> None:
        """The simulator's file."""
        self.config.write_text(body)

    def start(self, *hosts: str) -> None:
        """Start hosts and wait until they answer."""
        for host in hosts or HOSTS:
            command = [sys.executable, "-m", "worker.hypervisors.simulator", host, "--config"]
            command += [str(self.config), "--state-dir", str(self.directory), "--exit-with-parent"]
            self._processes[host] = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        for host in hosts or HOSTS:
            until(partial(self._answers, host), f"{host} answering")

    def _answers(self, host: str) -> bool:
        assert self._processes[host].poll() is None, f"{host} ended"
        try:
            self.ask(host, "show")
        except Unavailable:
            return False
        return True

    def kill(self, host: str) -> None:
        """As with kill -9."""
        self._processes[host].kill()
        self._processes[host].wait()

    def wait(self, host: str) -> int:
        """Wait for the end of a process; its return code."""
        return self._processes[host].wait(PATIENCE)

    def terminate(self, host: str) -> int:
        """The orderly stop; its exit code."""
        self._processes[host].send_signal(signal.SIGTERM)
        return self.wait(host)

    def ask(self, host: str, action: str, **arguments: object) -> dict[str, Any]:
        """The control channel."""
        return ask(self.directory / f"{host}.sock", action, **arguments)

    def fault(self, host: str, **fault: object) -> None:
        """Arm a fault."""
        self.ask(host, "fault", fault=fault)

    def client(self, host: str, flags: int = 4, previous: str = "") -> Client:
        """Log in."""
        client = Client(self.directory / f"{host}.sock", flags, previous)
        self._clients.append(client)
        return client

    def guest(self, host: str, name: str) -> dict[str, Any] | None:
        """What `show` tells of one VM."""
        return next((vm for vm in self.ask(host, "show")["vms"] if vm["name"] == name), None)

    def close(self) -> None:
        """Stop everything."""
        for client in self._clients:
            client.server.close()
        for process in self._processes.values():
            process.kill()
            process.wait()


@contextmanager
def lab(body: str) -> Iterator[Lab]:
    """A lab that leaves nothing behind."""
    with TemporaryDirectory(prefix="sim", dir=os.environ.get("TMPDIR", "/tmp")) as directory:
        made = Lab(Path(directory))
        made.write(body)
        try:
            yield made
        finally:
            made.close()


def three_hosts() -> Iterator[Lab]:
    """A module's fixture: hosts for all tests of one file."""
    with lab(BODY) as made:
        made.start()
        yield made


def without_faults(running: Lab) -> Lab:
    """A test's fixture: the hosts, all up, without faults."""
    for host in HOSTS:
        try:
            running.ask(host, "clear")
        except Unavailable:
            running.start(host)
    return running


def create(sim: Lab, host: str = "alpha", **about: object) -> str:
    """A new virtual machine; its name."""
    name = str(about.pop("name", next(_names)))
    sim.ask(host, "vm-create", vm={"name": name, "memory_mib": 600, **about})
    return name


def create_endless(sim: Lab) -> tuple[str, Client, Client]:
    """A VM whose copying never ends, and clients of its source and its target."""
    return create(sim, memory_mib=ENDLESS), sim.client("alpha"), sim.client("beta")
