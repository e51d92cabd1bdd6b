"""Agents and schedulers that are told to stop: what is waited for, what is aborted, and how it goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from relay_lab import HOSTS, LARGE, PATIENCE, SMALL, Relay, until

from worker.process import UNFINISHED

pytestmark = pytest.mark.timeout(300)

LASTS = 600_000
"""MiB: about six seconds of copying."""
SOON = {"VMRELAY_DRAIN_SECONDS": "0.5"}
HEARD = ("draining", "stopping now", "ending at once")
"""What an agent says to the first SIGTERM, to the second one and to the third."""


@contextmanager
def agent_with(relay: Relay, host: str, **settings: str) -> Iterator[None]:
    """The agent of a host with other settings, for this block; it ends with one that has none."""
    before = relay.environment
    assert relay.terminate(f"agent-{host}") == 0
    relay.environment = before | settings
    try:
        relay.restart_agent(host)
    finally:
        relay.environment = before
    yield


def told_to_stop(relay: Relay, name: str, times: int = 1) -> int:
    """SIGTERM so often, each after the one before was heard; the exit code."""
    process, said = relay.processes.pop(name), len(relay.log(name))
    for heard in HEARD[:times]:
        process.terminate()
        until(lambda heard=heard: heard in relay.log(name)[said:], f"{name} says '{heard}'")
    return int(process.wait(PATIENCE))


def waits_for(relay: Relay, ident: str, host: str) -> None:
    """Wait until a migration waits for its next attempt; it must be for the agent of ``host``."""
    relay.wait(ident, "backoff")
    (told,) = relay.events(ident, "backoff")
    assert (told["code"], told["class"], told["delay_seconds"]) == ("drained", "transient", 0)
    assert f"the agent of {host} is being stopped" in told["message"]


def test_a_perform_that_outlasts_the_grace_gives_way(relay: Relay) -> None:
    """It is aborted and undone, the guest runs on, and when the agent is back it moves: one attempt was asked for."""
    name = relay.vm(memory_mib=LASTS)
    boot = relay.look("alpha", name)["boot_id"]
    with agent_with(relay, "alpha", **SOON):
        ident = relay.migrate(name, attempts=1)
        relay.copying(ident)
        assert told_to_stop(relay, "agent-alpha") == 0
    gave_way(relay, name, boot, ident, "alpha")
    relay.restart_agent("alpha")
    went_on(relay, name, boot, ident)


def test_performs_give_way_to_the_end_of_the_destinations_agent(relay: Relay) -> None:
    """They do the same; a cancel ends one of them at once while it waits: nothing else was going on."""
    name, other = relay.vm(memory_mib=LASTS), relay.vm(memory_mib=LASTS)
    boot = relay.look("alpha", name)["boot_id"]
    with agent_with(relay, "beta", **SOON):
        ident, cancelled = relay.migrate(name, attempts=1), relay.migrate(other)
        relay.copying(ident)
        relay.copying(cancelled)
        assert told_to_stop(relay, "agent-beta") == 0
    gave_way(relay, name, boot, ident, "beta")
    relay.wait(cancelled, "backoff")
    assert relay.cli("cancel", cancelled).returncode == 0
    assert relay.wait(cancelled).outcome == "cancelled"
    assert relay.where(other) == {"alpha": "running"}
    relay.restart_agent("beta")
    went_on(relay, name, boot, ident)
    relay.moved(relay.vm())


def gave_way(relay: Relay, name: str, boot: str, ident: str, host: str) -> None:
    """It waits for the agent of ``host``, and the guest runs where it was."""
    waits_for(relay, ident, host)
    assert relay.where(name) == {"alpha": "running"}
    assert relay.look("alpha", name)["boot_id"] == boot
    assert host in relay.cli("status", ident).stdout


def went_on(relay: Relay, name: str, boot: str, ident: str) -> None:
    """It has succeeded with its second attempt, and the guest was never restarted."""
    record = relay.wait(ident)
    assert (record.outcome, record.attempt) == ("succeeded", 2)
    assert relay.where(name) == {"beta": "running"}
    assert relay.look("beta", name)["boot_id"] == boot


def test_a_second_signal_waits_no_longer(relay: Relay) -> None:
    """The grace of a minute is cut short; the agent ends as soon as its perform is undone."""
    name = relay.vm(memory_mib=LARGE)
    ident = relay.migrate(name, attempts=1)
    relay.copying(ident)
    assert told_to_stop(relay, "agent-alpha", times=2) == 0
    waits_for(relay, ident, "alpha")
    assert relay.where(name) == {"alpha": "running"}
    relay.cli("cancel", ident)
    assert relay.wait(ident).outcome == "cancelled"
    relay.restart_agent("alpha")


def test_a_hypervisor_that_hangs_does_not_keep_its_agent(relay: Relay) -> None:
    """After the second signal there is an end to it, with the exit code that says so; recovery does the rest."""
    name = relay.vm(memory_mib=LASTS)
    with agent_with(relay, "alpha", VMRELAY_DRAIN_ABORT_SECONDS="0.5"):
        ident = relay.migrate(name)
        relay.copying(ident)
        simulator = relay.processes["simulator-alpha"]
        simulator.send_signal(signal.SIGSTOP)
        try:
            assert told_to_stop(relay, "agent-alpha", times=2) == UNFINISHED
        finally:
            simulator.send_signal(signal.SIGCONT)
    relay.restart_agent("alpha")
    record = relay.wait(ident)
    assert record.outcome == "succeeded", record
    assert relay.where(name) == {"beta": "running"}


def test_a_third_signal_ends_the_agent_at_once(relay: Relay) -> None:
    """In mid-perform; the migration comes to its end when the agent is back, and the guest is in one place."""
    name = relay.vm(memory_mib=LASTS)
    ident = relay.migrate(name)
    relay.copying(ident)
    simulator = relay.processes["simulator-alpha"]
    simulator.send_signal(signal.SIGSTOP)  # so that nothing can be undone between the second signal and the third
    try:
        assert told_to_stop(relay, "agent-alpha", times=3) == UNFINISHED
    finally:
        simulator.send_signal(signal.SIGCONT)
    relay.restart_agent("alpha")
    assert relay.wait(ident).outcome == "succeeded"
    assert relay.where(name) == {"beta": "running"}


def test_everything_is_upgraded_while_guests_move(relay: Relay) -> None:
    """Every agent and the scheduler restart one after the other under a stream of requests; all of them succeed."""
    over, idents, names = threading.Event(), [], [relay.vm(memory_mib=SMALL * 100) for _ in range(4)]

    def ask(name: str) -> None:
        """Move one guest round and round; each time with one attempt."""
        place = 0
        while not over.is_set():
            place = (place + 1) % len(HOSTS)
            _move(name, HOSTS[place - 1], HOSTS[place])

    def _move(name: str, here: str, there: str) -> None:
        until(lambda: name in _published(relay, here), f"{name} is seen on {here}", pause=0.1)
        ident = relay.migrate(name, there, attempts=1)
        idents.append(ident)
        relay.wait(ident)

    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    try:
        for process in ("scheduler", *(f"agent-{host}" for host in HOSTS)):
            moved = len(idents)
            assert relay.terminate(process) == 0
            relay.mend()
            until(lambda moved=moved: len(idents) > moved + len(names), "they move on")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    wrong = [ident for ident in idents if (found := relay.record(ident)) is None or found.outcome != "succeeded"]
    assert not wrong, [(relay.record(ident), relay.events(ident)) for ident in wrong]
    assert sorted(len(relay.where(name)) for name in names) == [1] * len(names)


def _published(relay: Relay, host: str) -> set[str]:
    return {str(domain["name"]) for domain in relay.journal.domains(host) if domain["state"] == "running"}
