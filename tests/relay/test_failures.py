"""What goes wrong on the hosts: retries, new attempts, failures; and the guest is always somewhere."""

from __future__ import annotations

import json
from itertools import pairwise

from relay_lab import LARGE, Relay, until


def test_two_transient_failures_are_retried(relay: Relay) -> None:
    """The migration succeeds in one attempt; counter and events show two retries, with growing pauses."""
    name = relay.vm()
    labels = {"phase": "perform", "class": "transient"}
    before = relay.metrics("alpha", "vmrelay_retries_total", **labels)
    relay.fault("alpha", "fail", code="0x80000404", count=2, vm=name)
    ident = relay.migrate(name)
    record = relay.wait(ident)
    assert (record.outcome, record.attempt, record.retries) == ("succeeded", 1, 2)
    assert relay.metrics("alpha", "vmrelay_retries_total", **labels) == before + 2
    told = relay.events(ident, "retry")
    assert [event["number"] for event in told] == [1, 2]
    assert all(event["code"] == "PRL_ERR_DISP_SHUTDOWN_IN_PROCESS" for event in told)
    assert all(event["phase"] == "perform" and event["message"] for event in told)
    assert all(later["delay_seconds"] > earlier["delay_seconds"] for earlier, later in pairwise(told))
    assert relay.where(name) == {"beta": "running"}


def test_a_permanent_failure_is_not_retried(relay: Relay) -> None:
    """Outcome failed with the SDK's code and text, exit code 1, and the guest never left its source."""
    name = relay.vm()
    boot = relay.look("alpha", name)["boot_id"]
    labels = {"outcome": "failed", "reason": "PRL_ERR_VM_MIGRATE_NOT_ENOUGH_CPUS_ON_TARGET"}
    before = relay.outcomes(**labels)
    relay.fault("alpha", "fail", code="0x80031004", count=9, vm=name, text="eight are not sixteen")
    done = relay.cli("migrate", name, "beta", "-o", "json", "--wait")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["outcome"] == "failed"
    assert document["error"]["code"] == "PRL_ERR_VM_MIGRATE_NOT_ENOUGH_CPUS_ON_TARGET"
    assert "eight are not sixteen" in document["error"]["message"]
    assert (document["attempts"], document["retries"]) == (1, 0)
    assert [phase["name"] for phase in document["phases"]] == ["begin", "prepare", "perform", "finish", "confirm"]
    assert relay.where(name) == {"alpha": "running"}
    assert relay.look("alpha", name)["boot_id"] == boot
    relay.counted(before + 1, **labels)
    assert relay.events(document["id"], "retry") == relay.events(document["id"], "backoff") == []


def test_after_a_failure_the_hosts_are_known_at_once(relay: Relay) -> None:
    """Who asks again right after a failure is not told of a domain that is on two hosts."""
    name = relay.vm()
    for _ in range(3):
        relay.fault("alpha", "fail", code="0x80031004", step=10, vm=name)
        assert relay.wait(relay.migrate(name)).outcome == "failed"
        found = relay.journal.find_domain(name, ["alpha", "beta", "gamma"])
        assert {host: domain["state"] for host, domain in found.items()} == {"alpha": "running"}
    relay.moved(name)


def test_an_unknown_code_is_not_retried_blindly(relay: Relay) -> None:
    """A code that nobody knows ends the migration after a look at both sides."""
    name = relay.vm()
    relay.fault("alpha", "fail", code="0x8fedcba9", count=9, vm=name)
    record = relay.wait(relay.migrate(name))
    assert (record.outcome, record.attempt, record.retries, record.reason) == ("failed", 1, 0, "0x8fedcba9")
    assert relay.where(name) == {"alpha": "running"}


def test_a_lost_login_on_the_destination_needs_a_new_attempt(relay: Relay) -> None:
    """The destination's session is void: a new attempt prepares again, under the same id."""
    name = relay.vm()
    relay.fault("alpha", "fail", code="0x80030001", vm=name)
    ident = relay.migrate(name)
    record = relay.wait(ident)
    assert (record.outcome, record.attempt) == ("succeeded", 2)
    assert [event["attempt"] for event in relay.events(ident, "started")] == [1, 2]
    (pause,) = relay.events(ident, "backoff")
    assert pause["code"] == "PRL_ERR_DISP2DISP_WRONG_USER_SESSION_UUID"
    assert pause["delay_seconds"] > 0
    assert {run.attempt for run in record.phases} == {1, 2}
    until(lambda: relay.result(ident)["status"] == "SUCCESS", "AsyncResult")
    assert relay.result(ident)["result"]["attempts"] == 2


