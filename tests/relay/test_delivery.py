"""Messages that come twice, never, changed, or not from us: the journal decides what runs."""

from __future__ import annotations

import json
from typing import Any

import redis
from relay_lab import LARGE, Relay, until
from wiretap import wiretap

PHASES = ["begin", "prepare", "perform", "finish", "confirm"]


def claims(relay: Relay, result: str) -> float:
    """How often claims were answered so, on all hosts."""
    return sum(relay.metrics(host, "vmrelay_claims_total", result=result) for host in ("alpha", "beta", "gamma"))


def lost(relay: Relay) -> float:
    """How many copies of phase messages came to nothing."""
    return sum(claims(relay, result) for result in ("stale", "conflict", "busy"))


def queued_baton(relay: Relay, ident: str, phase: str) -> dict[str, Any]:
    """The baton that waits in the journal for a phase."""
    relay.in_phase(ident, phase, "queued")
    baton: dict[str, Any] = json.loads(relay.journal.client.hget(f"vmrelay:m:{ident}", "baton"))
    return baton


def send_phase(relay: Relay, phase: str, host: str, baton: dict[str, Any]) -> None:
    """Put a phase message into a host's queue."""
    relay.celery.send_task(f"vmrelay.v1.phase.{phase}", args=(baton,), queue=f"host.{host}", task_id=f"forged-{phase}")


def test_every_message_delivered_twice_runs_each_phase_once(relay: Relay) -> None:
    """Exact copies of all messages, chain included: five phases run, one job, one outcome."""
    name = relay.vm(memory_mib=20_000)
    lost_before, jobs = lost(relay), relay.jobs_ended()
    seen: set[bytes] = set()
    copies = redis.Redis.from_url(relay.redis.url)

    def copy(words: list[bytes]) -> None:
        if words[:1] == [b"LPUSH"] and words[1].startswith((b"host.", b"scheduler")) and words[2] not in seen:
            seen.add(words[2])
            copies.lpush(words[1], words[2])

    with wiretap(relay.redis.port, copy):
        ident = relay.migrate(name)
        record = relay.wait(ident)
    assert record.outcome == "succeeded", record
    assert [event["phase"] for event in relay.events(ident, "phase")] == PHASES
    assert len(relay.events(ident, "accepted")) == len(relay.events(ident, "ended")) == 1
    until(lambda: lost(relay) > lost_before, "copies that lost")
    assert relay.jobs_ended() == jobs + 1
    assert relay.where(name) == {"beta": "running"}
    # and once more, long after the end
    for message in seen:
        queue = json.loads(message)["properties"]["delivery_info"]["routing_key"]
        copies.lpush(queue, message)
    until(lambda: not any(copies.llen(f"host.{host}") for host in ("alpha", "beta")), "queues are empty")
    relay.moved(relay.vm())
    assert relay.record(ident) == record
    assert relay.result(ident)["status"] == "SUCCESS"
    assert relay.where(name) == {"beta": "running"}
    copies.close()


def test_a_second_request_under_the_same_id_changes_nothing(relay: Relay) -> None:
    """Neither while the first one runs nor afterwards, whatever it asks for."""
    name, other = relay.vm(memory_mib=200_000), relay.vm()
    ident = relay.migrate(name)
    relay.copying(ident)
    relay.send(ident=ident, domain=other, destination="gamma")
    relay.send(ident=ident, domain="nobody", destination="nowhere")
    record = relay.wait(ident)
    assert (record.outcome, record.domain) == ("succeeded", name)
    until(lambda: relay.result(ident)["status"] == "SUCCESS", "AsyncResult")
    for again in ({"domain": name, "destination": "beta"}, {"domain": other, "destination": "gamma"}, {}):
        relay.send(ident=ident, **again)
    relay.moved(relay.vm())
    assert relay.record(ident) == record
    assert relay.result(ident)["status"] == "SUCCESS"
    assert relay.where(other) == {"alpha": "running"}


def test_a_second_request_under_the_id_of_a_waiting_one(relay: Relay) -> None:
    """What starts when there is room is what the record says, not what came later under its id."""
    blockers = [relay.migrate(relay.vm(memory_mib=LARGE)) for _ in range(2)]
    for blocker in blockers:
        relay.copying(blocker)
    name, other = relay.vm(), relay.vm("gamma")
    ident = relay.migrate(name)
    relay.wait(ident, "pending")
    relay.send(ident=ident, domain=other, destination="beta")
    relay.send(ident=ident, domain=name, destination="gamma")
    marker = relay.migrate("nobody")
    relay.wait(marker)
    assert relay.where(other) == {"gamma": "running"}
    for blocker in blockers:
        relay.send("vmrelay.v1.cancel", migration=blocker)
        relay.wait(blocker)
    record = relay.wait(ident)
    assert (record.outcome, record.domain, record.destination) == ("succeeded", name, "beta")
    assert relay.where(name) == {"beta": "running"}
    assert relay.where(other) == {"gamma": "running"}


