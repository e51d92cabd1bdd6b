"""What the demo of a rebalance would find wrong: each way in which it may not end."""

from __future__ import annotations

from typing import Any

import pytest
from plan_lab import a_plan

from worker.cli.demo_rebalance import Guest, changed, moved, not_drained, unbalanced

WEB, DB = Guest("web", "running", "b1"), Guest("db", "running", "b2")
HERE = {"alpha": [WEB, DB], "beta": list[Guest]()}


@pytest.mark.parametrize(
    ("now", "wrong"),
    [
        ({"alpha": [WEB], "beta": [DB]}, []),
        ({"alpha": [WEB]}, ["db is on no host"]),
        ({"alpha": [WEB, DB], "beta": [DB]}, ["db is on alpha, beta"]),
        (
            {"alpha": [WEB], "beta": [Guest("db", "running", "b3")]},
            ["db was running and is running, or was started anew"],
        ),
        (
            {"alpha": [WEB], "beta": [Guest("db", "paused", "b2")]},
            ["db was running and is paused, or was started anew"],
        ),
    ],
)
def test_a_guest_that_is_gone_doubled_or_started_anew_is_wrong(now: dict[str, list[Guest]], wrong: list[str]) -> None:
    """Moving is all that may become of a guest."""
    assert changed(HERE, now) == wrong


def test_what_has_moved() -> None:
    """Those that are on another host than before."""
    assert moved(HERE, {"alpha": [WEB], "beta": [DB]}) == ["db"]
    assert moved(HERE, HERE) == []


def test_a_fleet_is_balanced_only_where_the_plan_and_a_new_look_say_so() -> None:
    """Every guest of the plan is where the plan wanted it, no other one moved, and nothing is left to do."""
    plan = a_plan(3)
    names = {step.domain: Guest(step.domain, "running", step.guest) for step in plan.steps}
    before: dict[str, list[Guest]] = {"host-1": list(names.values()), "host-2": [], "host-3": []}
    now: dict[str, list[Guest]] = {"host-1": [], "host-2": [], "host-3": []}
    for step in plan.steps:
        now[step.destination].append(names[step.domain])
    calm = plan.totals.model_copy(update={"hot_before": 0, "hot_after": 0})
    again = plan.model_copy(update={"steps": (), "totals": calm})
    assert unbalanced(plan, again, before, now) == []
    assert "no host was above its ceiling" in unbalanced(again, again, before, before)
    assert "vm-1 is not on host-2" in unbalanced(plan, again, before, before)
    assert "0 guests moved, the plan had 3 moves" in unbalanced(plan, again, before, before)
    assert "1 hosts are above their ceiling" in unbalanced(plan, plan, before, now)
    assert "another plan would move 3 guests" in unbalanced(plan, plan, before, now)


def receipt(*states: tuple[str, str]) -> dict[str, Any]:
    """A receipt of moves with these states and codes."""
    items = [{"domain": f"vm-{n}", "state": state, "code": code} for n, (state, code) in enumerate(states)]
    return {
        "items": items,
        "moved": sum(s == "moved" for s, _ in states),
        "failed": sum(s == "failed" for s, _ in states),
    }


def test_a_drain_leaves_what_is_pinned_and_says_so() -> None:
    """The host has nothing else, the exit code tells the one case from the other, and the receipt names it."""
    moved_one, stays = receipt(("moved", "")), receipt(("moved", ""), ("skipped", "pinned"))
    pinned = Guest("vm-1", "running", "b")
    assert not_drained("beta", {"beta": []}, (), 0, moved_one) == []
    assert not_drained("beta", {"beta": [pinned]}, ("vm-1",), 1, stays) == []
    assert not_drained("beta", {"beta": [pinned]}, (), 0, moved_one) == ["beta has vm-1"]
    assert not_drained("beta", {"beta": []}, (), 1, moved_one) == ["the drain of beta ended with code 1"]
    assert "the receipt names [] as skipped" in not_drained("beta", {"beta": [pinned]}, ("vm-1",), 1, moved_one)
    assert "the receipt counts 1 moved and 1 failed" in not_drained(
        "beta", {"beta": []}, (), 0, receipt(("moved", ""), ("failed", "X"))
    )
