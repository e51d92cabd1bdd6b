"""The order of a plan: safe whatever the timing, complete where it can be, and near the shortest."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from order_lab import Run, apart, crowded, guest, host, plan_of, problem, rotations, wanted

from tasks.planner.check import check
from tasks.planner.durations import SETUP_SECONDS, link_share, seconds
from tasks.planner.order import order
from worker.contract.plans import Goal, Problem, Rule

Case = tuple[Problem, dict[str, str]]


@given(crowded())
@settings(max_examples=300, deadline=None)
def test_every_order_is_right(case: Case) -> None:
    """The checker, which shares no code with the order, finds no fault in any order."""
    problem, targets = case
    assert check(problem, plan_of(problem, order(problem, targets, {}))) == []


@given(crowded())
@settings(max_examples=200, deadline=None)
def test_every_guest_arrives_or_is_stuck(case: Case) -> None:
    """Each guest that should move either ends where it should, or is named with a reason, never both."""
    problem, targets = case
    found = order(problem, targets, {})
    arrives = {step.guest: step.destination for step in found.steps if step.bounce != 1}
    stuck = {left.guest for left in found.stuck}
    expected = wanted(problem, targets)
    assert arrives == {g: to for g, to in expected.items() if g not in stuck}
    assert stuck <= expected.keys()
    assert all(left.why for left in found.stuck)


@given(crowded(), st.integers(0, 9999), st.sampled_from([0.0, 0.2]))
@settings(max_examples=300, deadline=None)
def test_safe_whatever_the_timing(case: Case, seed: int, fails: float) -> None:
    """Whoever keeps to ``after`` and to the slots overfills no host, however long steps take and whichever fail."""
    problem, targets = case
    run = Run(problem, plan_of(problem, order(problem, targets, {})), Random(seed), fails)  # noqa: S311
    run.go()
    assert run.failed or not run.waiting


@given(crowded())
@settings(max_examples=100, deadline=None)
def test_same_input_same_order(case: Case) -> None:
    """The order follows from the problem and the targets alone, not from how they are listed."""
    problem, targets = case
    backwards = dict(reversed(list(targets.items())))
    assert order(problem, targets, {}) == order(problem, backwards, {})


@given(crowded())
@settings(max_examples=200, deadline=None)
def test_no_order_beats_the_bound(case: Case) -> None:
    """The bound is one: nothing that was found is shorter, and one after the other is never shorter than at once."""
    problem, targets = case
    found = order(problem, targets, {})
    assert found.bound_seconds <= found.seconds + 0.01
    assert found.seconds <= found.serial_seconds + 0.01


def test_a_swap_goes_through_a_third_host() -> None:
    """Two full hosts change guests over a third one that has room: one bounce, both legs named, in three steps."""
    cluster = problem([host("a", 10), host("b", 10), host("c", 10)], [guest("x", "a"), guest("y", "b")])
    found = order(cluster, {"id-x": "b", "id-y": "a"}, {"id-x": "swap", "id-y": "swap"})
    assert [step.bounce for step in found.steps] == [1, 0, 2]
    assert [step.after for step in found.steps] == [(), (1,), (2,)]
    assert found.steps[0].destination == "c"
    assert [step.why for step in found.steps] == ["bounce 1 of 2; swap", "swap", "bounce 2 of 2; swap"]
    assert found.stuck == ()


@pytest.mark.parametrize(
    "third",
    [
        host("c", 9),
        host("c", 10, takes=False, why="cordoned"),
        host("c", 10, gives=False),
        host("c", 10, max_incoming=0),
        host("c", 10, max_outgoing=0),
        host("c", 10, kind="other"),
        host("c", 10, labels={"disk": "slow"}),
    ],
    ids=["small", "cordoned", "away", "no-way-in", "no-way-out", "other-kind", "other-label"],
)
def test_a_swap_without_a_third_host_is_stuck(third: object) -> None:
    """Where nothing in between takes either guest nothing moves, and both are named with what would help."""
    fast = {"labels": {"disk": "fast"}}
    guests = [guest(name, on, requires={"disk": "fast"}) for name, on in (("x", "a"), ("y", "b"))]
    cluster = problem([host("a", 10, **fast), host("b", 10, **fast), third], guests)  # type: ignore[list-item]
    found = order(cluster, {"id-x": "b", "id-y": "a"}, {})
    assert found.steps == ()
    assert [(left.guest, left.code) for left in found.stuck] == [("id-x", "stuck"), ("id-y", "stuck")]
    assert "y" in found.stuck[0].why
    assert "free on" in found.stuck[0].unblock


def test_nobody_is_parked_on_a_host_that_is_emptied() -> None:
    """A drain sends no guest to the hosts that it empties, not even for a while."""
    goal = Goal(kind="drain", hosts=("c",), most_percent=100)
    cluster = problem([host("a", 10), host("b", 10), host("c", 10)], [guest("x", "a"), guest("y", "b")], goal=goal)
    assert order(cluster, {"id-x": "b", "id-y": "a"}, {}).steps == ()
    assert "to be emptied" in order(cluster, {"id-x": "c"}, {}).stuck[0].why


def test_a_swap_that_a_rule_blocks_bounces_too() -> None:
    """Guests that are to be apart change places over a third host although all of them have room for both."""
    cluster = problem([host(name, 99) for name in "abc"], [guest("x", "a"), guest("y", "b")], apart("two", "x", "y"))
    found = order(cluster, {"id-x": "b", "id-y": "a"}, {})
    assert [step.bounce for step in found.steps] == [1, 0, 2]


def test_apart_by_label() -> None:
    """With a label, a guest waits until the other one has left every host of the same rack."""
    racks = {"a": "1", "b": "1", "c": "2", "d": "2"}
    cluster = problem(
        [host(name, 99, labels={"rack": rack}) for name, rack in racks.items()],
        [guest("x", "a"), guest("y", "c", 20)],
        apart("two", "x", "y", label="rack"),
    )
    found = order(cluster, {"id-x": "b"}, {})
    assert [step.after for step in found.steps] == [()]
    found = order(cluster, {"id-x": "d"}, {})
    assert [left.code for left in found.stuck] == ["rule"]


@pytest.mark.parametrize("spare", [2, 5])
def test_rings_on_full_hosts_are_all_done(spare: int) -> None:
    """On hosts that are 94 % full, of which few have room, everybody gets where they should over few bounces."""
    cluster, targets = rotations(100, spare=spare, seed=3)
    found = order(cluster, targets, {})
    assert found.stuck == ()
    assert check(cluster, plan_of(cluster, found)) == []
    assert sum(step.bounce == 1 for step in found.steps) < len(targets) / 4
    assert max(found.peaks.values()) <= 0.98 + 1e-9


def test_what_has_room_waits_for_nobody() -> None:
    """Where everything fits at once no step names another one."""
    cluster = problem([host("a", 99), host("b", 99)], [guest(f"g{n}", "ab"[n % 2]) for n in range(4)])
    found = order(cluster, {f"id-g{n}": "ba"[n % 2] for n in range(4)}, {})
    assert [step.after for step in found.steps] == [()] * 4


def test_no_room_is_counted_twice() -> None:
    """Two arrivals that one departure cannot serve both wait for two departures between them."""
    cluster = problem(
        [host("a", 20), host("b", 99)], [guest("u", "a"), guest("v", "a"), guest("x", "b"), guest("y", "b")]
    )
    found = order(cluster, {"id-u": "b", "id-v": "b", "id-x": "a", "id-y": "a"}, {})
    named = [step.after for step in found.steps if step.destination == "a"]
    assert sorted(named) == [(1,), (2,)]


def test_a_host_that_is_too_full_first_sends() -> None:
    """A host above ``most_percent`` gets nobody until it is below, though others leave it."""
    cluster = problem(
        [host("a", 100), host("b", 200)], [guest("u", "a", 90), guest("v", "a", 10), guest("x", "b")], most=90
    )
    found = order(cluster, {"id-v": "b", "id-x": "a"}, {})
    assert [step.guest for step in found.steps] == ["id-v"]
    assert [left.code for left in found.stuck] == ["no-room"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_migrations": 0}, "0 migrations"),
        ({"networks": {"": 0}}, "carries 0"),
        ({"hosts": (host("a", 99, max_outgoing=0), host("b", 99))}, "may send 0"),
        ({"hosts": (host("a", 99), host("b", 99, max_incoming=0))}, "may receive 0"),
    ],
)
def test_a_limit_of_nothing_is_a_reason(change: dict[str, object], says: str) -> None:
    """Where a limit lets nothing through the guest stays, and the limit is named."""
    cluster = problem([host("a", 99), host("b", 99)], [guest("x", "a")]).model_copy(update=change)
    (left,) = order(cluster, {"id-x": "b"}, {}).stuck
    assert left.code == "limit"
    assert says in left.why


def test_limits_make_it_longer() -> None:
    """With one at a time in all, a plan takes as long as its steps one after the other."""
    hosts, guests = [host("a", 99), host("b", 99), host("c", 99)], [guest("x", "a"), guest("y", "b"), guest("z", "c")]
    targets = {"id-x": "b", "id-y": "c", "id-z": "a"}
    free = order(problem(hosts, guests), targets, {})
    one = order(problem(hosts, guests, max_migrations=1), targets, {})
    assert (free.peak_concurrent, one.peak_concurrent) == (3, 1)
    assert one.seconds == pytest.approx(free.serial_seconds)


def test_a_group_moves_whole_or_not_at_all() -> None:
    """Guests that belong together all move, or all stay where one of them has no room."""
    together = Rule(name="pair", kind="together", guests=("id-x", "id-y"))
    guests = [guest("x", "a"), guest("y", "a")]
    targets = {"id-x": "b", "id-y": "b"}
    assert len(order(problem([host("a", 20), host("b", 20)], guests, together), targets, {}).steps) == 2
    small = order(problem([host("a", 20), host("b", 15)], guests, together), targets, {})
    assert small.steps == ()
    assert {left.code for left in small.stuck} <= {"rule", "no-room"}
    assert len(small.stuck) == 2


def test_a_guest_is_parked_among_its_hosts_only() -> None:
    """A guest that must stay among some hosts is not parked on another one."""
    hosts, guests = [host("a", 10), host("b", 10), host("c", 10)], [guest("x", "a"), guest("y", "b")]
    among = Rule(name="site", kind="among", guests=("id-x", "id-y"), parts=(("a", "b"),))
    found = order(problem(hosts, guests, among), {"id-x": "b", "id-y": "a"}, {})
    assert found.steps == ()
    assert len(found.stuck) == 2


def test_large_and_few_is_fast() -> None:
    """5,000 hosts of which few guests move do not make it slow: all of it is done within the test's own limit."""
    hosts = [host(f"h{n}", 100) for n in range(5000)]
    guests = [guest(f"g{n}", f"h{n // 6}") for n in range(30_000)]
    targets = {f"id-g{n * 6}": f"h{4999 - n // 2}" for n in range(600)}
    assert len(order(problem(hosts, guests), targets, {}).steps) == len(wanted(problem(hosts, guests), targets))


@given(*[st.floats(0.001, 1e6)] * 4)
def test_durations_never_fall_with_more_to_do(memory: float, dirty: float, link: float, more: float) -> None:
    """More memory or a higher dirty rate never take less, a faster link never more, and there is a most."""
    took = seconds(memory, dirty, link)
    slack = 1e-9 * took
    assert SETUP_SECONDS <= took <= SETUP_SECONDS + 10 * memory / link + slack
    assert seconds(memory + more, dirty, link) >= took - slack
    assert seconds(memory, dirty + more, link) >= took - slack
    assert seconds(memory, dirty, link + more) <= took + slack


def test_a_link_is_shared_by_its_slots() -> None:
    """A migration gets the smaller share of both hosts' links."""
    slow, fast = host("a", 1, mib_per_second=100, max_outgoing=4), host("b", 1, mib_per_second=1000)
    assert link_share(slow, fast) == link_share(fast, slow) == 25
