"""What an agent and a scheduler are made of: signs of life, and rounds that go on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from click.testing import CliRunner
from prometheus_client import REGISTRY

from worker import agent, liveness, metrics, scheduler
from worker.cli import client
from worker.cli import doctor as diagnosis
from worker.cli import hosts as command
from worker.embedded import EmbeddedRedis
from worker.errors import HypervisorError, Retry, Unavailable
from worker.hypervisors.base import Domain, Hypervisor
from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.runtime import Runtime
from worker.seal import Seal
from worker.settings import Settings


def until(condition: Callable[[], object]) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def card(pid: int) -> dict[str, object]:
    """What a lease says of a process."""
    return {"pid": pid, "process": liveness.birth(pid)}


def test_a_process_lives_until_it_ends() -> None:
    """Alive, then dead as a zombie whom nobody has waited for, then gone."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = card(child.pid)
    assert liveness.is_alive(holder) is True
    child.kill()
    until(lambda: liveness.is_alive(holder) is False)
    child.wait()
    assert child.stdin is not None
    child.stdin.close()
    assert liveness.is_alive(holder) is False


def test_another_process_under_the_same_pid_is_not_the_holder() -> None:
    """The start time tells them apart; another machine's process cannot be judged from here."""
    own = card(os.getpid())
    assert liveness.is_alive(own) is True
    place, _, started = str(own["process"]).rpartition("/")
    assert liveness.is_alive(own | {"process": f"{place}/{int(started) - 1}"}) is False
    assert liveness.is_alive(own | {"process": f"other-boot/1/{started}"}) is None
    assert liveness.is_alive({"pid": 1}) is None


