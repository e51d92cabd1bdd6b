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
    """Each move waits for those it comes after; ``AsyncResult`` shows the receipt, and the same id is the same batch."""
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
