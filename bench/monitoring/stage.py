"""What ``make monitoring`` starts: ``vmrelay up`` with simulated hosts, Prometheus, redis_exporter; and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery

from bench.monitoring.dashboards import Span
from bench.monitoring.exporter import running_exporter
from bench.monitoring.load import until
from bench.monitoring.prometheus import Prometheus, running_prometheus
from worker.cli.demo_relay import Relay, stopping, use
from worker.cli.up_plan import own_command
from worker.embedded import free_port
from worker.hypervisors.simulator.config import load
from worker.hypervisors.simulator.control import ask
from worker.journal import Journal, connect
from worker.leash import leashed

CONFIG = Path(__file__).with_name("relay.toml")
INTERVAL = 1.0
"""Seconds between two scrapes."""


class Running:
    """The relay, as the load sees it."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.journal = Journal(connect(redis_url))
        self.redis_url = redis_url
        self._celery = Celery("monitoring", broker=redis_url, backend=redis_url)
        self._simulators = load(CONFIG.with_name("hosts.toml"), folder / "simulator")

    @property
    def hosts(self) -> Sequence[str]:
        """Three of them."""
        return list(self._simulators.hosts)

    def send(self, task: str, **arguments: Any) -> str:  # noqa: ANN401 - JSON
        """Enqueue a task by name; its id."""
        ident = str(uuid.uuid4())
        self._celery.send_task(task, kwargs=arguments, task_id=ident, queue="scheduler")
        return ident

    def ask(self, host: str, action: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """The control channel of a simulated host."""
        return ask(self._simulators.socket_path(host), action, **arguments)

    def interrupt(self, host: str) -> None:
        """Kill the host's agent; ``vmrelay up`` starts it again."""
        killed = self._pid(host)
        os.kill(killed, signal.SIGKILL)
        until(lambda: self._pid(host) not in (0, killed), f"another agent of {host}")

    def _pid(self, host: str) -> int:
        return int(self.journal.agents([host]).get(host, {}).get("pid", 0))


@dataclass(frozen=True)
class Stage:
    """Everything that runs, and since when."""

    relay: Running
    prometheus: Prometheus
    since: float

    def span(self) -> Span:
        """All of it until now."""
        return Span(self.since, time.time(), INTERVAL)

    def scraped(self) -> None:
        """Wait until Prometheus reaches every process."""
        wanted = len(self.relay.hosts) + 2  # a scheduler, redis_exporter
        until(
            lambda: list(self.prometheus.scraped().values()).count("up") >= wanted, "Prometheus scrapes all processes"
        )


@contextmanager
def running_stage(folder: Path) -> Iterator[Stage]:
    """Start everything in this folder, wait until it is scraped, and stop it all at the end.

    Raises ``Unavailable`` or ``TimeoutError`` where something does not start.
    """
    port = free_port()
    use(CONFIG, folder, port)
    os.environ["VMRELAY_SIMULATOR_STATE_DIR"] = str(folder / "simulator")
    url = f"redis://127.0.0.1:{port}/0"
    with (
        stopping(Relay(folder, "--no-procfile", "--exit-with-parent")),
        running_exporter(folder / "prometheus", url),
        running_prometheus(folder / "prometheus", INTERVAL) as prometheus,
        _targets(prometheus.targets),
    ):
        stage = Stage(Running(folder, url), prometheus, time.time())
        stage.scraped()
        yield stage


@contextmanager
def _targets(file: Path) -> Iterator[None]:
    """Tell Prometheus of every process, also of those that come back on another port."""
    words = [*own_command(), "targets", "--output", str(file), "--watch", "--every", "1"]
    process = subprocess.Popen(leashed(words), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
