"""Processes that end, politely or not, while guests move."""

from __future__ import annotations

import json

from relay_lab import PATIENCE, Relay, until

MOVES_IN_SECONDS = 300_000
"""MiB: about two seconds of copying."""


def test_a_second_agent_refuses_to_start(relay: Relay) -> None:
    """It says who owns the host, and the first one is not disturbed."""
    owner = relay.processes["agent-alpha"].pid
    done = relay.cli("agent", "alpha")
    assert done.returncode == 1
    assert f"host alpha is owned by the agent with pid {owner}" in done.stderr
    assert "[host-owned]" in done.stderr
    relay.moved(relay.vm())


def test_a_killed_agent_is_replaced_at_once(relay: Relay) -> None:
    """Its successor sees that it is dead, takes the lease over before it lapses, and serves."""
    relay.kill("agent-gamma")
    lease = relay.journal.agents(["gamma"])["gamma"]
    relay.restart_agent("gamma")
    assert "taking over from a dead agent" in relay.log("agent-gamma")
    assert relay.journal.agents(["gamma"])["gamma"]["incarnation"] != lease["incarnation"]
    relay.moved(relay.vm(), "gamma")


def test_a_source_told_to_stop_finishes_what_it_does(relay: Relay) -> None:
    """SIGTERM in mid-perform: the migration succeeds, the agent ends with 0, its lease is gone."""
    name = relay.vm(memory_mib=MOVES_IN_SECONDS)
    ident = relay.migrate(name)
    relay.copying(ident)
    assert relay.terminate("agent-alpha") == 0
    assert "alpha" not in relay.journal.agents(["alpha"])
    assert relay.wait(ident).outcome == "succeeded"
    assert relay.where(name) == {"beta": "running"}
    relay.restart_agent("alpha")


def test_a_draining_destination_serves_finish_and_takes_nothing_new(relay: Relay) -> None:
    """SIGTERM of the destination in mid-perform: finish still runs there; later requests wait."""
    name, later = relay.vm(memory_mib=MOVES_IN_SECONDS), relay.vm("gamma")
    ident = relay.migrate(name)
    relay.copying(ident)
    agent = relay.processes.pop("agent-beta")
    agent.terminate()
    until(lambda: relay.journal.agents(["beta"]).get("beta", {}).get("draining"), "beta drains")
    waits = relay.migrate(later)
    assert agent.wait(PATIENCE) == 0
    assert relay.wait(ident).outcome == "succeeded"
    assert relay.where(later) == {"gamma": "running"}
    relay.restart_agent("beta")
    assert relay.wait(waits).outcome == "succeeded"


def test_a_scheduler_told_to_stop(relay: Relay) -> None:
    """It ends with 0 at once; what moves goes on without it, and what is asked meanwhile waits for the next."""
    ident = relay.migrate(relay.vm(memory_mib=MOVES_IN_SECONDS))
    relay.copying(ident)
    assert relay.terminate("scheduler") == 0
    assert "scheduler" not in relay.journal.agents(["scheduler"])
    later = relay.migrate(relay.vm("gamma"))
    assert relay.wait(ident).outcome == "succeeded"
    assert relay.record(later) is None
    relay.mend()
    assert relay.wait(later).outcome == "succeeded"


def test_a_second_scheduler_takes_over(relay: Relay) -> None:
    """Two schedulers serve requests; when the leader is killed, the other one does the rounds."""
    relay.spawn("second", "scheduler")
    until(lambda: "scheduler ready" in relay.log("second"), "the second scheduler")
    leader = relay.journal.agents(["scheduler"])["scheduler"]["pid"]
    assert leader == relay.processes["scheduler"].pid
    relay.kill("scheduler")
    second = relay.processes["second"].pid
    until(lambda: relay.journal.agents(["scheduler"]).get("scheduler", {}).get("pid") == second, "takes over")
    relay.moved(relay.vm())
    assert relay.terminate("second") == 0
    relay.mend()


def test_redis_restarts_while_a_guest_is_copied(relay: Relay) -> None:
    """Redis is killed in mid-perform and comes back with its file: the migration ends, the guest is whole."""
    name = relay.vm(memory_mib=MOVES_IN_SECONDS)
    boot = relay.look("alpha", name)["boot_id"]
    ident = relay.migrate(name)
    relay.copying(ident)
    relay.redis.kill()
    relay.redis.start()
    record = relay.wait(ident)
    assert record.outcome == "succeeded", record
    assert relay.where(name) == {"beta": "running"}
    assert relay.look("beta", name)["boot_id"] == boot
    relay.ready("scheduler", "agent-alpha", "agent-beta", "agent-gamma")
    relay.moved(name, "alpha")


def test_redis_is_away_when_perform_ends(relay: Relay) -> None:
    """What perform did is journaled as soon as Redis is back, and finish follows."""
    name = relay.vm(memory_mib=MOVES_IN_SECONDS)
    ident = relay.migrate(name)
    relay.copying(ident)
    relay.redis.kill()
    until(lambda: not relay.ask("alpha", "show")["outgoing"], "the dispatcher is done")
    relay.redis.start()
    record = relay.wait(ident)
    assert record.outcome == "succeeded", record
    assert relay.where(name) == {"beta": "running"}
    relay.ready("scheduler", "agent-alpha", "agent-beta", "agent-gamma")


def test_doctor_sees_what_is_missing(relay: Relay) -> None:
    """A dead agent is a warning that says what to do; a dead Redis is a failure."""
    relay.kill("agent-gamma")
    until(lambda: "gamma" not in relay.journal.agents(["gamma"]), "its lease lapses")
    done = relay.cli("doctor", "-o", "json")
    assert done.returncode == 0
    bad = {check["name"]: check["advice"] for check in json.loads(done.stdout) if check["result"] != "ok"}
    bad.pop("user", None)
    assert bad == {"agent gamma": "start 'vmrelay agent gamma'"}
    relay.restart_agent("gamma")


def test_commands_without_redis(relay: Relay) -> None:
    """They say that Redis does not answer, in one line, and exit with 1."""
    environment = relay.environment
    relay.environment = environment | {"VMRELAY_REDIS_URL": "redis://127.0.0.1:9/0"}
    try:
        done = relay.cli("list")
        sick = relay.cli("doctor", "-o", "json")
    finally:
        relay.environment = environment
    assert done.returncode == 1
    assert "Redis does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert sick.returncode == 1
    assert any(check["name"] == "redis" and check["result"] == "failed" for check in json.loads(sick.stdout))
