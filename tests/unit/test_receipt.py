"""What follows when a batch has come to the end of its plan, and who it says is left where: pure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import receipt
from worker.journal.batch import Batch, Item

LIMITS = receipt.Limits(replans=2, look_seconds=10)


def batch(kind: str = "drain", **more: Any) -> Batch:
    """A batch that runs and has nothing more to do."""
    return Batch("b", kind, **({"state": "running", "hosts": ("alpha",)} | more))


def guest(name: str, state: str = "running") -> dict[str, Any]:
    """A domain as its agent published it."""
    return {"name": name, "uuid": f"uuid-{name}", "state": state}


def sight(*domains: dict[str, Any], fresh: bool = True, away: str = "") -> receipt.Sight:
    """What is known of alpha."""
    return receipt.Sight("alpha", fresh, away, domains)


def item(n: int, name: str, state: str = "skipped", code: str = "") -> Item:
    """What became of a move."""
    return Item(n, name, f"uuid-{name}", "alpha", "beta", state=state, code=code, why=f"it is {code}")


def end(found: Batch, *undone: Item, sights: tuple[receipt.Sight, ...] = (sight(),), waited: float = 0) -> receipt.End:
    """What follows."""
    return receipt.end_of_plan(found, undone, sights, waited, LIMITS)


def test_a_drain_waits_for_a_look_and_not_for_ever() -> None:
    """What was seen before the last move ended says nothing; where nobody looks, the batch ends and says so."""
    old = (sight(guest("web"), fresh=False, away="its agent is away"),)
    assert end(batch(), sights=old) == receipt.End(wait=True)
    assert end(batch(), sights=old, waited=10) == receipt.End()
    left, notes = receipt.left_of(batch(left=({"guest": "uuid-db", "host": "alpha"},)), (), old)
    assert left == [{"guest": "uuid-db", "host": "alpha"}]
    assert notes == [
        "alpha could not be looked at after the last move: its agent is away; what runs there is not known"
    ]
    assert receipt.left_of(batch(state="cancelling"), (), old)[1] == []


def test_a_guest_that_has_arrived_is_planned_for_as_often_as_the_settings_say() -> None:
    """Who is stopped, or known to stay, is no reason for another plan."""
    there = (sight(guest("web"), guest("off", "shutoff"), guest("licensed")),)
    known = item(1, "licensed", code="pinned")
    assert end(batch(), known, sights=there).replan == "1 more guests run on alpha"
    assert end(batch(replans=2), known, sights=there) == receipt.End()
    assert end(batch(exhausted=True), known, sights=there) == receipt.End()
    assert end(batch(), known, item(2, "web", "failed"), sights=there) == receipt.End()


@pytest.mark.parametrize("kind", ["rebalance", "plan", "return", "drain"])
def test_what_failed_is_a_reason_for_another_plan_where_others_may_do_instead(kind: str) -> None:
    """And what depended on it always is, but for a list; nothing that an earlier plan left is."""
    failed, depends = item(7, "web", "failed", "x"), item(8, "db", code="depends")
    assert bool(end(batch(kind), failed).replan) is (kind in ("rebalance", "plan"))
    assert end(batch(kind), failed, depends).replan == "1 moves fitted only after others that were not made"
    assert end(batch(kind, base=8), failed, depends) == receipt.End()
    assert end(batch("list"), failed, depends) == receipt.End()
    assert end(batch(kind, state="cancelling"), failed, depends) == receipt.End()


def test_everybody_who_is_still_there_has_a_reason() -> None:
    """The move that failed, the plan's word, its state, or that it came later."""
    planned = {"guest": "uuid-licensed", "domain": "licensed", "host": "alpha", "code": "pinned", "why": "license"}
    items = [item(1, "web", "failed", "x"), item(2, "late", code="cancelled"), item(3, "gone", "moved")]
    there = sight(*map(guest, ("web", "licensed", "late", "new")), guest("off", "shutoff"), guest("odd", "migrating"))
    left, _ = receipt.left_of(batch(left=(planned,)), items, [there])
    assert [(each["domain"], each["code"]) for each in left] == [
        ("web", "failed"),
        ("licensed", "pinned"),
        ("late", "cancelled"),
        ("new", "arrived"),
        ("off", "stopped"),
        ("odd", "state"),
    ]
    assert all(each["why"] for each in left)
    for more, code in (({"state": "cancelling"}, "cancelled"), ({"exhausted": True}, "no-plan")):
        left, _ = receipt.left_of(batch(**more), [], [sight(guest("web"))])
        assert [each["code"] for each in left] == [code]


@given(
    st.lists(st.sampled_from(["moved", "failed", "skipped", "replaced"]), max_size=20),
    st.sampled_from(["list", "rebalance", "drain"]),
)
def test_a_receipt_names_each_reason_with_its_number(states: list[str], kind: str) -> None:
    """The numbers add up to what is counted, and what was replaced is not told."""
    items = [item(n, f"vm-{n}", state, "x" if state in ("failed", "skipped") else "") for n, state in enumerate(states)]
    count = {state: states.count(state) for state in ("moved", "failed", "skipped")}
    told = receipt.receipt(batch(kind, total=sum(count.values()), **count), items)
    assert {each["state"]: each["number"] for each in told["reasons"]} == {
        state: number for state, number in count.items() if number and state != "moved"
    }
    assert len(told["failures"]) == count["failed"]
    assert len(told["skips"]) == count["skipped"]
