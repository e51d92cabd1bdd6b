"""Batches over real processes: they go on whatever is killed, move nothing twice, and their receipts are right."""

from __future__ import annotations

from typing import Any

from relay_lab import LARGE, Relay, until

from worker.journal.batch import Batch


def the_batch(relay: Relay, ident: str, *states: str) -> Batch:
    """Wait until a batch has finished (or is in one of the given states)."""
    wanted = states or ("finished",)

    def there() -> Batch | None:
        batch = relay.journal.batch(ident)
        return batch if batch is not None and batch.state in wanted else None

    try:
        found = until(there, f"{ident} in {wanted}")
    except AssertionError as late:
        raise AssertionError(f"{late}\n{relay.journal.batch(ident)}\n{relay.journal.items(ident)}") from None
    assert found is not None
    return found


def moves_of(relay: Relay, ident: str) -> list[tuple[str, str]]:
    """State and code of every move."""
    return [(item.state, item.code) for item in relay.journal.items(ident)]


def answer(relay: Relay, task: str, **arguments: object) -> dict[str, Any]:
    """What a task answers at once."""
    ident = relay.send(task, **arguments)
    until(lambda: relay.result(ident)["status"] in ("SUCCESS", "FAILURE"), f"an answer of {task}")
    return relay.result(ident)


def control(relay: Relay, ident: str, action: str, **more: object) -> str:
    """Steer a batch; the answer."""
    result = answer(relay, "vmrelay.v1.control", batch=ident, action=action, **more)
    return str(result["result"]["answer"])


def test_a_list_is_moved_in_its_order(relay: Relay) -> None:
    """Each move waits for those before it; ``AsyncResult`` shows the receipt, and the same id is the same batch."""
    one, two = relay.vm(), relay.vm()
    moves = [
        {"domain": one, "destination": "beta"},
        {"domain": one, "destination": "gamma", "after": [1]},
        {"domain": two, "source": "alpha", "destination": "beta"},
    ]
    ident = relay.send("vmrelay.v1.batch", moves=moves, reason="tests")
    batch = the_batch(relay, ident)
    assert (batch.moved, batch.failed, batch.skipped, batch.total) == (3, 0, 0, 3)
    assert relay.where(one) == {"gamma": "running"}
    assert relay.where(two) == {"beta": "running"}
    result = relay.result(ident)
    assert result["status"] == "SUCCESS"
    assert result["result"]["summary"] == "3 moved, 0 failed, 0 skipped of 3"
    again = answer(relay, "vmrelay.v1.batch", batch=ident, moves=moves, reason="tests")
    assert again["result"] == {"batch": ident, "answer": "same", "state": "finished"}
    other = answer(relay, "vmrelay.v1.batch", batch=ident, moves=moves[:1])
    assert other["status"] == "FAILURE"
    assert "batch-exists" in str(other["result"])
    assert the_batch(relay, ident) == batch


def test_a_move_that_fails_or_is_refused_holds_up_no_other(relay: Relay) -> None:
    """What comes after it is skipped, the rest goes on, each has its reason; retry asks anew for what was not made."""
    lost, late, fine = relay.vm(), relay.vm(), relay.vm()
    moves = [
        {"domain": f"{lost}-later", "destination": "beta"},
        {"domain": late, "destination": "beta", "after": [1]},
        {"domain": fine, "destination": "beta"},
        {"domain": fine, "destination": "beta", "after": [3]},
    ]
    ident = relay.send("vmrelay.v1.batch", moves=moves)
    batch = the_batch(relay, ident)
    expected = [("failed", "unknown-domain"), ("skipped", "depends"), ("moved", ""), ("skipped", "same-host")]
    assert moves_of(relay, ident) == expected
    assert (batch.moved, batch.failed, batch.skipped) == (1, 1, 2)
    reasons = {reason["code"]: reason["number"] for reason in relay.result(ident)["result"]["reasons"]}
    assert reasons == {"unknown-domain": 1, "depends": 1, "same-host": 1}
    relay.vm(name=f"{lost}-later")
    assert control(relay, ident, "retry") == "ok"
    until(lambda: the_batch(relay, ident).moved == 3, "made at the second try")
    assert relay.where(late) == {"beta": "running"}
    assert relay.journal.items(ident)[0].migration == f"{ident}.1.2"
    assert control(relay, ident, "retry") == "none"
    assert relay.result(ident)["result"]["summary"] == "3 moved, 0 failed, 1 skipped of 4"


def test_pause_takes_back_what_was_not_started_and_cancel_skips_what_waits(relay: Relay) -> None:
    """What runs ends, or is cancelled, too, where that is asked for; every word is answered, in any state."""
    names = [relay.vm(memory_mib=LARGE) for _ in range(6)]
    moves = [{"domain": name, "source": "alpha", "destination": "beta"} for name in names]
    ident = relay.send("vmrelay.v1.batch", moves=moves, priority="low")
    until(lambda: relay.journal.load_of("alpha")[0] == 2, "two run")
    until(lambda: len(relay.journal.running_of(ident)) == 4, "and two stand ready")
    assert control(relay, ident, "pause") == "ok"
    assert control(relay, ident, "pause") == "same"
    until(lambda: len(relay.journal.running_of(ident)) == 2, "what was not started is taken back")
    assert relay.journal.count("pending") == 0
    assert the_batch(relay, ident, "paused").waiting == 4
    assert relay.result(ident)["result"]["batch"]["kind"] == "list"
    assert control(relay, ident, "resume") == "ok"
    until(lambda: len(relay.journal.running_of(ident)) == 4, "asked for again")
    assert control(relay, ident, "cancel") == "ok"
    until(lambda: len(relay.journal.running_of(ident)) == 2, "what waits is cancelled")
    assert the_batch(relay, ident, "cancelling").skipped == 4
    assert control(relay, ident, "resume") == "over"
    assert control(relay, ident, "cancel", abort=True) == "ok"
    batch = the_batch(relay, ident)
    assert (batch.moved, batch.failed, batch.skipped) == (0, 0, 6)
    assert {code for _, code in moves_of(relay, ident)} == {"cancelled"}
    assert control(relay, ident, "cancel") == "over"
    assert "unknown-batch" in str(answer(relay, "vmrelay.v1.control", batch="no-such", action="pause")["result"])


def test_a_killed_scheduler_moves_nothing_twice(relay: Relay) -> None:
    """Killed again and again in the middle of a batch: it goes on, each guest moves once, and the receipt is right."""
    names = [relay.vm() for _ in range(12)]
    moves = [{"domain": name, "destination": "beta" if n % 2 else "gamma"} for n, name in enumerate(names)]
    before = relay.jobs_ended()
    ident = relay.send("vmrelay.v1.batch", moves=moves)
    for done in (1, 4):
        until(lambda done=done: the_batch(relay, ident, "planning", "running", "finished").done >= done, "moves on")
        relay.kill("scheduler")
        relay.mend()
    batch = the_batch(relay, ident)
    assert (batch.moved, batch.failed, batch.skipped) == (12, 0, 0)
    assert relay.jobs_ended() - before == 12
    for n, name in enumerate(names):
        assert relay.where(name) == {"beta" if n % 2 else "gamma": "running"}
    assert len(relay.result(ident)["result"]["failures"]) == 0
    until(lambda: relay.metrics("scheduler", "vmrelay_batch_items_total", outcome="moved") >= 12, "counted")
    until(lambda: relay.metrics("scheduler", "vmrelay_batches") == 0, "none is open")
    assert all(len(relay.events(item.migration, "started")) == 1 for item in relay.journal.items(ident))
