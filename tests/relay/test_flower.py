"""Tools that listen to Celery's events work beside the relay: real Flower, and what celery-exporter relies on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery.events.state import State
from recovery_lab import QuickRelay
from relay_lab import until

from worker.embedded import free_port
from worker.leash import leashed

pytestmark = pytest.mark.timeout(180)
PERMANENT = "0x80031004"
OTHERS = {"TMPDIR": "/tmp", "FLOWER_UNAUTHENTICATED_API": "true", "PATH": "/usr/bin:/bin"}


class Flower:
    """Real Flower on the relay's Redis, without the relay's code or settings."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> str:
        """What it serves."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=20) as answer:  # noqa: S310 - our own
            return str(answer.read().decode())

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            return bool(self.get("/healthcheck"))
        except OSError:
            return False

    def task(self, ident: str) -> tuple[str, str]:
        """State and name of a task as Flower shows it; empty where it does not know it."""
        try:
            told = json.loads(self.get(f"/api/task/info/{ident}"))
        except urllib.error.HTTPError:
            return "", ""
        return told["state"], told["name"]


@contextmanager
def flower(redis_url: str, log: Path) -> Iterator[Flower]:
    """It, until the end of the block."""
    port = free_port()
    words = ["-m", "celery", f"--broker={redis_url}", "flower", "--address=127.0.0.1", f"--port={port}"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            leashed([sys.executable, *words]), env=OTHERS, cwd=log.parent, stdout=out, stderr=out
        )
    try:
        found = Flower(f"http://127.0.0.1:{port}")
        until(found.answers, "Flower answers", 0.2)
        yield found
    finally:
        process.kill()
        process.wait()


@contextmanager
def listening(relay: QuickRelay) -> Iterator[list[dict[str, Any]]]:
    """All events from now on, as a real receiver of Celery gets them."""
    events: list[dict[str, Any]] = []
    with relay.celery.connection_for_read() as connection:
        receiver = relay.celery.events.Receiver(connection, handlers={"*": events.append})
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False}, name="events")
        thread.start()
        try:
            until(lambda: events, "a heartbeat")
            yield events
        finally:
            receiver.should_stop = True
            thread.join(20)


def kinds(events: list[dict[str, Any]], ident: str) -> dict[str, dict[str, Any]]:
    """The events of a task, by type."""
    return {event["type"]: event for event in list(events) if event.get("uuid") == ident}


def ended(relay: QuickRelay) -> dict[str, tuple[str, str]]:
    """A migration for each way to end: its id, and the state and the kind of event that tell it."""
    moved = relay.moved(relay.vm()).id
    failing = relay.vm()
    relay.fault("alpha", "fail", code=PERMANENT, count=9, vm=failing)
    failed = relay.wait(relay.migrate(failing)).id
    refused = relay.migrate(relay.vm(), "no-such-host")
    relay.wait(refused)
    return {
        moved: ("SUCCESS", "task-succeeded"),
        failed: ("FAILURE", "task-failed"),
        refused: ("FAILURE", "task-failed"),
        recovered(relay): ("SUCCESS", "task-succeeded"),
        cancelled_in_the_queue(relay): ("FAILURE", "task-failed"),
    }


def recovered(relay: QuickRelay) -> str:
    """A migration whose source's agent is killed in mid-perform, and that recovery ends."""
    name = relay.vm()
    relay.fault("alpha", "delay", vm=name, step=10, seconds=100)
    ident = relay.migrate(name)
    relay.copying(ident)
    relay.kill("agent-alpha")
    relay.missed("alpha")
    relay.restart_agent("alpha")
    assert relay.wait(ident).outcome == "succeeded"
    return ident


def cancelled_in_the_queue(relay: QuickRelay) -> str:
    """A migration that never got slots."""
    busy = [relay.vm() for _ in range(2)]
    for name in busy:
        relay.fault("alpha", "delay", vm=name, step=10, seconds=300)
    running = [relay.migrate(name) for name in busy]
    for ident in running:
        relay.in_phase(ident, "perform")
    waiting = relay.migrate(relay.vm())
    relay.wait(waiting, "pending")
    relay.send("vmrelay.v1.cancel", migration=waiting)
    relay.wait(waiting)
    for ident in running:
        relay.wait(ident)
    return waiting


def test_flower_and_celery_exporter_see_workers_and_how_migrations_end(quick_relay: QuickRelay, tmp_path: Path) -> None:
    """A final event under the migration's id, however it ended and whoever ended it; Flower shows that state.

    celery-exporter counts by name, host and exception of these events, takes runtimes from them, and asks workers for
    their queues: all of that is there.
    """
    relay = quick_relay
    with listening(relay) as events, flower(relay.redis.url, tmp_path / "flower.log") as tool:
        wanted = ended(relay)
        for ident, (state, kind) in wanted.items():
            until(lambda ident=ident, kind=kind: kind in kinds(events, ident), f"{kind} of {ident}")
            until(lambda ident=ident, state=state: tool.task(ident)[0] == state, f"{ident} is {state} in Flower", 0.2)
        names = {f"agent-{host}" for host in relay.hosts} | {f"scheduler-{relay.processes['scheduler'].pid}"}
        metrics = tool.get("/metrics")
        online = [
            line for line in metrics.splitlines() if line.startswith("flower_worker_online") and line.endswith(" 1.0")
        ]
        assert {name for name in names if any(f'worker="{name}@' in line for line in online)} == names
        assert 'flower_events_total{task="vmrelay.v1.phase.confirm",type="task-succeeded"' in metrics
        inspected = relay.celery.control.inspect(timeout=20, limit=len(names)).active_queues()
    assert {queue["name"] for queues in inspected.values() for queue in queues} == {
        "scheduler",
        *(f"host.{host}" for host in relay.hosts),
    }
    seen = State()
    for event in events:
        seen.event(event)
    assert {ident: seen.tasks[ident].state for ident in wanted} == {
        ident: state for ident, (state, _) in wanted.items()
    }
    assert {worker.partition("@")[0] for worker in seen.workers} == names, "no worker that there is not"
    moved = kinds(events, next(iter(wanted)))
    assert moved.keys() >= {"task-sent", "task-received", "task-started", "task-succeeded"}
    assert moved["task-sent"]["queue"] == "host.alpha"
    assert moved["task-received"]["name"] == moved["task-sent"]["name"] == "vmrelay.v1.phase.confirm"
    assert moved["task-succeeded"]["runtime"] > 0
    assert all(event["hostname"] and event["timestamp"] for event in moved.values())
    failed = kinds(events, list(wanted)[1])["task-failed"]
    assert failed["exception"].startswith("Failed(")
    beat = next(event for event in events if event["type"] == "worker-heartbeat")
    assert beat.keys() >= {"hostname", "timestamp", "freq", "active", "processed"}
