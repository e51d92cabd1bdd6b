"""Plans: what holds for each of them, and small ones of which the best is known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from planner_cases import GIB, guest, host, lopsided, outcome, problem, problems

from tasks.planner.check import check
from tasks.planner.plan import BadProblem, plan
from worker.contract.plans import Problem, Rule


@settings(max_examples=60, deadline=None)
@given(problems())
def test_every_plan_passes_its_check(asked: Problem) -> None:
    """Whatever is asked, a plan comes, it passes the independent check, and it keeps its limits and its word."""
    made = plan(asked)
    goal, moved = made.goal, {step.guest for step in made.steps}
    assert check(asked, made) == []
    assert not moved & {left.guest for left in made.left}
    assert (goal.max_moves is None) or len(moved) <= goal.max_moves
    assert (goal.max_gib is None) or made.totals.gib - made.totals.bounce_gib <= goal.max_gib + 1e-6
    assert (goal.max_minutes is None) or made.totals.seconds <= goal.max_minutes * 60
    assert made.gap is None or made.gap >= 0
    assert (made.status == "nothing-to-do") <= (not made.steps and not made.left)
    assert all(step.why for step in made.steps)
    assert all(left.why and left.code for left in made.left)


@settings(max_examples=25, deadline=None)
@given(problems())
def test_the_same_problem_makes_the_same_plan(asked: Problem) -> None:
    """A plan follows from its problem alone, its id with it."""
    one, other = plan(asked), plan(Problem.model_validate_json(asked.model_dump_json()))
    assert one.id == other.id
    assert one.steps == other.steps


@settings(max_examples=60, deadline=None)
@given(problems())
def test_what_a_drain_leaves_is_explained(asked: Problem) -> None:
    """Each guest of a drained host moves away, or is listed with the reason why it does not."""
    if asked.goal.kind != "drain":
        return
    made = plan(asked)
    ends = {step.guest: step.destination for step in made.steps}
    for spec in asked.guests:
        if spec.host in asked.goal.hosts:
            told = {left.guest for left in (*made.left, *made.stuck)}
            assert ends.get(spec.id, spec.host) not in asked.goal.hosts or spec.id in told


@settings(max_examples=40, deadline=None)
@given(problems())
def test_a_whole_outcome_fed_back_changes_nothing(asked: Problem) -> None:
    """What a plan without limits has done is never done further by the next one, whatever rules and pins there are."""
    goal = asked.goal.model_copy(update={"max_moves": None, "max_gib": None, "max_minutes": None})
    asked = asked.model_copy(update={"goal": goal})
    made = plan(asked)
    if goal.kind in ("balance", "consolidate") and not made.stuck and not made.totals.bounces:
        assert plan(outcome(asked, made)).steps == ()


def test_a_rule_broken_from_the_start_keeps_nobody_in_the_air() -> None:
    """A host of which two guests break an ``apart`` rule already is planned, in a rack that neither may enter again."""
    racks = [host("a", 32, labels={"rack": "y"}), host("b", 64, 8, labels={"rack": "x"})]
    racks += [host("c", 16, takes=False, labels={"rack": "x"}), host("d", 16, 8, gives=False, labels={"rack": "x"})]
    sizes = [(0.5, 0), (0.5, 1), (2, 1), (0.5, 0), (2, 1)]
    guests = [guest(f"v{n}", "b", gib, cores) for n, (gib, cores) in enumerate(sizes)]
    rule = Rule(name="r", kind="apart", guests=("v0", "v1"), label="rack")
    asked = problem(racks, [*guests, *(guest(f"w{n}", "a", 0.5) for n in range(3))], rule, ceiling_points=5)
    assert check(asked, plan(asked)) == []


@pytest.mark.parametrize("kind", ["balance", "consolidate"])
@pytest.mark.parametrize(("hosts", "fill", "points"), [(6, 0.5, 5), (12, 0.6, 10), (20, 0.6, 5), (30, 0.75, 5)])
def test_an_outcome_fed_back_changes_nothing(kind: str, hosts: int, fill: float, points: float) -> None:
    """A plan's own outcome is a problem with nothing to do."""
    asked = lopsided(hosts, fill=fill, kind=kind, ceiling_points=points)
    made = plan(asked)
    assert made.steps
    assert plan(outcome(asked, made)).steps == ()


