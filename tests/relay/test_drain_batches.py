"""Batches that are planned, over real processes: made anew after a failure, a kill, or what has changed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from relay_lab import Relay, until
from test_batches import answer, control, moves_of, the_batch

from worker.journal.batch import Batch


@pytest.fixture
def gamma(relay: Relay) -> Iterator[Relay]:
    """The relay without a guest; afterwards guests may be sent to gamma again."""
    relay.empty()
    yield relay
    relay.journal.uncordon("gamma")


def drained(relay: Relay, ident: str) -> Batch:
    """A drain of gamma that has finished."""
    batch = the_batch(relay, ident)
    assert relay.result(ident)["status"] == "SUCCESS"
    assert {left["domain"] for left in batch.left} == {vm["name"] for vm in relay.ask("gamma", "show")["vms"]}
    return batch


def test_a_guest_that_fails_stays_and_is_tried_again_when_somebody_says_so(gamma: Relay) -> None:
    """The drain ends with its reason; a retry plans for it anew, and the receipt is that of both."""
    bad, good = gamma.vm("gamma"), gamma.vm("gamma")
    for host in ("alpha", "beta"):
        gamma.fault(host, "fail", code="0x8fedcba9", count=1, vm=bad)
    gamma.fault("gamma", "fail", code="0x8fedcba9", count=1, vm=bad)
    ident = gamma.send("vmrelay.v1.drain", hosts=["gamma"])
    batch = drained(gamma, ident)
    assert (batch.moved, batch.failed, batch.skipped) == (1, 1, 0)
    assert [(left["domain"], left["code"]) for left in batch.left] == [(bad, "failed")]
    assert [home.domain for home in gamma.journal.homes("gamma")] == [good]
    for host in ("alpha", "beta", "gamma"):
        gamma.ask(host, "clear")
    assert control(gamma, ident, "retry") == "ok"
    until(lambda: the_batch(gamma, ident).moved == 2, "drained at the second try")
    batch = drained(gamma, ident)
    assert (batch.total, batch.failed, batch.left) == (2, 0, ())
    assert [state for state, _ in moves_of(gamma, ident)].count("replaced") == 1


def test_who_arrives_while_a_host_is_drained_leaves_it_too(gamma: Relay) -> None:
    """A cancelled migration's guest is left alone, and one that was started meanwhile is planned for."""
    slow = gamma.vm("gamma")
    gamma.fault("gamma", "delay", step=10, seconds=3000, vm=slow)
    ident = gamma.send("vmrelay.v1.drain", hosts=["gamma"])
    until(lambda: gamma.journal.running_of(ident), "it moves")
    (record,) = gamma.journal.running_of(ident)
    gamma.copying(record.id, "gamma")
    late = gamma.vm("gamma")
    gamma.send("vmrelay.v1.cancel", migration=record.id)
    batch = drained(gamma, ident)
    assert (batch.moved, batch.failed, batch.skipped, batch.replans) == (1, 0, 1, 1)
    assert late not in {left["domain"] for left in batch.left}
    assert [(left["domain"], left["code"]) for left in batch.left] == [(slow, "cancelled")]


def test_a_scheduler_killed_while_it_plans_holds_up_nothing(gamma: Relay) -> None:
    """The next one plans; everybody moves once."""
    names = [gamma.vm("gamma") for _ in range(4)]
    before = gamma.jobs_ended()
    ident = gamma.send("vmrelay.v1.drain", hosts=["gamma"])
    the_batch(gamma, ident, "planning")
    gamma.kill("scheduler")
    gamma.mend()
    batch = drained(gamma, ident)
    assert (batch.moved, batch.failed, batch.skipped, batch.left) == (4, 0, 0, ())
    assert gamma.jobs_ended() - before == 4
    assert all("gamma" not in gamma.where(name) for name in names)


def test_a_host_that_nobody_looks_at_is_not_waited_for_for_ever(gamma: Relay) -> None:
    """The drain ends, says that it could not look, and what it knew before."""
    stays = gamma.vm("gamma")
    assert gamma.terminate("agent-gamma") == 0
    ident = gamma.send("vmrelay.v1.drain", hosts=["gamma"])
    batch = the_batch(gamma, ident)
    gamma.restart_agent("gamma")
    assert any("could not be looked at" in note and "agent is away" in note for note in batch.notes)
    assert [left["domain"] for left in batch.left] == [stays]
    assert batch.moved == 0


def test_nothing_to_do_is_said_at_once(gamma: Relay) -> None:
    """A rebalance of hosts that are balanced finishes without a move."""
    ident = gamma.send("vmrelay.v1.rebalance", goal={"kind": "balance", "ceiling_points": 100})
    batch = the_batch(gamma, ident)
    assert (batch.total, batch.moved) == (0, 0)
    assert "nothing to do" in batch.notes


def test_a_plan_that_no_longer_fits_is_refused_or_made_anew(gamma: Relay) -> None:
    """The refusal names what has changed; with on_change=replan its goal is planned for anew."""
    one, two = gamma.vm("gamma"), gamma.vm("gamma")
    shown = gamma.cli("drain", "gamma", "--dry-run", "-o", "json")
    plan = json.loads(shown.stdout)
    assert {step["domain"] for step in plan["steps"]} == {one, two}
    held = gamma.send("vmrelay.v1.batch", plan=plan, hold=True)
    assert the_batch(gamma, held, "planned").total == 2
    assert control(gamma, held, "cancel") == "ok"
    assert the_batch(gamma, held).skipped == 2
    gamma.moved(one, "alpha")
    refused = answer(gamma, "vmrelay.v1.batch", plan=plan)
    assert refused["status"] == "FAILURE"
    assert "plan-outdated" in str(refused["result"])
    assert one in str(refused["result"])
    ident = gamma.send("vmrelay.v1.batch", plan=plan, on_change="replan")
    batch = the_batch(gamma, ident)
    assert (batch.kind, batch.moved, batch.total) == ("plan", 1, 1)
    assert "gamma" not in gamma.where(two)
