"""The processes of a benchmark run: Redis, agents, a scheduler; and instant simulated hosts where wanted."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from worker.embedded import embedded_redis
from worker.journal import Journal, connect
from worker.leash import leashed
from worker.seal import ensure_key

HOSTS = ("alpha", "beta")
READY_SECONDS = 60
SLOTS = 64


@dataclass(frozen=True)
class Stage:
    """A running relay."""

    redis_url: str
    journal: Journal
    vms: int
    sockets: Mapping[str, Path] = field(default_factory=dict)
    """Where each simulated host listens."""


def _write(folder: Path, machines: Sequence[tuple[str, str]], hosts: Sequence[str], slots: int, clock: str) -> None:
    inventory = "\n".join(
        f'[hosts.{host}]\nuri = "vzsim://{{state_dir}}/simulator/{host}.sock"\n'
        f"max_outgoing = {slots}\nmax_incoming = {slots}\nmemory_mib = 4194304\n"
        for host in hosts
    )
    top = f'state_dir = "{folder}"\nlog_level = "warning"\ntask_events = false\n'
    (folder / "vmrelay.toml").write_text(top + inventory)
    simulated = "\n".join(f"[hosts.{host}]\ncpus = 4096\n" for host in hosts)
    told = "\n".join(f'[[vms]]\nname = "{name}"\nhost = "{host}"\nmemory_mib = 64\n' for name, host in machines)
    (folder / "simulator.toml").write_text(f"{clock}\n{simulated}\n{told}")


def _process(stack: ExitStack, folder: Path, name: str, *argv: str) -> None:
    log = stack.enter_context((folder / f"{name}.log").open("w"))
    command = leashed([sys.executable, "-m", *argv])
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def stage(vms: int) -> Iterator[Stage]:
    """The relay over two instant simulated hosts, up and ready; everything gone afterwards."""
    with simulated_stage([(f"vm-{number}", HOSTS[number % 2]) for number in range(vms)], HOSTS, SLOTS) as found:
        yield found


@contextmanager
def simulated_stage(
    machines: Sequence[tuple[str, str]], hosts: Sequence[str], slots: int, clock: str = "instant = true"
) -> Iterator[Stage]:
    """The relay over simulated hosts with these machines (name, host); ``slots`` in each direction of each host.

    ``clock`` is the beginning of ``simulator.toml``.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmr-bench-")))
        _write(folder, machines, hosts, slots, clock)
        config = ("--config", str(folder / "simulator.toml"), "--state-dir", str(folder / "simulator"))
        for host in hosts:
            _process(stack, folder, f"simulator-{host}", "worker.hypervisors.simulator", host, *config)
        sockets = {host: folder / "simulator" / f"{host}.sock" for host in hosts}
        _await(lambda: all(socket.exists() for socket in sockets.values()), folder)
        yield Stage(*_relay(stack, folder, hosts, "bench.noop"), len(machines), sockets)


@contextmanager
def libvirt_stage(folder: Path, inventory: str, hosts: Sequence[str]) -> Iterator[Stage]:
    """The relay over the libvirt hosts of an inventory (the ``[hosts.NAME]`` part of ``vmrelay.toml``)."""
    with ExitStack() as stack:
        (folder / "vmrelay.toml").write_text(f'state_dir = "{folder}"\nlog_level = "warning"\n{inventory}')
        yield Stage(*_relay(stack, folder, hosts, "worker.cli.main"), 0)


def _relay(stack: ExitStack, folder: Path, hosts: Sequence[str], program: str) -> tuple[str, Journal]:
    server = stack.enter_context(embedded_redis(folder / "redis"))
    ensure_key(folder / "seal.key")
    os.environ |= {"VMRELAY_CONFIG": str(folder / "vmrelay.toml"), "VMRELAY_REDIS_URL": server.url}
    for host in hosts:
        _process(stack, folder, f"agent-{host}", program, "agent", host)
    _process(stack, folder, "scheduler", program, "scheduler")
    journal = Journal(connect(server.url))
    _await(lambda: len(journal.agents([*hosts, "scheduler"])) == len(hosts) + 1, folder)
    return server.url, journal


def _await(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(f"== {log.name}\n{log.read_text()[-2000:]}" for log in folder.glob("*.log"))
            raise SystemExit(f"the relay did not come up in {READY_SECONDS} s\n{logs}")
        time.sleep(0.05)