@pytest.mark.parametrize(("hosts", "points"), [(10, 10), (30, 10), (30, 5), (100, 5)])
def test_a_balance_relieves_every_host_near_its_bound(hosts: int, points: float) -> None:
    """No host stays above its ceiling, and the plan moves little more than the bound says any plan must."""
    made = plan(lopsided(hosts, ceiling_points=points))
    assert made.totals.hot_before > 0
    assert made.totals.hot_after == 0
    assert made.gap is not None
    assert made.gap <= 0.05
    assert made.gains[-1].excess_left == 0


def test_the_least_is_moved() -> None:
    """One guest of 20 GiB is enough where one of 10 GiB is not."""
    made = plan(
        problem(
            [host("a"), host("b")],
            [guest("v1", "a", 20), guest("v2", "a", 10), guest("v3", "a", 50), guest("v4", "b", 10)],
            ceiling_points=20,
        )
    )
    assert [(step.guest, step.destination) for step in made.steps] == [("v1", "b")]
    assert (made.status, made.gap, made.bound_gib) == ("optimal", 0, 20)
    assert made.steps[0].why == "memory 80 % above 65 %"


def test_a_price_per_move_makes_fewer_moves() -> None:
    """Four guests of 5 GiB are cheaper than one of 21 GiB only while a move costs nothing."""
    guests = [guest(f"s{n}", "a", 5) for n in range(4)] + [guest("l", "a", 21), guest("p", "a", 39, pinned="so")]
    asked = [host("a"), host("b")]
    assert len(plan(problem(asked, guests, ceiling_points=20)).steps) == 4
    dear = plan(problem(asked, guests, ceiling_points=20, price_per_move_gib=1))
    assert [step.guest for step in dear.steps] == ["l"]
    assert dear.status == "optimal"
    assert dear.gap == pytest.approx(0.05)


def test_notes_say_what_pins_cost() -> None:
    """What would be cheaper, or possible at all, if nobody were pinned is told."""
    guests = [guest("v1", "a", 21, pinned="so"), guest("v2", "a", 40), guest("v3", "a", 25), guest("v4", "b", 2)]
    made = plan(problem([host("a"), host("b")], guests, ceiling_points=22))
    assert "without pinned guests about 4 GiB less would have to move" in made.notes
    stuck = plan(problem([host("a"), host("b")], [guest("v1", "a", 80, pinned="so")], ceiling_points=20))
    assert "without pinned guests 1 hosts more could be relieved" not in stuck.notes  # it fits nowhere either
    small = plan(problem([host("a"), host("b")], [guest(f"v{n}", "a", 40, pinned="so") for n in (1, 2)]))
    assert "without pinned guests 1 hosts more could be relieved" in small.notes


def test_room_is_made() -> None:
    """A guest that fits nowhere is placed by moving a smaller one out of its way."""
    made = plan(
        problem(
            [host("a"), host("b"), host("c")],
            [guest("big", "a", 60), guest("fill", "b", 35), guest("small", "b", 20), guest("rest", "c", 70)],
            kind="drain",
            hosts=("a",),
            most_percent=100,
        )
    )
    assert {(step.guest, step.destination, step.why) for step in made.steps} == {
        ("small", "c", "make room for big"),
        ("big", "b", "drain a"),
    }
    assert not made.left


