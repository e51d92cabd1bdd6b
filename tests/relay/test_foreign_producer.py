"""A producer that is not Celery: messages written to Redis by hand, as docs/contract says; and all that comes back."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from typing import Any

from golden import GOLDEN, holds
from relay_lab import LARGE, Relay, until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def push(relay: Relay, task: str, plain: bool = False, **arguments: object) -> str:
    """Write a message as ``message.json`` is one; its id."""
    ident = str(uuid.uuid4())
    known = json.loads((GOLDEN / "v1" / "message.json").read_text())
    message, body = known["message"], json.dumps([[], arguments, known["body"][2]])
    message["headers"] |= {"task": f"vmrelay.v1.{task}", "id": ident, "root_id": ident}
    message["properties"] |= {"correlation_id": ident, "delivery_tag": str(uuid.uuid4())}
    if plain:  # the body's encoding may be left out
        del message["properties"]["body_encoding"]
    message["body"] = body if plain else base64.b64encode(body.encode()).decode()
    relay.journal.client.lpush("scheduler", json.dumps(message))
    return ident


def test_a_message_by_hand_moves_a_guest(relay: Relay) -> None:
    """Redis's LPUSH is all it takes, with the body in base64 or as it is; the result is a GET."""
    for plain in (False, True):
        name = relay.vm()
        ident = push(relay, "migrate", plain, domain=name, destination="beta", traceparent=TRACE)
        record = relay.wait(ident)
        assert (record.outcome, record.traceparent, relay.where(name)) == ("succeeded", TRACE, {"beta": "running"})
        until(lambda ident=ident: relay.result(ident)["status"] == "SUCCESS", "its result is stored")
        holds("migrate-result", relay.result(ident)["result"])


def test_everything_that_comes_back_is_as_published(relay: Relay) -> None:
    """Answers, states, events and errors of a relay at work hold against the schemas in docs/contract."""

    def answer(task: str, **arguments: object) -> dict[str, Any]:
        ident = push(relay, task, **arguments)
        until(lambda: relay.result(ident)["status"] in ("SUCCESS", "FAILURE"), f"{task} is answered")
        found = relay.result(ident)
        holds("failure" if found["status"] == "FAILURE" else f"{task}-result", found["result"])
        return dict(found["result"])

    slow = push(relay, "migrate", domain=relay.vm(memory_mib=LARGE), destination="beta")
    relay.copying(slow)
    until(lambda: relay.result(slow)["result"].get("phase") == "perform", "perform is shown")
    holds("migration-state", relay.result(slow)["result"])
    record = relay.record(slow)
    assert record is not None
    holds("migrate-result", record.document())
    answer("tune", migration=slow, kind="set-downtime", value=100)
    answer("limits", outgoing={"alpha": 2})
    answer("limits", outgoing={"alpha": None})
    assert answer("cancel", migration=slow)["answer"] == "asked"
    assert relay.wait(slow).outcome == "cancelled"
    until(lambda: relay.result(slow)["status"] == "FAILURE", "its end is shown")
    holds("failure", relay.result(slow)["result"])
    again = answer("retry", migration=slow)["migration"]
    relay.wait(again, "active", "pending")
    answer("cancel", migration=again)
    assert relay.wait(again).outcome == "cancelled"
    for event in relay.journal.events(slow):
        holds("event", {"at": int(event[0].split("-")[0]) / 1000, "type": event[1]} | event[2])
    assert answer("resolve", migration=slow)["exc_type"] == "Rejected"
    assert answer("migrate", domain="nobody", destination="beta")["exc_type"] == "Rejected"
    answer("host", hosts=["gamma"], action="cordon", reason="a test")
    answer("host", hosts=["gamma"], action="uncordon")
    _batch(relay, answer)


def _batch(relay: Relay, answer: Callable[..., dict[str, Any]]) -> None:
    moves = [{"domain": relay.vm(), "destination": "beta"}, {"domain": "nobody", "destination": "beta"}]
    ident = push(relay, "batch", moves=moves, hold=True)
    until(lambda: (batch := relay.journal.batch(ident)) and batch.state == "planned", "it is planned")
    until(lambda: relay.result(ident)["status"] == "PROGRESS", "its state is shown")
    holds("batch-state", relay.result(ident)["result"])
    answer("control", batch=ident, action="resume")
    until(lambda: relay.result(ident)["status"] == "SUCCESS", "its receipt is there")
    holds("batch-result", relay.result(ident)["result"])
    for item in relay.journal.items(ident):
        holds("move", item.document())
