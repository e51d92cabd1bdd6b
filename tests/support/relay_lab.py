"""A whole relay of real processes for tests: Redis, simulated hosts, agents, a scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from celery import Celery
from fault_proxy import FaultProxy
from prometheus_client.parser import text_string_to_metric_families

from worker.embedded import EmbeddedRedis
from worker.errors import Unavailable
from worker.hypervisors.simulator.config import load
from worker.hypervisors.simulator.control import ask
from worker.journal import Journal, Record, connect
from worker.leash import leashed
from worker.seal import ensure_key

Value = TypeVar("Value")
AnyRelay = TypeVar("AnyRelay", bound="Relay")

VMRELAY = Path(sys.executable).with_name("vmrelay")
HOSTS = ("alpha", "beta", "gamma")
PATIENCE = 40.0
"""Seconds until a condition counts as missed; the machine may be busy."""
SMALL, LARGE = 64, 4_000_000
"""MiB: a guest that moves at once, and one that is still moving when a test is done with it."""
SIMULATOR = """
clock_scale = 100
bandwidth_mib = 1000
[hosts.alpha]
[hosts.beta]
[hosts.gamma]
"""
SETTINGS = """
redis_url = "{url}"
state_dir = "{directory}"
lease_seconds = 10
poll_seconds = 0.05
inventory_seconds = 0.3
drain_seconds = 60
log_level = "debug"
[retry]
initial = 0.05
maximum = 0.2
slow_initial = 0.05
slow_maximum = 0.2
[attempts]
initial = 0.1
limit = 0.3
maximum = 3
"""
_numbers = count(1)


def until(condition: Callable[[], Value], what: str, pause: float = 0.02) -> Value:
    """Wait until a condition is true; its value. ``pause``: seconds between two looks, longer for costly ones."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: did not come true in {PATIENCE:.0f} s")
        time.sleep(pause)
    return value


