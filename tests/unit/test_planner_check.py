"""The checker of plans: it finds every fault that a plan can have, and none in a right one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from order_lab import apart, crowded, guest, host, plan_of, problem

from tasks.planner.check import check, outdated
from tasks.planner.order import order
from worker.contract.plans import HostSpec, HostView, Load, Plan, Problem, Rule, Step

HOSTS = [
    host("a", 30, labels={"disk": "fast"}),
    host("b", 30, labels={"disk": "fast"}, cpu_cores=8),
    host("c", 30, labels={"disk": "fast"}),
    host("d", 90, labels={"disk": "slow"}),
]
GUESTS = [
    guest("a1", "a", 20, requires={"disk": "fast"}),
    guest("a2", "a", cpu_cores=2),
    guest("b1", "b", 20, requires={"disk": "fast"}),
    guest("b2", "b", cpu_cores=2),
    guest("c1", "c", 5),
    guest("c2", "c", 5),
    guest("d1", "d"),
    guest("d2", "d"),
]
RULES = (
    apart("two", "a2", "d2"),
    Rule(name="site", kind="among", guests=("id-c1", "id-c2"), parts=(("c", "d"), ("a",))),
)
TARGETS = {"id-a1": "b", "id-b1": "a", "id-c1": "d", "id-c2": "d", "id-a2": "d", "id-d2": "a"}


def lab(**more: Any) -> Problem:
    """A swap of two guests over a third host, an exchange under a rule, and two guests that only move."""
    return problem(HOSTS, GUESTS, *RULES, **more)


def right(**more: Any) -> Plan:
    """A plan for it without a fault."""
    cluster = lab(**more)
    return plan_of(cluster, order(cluster, TARGETS, {}))


def test_a_right_plan_has_no_fault() -> None:
    """A plan that waits, bounces and keeps rules passes; so the mutations below are what is found."""
    plan = right()
    assert plan.stuck == ()
    assert sum(step.bounce == 1 for step in plan.steps) >= 1
    assert check(lab(), plan) == []


def _step(plan: Plan, name: str, bounce: int | None = None) -> Step:
    return next(step for step in plan.steps if step.domain == name and bounce in (None, step.bounce))


def _with(plan: Plan, which: Step, **change: Any) -> Plan:
    return plan.model_copy(
        update={"steps": tuple(s.model_copy(update=change) if s.n == which.n else s for s in plan.steps)}
    )


def _total(**change: Any) -> Callable[[Plan], Plan]:
    return lambda plan: plan.model_copy(update={"totals": plan.totals.model_copy(update=change)})


def _without_waiting(plan: Plan) -> Plan:
    return plan.model_copy(update={"steps": tuple(step.model_copy(update={"after": ()}) for step in plan.steps)})


MUTATIONS: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "numbers": (lambda plan: _with(plan, plan.steps[0], n=7), "is the 1. of the list"),
    "reversed": (lambda plan: plan.model_copy(update={"steps": plan.steps[::-1]}), "of the list"),
    "after a later step": (lambda plan: _with(plan, plan.steps[0], after=(3,)), "which is no earlier step"),
    "starts too early": (
        lambda plan: _with(plan, next(step for step in plan.steps if step.bounce == 2), start=0.0),
        "starts before",
    ),
    "not in order": (lambda plan: _with(plan, plan.steps[0], start=9999.0), "starts before the step"),
    "unknown guest": (lambda plan: _with(plan, plan.steps[0], guest="id-zz"), "which is no guest"),
    "unknown host": (lambda plan: _with(plan, plan.steps[0], destination="zz"), "which is no host"),
    "nowhere": (lambda plan: _with(plan, _step(plan, "c1"), destination="c"), "to where it is"),
    "wrong source": (lambda plan: _with(plan, _step(plan, "c1"), source="a"), "but it is on c then"),
    "other memory": (lambda plan: _with(plan, _step(plan, "c1"), memory_mib=4), "counts other memory"),
    "other cpu": (lambda plan: _with(plan, _step(plan, "a2"), cpu_cores=1), "counts other memory or CPU"),
    "other name": (lambda plan: _with(plan, _step(plan, "c1"), domain="c9"), "calls c1 c9"),
    "no bounce": (lambda plan: _with(plan, _step(plan, "c1"), bounce=1), "neither straight nor one bounce"),
    "nobody waits": (_without_waiting, "may come to hold"),
    "lacking label": (
        lambda plan: _with(plan, next(s for s in plan.steps if s.bounce == 0 and s.domain in "a1 b1"), destination="d"),
        "lacks label disk=fast",
    ),
    "split group": (lambda plan: _with(plan, _step(plan, "c1"), destination="b"), "rule site (among) holds less"),
    "moves": (_total(moves=1), "totals.moves"),
    "gib": (_total(gib=99.0), "totals.gib"),
    "bounces": (_total(bounces=0), "totals.bounces"),
    "bounce gib": (_total(bounce_gib=9.0), "totals.bounce_gib"),
    "seconds": (_total(seconds=1.0), "totals.seconds"),
    "serial seconds": (_total(serial_seconds=1.0), "totals.serial_seconds"),
}


@pytest.mark.parametrize(("mutation", "says"), MUTATIONS.values(), ids=MUTATIONS.keys())
def test_each_fault_is_found(mutation: Callable[[Plan], Plan], says: str) -> None:
    """A right plan, broken in one way, is refused with a sentence that says how."""
    assert any(says in fault for fault in check(lab(), mutation(right())))


def test_a_rule_that_may_be_broken_is_found() -> None:
    """Two guests that are to be apart, of which one may come before the other has left, are named."""
    plan = right()
    free = _with(plan, _step(plan, "d2", 0) if _step(plan, "d2").bounce == 0 else _step(plan, "a2", 0), after=())
    assert any("rule two: a2 and d2 may be on" in fault for fault in check(lab(), free))


def _problem(**change: Any) -> Problem:
    return lab().model_copy(update=change)


def _host(name: str, **change: Any) -> Problem:
    return _problem(hosts=tuple(h.model_copy(update=change) if h.name == name else h for h in HOSTS))


def _guest(name: str, **change: Any) -> Problem:
    return _problem(guests=tuple(g.model_copy(update=change) if g.name == name else g for g in GUESTS))


def _goal(**change: Any) -> Problem:
    return _problem(goal=lab().goal.model_copy(update=change))


PROBLEMS: dict[str, tuple[Problem, str]] = {
    "pinned": (_guest("c1", pinned="licence"), "which is pinned: licence"),
    "excluded": (_goal(exclude=("c*",)), "moves c1, which is excluded"),
    "not selected": (_goal(select=("a*", "b*", "d*")), "moves c1, which is excluded"),
    "does not give": (_host("c", gives=False, why="its agent is away"), "does not give: its agent is away"),
    "does not take": (_host("d", takes=False, why="cordoned"), "does not take: cordoned"),
    "other kind": (_host("d", kind="vz"), "of another kind"),
    "label gone": (_host("b", labels={}), "lacks label disk=fast"),
    "less memory": (_host("d", memory_mib=25), "d may come to hold"),
    "reserve": (_host("d", reserve_memory_mib=70), "d may come to hold"),
    "most percent": (_goal(most_percent=30), "may come to hold"),
    "slots out": (_host("a", max_outgoing=0), "run out of a"),
    "slots in": (_host("d", max_incoming=1), "run into d"),
    "network": (_problem(networks={"": 1}), "run over network"),
    "in all": (_problem(max_migrations=1), "run in all"),
    "max moves": (_goal(max_moves=2), "where 2 may"),
    "max gib": (_goal(max_gib=0.01), "where 0.01 may"),
    "max minutes": (_goal(max_minutes=0.1), "where 0.1 may"),
    "to a drained host": (_goal(kind="drain", hosts=("d",)), "d, which is to be emptied"),
    "of another host": (_goal(hosts=("a", "b", "d")), "moves c1, which is on none of the goal's hosts"),
    "rule": (_problem(rules=(apart("new", "a2", "d1"),)), "rule new: a2 and d1 may be on d"),
    "together": (_problem(rules=(Rule(name="t", kind="together", guests=("id-d1", "id-d2")),)), "rule t (together)"),
}


@pytest.mark.parametrize(("cluster", "says"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_each_broken_limit_is_found(cluster: Problem, says: str) -> None:
    """The same plan for a problem that forbids one thing of it is refused with a sentence that says which."""
    assert any(says in fault for fault in check(cluster, right()))


def test_cpu_is_checked() -> None:
    """A host is never sent more CPU than it has, or uses before or after."""
    cluster = problem(
        [host("a", 99), host("b", 99, cpu_cores=4)], [guest("x", "a", cpu_cores=3), guest("y", "b", cpu_cores=3)]
    )
    plan = plan_of(cluster, order(cluster, {"id-x": "b", "id-y": "a"}, {}))
    assert check(cluster, plan) == []
    assert any("b may come to use 6 cores, above 4" in fault for fault in check(cluster, _without_waiting(plan)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"after": Load(cpu=0, memory=0.5, guests=2)}, "is said to use 50%"),
        ({"after": Load(cpu=0, memory=40 / 90, guests=3)}, "is said to have 3 guests"),
        ({"ceiling_memory": 0.2}, "totals.hot_after is 0, counted 1"),
        ({"name": "zz"}, "which is no host"),
    ],
)
def test_what_a_plan_says_of_hosts_is_counted(change: dict[str, Any], says: str) -> None:
    """Loads, numbers of guests and hosts above their ceilings are what the steps make them."""
    after = Load(cpu=0, memory=(5 + 5 + 10 + 10) / 90, guests=4)
    view = HostView(name="d", before=after, after=after, peak_memory=1, ceiling_cpu=1, ceiling_memory=1)
    plan = right().model_copy(update={"hosts": (view.model_copy(update=change),)})
    faults = check(lab(), plan)
    assert any(says in fault for fault in faults) if says else not faults


@given(crowded(), st.data())
@settings(max_examples=150, deadline=None)
def test_waiting_less_is_found_or_harmless(case: tuple[Problem, dict[str, str]], data: st.DataObject) -> None:
    """A plan of which any dependency is dropped passes exactly if no timing of it overfills a host or breaks a rule."""
    cluster, targets = case
    plan = plan_of(cluster, order(cluster, targets, {}))
    waits = [step for step in plan.steps if step.after]
    if not waits or len(plan.steps) > 8:
        return
    step = data.draw(st.sampled_from(waits))
    less = _with(plan, step, after=tuple(n for n in step.after if n != data.draw(st.sampled_from(step.after))))
    faults = [fault for fault in check(cluster, less) if "order of events" in fault or "without waiting" in fault]
    assert bool(faults) == _goes_wrong(cluster, less)


def _goes_wrong(cluster: Problem, plan: Plan) -> bool:
    """Whether anything is wrong in any state that a plan can be in: each step waits (0), runs (1) or has ended (2)."""
    for state in product((0, 1, 2), repeat=len(plan.steps)):
        begun = [step for step, stage in zip(plan.steps, state, strict=True) if stage]
        if all(state[n - 1] == 2 for step in begun for n in step.after) and _wrong(cluster, plan, state):
            return True
    return False


def _wrong(cluster: Problem, plan: Plan, state: tuple[int, ...]) -> bool:
    first = {guest.id: guest.host for guest in cluster.guests}
    place = {name: {host} for name, host in first.items()}
    for step, stage in zip(plan.steps, state, strict=True):
        if stage and place[step.guest] != {step.source}:
            return True
        if stage:
            place[step.guest] = {step.destination} if stage == 2 else {step.source, step.destination}
    on = {host.name: {guest for guest, hosts in place.items() if host.name in hosts} for host in cluster.hosts}
    came = {name for name, held in on.items() if any(first[guest] != name for guest in held)}
    full = any(_overfull(cluster, plan, host, on[host.name]) for host in cluster.hosts if host.name in came)
    return full or _too_near(cluster, on, first)


def _overfull(cluster: Problem, plan: Plan, host: HostSpec, held: set[str]) -> bool:
    def cores(place: dict[str, str]) -> float:
        return sum(guest.cpu_cores for guest in cluster.guests if place[guest.id] == host.name)

    first = {guest.id: guest.host for guest in cluster.guests}
    last = first | {step.guest: step.destination for step in plan.steps}
    on = [guest for guest in cluster.guests if guest.id in held]
    if sum(guest.memory_mib for guest in on) > host.memory_mib * cluster.goal.most_percent / 100 + 1e-6:
        return True
    most = max(host.cpu_cores, cores(first), cores(last))
    return bool(host.cpu_cores) and sum(guest.cpu_cores for guest in on) > most + 1e-6


def _too_near(cluster: Problem, on: dict[str, set[str]], first: dict[str, str]) -> bool:
    labels = {h.name: h.labels for h in cluster.hosts}
    for rule in cluster.rules:
        if rule.kind != "apart":
            continue

        def part(name: str, label: str = rule.label) -> tuple[str, str]:
            return ("label", labels[name][label]) if label in labels[name] else ("host", name)

        held: dict[tuple[str, str], set[str]] = {}
        for name, guests in on.items():
            held.setdefault(part(name), set()).update(guests & set(rule.guests))
        for where, guests in held.items():
            if len(guests) > 1 and any(part(first[guest]) != where for guest in guests):
                return True
    return False


# A plan that was made earlier


def test_a_plan_still_fits_what_did_not_change() -> None:
    """A fresh look that shows the same, or changes only where the plan plays no part, leaves the plan as it is."""
    extra = [host("e", 1), *HOSTS]
    assert outdated(right(), lab()) == []
    assert outdated(right(), problem(extra, [*GUESTS, guest("e1", "e", 50)], *RULES)) == []
    assert outdated(right(), _guest("d1", memory_mib=20)) == []
    assert outdated(right(), _guest("c1", memory_mib=4)) == []


CHANGES: dict[str, tuple[Problem, str]] = {
    "moved": (_guest("c1", host="d"), "c1 is on d, not on c"),
    "guest gone": (_problem(guests=tuple(g for g in GUESTS if g.name != "c1")), "c1 is gone"),
    "grown": (_guest("c1", memory_mib=6), "c1 has 6 MiB now, 5 MiB when"),
    "host gone": (_problem(hosts=(*HOSTS[:2], HOSTS[3]), guests=tuple(g for g in GUESTS if g.host != "c")), "gone"),
    "cordoned": (_host("d", takes=False, why="cordoned"), "does not take: cordoned"),
    "pinned": (_guest("c1", pinned="licence"), "which is pinned: licence"),
    "no room": (_problem(guests=(*GUESTS, guest("new", "d", 65))), "d may come to hold"),
    "rule": (_problem(rules=(apart("new", "a2", "d1"),)), "rule new: a2 and d1 may be on d"),
}


@pytest.mark.parametrize(("now", "says"), CHANGES.values(), ids=CHANGES.keys())
def test_a_plan_that_no_longer_fits(now: Problem, says: str) -> None:
    """What changed since, as far as the plan depends on it, is told."""
    assert any(says in fault for fault in outdated(right(), now))
