"""The parts of the planner: the covering knapsack, the diagnosis, pools, and the planner as a process."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_cases import guest, host, lopsided, problem

from tasks.planner import knapsack, plan, pools
from tasks.planner.plan import PlannerBug
from worker import planning
from worker.contract.plans import Plan, Rule
from worker.errors import Rejected

SIZES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 20)), min_size=1, max_size=9)


@settings(max_examples=300, deadline=None)
@given(SIZES, st.integers(-5, 60), st.integers(-5, 100), st.sampled_from((0, 1, 3)), st.sampled_from((40_000, 60)))
def test_the_cheapest_cover_is_found(
    guests: list[tuple[int, int]], memory: int, cpu: int, price: int, cells: int
) -> None:
    """The choice covers both needs; with a full table it is the cheapest, with a coarse one the bounds stay bounds."""
    sizes, cores = np.array([one for one, _ in guests], dtype=np.int64), np.array([float(two) for _, two in guests])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knapsack, "CELLS", cells)
        found = knapsack.cover(sizes, cores, memory, cpu, price)
    covers = [
        chosen
        for count in range(len(guests) + 1)
        for chosen in itertools.combinations(range(len(guests)), count)
        if sizes[list(chosen)].sum() >= memory and cores[list(chosen)].sum() >= cpu
    ]
    if not covers:
        assert found is None
        return
    assert found is not None
    assert found.chosen in covers

    def cost(chosen: tuple[int, ...]) -> int:
        return int(sizes[list(chosen)].sum()) + price * len(chosen)

    cheapest, least = min(map(cost, covers)), min(int(sizes[list(chosen)].sum()) for chosen in covers)
    assert found.cost <= cheapest + 1e-6
    assert found.mib <= least + 1e-6
    if cells == 40_000:
        assert cost(found.chosen) == found.cost == cheapest
        assert found.mib == least


def test_what_cannot_be_is_named() -> None:
    """A drain names pins, guests too big for any host, labels that no host has, rules with too few hosts, and lack of
    room, each by name.
    """
    rule = Rule(name="three", kind="apart", guests=("v1", "v2", "v3"))
    made = plan(
        problem(
            [host("a"), host("b", 50), host("c", 50)],
            [
                guest("v1", "a", 5),
                guest("v2", "b", 5),
                guest("v3", "c", 5),
                guest("pin", "a", 5, pinned="a disk of its host"),
                guest("huge", "a", 60),
                guest("gpu", "a", 5, requires={"gpu": "yes"}),
                guest("fill", "b", 40),
                guest("more", "c", 40),
            ],
            rule,
            kind="drain",
            hosts=("a",),
        )
    )
    told = {(one.code, one.subject) for one in made.impossible}
    assert told == {
        ("pinned-on-drained", "pin"),
        ("guest-too-big", "huge"),
        ("no-host", "gpu"),
        ("rule-too-big", "three"),
        ("demand-over-ceiling", "memory"),
    }
    assert made.status == "impossible"
    assert {left.guest: left.code for left in made.left} == {
        "v1": "rule",
        "pin": "pinned",
        "huge": "no-room",
        "gpu": "no-host",
    }
    by_guest = {left.guest: left for left in made.left}
    assert by_guest["gpu"].why == "no other host has gpu=yes"
    assert by_guest["huge"].unblock == "56 GiB more on any of b, c"


def test_a_host_that_stays_hot_is_named() -> None:
    """A guest that is too big for any ceiling, or pinned, is told as what keeps its host above it."""
    hosts = [host(name, 100, 10) for name in "abcd"]
    made = plan(problem(hosts, [guest("big", "a", 10, 9), guest("other", "b", 10, 1)], ceiling_points=10))
    assert {(one.code, one.subject) for one in made.impossible} == {
        ("guest-too-big", "big"),
        ("host-over-ceiling", "a"),
    }
    assert made.totals.hot_after == 1
    assert made.steps == ()


def test_absolute_ceilings_below_the_demand_are_refused_by_name() -> None:
    """Where all guests together use more than all ceilings allow, the plan says so and what would do."""
    hosts = [host("a"), host("b")]
    made = plan(problem(hosts, [guest("v1", "a", 80), guest("v2", "b", 60)], ceiling_percent=60))
    assert [one.subject for one in made.impossible if one.code == "demand-over-ceiling"] == ["memory"]
    assert "70.0%" in made.impossible[0].unblock


def test_a_pool_places_what_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """CP-SAT repacks hosts where only several changes at once make the room, the same way every time."""
    pytest.importorskip("ortools")
    monkeypatch.setattr("tasks.planner.drain.squeeze", lambda *_: False)
    hosts = [host("a"), host("b", 50), host("c", 50), host("d", 50)]
    guests = [guest("big", "a", 45), *(guest(f"v{n}", "bcd"[n % 3], 15) for n in range(6))]
    asked = problem(hosts, guests, kind="drain", hosts=("a",), most_percent=100)
    one, other = plan(asked), plan(asked)
    assert one.id == other.id
    assert one.left == ()
    assert one.steps[-1].guest == "big"


def test_a_missing_solver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, a plan that leaves something says that the extra exists."""
    monkeypatch.setattr(pools, "find_spec", lambda _: None)
    hosts = [host("a"), host("b", 50)]
    made = plan(problem(hosts, [guest("v1", "a", 40), guest("v2", "b", 20)], kind="drain", hosts=("a",)))
    assert any("vmrelay[planner]" in note for note in made.notes)


def test_a_wrong_plan_is_never_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check refuses is an error of its own, with the faults."""
    monkeypatch.setattr(sys.modules["tasks.planner.plan"], "check", lambda *_: ["a fault"])
    with pytest.raises(PlannerBug, match="a fault"):
        plan(lopsided(4))


def test_the_planner_is_a_process_of_its_own() -> None:
    """A problem on its standard input makes the plan on its standard output that the function makes."""
    asked = lopsided(6, ceiling_points=5)
    assert planning.make(asked).id == plan(asked).id


def test_nonsense_ends_the_process_with_2() -> None:
    """What is no problem, or makes no sense, ends with 2 and says why in JSON."""
    for text in ("{}", problem([host("a")], [guest("v1", "x")]).model_dump_json()):
        done = subprocess.run(
            [sys.executable, "-m", "tasks.planner"], input=text, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == planning.REFUSED
        assert json.loads(done.stdout)["error"]
    with pytest.raises(Rejected) as bad:
        planning.make(problem([host("a")], [guest("v1", "x")]))
    assert bad.value.code == "bad-problem"


def test_a_plan_survives_json() -> None:
    """A plan written and read is the same plan."""
    made = plan(lopsided(6, ceiling_points=5))
    assert Plan.model_validate_json(made.model_dump_json()) == made
