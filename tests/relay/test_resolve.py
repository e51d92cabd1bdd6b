"""An operator ends what is in doubt, gives up a host, and asks again: with real processes on simulated hosts."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery.result import AsyncResult
from recovery_lab import MEDIUM, QuickRelay
from relay_lab import LARGE, PATIENCE, Relay, until

RESOLVE, RETRY = "vmrelay.v1.resolve", "vmrelay.v1.retry"
BROKEN = 0x80031004
"""PRL_ERR_VM_MIGRATE_NOT_ENOUGH_CPUS_ON_TARGET: never retried."""


def refused(relay: Relay, task: str, **arguments: str) -> str:
    """The text with which a request is refused."""
    asked = relay.send(task, **arguments)
    until(lambda: relay.result(asked)["status"] == "FAILURE", "refusal")
    answer = relay.result(asked)["result"]
    assert answer["exc_type"] == "Rejected"
    return str(answer["exc_message"][0])


@pytest.mark.parametrize("task", [RESOLVE, RETRY])
def test_a_migration_that_nobody_knows(relay: Relay, task: str) -> None:
    """It is refused, and so is what is no request."""
    assert refused(relay, task, migration="nobody").endswith("[unknown-migration]")
    assert refused(relay, task).endswith("[malformed]")


def test_what_is_not_resolved(relay: Relay) -> None:
    """One that goes on, one that has ended: the command says so, with exit code 2, and nothing changes."""
    name = relay.vm(memory_mib=LARGE)
    ident = relay.migrate(name)
    relay.copying(ident)
    done = relay.cli("resolve", ident)
    assert (done.returncode, done.stdout) == (2, "")
    assert "goes on by itself: perform is running on alpha" in done.stderr
    assert "is not dead: its agent is up" in refused(relay, RESOLVE, migration=ident, assume_dead="beta")
    assert "not over: it is perform" in refused(relay, RETRY, migration=ident)
    assert relay.events(ident, "recovering") == []
    relay.send("vmrelay.v1.cancel", migration=ident)
    assert relay.wait(ident).outcome == "cancelled"
    assert refused(relay, RESOLVE, migration=ident).endswith("is over: cancelled [over]")


def test_what_failed_is_asked_for_again(relay: Relay) -> None:
    """Under a new id, with the same flags; who asks and after which one is in the record."""
    relay.fault("alpha", "fail", code=BROKEN)
    name = relay.vm()
    failed = relay.wait(relay.migrate(name, options={"paused": True}, reason="beta has room"))
    assert failed.outcome == "failed"
    done = relay.cli("retry", failed.id, "--requested-by", "bert", "--wait", "-o", "json")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["id"] != failed.id
    assert (again["outcome"], again["domain"]) == ("succeeded", name)
    assert again["flags"] == failed.flags_label.split(",")
    assert (again["requested_by"], again["reason"]) == ("bert", f"again after {failed.id}: beta has room")
    assert relay.where(name) == {"beta": "paused"}
    assert AsyncResult(again["id"], app=relay.celery).get(timeout=PATIENCE)["outcome"] == "succeeded"
    assert "has succeeded" in refused(relay, RETRY, migration=again["id"])


def test_one_message_is_one_retry(relay: Relay) -> None:
    """The same task sent twice asks for one migration."""
    relay.fault("alpha", "fail", code=BROKEN)
    failed = relay.wait(relay.migrate(relay.vm()))
    for _ in range(2):
        relay.send(RETRY, ident=f"again-{failed.id}", migration=failed.id)
    until(lambda: relay.result(f"again-{failed.id}")["status"] == "SUCCESS", "answer")
    new = relay.result(f"again-{failed.id}")["result"]["migration"]
    assert relay.wait(new).outcome == "succeeded"
    assert [record.id for record in relay.journal.records() if record.domain == failed.domain] == [new, failed.id]


def test_in_doubt_until_it_is_put_right(quick_relay: QuickRelay) -> None:
    """Two running copies: an operator is asked, a second look finds the same, and once one is gone it is closed."""
    relay = quick_relay
    name = relay.vm(memory_mib=MEDIUM)
    ident = relay.migrate(name, attempts=1)
    relay.copying(ident)
    relay.kill_host("alpha")
    relay.waits_for(ident, "alpha")
    record = relay.record(ident)
    assert record is not None
    relay.ask("beta", "vm-create", vm={"name": name, "uuid": record.uuid, "memory_mib": 64})
    relay.power_on("alpha")
    assert relay.wait(ident).state == "in-doubt"
    assert relay.where(name) == {"alpha": "running", "beta": "running"}

    status = relay.cli("status", ident).stdout
    assert f"vmrelay resolve {ident}" in status
    assert "it runs on both sides: stop one at once" in status
    assert relay.result(ident)["result"]["exc_type"] == "InDoubt"
    assert "is in doubt" in refused(relay, RETRY, migration=ident)
    again = relay.cli("resolve", ident[:8], "--requested-by", "anna")
    assert again.returncode == 3, again.stderr
    assert "it was in doubt: anna asked for it" in again.stderr
    assert "the source runs it; the destination runs it: an operator is asked" in again.stderr
    assert relay.where(name) == {"alpha": "running", "beta": "running"}

    relay.ask("beta", "vm-delete", name=name)
    before = relay.outcomes(outcome="failed", reason="interrupted")
    done = relay.cli("resolve", ident, "-o", "json")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["outcome"] == "failed"
    assert relay.where(name) == {"alpha": "running"}
    relay.counted(before + 1, outcome="failed", reason="interrupted")
    assert relay.result(ident)["result"]["exc_type"] == "Failed"
    assert relay.moved(name).outcome == "succeeded"


def test_a_host_that_is_given_up(quick_relay: QuickRelay) -> None:
    """Refused for a host that is alive or no host of it; with the dead one it ends, and everybody is warned."""
    relay = quick_relay
    name = relay.vm(memory_mib=MEDIUM)
    ident = relay.migrate(name, attempts=1)
    relay.copying(ident)
    relay.kill_host("beta")
    relay.waits_for(ident, "beta")

    looked = relay.cli("resolve", ident)
    assert looked.returncode == 4, looked.stderr
    assert "waits for beta" in looked.stdout
    assert f"vmrelay resolve {ident} --assume-dead beta" in looked.stderr
    calls = {"gamma": "not gamma [not-its-host]", "alpha": "alpha is not dead: its agent is up"}
    with ThreadPoolExecutor(2) as pool:
        tried = list(pool.map(lambda host: relay.cli("resolve", ident, "--assume-dead", host, "--yes"), calls))
    assert [done.returncode for done in tried] == [2, 2]
    assert all(said in done.stderr for done, said in zip(tried, calls.values(), strict=True))
    unsaid = relay.cli("resolve", ident, "--assume-dead", "beta")
    assert unsaid.returncode == 2
    assert "it is powered off, or fenced" in unsaid.stderr
    assert "there will be two" in unsaid.stderr
    assert "[not-confirmed]" in unsaid.stderr
    assert relay.record(ident).state == "active"  # type: ignore[union-attr]

    done = relay.cli("resolve", ident, "--assume-dead", "beta", "--yes", "--requested-by", "anna", "-o", "json")
    assert done.returncode == 1, done.stderr
    warning = f"beta was assumed dead: before anybody uses it again look for {name} there"
    assert json.loads(done.stdout)["warning"] == warning
    assert re.search(r"anna asked for it; beta is assumed dead, the other host is looked at", done.stderr)
    assert warning in relay.cli("status", ident).stdout
    assert relay.where_alive(name) == {"alpha": "running"}

    relay.power_on("beta")
    relay.settled(name, "alpha")


def test_a_source_that_is_given_up(quick_relay: QuickRelay) -> None:
    """The source dies after perform, while nobody can look at all: the destination's agent ends it when it is back."""
    relay = quick_relay
    name = relay.vm(memory_mib=MEDIUM)
    ident = relay.migrate(name)
    relay.copying(ident)
    relay.kill("agent-beta")
    relay.in_phase(ident, "finish", "queued")
    relay.kill_host("alpha")
    relay.missed("alpha")
    relay.missed("beta")
    done = relay.cli("resolve", ident, "--assume-dead", "alpha", "--yes", "--no-wait")
    assert done.stdout == f"{ident} looking\n", done.stderr
    both = refused(relay, RESOLVE, migration=ident, assume_dead="beta")
    assert "with both hosts dead nothing can be done" in both
    relay.restart_agent("beta")
    record = relay.wait(ident)
    assert record.outcome == "succeeded", relay.events(ident)
    assert record.warning.startswith("alpha was assumed dead")
    assert relay.where_alive(name) == {"beta": "running"}
    assert [event["phase"] for event in relay.events(ident, "phase")][-1] == "recover"
