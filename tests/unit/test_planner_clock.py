"""A search that takes far too long is ended by the clock, and the plan says so."""

from __future__ import annotations

import pytest

from bench.planner.generate import cluster
from tasks.planner.check import check
from tasks.planner.clock import Clock
from tasks.planner.plan import plan
from worker.contract.plans import Goal


def test_a_plan_comes_when_the_clock_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no time at all there still is a plan that passes its check, and a note that a new one may be better."""

    def rung(self: Clock) -> bool:
        self.rang = True
        return True

    monkeypatch.setattr(Clock, "over", rung)
    asked = cluster(30, 0.85, Goal(kind="balance", ceiling_points=5), seed=3)
    made = plan(asked)
    assert check(asked, made) == []
    assert any("was ended: a new plan may be better" in note for note in made.notes)


def test_a_clock_that_has_rung_stays_so() -> None:
    """Time that is up does not come back; before, nothing is ended."""
    assert not Clock(1000).over()
    late = Clock(-1)
    assert late.over()
    assert late.rang