def test_attempts_are_exhausted(relay: Relay) -> None:
    """So many attempts as asked for, then failed; the guest is on its source and may be asked for again."""
    name = relay.vm()
    relay.fault("alpha", "fail", code="0x80030001", count=2, vm=name)
    record = relay.wait(relay.migrate(name, attempts=2))
    assert (record.outcome, record.attempt) == ("failed", 2)
    assert record.reason == "PRL_ERR_DISP2DISP_WRONG_USER_SESSION_UUID"
    assert relay.where(name) == {"alpha": "running"}
    relay.moved(name)


def test_a_failure_while_copying_leaves_the_guest_running(relay: Relay) -> None:
    """The link between the dispatchers is cut: the source runs on, a later attempt succeeds."""
    name = relay.vm(memory_mib=20_000)
    boot = relay.look("alpha", name)["boot_id"]
    relay.fault("alpha", "cut-link", vm=name)
    record = relay.wait(relay.migrate(name))
    assert (record.outcome, record.attempt) == ("succeeded", 2), record
    assert relay.where(name) == {"beta": "running"}
    assert relay.look("beta", name)["boot_id"] == boot


def test_a_name_that_is_taken_meanwhile(relay: Relay) -> None:
    """Somebody takes the name on the destination after the request was accepted: the guest stays."""
    name, other = relay.vm(), relay.vm("beta")
    uuid = relay.look("alpha", name)["uuid"].strip("{}").lower()
    relay.ask("alpha", "vm-lock", name=name, operation="backup")
    ident = relay.migrate(name, params={"destination_name": f"{other}-free"}, attempts=20)
    relay.in_phase(ident, "perform")
    # Behind the relay's back; the dispatcher refuses, and so does prepare of a next attempt.
    relay.vm("beta", f"{other}-free")
    relay.ask("alpha", "vm-lock", name=name, operation="")
    record = relay.wait(ident)
    assert (record.outcome, record.reason) == ("failed", "PRL_ERR_VM_ALREADY_REGISTERED_VM_NAME")
    assert relay.look("alpha", name)["uuid"].strip("{}").lower() == uuid
    assert relay.where(name) == {"alpha": "running"}


def test_a_domain_that_vanished_is_an_error_of_begin(relay: Relay) -> None:
    """A guest removed behind the relay's back: begin fails, and a look at both hosts finds it nowhere."""
    name = relay.vm(memory_mib=LARGE)
    relay.ask("alpha", "vm-delete", name=name)
    ident = relay.migrate(name)
    record = relay.wait(ident)
    if record.outcome == "rejected":  # the agent has told already
        assert record.reason == "unknown-domain"
        return
    assert (record.outcome, record.reason) == ("failed", "VIR_ERR_NO_DOMAIN")
    assert [run.name for run in record.phases] == ["begin", "confirm", "recover"]


def test_a_deadline_ends_a_perform_that_takes_too_long(relay: Relay) -> None:
    """Outcome failed with the code deadline, no further attempt, counted so, and the guest runs on its source."""
    name = relay.vm(memory_mib=LARGE)
    labels = {"driver": "vz", "outcome": "failed", "reason": "deadline"}
    before = relay.outcomes(**labels)
    ident = relay.migrate(name, deadline_seconds=0.5)
    record = relay.wait(ident)
    assert (record.outcome, record.reason, record.attempt) == ("failed", "deadline", 1)
    assert record.error == "perform took longer than its deadline of 0.5 s; the domain is on its source"
    relay.counted(before + 1, **labels)
    assert relay.where(name) == {"alpha": "running"}


def test_a_dispatcher_that_dies_while_copying(relay: Relay) -> None:
    """The source's dispatcher crashes in mid-perform and comes back: nothing is guessed, the guest is safe."""
    name = relay.vm("gamma", memory_mib=LARGE)
    ident = relay.migrate(name, "beta")
    relay.copying(ident, "gamma")
    relay.kill("simulator-gamma")
    relay.mend()
    relay.send("vmrelay.v1.cancel", migration=ident)
    record = relay.wait(ident)
    assert list(relay.where(name)) == ["gamma"]
    assert record.outcome in ("failed", "cancelled", "")
    if record.state == "in-doubt":
        assert "gamma" in str(relay.events(ident, "in-doubt"))
