"""What speaks against draining, returning and rolling hosts, before anything is done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks import hosts, receipt, rolls
from worker.contract import RollControlRequest, RollRequest
from worker.errors import Rejected
from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.journal.batch import Batch, Item
from worker.runtime import Runtime
from worker.settings import Settings

HOSTS: dict[str, Any] = {name: {"uri": f"qemu+tls://{name}.example/system"} for name in ("alpha", "beta", "gamma")}
HOSTS["closed"] = {"uri": "qemu+tls://closed.example/system", "cordoned": True}
HOSTS["other"] = {"uri": "vzsim:///nowhere.sock"}


@pytest.fixture
def parts(redis_url: str) -> Runtime:
    """Three libvirt hosts, one that the settings cordon, and one of another kind."""
    made = Settings(redis_url=redis_url, hosts=HOSTS)
    return Runtime(made, Inventory(made), Journal(connect(redis_url)))


def drain(parts: Runtime, ident: str, *names: str) -> None:
    """What there is once a drain has begun."""
    parts.journal.create_batch(ident, {"kind": "drain", "digest": ident, "hosts": names}, "", 0, {})
    for name in names:
        parts.journal.cordon(name, batch=ident)


def code_of(call: Any, *args: Any) -> str:
    """The code with which something is refused."""
    with pytest.raises(Rejected) as refusal:
        call(*args)
    return refusal.value.code


def test_somewhere_has_to_be_left(parts: Runtime) -> None:
    """All hosts of a kind cannot be drained, nor those that are left when the others are cordoned."""
    hosts.refuse_drain(parts, ["alpha", "beta"])
    assert code_of(hosts.refuse_drain, parts, ["alpha", "beta", "gamma"]) == "nowhere-to-go"
    assert code_of(hosts.refuse_drain, parts, ["other"]) == "nowhere-to-go"
    parts.journal.cordon("gamma")
    with pytest.raises(Rejected, match="closed, gamma"):
        hosts.refuse_drain(parts, ["alpha", "beta"])
    hosts.refuse_drain(parts, ["gamma", "alpha"])


def test_a_host_is_drained_by_one_drain_at_a_time(parts: Runtime) -> None:
    """The refusal names the drain; neither is the host opened meanwhile. A cordon alone stands against nothing."""
    parts.journal.cordon("beta", "ops")
    hosts.refuse_drain(parts, ["beta"])
    drain(parts, "b1", "beta")
    assert code_of(hosts.refuse_drain, parts, ["beta"]) == "draining"
    assert code_of(hosts.refuse_uncordon, parts, parts.inventory.host("beta")) == "draining"
    parts.journal.control_batch("b1", "cancel", False, "", "x")
    assert code_of(hosts.refuse_drain, parts, ["beta"]) == "draining"
    parts.journal.client.hset("vmrelay:b:b1", "state", "finished")
    hosts.refuse_drain(parts, ["beta"])
    hosts.refuse_uncordon(parts, parts.inventory.host("beta"))
    cordon = parts.journal.cordon_of("beta")
    assert cordon is not None
    assert (cordon.by, cordon.batch) == ("ops", "b1")


def begun(parts: Runtime, ident: str, *names: str, **more: Any) -> str:
    """The answer of a roll that is asked for."""
    answer = rolls._begun(parts, ident, RollRequest.parse({"hosts": names} | more))
    return str(answer["answer"])


def test_a_roll_is_begun_once(parts: Runtime) -> None:
    """The same id again is the same roll; a host is in one roll at a time; what cannot be drained is refused."""
    assert begun(parts, "r1", "alpha", "beta", "alpha") == "begun"
    assert begun(parts, "r1", "alpha", "beta") == "same"
    found = parts.journal.roll("r1")
    assert found is not None
    assert found.hosts == ("alpha", "beta")
    drain(parts, "r1.drain.alpha", "alpha")
    assert begun(parts, "r1", "alpha", "beta") == "same"
    assert code_of(begun, parts, "r1", "alpha") == "roll-exists"
    assert code_of(begun, parts, "r2", "gamma", "beta") == "rolling"
    assert code_of(begun, parts, "r2", "nowhere") == "unknown-host"
    assert code_of(begun, parts, "r2", "closed") == "cordoned-by-settings"
    assert code_of(begun, parts, "r2", "other") == "nowhere-to-go"
    assert code_of(begun, parts, "r" * 90, "gamma") == "malformed"
    assert begun(parts, "r2", "gamma") == "begun"


def test_a_cancelled_roll_is_over_with_its_batch(parts: Runtime) -> None:
    """The drain that runs is cancelled first; afterwards the roll takes no more words."""
    begun(parts, "r1", "alpha")
    drain(parts, "r1.drain.alpha", "alpha")

    def say(action: Any) -> dict[str, Any]:
        return rolls._controlled(parts, RollControlRequest(roll="r1", action=action, requested_by="ops"), "message")

    assert say("cancel")["answer"] == "asked"
    batch, found = parts.journal.batch("r1.drain.alpha"), parts.journal.roll("r1")
    assert batch is not None
    assert found is not None
    assert (batch.state, found.state, found.why) == ("cancelling", "cancelled", "cancelled by ops")
    assert parts.journal.open_rolls() == []
    assert code_of(say, "continue") == "over"
    assert code_of(begun, parts, "r2", "alpha") == "draining"


def test_a_destination_that_was_cordoned_is_planned_around() -> None:
    """The guest is not taken for one that cannot move; after so many plans it is named as any other."""
    batch = Batch("b", "drain", "running", hosts=("alpha",), total=1, failed=1, expected=1, filled=1)
    item = Item(1, "web", "u", "alpha", "beta", state="failed", code="cordoned", why="beta was cordoned")
    most = receipt.Limits(replans=3, look_seconds=10)
    assert "cordoned meanwhile" in receipt.end_of_plan(batch, [item], [], 0, most).replan
    tired = replace(batch, replans=3)
    sight = receipt.Sight("alpha", True, "", [{"name": "web", "uuid": "u", "state": "running"}])
    assert receipt.end_of_plan(tired, [item], [sight], 0, most) == receipt.End()
    left, _ = receipt.left_of(tired, [item], [sight])
    assert "beta was cordoned" in left[0]["why"]
