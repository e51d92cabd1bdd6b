"""Being told to stop: what a drain waits for, what it aborts, and what is said of an attempt that gave way."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_watch import performing, watching

from tasks import attempt, phases
from tasks.attempt import Ending, conclude
from tasks.watch import JournalWatch
from worker.agent import Agent
from worker.contract import Baton
from worker.errors import Cancelled, Retry
from worker.hypervisors.base import DomainState, Hypervisor, Phase, Progress, Stop
from worker.hypervisors.retry import stopped
from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.process import UNFINISHED
from worker.runtime import Runtime
from worker.seal import Seal
from worker.settings import Settings

BATON = Baton(migration="m", attempt=1, epoch=1, domain="web", uuid="u", source="alpha", destination="beta", flags=1)
LONG = 3600.0


@pytest.fixture
def journal(redis_url: str) -> Iterator[Journal]:
    """A journal whose migration m performs from alpha to beta."""
    with connect(redis_url) as client:
        yield performing(Journal(client))


def agent_of(journal: Journal, redis_url: str, **settings: float) -> Agent:
    """The agent of alpha, with its lease."""
    hosts = {"alpha": {"uri": "vzsim:///none"}}
    made = Settings(redis_url=redis_url, hosts=hosts, **settings)  # type: ignore[arg-type]
    parts = Runtime(made, Inventory(made), journal)
    journal.client.delete("vmrelay:lease:alpha")
    agent = Agent(parts.inventory["alpha"], parts, cast(Hypervisor, SimpleNamespace()), Seal(bytes(32)))
    agent.take_lease()
    return agent


def drained(agent: Agent, hurry: threading.Event | None = None) -> bool:
    """What a drain returned, at once."""
    try:
        return agent.drain(hurry or threading.Event())
    finally:
        agent._lease_journal.client.close()


def hurried() -> threading.Event:
    """Somebody has asked twice."""
    event = threading.Event()
    event.set()
    return event


def leave(journal: Journal) -> None:
    """Nothing touches alpha any more."""
    journal.client.delete("vmrelay:slots:alpha:out")


# -- what the agent waits for -----------------------------------------------------------------------


def test_a_drain_ends_when_nothing_touches_the_host(journal: Journal, redis_url: str) -> None:
    """Long before the grace is over; nothing is aborted, and the schedulers were told that it drains."""
    agent = agent_of(journal, redis_url, drain_seconds=LONG)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(drained(agent)))
    thread.start()
    while not journal.agents(["alpha"])["alpha"]["draining"]:
        time.sleep(0.01)
    leave(journal)
    thread.join(20)
    assert done == [True]
    assert not agent.evicting


@pytest.mark.parametrize("grace", [0.0, LONG], ids=["grace over", "asked twice"])
def test_what_is_left_is_aborted_and_at_last_left(journal: Journal, redis_url: str, grace: float) -> None:
    """After the grace, or at once where somebody hurries: the lease says it, and there is an end to the wait."""
    agent = agent_of(journal, redis_url, drain_seconds=grace, drain_abort_seconds=0.3)
    assert drained(agent, hurried() if grace else None) is False
    assert journal.agents(["alpha"])["alpha"]["evicting"] is True


def test_post_copy_is_waited_for_unless_somebody_hurries(
    journal: Journal, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest is on the destination already and cannot be held up: the limit counts from its last look."""
    monkeypatch.setattr("worker.agent.DRAIN_LOOK_SECONDS", 0.01)
    watching(journal, monkeypatch).progress(Progress(postcopy=True))
    agent = agent_of(journal, redis_url, drain_seconds=0, drain_abort_seconds=0.05)
    looks, touching = [0], journal.touching

    def look(host: str) -> Any:
        looks[0] += 1
        if looks[0] == 30:
            leave(journal)
        return touching(host)

    monkeypatch.setattr(journal, "touching", look)
    assert drained(agent) is True
    journal.client.sadd("vmrelay:slots:alpha:out", "m")
    agent.evicting = False
    assert drained(agent, hurried()) is False


def test_what_waits_for_a_host_is_not_waited_for(journal: Journal, redis_url: str) -> None:
    """This agent can do nothing for it: it goes on when that host and this agent are there."""
    journal.client.hset("vmrelay:m:m", "waiting", '{"host": "beta", "why": "unreachable", "since": 1}')
    assert drained(agent_of(journal, redis_url, drain_seconds=LONG)) is True


def test_a_drain_without_redis_ends(redis_url: str) -> None:
    """Nobody can say what touches the host, so the whole time is waited, and not more."""
    with connect(redis_url) as client, connect("redis://127.0.0.1:1/0") as nobody:
        agent = agent_of(Journal(client), redis_url, drain_seconds=0, drain_abort_seconds=0.1)
        agent._lease_journal.client.close()
        agent.journal = agent._lease_journal = Journal(nobody)
        assert drained(agent) is False
        assert agent.evicting


# -- how a running phase learns ---------------------------------------------------------------------


