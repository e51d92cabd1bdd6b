"""The processes of a benchmark run: Redis, agents, a scheduler; and instant simulated hosts where wanted."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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


def _write(folder: Path, vms: int) -> None:
    hosts = "\n".join(
        f'[hosts.{host}]\nuri = "vzsim://{{state_dir}}/simulator/{host}.sock"\n'
        f"max_outgoing = {SLOTS}\nmax_incoming = {SLOTS}\n"
        for host in HOSTS
    )
    (folder / "vmrelay.toml").write_text(f'state_dir = "{folder}"\nlog_level = "warning"\ntask_events = false\n{hosts}')
    simulated = "\n".join(f"[hosts.{host}]\ncpus = 4096\n" for host in HOSTS)
    machines = "\n".join(
        f'[[vms]]\nname = "vm-{number}"\nhost = "{HOSTS[number % 2]}"\nmemory_mib = 64\n' for number in range(vms)
    )
    (folder / "simulator.toml").write_text(f"instant = true\n{simulated}\n{machines}")


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
    """The relay over instant simulated hosts, up and ready; everything gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmr-bench-")))
        _write(folder, vms)
        config = ("--config", str(folder / "simulator.toml"), "--state-dir", str(folder / "simulator"))
        for host in HOSTS:
            _process(stack, folder, f"simulator-{host}", "worker.hypervisors.simulator", host, *config)
        _await(lambda: all((folder / "simulator" / f"{host}.sock").exists() for host in HOSTS), folder)
        yield Stage(*_relay(stack, folder, HOSTS, "bench.noop"), vms)


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
