"""A host that is away for long: its migrations wait and say so, nothing is guessed, and they settle when it is back."""

from __future__ import annotations

import json

import pytest
from recovery_lab import MEDIUM, WAITING, QuickRelay
from relay_lab import until


def interrupted(relay: QuickRelay, host: str) -> tuple[str, str]:
    """A guest on its way from alpha to beta when a host loses its power; its name, and the migration."""
    name = relay.vm(memory_mib=MEDIUM)
    ident = relay.migrate(name)
    relay.copying(ident)
    relay.kill_host(host)
    return name, ident


def test_a_host_that_is_away_is_waited_for(quick_relay: QuickRelay) -> None:
    """Status, list, hosts, events, AsyncResult and the metric say what is waited for; when it is back it settles."""
    relay = quick_relay
    name, ident = interrupted(relay, "beta")
    relay.waits_for(ident, "beta")

    status = relay.told("status", ident, "--events")
    assert status["state"] == "active"
    assert (status["waiting"]["host"], status["outcome"]) == ("beta", None)
    assert status["waits_for"].startswith("beta since ")
    assert any(event["type"] == "waiting" and event["host"] == "beta" for event in status["events"])
    text = relay.cli("status", ident).stdout
    assert f"vmrelay resolve {ident} --assume-dead beta" in text
    assert "bring beta and its agent back" in text
    row = next(line for line in relay.cli("list").stdout.splitlines() if line.startswith(ident[:8]))
    assert "(waits)" in row
    assert "beta since " in row
    assert {host["name"]: host["waiting"] for host in relay.told("hosts")} == {"alpha": 0, "beta": 1, "gamma": 0}
    until(lambda: relay.metrics("scheduler", WAITING, host="beta") == 1, "the metric counts it")
    assert relay.result(ident)["status"] == "PROGRESS"
    assert "waits for beta" in relay.result(ident)["result"]["description"]
    assert relay.where_alive(name) == {"alpha": "running"}

    relay.power_on("beta")
    record = relay.wait(ident)
    assert record.state == "ended", relay.events(ident)
    assert record.waiting is None
    relay.settled(name, "alpha", "beta")
    until(lambda: relay.metrics("scheduler", WAITING, host="beta") == 0, "nothing waits any more")


def test_a_source_that_is_away_is_waited_for(quick_relay: QuickRelay) -> None:
    """The agent that ran perform is gone with its host: the other one looks, and waits; both events say so."""
    relay = quick_relay
    name, ident = interrupted(relay, "alpha")
    relay.waits_for(ident, "alpha")
    (begun,) = relay.events(ident, "recovering")
    assert (begun["phase"], begun["host"], begun["stage"]) == ("perform", "alpha", "performing")
    looks = [event for event in relay.events(ident, "phase-ended") if event["phase"] == "recover"]
    assert looks[-1]["host"] == "beta"
    assert looks[-1]["decided"][-1]["action"] == "wait"

    relay.power_on("alpha")
    assert relay.wait(ident).state == "ended"
    relay.settled(name, "alpha", "beta")
    said = relay.cli("status", ident, "--events").stdout
    assert "perform on alpha was interrupted: its agent is away" in said
    assert "the source cannot be seen" in said
    assert json.loads(relay.cli("status", ident, "-o", "json").stdout)["warning"] is None


@pytest.mark.parametrize("host", ["alpha", "beta"])
def test_an_agent_that_comes_back_settles_it(quick_relay: QuickRelay, host: str) -> None:
    """Only the agent is killed and started again: the migration ends by itself, and the guest is in one place."""
    relay = quick_relay
    name = relay.vm(memory_mib=MEDIUM)
    ident = relay.migrate(name)
    relay.copying(ident)
    relay.kill(f"agent-{host}")
    relay.restart_agent(host)
    assert relay.wait(ident).state == "ended"
    relay.settled(name, "alpha", "beta")