def test_groups_move_as_one() -> None:
    """Guests that belong together leave a drained host together, to one host."""
    rule = Rule(name="pair", kind="together", guests=("v1", "v2"))
    hosts = [host("a"), host("b", 35), host("c", 30)]
    made = plan(problem(hosts, [guest("v1", "a", 20), guest("v2", "a", 10)], rule, kind="drain", hosts=("a",)))
    assert {step.destination for step in made.steps} == {"b"}
    assert len(made.steps) == 2


def test_a_home_is_preferred() -> None:
    """A guest goes back to the host that it was drained from where that has room, though others have more."""
    hosts = [host("a"), host("b"), host("c")]
    guests = [guest("v1", "a", home="b"), guest("v2", "b", 30)]
    assert plan(problem(hosts, guests, kind="drain", hosts=("a",))).steps[0].destination == "b"


def test_hosts_are_emptied() -> None:
    """The least loaded hosts are emptied into those in use, never into an empty one."""
    hosts = [host(name) for name in "abcd"]
    guests = [guest("v1", "a", 50), guest("v2", "b", 20), guest("v3", "c", 10)]
    made = plan(problem(hosts, guests, kind="consolidate"))
    assert {step.destination for step in made.steps} == {"a"}
    assert sum(view.after.guests > 0 for view in made.hosts) == 1


def test_targets_are_kept_as_far_as_they_can_be() -> None:
    """What somebody else placed is ordered as it is; what has no room is left with what would help."""
    hosts, guests = [host("a"), host("b", 25)], [guest("v1", "a", 20), guest("v2", "a", 10)]
    made = plan(problem(hosts, guests, kind="place", targets={"v1": "b", "v2": "b"}, most_percent=100))
    assert [step.guest for step in made.steps] == ["v1"]
    assert [(left.guest, left.code) for left in made.left] == [("v2", "no-room")]


def test_few_moves_gain_most() -> None:
    """With a limit of moves those are made that gain most, and the others are listed."""
    asked = lopsided(20, ceiling_points=5)
    whole = plan(asked)
    short = plan(asked.model_copy(update={"goal": asked.goal.model_copy(update={"max_moves": 10})}))
    assert len(short.steps) == 10
    assert short.status == "best-effort"
    assert {left.code for left in short.left} == {"limit"}
    assert short.gains[-1].excess_left <= 1 - 10 / len(whole.steps)


def test_selected_guests_only() -> None:
    """Only what is selected, and not excluded, moves; the rest of a drained host is listed."""
    hosts, guests = [host("a"), host("b")], [guest(name, "a") for name in ("web1", "web2", "db1")]
    made = plan(problem(hosts, guests, kind="drain", hosts=("a",), select=("web*",), exclude=("web2",)))
    assert [step.guest for step in made.steps] == ["web1"]
    assert [(left.guest, left.code) for left in made.left] == [("db1", "excluded"), ("web2", "excluded")]


def test_nonsense_is_named() -> None:
    """All that makes no sense is told at once."""
    asked = problem(
        [host("a"), host("a")],
        [guest("v1", "x"), guest("v1", "a")],
        Rule(name="r", kind="apart", guests=("v9",)),
        kind="drain",
        hosts=("z",),
        select=("nobody",),
    )
    with pytest.raises(BadProblem) as bad:
        plan(asked)
    for word in ("host a is there twice", "guest v1 is there twice", "on x", "v9", "host z", "nobody"):
        assert word in bad.value.message
    assert bad.value.code == "bad-problem"


def test_memory_of_any_size() -> None:
    """Guests whose memory has no common divisor are planned, too, and the bound stays a bound."""
    asked = lopsided(20, ceiling_points=5)
    odd = tuple(
        spec.model_copy(update={"memory_mib": spec.memory_mib + 7 * n % 97}) for n, spec in enumerate(asked.guests)
    )
    made = plan(asked.model_copy(update={"guests": odd}))
    assert made.totals.hot_after == 0
    assert made.gap is not None
    assert made.gap < 0.06
    assert made.bound_gib <= sum(step.memory_mib for step in made.steps) / GIB
