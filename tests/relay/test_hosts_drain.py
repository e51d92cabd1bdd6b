"""Hosts that are cordoned, drained, returned to and rolled over, by a relay of real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from drain_lab import DrainRelay
from relay_lab import HOSTS, VMRELAY, until

from worker.journal.batch import Batch
from worker.leash import leashed

pytestmark = pytest.mark.timeout(120)

SLOW = 300_000
"""MiB: some seconds of copying, and more than any host has."""


def left(batch: Batch) -> list[tuple[str, str]]:
    """Who is left, and the code of why."""
    return [(each["domain"], each["code"]) for each in batch.left]


@pytest.fixture
def relay(relay: DrainRelay) -> Iterator[DrainRelay]:
    """The relay with empty hosts, before and after."""
    relay.empty()
    yield relay
    relay.mend()
    relay.empty()


def test_a_drain_empties_its_host_and_return_fills_it(relay: DrainRelay) -> None:
    """Everything moves but what is pinned, which has its reason; the host is closed, and afterwards as before."""
    guests = {relay.vm("beta") for _ in range(4)}
    pinned = relay.vm("beta", "licensed-1")
    receipt = relay.receipt("drain", "beta", "--reason", "new DIMMs", "--requested-by", "ops", code=1)
    assert (receipt["moved"], receipt["failed"], receipt["skipped"]) == (4, 0, 1)
    assert [(stays["domain"], stays["code"]) for stays in receipt["left"]] == [(pinned, "pinned")]
    assert "its license is bound to the host" in receipt["left"][0]["why"]
    assert relay.on("beta") == {pinned}

    shown = {host["name"]: host for host in json.loads(relay.cli("hosts", "-o", "json").stdout)}
    assert (shown["beta"]["cordon"]["by"], shown["beta"]["cordon"]["reason"]) == ("ops", "new DIMMs")
    assert (shown["beta"]["homes_away"], shown["beta"]["draining"]) == (4, None)
    refused = relay.wait(relay.migrate(relay.vm("alpha"), "beta"))
    assert (refused.outcome, refused.reason) == ("rejected", "cordoned")
    assert "beta is cordoned by ops (new DIMMs)" in refused.error
    until(lambda: relay.metrics("scheduler", "vmrelay_host_cordoned", host="beta") == 1, "/metrics shows the cordon")

    # Drained again, nothing happens: what was moved is not asked for twice.
    assert relay.drained("beta").moved == 0

    back = relay.receipt("hosts", "return", "beta")
    assert back["moved"] == 4
    assert relay.on("beta") == guests | {pinned}
    assert relay.journal.homes() == []
    assert relay.journal.cordons() == {}


def test_who_was_moved_since_is_not_brought_back(relay: DrainRelay) -> None:
    """It is listed with what would bring it, and then forgotten; who was destroyed is not asked for."""
    kept, moved, gone = (relay.vm("beta") for _ in range(3))
    assert relay.drained("beta").left == ()
    (host,) = relay.where(moved)
    relay.moved(moved, next(other for other in ("alpha", "gamma") if other != host))
    (host,) = relay.where(gone)
    relay.ask(host, "vm-delete", name=gone)
    until(lambda: not relay.journal.find_domain(gone, HOSTS), "it is gone")
    back = relay.returned("beta")
    assert (back.moved, left(back)) == (1, [(moved, "moved-since")])
    assert relay.on("beta") == {kept}
    assert relay.journal.homes() == []


def test_what_finds_no_place_is_listed_and_the_drain_ends(relay: DrainRelay) -> None:
    """A guest that no other host has room for stays, and so says the receipt; the others have left."""
    big = relay.vm("beta", memory_mib=990_000)
    for host in HOSTS:
        relay.vm(host, memory_mib=500_000 if host != "beta" else 64)
    batch = relay.drained("beta")
    assert [domain for domain, _ in left(batch)] == [big]
    assert batch.left[0]["why"]
    assert relay.on("beta") == {big}


def test_a_stopped_domain_does_not_keep_a_host_from_being_empty(relay: DrainRelay) -> None:
    """No guest runs on the host any more: the drain went well, and names what lies there stopped."""
    stopped = relay.vm("beta", state="stopped")
    receipt = relay.receipt("drain", "beta")
    assert [(stays["domain"], stays["code"]) for stays in receipt["left"]] == [(stopped, "stopped")]


def test_several_hosts_are_drained_at_once_but_not_all(relay: DrainRelay) -> None:
    """The refusal says why, and nothing is cordoned; two of three go."""
    assert "nothing could leave" in relay.refusal("vmrelay.v1.drain", hosts=list(HOSTS))
    assert relay.journal.cordons() == {}
    for host in ("alpha", "beta"):
        relay.vm(host)
    assert relay.drained("alpha", "beta").moved == 2
    assert relay.on("alpha") | relay.on("beta") == set()


def test_a_cancelled_drain_says_what_is_still_there(relay: DrainRelay) -> None:
    """What waits is skipped, what runs ends as it does; meanwhile the host cannot be opened, afterwards it can."""
    names = {relay.vm("beta", memory_mib=SLOW) for _ in range(6)}
    ident = relay.send("vmrelay.v1.drain", hosts=["beta"])
    relay.batch(ident, "moving")
    uncordon = {"hosts": ["beta"], "action": "uncordon"}
    assert f"vmrelay batch cancel {ident}" in relay.refusal("vmrelay.v1.host", **uncordon)
    assert f"vmrelay batch watch {ident}" in relay.refusal("vmrelay.v1.drain", hosts=["beta"])
    relay.send("vmrelay.v1.control", batch=ident, action="cancel")
    batch = relay.batch(ident)
    assert batch.moved + batch.skipped == 6
    assert batch.skipped
    assert {domain for domain, _ in left(batch)} == relay.on("beta") <= names
    relay.send("vmrelay.v1.host", **uncordon)
    until(lambda: not relay.journal.cordons(), "beta takes domains again")


def test_a_host_that_is_cordoned_in_the_middle_gets_no_more(relay: DrainRelay) -> None:
    """What was planned to go there goes elsewhere: the drain plans anew, and its host is empty in the end."""
    for _ in range(6):
        relay.vm("beta", memory_mib=SLOW // 3)
    ident = relay.send("vmrelay.v1.drain", hosts=["beta"])
    relay.batch(ident, "moving")
    relay.send("vmrelay.v1.host", hosts=["alpha"], action="cordon")
    batch = relay.batch(ident)
    assert (batch.moved, batch.failed, batch.left) == (6, 0, ())
    assert relay.on("beta") == set()


def test_a_roll_goes_over_hosts_with_a_command(relay: DrainRelay) -> None:
    """The command runs once for each drained host; one that fails holds the roll, and attach goes on with it."""
    homes = {host: {relay.vm(host)} for host in HOSTS}
    seen = relay.directory / "seen"
    command = f'echo "$VMRELAY_HOST" >>{seen}; test "$VMRELAY_HOST" = alpha'
    failed = relay.cli("rolling", "alpha", "beta", "--id", "r1", "--command", command)
    assert failed.returncode == 1
    assert "vmrelay rolling attach r1" in failed.stderr
    assert (relay.roll("r1", "running").host, relay.roll("r1", "running").step) == ("beta", "wait")
    assert relay.on("beta") == set()
    done = relay.cli("rolling", "attach", "r1", "--command", f'echo "again $VMRELAY_HOST" >>{seen}', "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "finished"
    assert seen.read_text().split("\n") == ["alpha", "beta", "again beta", ""]
    told = [(kind, data.get("host", "")) for _, kind, data in relay.journal.roll_events("r1")]
    assert told == [
        ("begun", ""), ("drained", "alpha"), ("ready", "alpha"), ("returned", "alpha"),
        ("drained", "beta"), ("ready", "beta"), ("finished", "beta"),
    ]  # fmt: skip
    assert {host: relay.on(host) for host in HOSTS} == homes
    assert relay.journal.cordons() == {}


def test_a_killed_scheduler_holds_up_no_roll(relay: DrainRelay) -> None:
    """Killed while it drains: each guest has moved once there and, when the host is back, once home."""
    home = {relay.vm("alpha", memory_mib=SLOW // 2) for _ in range(3)}
    relay.send("vmrelay.v1.roll", ident="r3", hosts=["alpha"], wait="agent")
    relay.batch("r3.drain.alpha", "moving")
    relay.kill("scheduler")
    relay.mend()
    relay.roll("r3", "running", "wait")
    assert relay.on("alpha") == set()
    assert relay.terminate("agent-alpha") == 0
    relay.restart_agent("alpha")
    relay.roll("r3")
    assert relay.on("alpha") == home
    moves = [record for record in relay.journal.records() if record.batch.startswith("r3.")]
    assert sorted((record.batch, record.outcome) for record in moves) == [
        *[("r3.drain.alpha", "succeeded")] * 3,
        *[("r3.return.alpha", "succeeded")] * 3,
    ]


def test_a_roll_stops_where_somebody_cannot_leave_and_tries_again(relay: DrainRelay) -> None:
    """It says who and why; when that is put right, continue drains the rest and goes on."""
    pinned, other = relay.vm("alpha", "licensed-2"), relay.vm("alpha")
    relay.send("vmrelay.v1.roll", ident="r4", hosts=["alpha"])
    assert f"{pinned} (" in relay.roll("r4", "stopped").why
    relay.moved(pinned, "beta")
    goes_on = {"roll": "r4", "action": "continue"}
    relay.send("vmrelay.v1.roll.control", **goes_on)
    relay.roll("r4", "running", "wait")
    assert "nothing was changed" in relay.refusal("vmrelay.v1.roll.control", host="beta", **goes_on)
    relay.send("vmrelay.v1.roll.control", host="alpha", **goes_on)
    relay.roll("r4")
    assert relay.on("alpha") == {other}


def test_ctrl_c_leaves_a_drain_going(relay: DrainRelay) -> None:
    """The command says how to follow and how to cancel it, and ends with 130; the drain goes on to its end."""
    relay.vm("beta", memory_mib=SLOW)
    process = subprocess.Popen(
        leashed([str(VMRELAY), "drain", "beta", "--batch", "d1"]),
        env=relay.environment | {"NO_COLOR": "1"},
        cwd=relay.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    relay.batch("d1", "moving")
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "vmrelay batch watch d1" in told
    assert "vmrelay batch cancel d1" in told
    relay.batch("d1")
    assert relay.on("beta") == set()