def test_a_forged_baton_is_not_followed(relay: Relay) -> None:
    """A message whose baton is not the journal's moves nothing anywhere, and is counted."""
    name = relay.vm()
    relay.kill("agent-beta")
    ident = relay.migrate(name)
    baton = queued_baton(relay, ident, "prepare")
    before = relay.metrics("gamma", "vmrelay_claims_total", phase="prepare", result="forged")
    send_phase(relay, "prepare", "gamma", baton | {"destination": "gamma"})
    until(
        lambda: relay.metrics("gamma", "vmrelay_claims_total", phase="prepare", result="forged") == before + 1,
        "a forged message is counted",
    )
    relay.restart_agent("beta")
    assert relay.wait(ident).outcome == "succeeded"
    assert relay.where(name) == {"beta": "running"}


def test_a_changed_baton_in_the_right_queue(relay: Relay) -> None:
    """Flags, URI, parameters, cookie: nothing in a message can be other than what was journaled."""
    changes: list[dict[str, Any]] = [
        {"flags": 0},
        {"uri": "vzmigr://192.0.2.1"},
        {"params": {"destination_name": "evil"}},
        {"cookie": "AAAA"},
        {"x": 1},
    ]
    name = relay.vm()
    relay.kill("agent-beta")
    ident = relay.migrate(name)
    baton = queued_baton(relay, ident, "prepare")
    relay.lose("beta")
    for change in changes:
        send_phase(relay, "prepare", "beta", baton | change)
    relay.restart_agent("beta")
    until(lambda: relay.metrics("beta", "vmrelay_claims_total", result="forged") == len(changes), "all are counted")
    record = relay.wait(ident)
    assert (record.outcome, record.destination_name) == ("succeeded", name)


def test_phases_out_of_order_and_of_the_past(relay: Relay) -> None:
    """A perform before its time, another epoch, another attempt, somebody else's host: nothing happens."""
    name = relay.vm()
    relay.kill("agent-beta")
    ident = relay.migrate(name)
    baton = queued_baton(relay, ident, "prepare")
    jobs = relay.jobs_ended()
    stale = relay.metrics("alpha", "vmrelay_claims_total", result="stale")
    for phase, change in (("perform", {}), ("confirm", {}), ("begin", {"epoch": 9}), ("begin", {"attempt": 2})):
        send_phase(relay, phase, "alpha", baton | change)
    send_phase(relay, "finish", "alpha", baton)  # alpha is no destination
    send_phase(relay, "perform", "gamma", baton)
    until(lambda: relay.metrics("alpha", "vmrelay_claims_total", result="stale") == stale + 4, "all are stale")
    assert relay.jobs_ended() == jobs
    relay.restart_agent("beta")
    assert relay.wait(ident).outcome == "succeeded"


def test_a_lost_message_is_sent_again(relay: Relay) -> None:
    """The queue entry of prepare is gone: the outbox sends it again, and says so."""
    name = relay.vm()
    relay.kill("agent-beta")
    ident = relay.migrate(name)
    relay.in_phase(ident, "prepare", "queued")
    before = relay.metrics("scheduler", "vmrelay_republished_messages_total", phase="prepare")
    relay.lose("beta")
    relay.restart_agent("beta")
    record = relay.wait(ident)
    assert record.outcome == "succeeded"
    assert relay.metrics("scheduler", "vmrelay_republished_messages_total", phase="prepare") > before
    assert {event["phase"] for event in relay.events(ident, "republished")} == {"prepare"}
    assert [event["phase"] for event in relay.events(ident, "phase")] == PHASES


def test_every_first_message_is_lost(relay: Relay) -> None:
    """Whichever phase's message is lost, the migration ends well, each phase once."""
    name = relay.vm(memory_mib=20_000)
    thief = redis.Redis.from_url(relay.redis.url)
    stolen: set[bytes] = set()
    ident = ""

    def steal(words: list[bytes]) -> None:
        if words[:1] == [b"LPUSH"] and words[1].startswith(b"host."):
            task = json.loads(words[2])["headers"]["task"].encode()
            if task not in stolen and thief.lrem(words[1], 1, words[2]):
                stolen.add(task)

    with wiretap(relay.redis.port, steal):
        ident = relay.migrate(name)
        record = relay.wait(ident)
    thief.close()
    assert record.outcome == "succeeded"
    assert [event["phase"] for event in relay.events(ident, "phase")] == PHASES
    assert relay.where(name) == {"beta": "running"}