def test_the_source_hears_of_its_own_agent_at_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while it merely drains; and without Redis, too."""
    running = watching(journal, monkeypatch)
    monkeypatch.setattr(running._agent, "draining", True)
    assert running.stop() is None
    with connect("redis://127.0.0.1:1/0") as nobody:
        monkeypatch.setattr(running._agent, "journal", Journal(nobody))
        monkeypatch.setattr(running._agent, "evicting", True)
        assert running.stop() is Stop.DRAIN
    assert running.gives_way_to == "alpha"


def test_the_source_hears_of_the_destinations_agent(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through its lease, and only as long as it has one."""
    running = watching(journal, monkeypatch)
    journal.lease("beta", {"incarnation": "beta", "draining": True, "evicting": False}, 3600)
    assert running.stop() is None
    journal.lease("beta", {"incarnation": "beta", "draining": True, "evicting": True}, 3600)
    assert (running.stop(), running.gives_way_to) == (Stop.DRAIN, "beta")
    journal.unlease("beta", "beta")
    assert watching(journal, monkeypatch).stop() is None


def test_a_cancel_counts_more_than_a_drain_and_a_deadline_no_more(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cancels wants no other attempt; a deadline that passes while it is aborted changes nothing."""
    running = watching(journal, monkeypatch)
    monkeypatch.setattr(running._agent, "evicting", True)
    assert running.stop() is Stop.DRAIN
    running._deadline = 0
    assert running.stop() is Stop.DRAIN
    journal.cancel("m", "ann", 60)
    assert running.stop() is Stop.CANCEL


@pytest.mark.parametrize("phase", [Phase.BEGIN, Phase.PREPARE, Phase.PERFORM])
def test_no_phase_that_goes_forward_starts_on_a_draining_agent(phase: Phase) -> None:
    """It gives way before the hypervisor is called."""
    agent = SimpleNamespace(draining=True, evicting=False, host=SimpleNamespace(name="alpha"))
    watching = JournalWatch(cast(Agent, agent), BATON, phase, "t", cancel=False)
    after = phases._attempted(cast(Agent, agent), phase, BATON, watching)
    assert after.error is not None
    assert (after.error.code, after.error.phase, after.performed) == ("drained", phase, False)
    assert "agent of alpha" in after.error.message


# -- what follows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True])
def test_another_attempt_follows_even_after_the_last(last: bool) -> None:
    """The guest is on its source: what gave way is no failure and does not count."""
    after = phases._stopped(BATON, stopped(Stop.DRAIN), Stop.DRAIN, Phase.PERFORM, "beta")
    assert after.error is not None
    assert (after.error.code, after.error.cancelled, after.error.after) == ("drained", False, Retry.TRANSIENT)
    assert "agent of beta is being stopped" in after.error.message
    seen = {"source_state": DomainState.RUNNING, "destination_state": DomainState.ABSENT, "performed": True}
    concluded = conclude(after.model_copy(update=seen | {"last_attempt": last}))
    assert concluded.ending is Ending.AGAIN
    assert concluded.error is not None
    assert attempt.gave_way(concluded.error)


def test_a_cancel_while_it_is_aborted_is_a_cancel() -> None:
    """Its outcome is cancelled, with that code."""
    after = phases._stopped(BATON, stopped(Stop.DRAIN), Stop.CANCEL, Phase.PERFORM, "alpha")
    assert after.error is not None
    assert (after.error.code, after.error.cancelled) == ("cancelled", True)
    assert isinstance(stopped(Stop.DRAIN), Cancelled)


# -- the process ------------------------------------------------------------------------------------

HUNG = """
import signal, sys
import structlog
from worker import process
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
process.ENDING_SECONDS = float(sys.argv[2])
def drain(hurry):
    print("draining", flush=True)
    hurry.wait()
    print("hurries", flush=True)
    return sys.argv[1] == "done"
process.Stopper(drain).listen()
print("hangs", flush=True)
while True:
    signal.pause()
"""


@contextmanager
def hanging(done: str, ending: float) -> Iterator[subprocess.Popen[str]]:
    """A process whose work never ends."""
    words = [sys.executable, "-c", HUNG, done, str(ending)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert hears(process) == "hangs"
            yield process
        finally:
            process.kill()


def hears(process: subprocess.Popen[str]) -> str:
    """The next line that it writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("done", ["done", "left"])
def test_a_process_that_hangs_ends_after_the_second_signal(done: str) -> None:
    """Whether something is left or not: soon after, with the exit code that says so."""
    with hanging(done, 0.1) as process:
        process.terminate()
        assert hears(process) == "draining"
        process.terminate()
        assert hears(process) == "hurries"
        assert process.wait(20) == UNFINISHED


def test_a_third_signal_ends_the_process_at_once() -> None:
    """Nothing is waited for."""
    with hanging("left", LONG) as process:
        for said in ("draining", "hurries"):
            process.terminate()
            assert hears(process) == said
        process.terminate()
        assert process.wait(20) == UNFINISHED


def test_what_is_said_of_a_lease_is_json(journal: Journal, redis_url: str) -> None:
    """Agents of the version before did not say whether they evict; nobody is evicted by that."""
    card = json.dumps({"incarnation": "x", "draining": True})
    journal.client.set("vmrelay:lease:beta", card)
    assert journal.progress("m", "t", None, False, ("", "", 0)) == (False, "", [])
