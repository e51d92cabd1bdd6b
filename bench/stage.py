"""The processes of a benchmark run: Redis, instant simulated hosts, agents, a scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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


def _process(stack: ExitStack, folder: Path, environment: dict[str, str], name: str, *argv: str) -> None:
    log = stack.enter_context((folder / f"{name}.log").open("w"))
    command = leashed([sys.executable, "-m", *argv])
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def stage(vms: int) -> Iterator[Stage]:
    """Everything up and ready; everything gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmr-bench-")))
        server = stack.enter_context(embedded_redis(folder / "redis"))
        _write(folder, vms)
        ensure_key(folder / "seal.key")
        environment = os.environ | {
            "VMRELAY_CONFIG": str(folder / "vmrelay.toml"),
            "VMRELAY_REDIS_URL": server.url,
        }
        os.environ.update({name: environment[name] for name in ("VMRELAY_CONFIG", "VMRELAY_REDIS_URL")})
        config = ("--config", str(folder / "simulator.toml"), "--state-dir", str(folder / "simulator"))
        for host in HOSTS:
            _process(stack, folder, environment, f"simulator-{host}", "worker.hypervisors.simulator", host, *config)
        _await(lambda: all((folder / "simulator" / f"{host}.sock").exists() for host in HOSTS), folder)
        for host in HOSTS:
            _process(stack, folder, environment, f"agent-{host}", "bench.noop", "agent", host)
        _process(stack, folder, environment, "scheduler", "bench.noop", "scheduler")
        journal = Journal(connect(server.url))
        _await(lambda: len(journal.agents([*HOSTS, "scheduler"])) == len(HOSTS) + 1, folder)
        yield Stage(server.url, journal, vms)


def _await(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(f"== {log.name}\n{log.read_text()[-2000:]}" for log in folder.glob("*.log"))
            raise SystemExit(f"the relay did not come up in {READY_SECONDS} s\n{logs}")
        time.sleep(0.05)
