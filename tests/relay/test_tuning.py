"""What an operator asks of a running perform, on hosts whose driver cannot be steered."""

from __future__ import annotations

from typing import Any

import pytest
from relay_lab import LARGE, Relay, until

TUNE = "vmrelay.v1.tune"


def refused(relay: Relay, **arguments: Any) -> tuple[str, str]:
    """The error type and text with which a tuning is answered."""
    asked = relay.send(TUNE, **arguments)
    until(lambda: relay.result(asked)["status"] == "FAILURE", "refusal")
    answer = relay.result(asked)["result"]
    return answer["exc_type"], answer["exc_message"][0]


def test_a_simulated_virtuozzo_host_cannot_be_steered(relay: Relay) -> None:
    """The refusal says why and what works instead, the migration goes on, and the refusal is counted."""
    labels = {"driver": "vz", "kind": "set-speed", "result": "refused"}
    before = relay.metrics("scheduler", "vmrelay_tunings_total", **labels)
    name = relay.vm(memory_mib=LARGE)
    ident = relay.migrate(name)
    relay.copying(ident)
    kind, text = refused(relay, migration=ident, kind="set-speed", value=5)
    assert kind == "Rejected"
    assert "driver vz cannot change a running perform" in text
    assert f"cancel migration {ident}" in text
    assert relay.metrics("scheduler", "vmrelay_tunings_total", **labels) == before + 1
    relay.send("vmrelay.v1.cancel", migration=ident)
    assert relay.wait(ident).outcome == "cancelled"
    assert relay.events(ident, "tuned") == []
    assert "is over: cancelled" in refused(relay, migration=ident, kind="set-speed", value=5)[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"migration": "nobody", "kind": "postcopy"}, "unknown migration 'nobody'"),
        ({"migration": "nobody", "kind": "postcopy", "value": 1}, "postcopy takes no value"),
        ({"migration": "nobody", "kind": "set-speed"}, "set-speed takes a value of 1 to"),
        ({"migration": "nobody", "kind": "set-downtime", "value": 2_000_001}, "1 to 2000000 milliseconds"),
        ({"migration": "a:events", "kind": "postcopy"}, "migration"),
        ({"migration": "nobody", "kind": "fly"}, "kind"),
        ({"migration": "nobody", "kind": "postcopy", "host": "alpha"}, "host"),
        ({}, "migration"),
    ],
    ids=str,
)
def test_what_is_no_tuning(relay: Relay, arguments: dict[str, Any], told: str) -> None:
    """Wrong, missing and unknown fields are named, and nothing is written."""
    kind, text = refused(relay, **arguments)
    assert kind == "Rejected"
    assert told in text
    assert not list(relay.journal.client.scan_iter("vmrelay:*:tunings"))