def test_a_round_that_fails_stops_neither_the_others_nor_the_next(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a round raises, the loop goes on."""
    called: list[str] = []

    def broken(_: Runtime) -> None:
        called.append("broken")
        raise KeyError("a host that left the inventory")

    def sound(_: Runtime) -> None:
        called.append("sound")

    monkeypatch.setattr(scheduler, "_rounds", [broken, sound])
    monkeypatch.setattr(scheduler, "_seldom", [])
    settings = Settings(redis_url=redis_url)
    with connect(redis_url) as client:
        rounds = scheduler.Rounds(Runtime(settings, Inventory(settings), Journal(client)), "here/1/x", 0)
        rounds.start()
        until(lambda: called.count("sound") >= 2)
        rounds.stop()
        assert client.get("vmrelay:lease:scheduler") is None
        rounds._parts.journal.client.close()


def test_a_scheduler_that_loses_redis_shows_nothing_of_the_past(
    private_redis: Callable[..., EmbeddedRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells that Redis is away; once its lease must have lapsed the relay's gauges vanish."""
    monkeypatch.setattr(scheduler, "_rounds", [lambda _: metrics.agent_up.labels("alpha").set(1)])
    monkeypatch.setattr(scheduler, "_seldom", [])
    monkeypatch.setattr(scheduler, "LEASE_SECONDS", 0.5)

    def shown(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, labels)

    server = private_redis()
    settings = Settings(redis_url=server.url)
    address = server.url.removeprefix("redis://").partition("/")[0]
    with connect(server.url) as client:
        rounds = scheduler.Rounds(Runtime(settings, Inventory(settings), Journal(client)), "here/1/x", 0)
        rounds.start()
        until(lambda: shown("vmrelay_redis_up", address=address) == 1)
        assert (shown("vmrelay_scheduler_leads"), shown("vmrelay_agent_up", host="alpha")) == (1, 1)
        server.kill()
        until(lambda: shown("vmrelay_agent_up", host="alpha") is None)
        assert (shown("vmrelay_scheduler_leads"), shown("vmrelay_redis_up", address=address)) == (0, 0)
        rounds.stop()
        assert shown("vmrelay_scheduler_leads") == 0
        rounds._parts.journal.client.close()


def test_a_second_agent_is_counted(redis_url: str) -> None:
    """Each refusal, and the loss of a lease once, however often it is noticed."""
    settings = Settings(redis_url=redis_url, lease_seconds=0.2, hosts={"alpha": {"uri": "vzsim:///none"}})  # type: ignore[dict-item]
    with connect(redis_url) as client:
        parts = Runtime(settings, Inventory(settings), Journal(client))
        silent = cast(Hypervisor, SimpleNamespace())
        first, second = (agent.Agent(parts.inventory["alpha"], parts, silent, Seal(bytes(32))) for _ in range(2))
        first.take_lease()
        with pytest.raises(Unavailable, match="owned by the agent with pid"):
            second.take_lease()
        assert parts.journal.contests() == {"alpha": 1}
        client.set("vmrelay:lease:alpha", '{"incarnation": "another", "pid": 1, "node": "there"}')
        keeping = threading.Thread(target=first._keep_lease)
        keeping.start()
        until(lambda: parts.journal.contests() == {"alpha": 2})
        first._ended.wait(0.3)
        first._ended.set()
        keeping.join(20)
        assert parts.journal.contests() == {"alpha": 2}
        for each in (first, second):
            each._lease_journal.client.close()


def test_rounds_that_never_started_can_be_stopped(redis_url: str) -> None:
    """A scheduler that is stopped before it was ready ends without an error."""
    settings = Settings(redis_url=redis_url)
    with connect(redis_url) as client:
        rounds = scheduler.Rounds(Runtime(settings, Inventory(settings), Journal(client)), "here/1/x", 0)
        rounds.stop()
        rounds._parts.journal.client.close()


def test_a_hypervisor_that_does_not_answer_is_seen(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent lives, so lease, command and metrics tell the two apart; each change is told once, and at once."""
    broken = True
    told: list[str] = []
    monkeypatch.setattr(agent.logger, "warning", lambda text, **_: told.append(text))
    monkeypatch.setattr(agent.logger, "info", lambda text, **_: told.append(text))

    def domains() -> list[Domain]:
        if broken:
            raise HypervisorError("Connection refused", code="x", retry=Retry.TRANSIENT)
        return []

    settings = Settings(redis_url=redis_url, hosts={"alpha": {"uri": "vzsim:///none"}})  # type: ignore[dict-item]
    with connect(redis_url) as redis:
        parts = Runtime(settings, Inventory(settings), Journal(redis))
        for module in (client, command, diagnosis):
            monkeypatch.setattr(module, "runtime", lambda: parts)
        hypervisor = cast(Hypervisor, SimpleNamespace(domains=domains))
        one = agent.Agent(parts.inventory["alpha"], parts, hypervisor, Seal(bytes(32)))
        one.take_lease()
        for _ in range(3):
            with pytest.raises(HypervisorError):
                one.publish()
        assert len(told) == 1
        assert metrics.host_answers.labels("alpha")._value.get() == 0
        assert "no answer" in CliRunner().invoke(command.hosts, catch_exceptions=False).output
        assert "does not answer it" in CliRunner().invoke(diagnosis.doctor, catch_exceptions=False).output
        broken = False
        one.publish()
        one.publish()
        assert len(told) == 2
        assert metrics.host_answers.labels("alpha")._value.get() == 1
        assert "up" in CliRunner().invoke(command.hosts, catch_exceptions=False).output.split()
        one._lease_journal.client.close()


def test_a_phase_that_comes_before_the_lease_is_renewed_waits_for_it(redis_url: str) -> None:
    """After a cut the message is there first: it is neither sent back nor started without a lease."""
    settings = Settings(redis_url=redis_url, lease_seconds=1, hosts={"alpha": {"uri": "vzsim:///none"}})  # type: ignore[dict-item]
    with connect(redis_url) as redis:
        parts = Runtime(settings, Inventory(settings), Journal(redis))
        one = agent.Agent(parts.inventory["alpha"], parts, cast(Hypervisor, SimpleNamespace()), Seal(bytes(32)))
        assert not one.await_lease()
        asked = threading.Event()
        renewing = threading.Thread(target=lambda: (asked.wait(20), one.take_lease()))
        renewing.start()
        assert not one.may_claim
        asked.set()
        assert one.await_lease()
        renewing.join()
        one._lease_journal.client.close()
