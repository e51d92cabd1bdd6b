"""Clusters with little room and full of large guests: search finds what best fit does not."""

from __future__ import annotations

import pytest
from planner_cases import outcome

from bench.planner.generate import cluster
from tasks.planner.check import check
from tasks.planner.plan import plan
from worker.contract.plans import Goal, Problem


def tight(hosts: int, seed: int) -> Problem:
    """About 80 % of memory in use, and ceilings five points above the mean."""
    return cluster(hosts, 0.85, Goal(kind="balance", ceiling_points=5, price_per_move_gib=0, plan_seconds=1), seed)


@pytest.mark.parametrize(("hosts", "seed", "most"), [(7, 1, 0.0), (30, 3, 0.05), (60, 1, 0.05)])
def test_no_host_stays_hot(hosts: int, seed: int, most: float) -> None:
    """Every host comes under its ceiling for little more than the bound, and the outcome needs nothing more."""
    asked = tight(hosts, seed)
    made = plan(asked)
    assert check(asked, made) == []
    assert made.totals.hot_after == 0
    assert made.gap is not None
    assert made.gap <= most
    assert plan(outcome(asked, made)).steps == ()


def test_a_host_that_cannot_be_relieved_disturbs_nobody() -> None:
    """A guest too large for every ceiling keeps its host hot; the others are relieved all the same."""
    made = plan(tight(30, 1))
    assert sum(told.code == "host-over-ceiling" for told in made.impossible) == made.totals.hot_after == 1
    assert made.gap is not None
    assert made.gap <= 0.05


def test_seeds_decide() -> None:
    """The same seed makes the same plan, also where it is searched for at random."""
    asked = tight(7, 2)
    assert plan(asked).id == plan(asked).id
