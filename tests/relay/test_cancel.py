"""Cancel: of what waits, of what runs, too late, and of what does not exist."""

from __future__ import annotations

from relay_lab import LARGE, Relay, until


def cancel(relay: Relay, ident: str, **more: object) -> tuple[str, object]:
    """Ask for a cancel; the state and result of that task."""
    asked = relay.send("vmrelay.v1.cancel", migration=ident, **more)
    until(lambda: relay.result(asked)["status"] in ("SUCCESS", "FAILURE"), "answer")
    return relay.result(asked)["status"], relay.result(asked)["result"]


def test_cancel_while_the_guest_is_copied(relay: Relay) -> None:
    """The job is stopped, the guest runs on its source as before, the destination keeps nothing."""
    name = relay.vm(memory_mib=LARGE)
    boot = relay.look("alpha", name)["boot_id"]
    ident = relay.migrate(name)
    relay.copying(ident)
    status, answer = cancel(relay, ident, requested_by="tests")
    assert (status, answer) == ("SUCCESS", {"migration": ident, "answer": "asked", "detail": "active"})
    record = relay.wait(ident)
    assert (record.outcome, record.attempt) == ("cancelled", 1)
    assert relay.where(name) == {"alpha": "running"}
    assert relay.look("alpha", name)["boot_id"] == boot
    assert relay.events(ident, "cancel") == [{"type": "cancel", "by": "tests", "outcome": "cancelled"}]
    until(lambda: relay.result(ident)["status"] == "FAILURE", "AsyncResult")
    assert relay.result(ident)["result"]["exc_type"] == "Cancelled"
    assert f"{name} stays on alpha" in relay.result(ident)["result"]["exc_message"][0]


def test_cancel_between_retries(relay: Relay) -> None:
    """A cancel during the pause before a retry is heard."""
    name = relay.vm()
    relay.fault("alpha", "fail", code="0x80000404", count=100, vm=name)
    ident = relay.migrate(name, attempts=20)
    until(lambda: relay.events(ident, "retry"), "a retry")
    cancel(relay, ident)
    assert relay.wait(ident).outcome == "cancelled"
    assert relay.where(name) == {"alpha": "running"}


def test_cancel_between_attempts(relay: Relay) -> None:
    """A migration that waits for its next attempt ends at once, with its outcome in AsyncResult."""
    name = relay.vm()
    relay.fault("alpha", "fail", code="0x80030001", count=100, vm=name)
    ident = relay.migrate(name, attempts=20)
    relay.wait(ident, "backoff")
    cancel(relay, ident)
    record = relay.wait(ident)
    assert record.outcome == "cancelled"
    until(lambda: relay.result(ident)["status"] == "FAILURE", "AsyncResult")
    assert relay.result(ident)["result"]["exc_type"] == "Cancelled"
    assert relay.where(name) == {"alpha": "running"}


def test_cancel_before_perform(relay: Relay) -> None:
    """Asked for while begin or prepare is queued, the guest is not touched."""
    name = relay.vm()
    relay.kill("agent-beta")
    ident = relay.migrate(name)
    relay.in_phase(ident, "prepare", "queued")
    assert cancel(relay, ident)[0] == "SUCCESS"
    relay.restart_agent("beta")
    record = relay.wait(ident)
    assert record.outcome == "cancelled"
    assert "perform" not in [run.name for run in record.phases]
    assert relay.where(name) == {"alpha": "running"}


def test_cancel_of_a_migration_that_waits_for_slots(relay: Relay) -> None:
    """It ends at once, no phase ever runs, it is counted, and its domain is free again."""
    running = [relay.migrate(relay.vm(memory_mib=LARGE)) for _ in range(2)]
    for ident in running:
        relay.copying(ident)
    name = relay.vm()
    waiting = relay.migrate(name)
    relay.wait(waiting, "pending")
    labels = {"outcome": "cancelled", "reason": "cancelled"}
    before = relay.outcomes(**labels)
    assert cancel(relay, waiting)[1] == {"migration": waiting, "answer": "ended", "detail": ""}
    record = relay.wait(waiting)
    assert (record.outcome, record.phases) == ("cancelled", ())
    relay.counted(before + 1, **labels)
    assert relay.result(waiting)["result"]["exc_type"] == "Cancelled"
    for ident in running:
        cancel(relay, ident)
        assert relay.wait(ident).outcome == "cancelled"
    relay.moved(name)


def test_cancel_after_the_end(relay: Relay) -> None:
    """Over is over: the answer says how it ended, and the record does not change."""
    ident = relay.migrate(relay.vm())
    record = relay.wait(ident)
    assert cancel(relay, ident)[1] == {"migration": ident, "answer": "over", "detail": "succeeded"}
    assert relay.record(ident) == record


def test_a_late_cancel_does_not_undo_a_move(relay: Relay) -> None:
    """Asked for after perform, it says that it is too late, and changes nothing: the migration succeeds."""
    name = relay.vm()
    ident = relay.migrate(name)
    # Before that the dispatcher still needs the destination's session, which dies with the agent.
    relay.copying(ident)
    relay.kill("agent-beta")
    relay.in_phase(ident, "finish", "queued")
    assert cancel(relay, ident)[1] == {"migration": ident, "answer": "too-late", "detail": "finish"}
    told = relay.cli("cancel", ident, "--wait")
    assert (told.returncode, "[too-late]" in told.stderr) == (2, True), told.stderr
    assert relay.events(ident, "cancel") == []
    relay.restart_agent("beta")
    assert relay.wait(ident).outcome == "succeeded"
    assert relay.where(name) == {"beta": "running"}


def test_cancel_of_nothing(relay: Relay) -> None:
    """Unknown ids and malformed requests are refused."""
    for arguments in ({"migration": "nobody"}, {"migration": 5}, {}, {"migration": "a", "more": 1}, {"migration": "é"}):
        asked = relay.send("vmrelay.v1.cancel", **arguments)
        until(lambda asked=asked: relay.result(asked)["status"] == "FAILURE", "refusal")
        assert relay.result(asked)["result"]["exc_type"] == "Rejected"