class Relay:
    """The processes, and what a test asks of them. The hosts are simulated; a subclass may bring others."""

    hosts: tuple[str, ...] = HOSTS
    kinds: tuple[str, ...] = ("scheduler", "simulator", "agent")
    """What is started, in this order."""
    command: Path = VMRELAY
    """What ``cli`` runs."""

    def __init__(self, directory: Path, redis: EmbeddedRedis | FaultProxy) -> None:
        self.directory = directory
        self.redis = redis
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (directory / "simulator").mkdir()
        (directory / "simulator.toml").write_text(SIMULATOR)
        settings = SETTINGS.format(url=redis.url, directory=directory) + self.inventory()
        (directory / "vmrelay.toml").write_text(settings)
        self.environment = {name: text for name, text in os.environ.items() if not name.startswith("VMRELAY_")} | {
            "VMRELAY_CONFIG": str(directory / "vmrelay.toml"),
            "VMRELAY_SIMULATOR_CONFIG": str(directory / "simulator.toml"),
            "VMRELAY_SIMULATOR_STATE_DIR": str(directory / "simulator"),
            # Not in the file: a version before refuses what it does not know. Sizes say how long guests move, here.
            "VMRELAY_ADMISSION__HEAVY_MEMORY_GIB": "100000",
            "VMRELAY_PLANNING__LOAD_SECONDS": "0.5",
        }
        self.simulators = load(directory / "simulator.toml", directory / "simulator")
        self.journal = Journal(connect(redis.url))
        self.celery = Celery("client", broker=redis.url, backend=redis.url)

    def inventory(self) -> str:
        """The part of the settings that names the hosts."""
        return "".join(f'[hosts.{h}]\nuri = "vzsim://{{state_dir}}/simulator/{h}.sock"\n' for h in self.hosts)

    # -- processes --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything at once and wait until all of it serves."""
        ensure_key(self.directory / "seal.key")
        self.mend()

    def dead(self) -> dict[str, str]:
        """The processes that should run and do not, with the end of what they wrote."""
        running = {name for name, process in self.processes.items() if process.poll() is None}
        each = [kind for kind in self.kinds if kind != "scheduler"]
        names = ["scheduler", *(f"{kind}-{host}" for kind in each for host in self.hosts)]
        return {n: self.log(n)[-3000:] if self.log_file(n).exists() else "" for n in names if n not in running}

    def mend(self) -> None:
        """Start what does not run, and wait until it serves."""
        missing = list(self.dead())
        for kind in self.kinds:
            for name in missing:
                if name.startswith(kind):
                    self.spawn(name, *name.split("-"))
            if kind == "simulator":
                until(lambda: all(self.answers(host) for host in HOSTS), "simulators")
        self.ready(*(name for name in missing if not name.startswith("simulator")))

    def answers(self, host: str) -> bool:
        """Whether a simulator serves."""
        try:
            return bool(self.ask(host, "show"))
        except Unavailable:
            return False

    def spawn(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a process of vmrelay that dies with this one; its log is ``<name>.log``."""
        with self.log_file(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                leashed([str(VMRELAY), *words]),
                env=self.environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.processes[name]

    def ready(self, *names: str) -> None:
        """Wait until agents and schedulers consume their queues."""
        for name in names:
            process = self.processes[name]

            def serves(name: str = name, process: subprocess.Popen[bytes] = process) -> bool:
                assert process.poll() is None, f"{name} ended: {self.log(name)[-2000:]}"
                cards = self.journal.agents(["scheduler", *self.hosts])
                card = cards.get(name.removeprefix("agent-"), {})
                # A scheduler takes its lease once it consumes; an agent's queue shows when it does.
                queue = "scheduler" if name == "scheduler" else f"host.{name.removeprefix('agent-')}"
                bound = self.journal.client.exists(f"_kombu.binding.{queue}")
                return card.get("pid") == process.pid and bool(card["metrics_port"] and bound)

            until(serves, f"{name} is ready")

    def kill(self, name: str) -> None:
        """SIGKILL one of our processes and wait until it is gone."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(PATIENCE)

    def terminate(self, name: str) -> int:
        """SIGTERM one of our processes and wait for its exit code."""
        process = self.processes.pop(name)
        process.terminate()
        return process.wait(PATIENCE)

    def restart_agent(self, host: str) -> None:
        """Start the agent of a host again."""
        self.spawn(f"agent-{host}", "agent", host)
        self.ready(f"agent-{host}")

    def restart_scheduler(self) -> None:
        """Stop the scheduler, if it runs, and start it with the environment as it is now."""
        if "scheduler" in self.processes:
            self.terminate("scheduler")
        self.spawn("scheduler", "scheduler")
        self.ready("scheduler")

    def stop(self) -> None:
        """End every process."""
        for process in self.processes.values():
            process.send_signal(signal.SIGKILL)
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        self.celery.close()
        self.journal.client.close()

    def log_file(self, name: str) -> Path:
        """Where a process writes."""
        return self.directory / f"{name}.log"

    def log(self, name: str) -> str:
        """What a process wrote so far."""
        return self.log_file(name).read_text(errors="replace")

    # -- hosts ------------------------------------------------------------------------------------

    def ask(self, host: str, action: str, **arguments: object) -> dict[str, Any]:
        """Ask a simulator's control channel."""
        return ask(self.simulators.socket_path(host), action, **arguments)

    def vm(self, host: str = "alpha", name: str = "", memory_mib: int = SMALL, **more: object) -> str:
        """Create a virtual machine and wait until its host's agent has published it; its name."""
        name = name or f"vm-{next(_numbers)}"
        wanted = {"name": name, "memory_mib": memory_mib, "dirty_mib_per_second": 1, **more}
        self.ask(host, "vm-create", vm=wanted)
        until(lambda: self.journal.find_domain(name, [host]), f"{name} published")
        return name

    def empty(self) -> None:
        """No guest anywhere, nobody cordoned, nothing remembered of homes: whatever was there before is not drained."""
        moving = {each["vm"] for host in self.hosts for each in self.ask(host, "show")["outgoing"]}
        for record in self.journal.records() if moving else ():
            if record.domain in moving and record.state != "ended":
                self.send("vmrelay.v1.cancel", migration=record.id)
                self.wait(record.id)
        for host in self.hosts:
            for vm in self.ask(host, "show")["vms"]:
                self.ask(host, "vm-delete", name=vm["name"])
            self.journal.uncordon(host)
        until(lambda: not any(self.journal.domains(host) for host in self.hosts), "hosts are empty")
        self.journal.forget_homes(*(home.uuid for home in self.journal.homes()))

    def where(self, name: str) -> dict[str, str]:
        """On which hosts a virtual machine is, and its state there: a fresh look."""
        return {host: str(vm["guest"]) for host in HOSTS for vm in self.ask(host, "show")["vms"] if vm["name"] == name}

    def look(self, host: str, name: str) -> dict[str, Any]:
        """All that a host shows of a virtual machine."""
        return next(vm for vm in self.ask(host, "show")["vms"] if vm["name"] == name)

    def fault(self, host: str, kind: str, **more: object) -> None:
        """Arm a fault."""
        self.ask(host, "fault", fault={"kind": kind, **more})

    def jobs_ended(self) -> int:
        """How many migrate jobs the dispatchers have seen to their end, well or not."""
        counts = [self.ask(host, "show")["migrations"] for host in HOSTS]
        return sum(int(each["out"]) + int(each["failed"]) for each in counts)

    # -- migrations -------------------------------------------------------------------------------

    def send(self, task: str = "vmrelay.v1.migrate", ident: str = "", **arguments: object) -> str:
        """Send a task by name, as any application does; its id."""
        ident = ident or str(uuid.uuid4())
        self.celery.send_task(task, kwargs=arguments, task_id=ident, queue="scheduler")
        return ident

    def migrate(self, domain: str, destination: str = "beta", **arguments: object) -> str:
        """Ask for a migration; its id."""
        return self.send(domain=domain, destination=destination, **arguments)

    def record(self, ident: str) -> Record | None:
        """What the journal says."""
        return self.journal.record(ident)

    def wait(self, ident: str, *states: str) -> Record:
        """Wait until a migration ended (or is in one of the given states); its record."""
        wanted = states or ("ended", "in-doubt")

        def there() -> Record | None:
            record = self.journal.record(ident)
            return record if record is not None and record.state in wanted else None

        try:
            record = until(there, f"{ident} in {wanted}")
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.record(ident)}\n{self.events(ident)}") from None
        assert record is not None
        return record

    def moved(self, domain: str, destination: str = "beta", **arguments: object) -> Record:
        """Migrate and wait; it must succeed."""
        record = self.wait(self.migrate(domain, destination, **arguments))
        assert record.outcome == "succeeded", record
        return record

    def in_phase(self, ident: str, phase: str, step: str = "running") -> Record:
        """Wait until a phase of a migration is claimed."""

        def there() -> Record | None:
            record = self.journal.record(ident)
            assert record is None or record.state != "ended", record
            return record if record is not None and (record.phase, record.step) == (phase, step) else None

        record = until(there, f"{ident} in {phase}")
        assert record is not None
        return record

    def copying(self, ident: str, host: str = "alpha") -> Record:
        """Wait until the dispatcher copies the guest's memory; perform can be cancelled then."""
        record = self.in_phase(ident, "perform")

        def there() -> bool:
            return any(o["vm"] == record.domain and o["step"] >= 10 for o in self.ask(host, "show")["outgoing"])

        until(there, f"{record.domain} copies")
        return record

    def result(self, ident: str) -> dict[str, Any]:
        """What ``AsyncResult`` has stored, as JSON: status and result."""
        raw = self.journal.client.get(f"celery-task-meta-{ident}")
        found: dict[str, Any] = json.loads(raw) if raw else {"status": "PENDING", "result": None}
        return found

    def events(self, ident: str, kind: str | None = None) -> list[dict[str, Any]]:
        """The data of a migration's events, each with its type."""
        return [{"type": t, **data} for _, t, data in self.journal.events(ident) if kind in (None, t)]

    def lose(self, host: str) -> None:
        """Empty a host's queue, of every priority, once something is in it."""
        queue = f"host.{host}"

        def lost() -> bool:
            names = [queue, *self.journal.client.scan_iter(f"{queue}\x06*")]
            return bool(self.journal.client.delete(*names))

        until(lost, f"a message for {host}")

    # -- metrics and the command ---------------------------------------------------------------------

    def metrics_text(self, name: str) -> str:
        """What an agent (by host) or the scheduler serves on /metrics."""
        port = self.journal.agents([name])[name]["metrics_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def metrics(self, name: str, sample: str, **labels: str) -> float:
        """The sum of a sample's values over all label sets that hold ``labels``."""
        return sum(
            found.value
            for family in text_string_to_metric_families(self.metrics_text(name))
            for found in family.samples
            if found.name == sample and labels.items() <= found.labels.items()
        )

    def outcomes(self, **labels: str) -> int:
        """How many migrations ended so, as the journal counts."""
        names = ("driver", "flags", "outcome", "reason")
        counts = self.journal.outcomes().items()
        return sum(n for key, n in counts if labels.items() <= dict(zip(names, key, strict=True)).items())

    def counted(self, number: int, **labels: str) -> None:
        """See that so many ended so, and wait until that is what all processes together show."""

        def shown() -> float:
            return sum(self.metrics(name, "vmrelay_migrations_total", **labels) for name in ("scheduler", *self.hosts))

        assert self.outcomes(**labels) == number
        until(lambda: shown() == number, f"{number} outcomes {labels} on /metrics")

    def cli(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            leashed([str(self.command), *words]),
            env=self.environment | {"NO_COLOR": "1", "COLUMNS": "200"},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
            **more,
        )


@contextmanager
def running_relay(directory: Path, make: Callable[[Path, EmbeddedRedis], AnyRelay] = Relay) -> Iterator[AnyRelay]:
    """A relay of one's own; nothing of it outlives the block."""
    directory.mkdir(parents=True, exist_ok=True)
    with EmbeddedRedis(directory / "redis", appendfsync="always") as server:
        relay = make(directory, server)
        try:
            relay.start()
            yield relay
        finally:
            relay.stop()
