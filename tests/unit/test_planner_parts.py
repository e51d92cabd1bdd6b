"""``among`` by a label of the hosts means the same as ``among`` with the hosts named."""

from __future__ import annotations

import pytest

from tasks.planner.plan import BadProblem, plan
from worker.contract.plans import Goal, GuestSpec, HostSpec, Problem, Rule

ZONES = {"a": "1", "b": "2", "c": "1", "d": "2", "e": ""}


def problem(rule: Rule) -> Problem:
    """A full host in zone 1; zone 2 has the most room, and a host without a zone more."""
    memory = {"e": 4000, "d": 3000}
    return Problem(
        hosts=tuple(
            HostSpec(name=name, memory_mib=memory.get(name, 1000), labels={"zone": zone} if zone else {})
            for name, zone in ZONES.items()
        ),
        guests=(
            GuestSpec(id="1", name="web", host="a", memory_mib=600),
            GuestSpec(id="2", name="db", host="c", memory_mib=100),
        ),
        rules=(rule,),
        goal=Goal(kind="drain", hosts=("a",), plan_seconds=1),
    )


def test_a_label_means_the_hosts_that_have_it() -> None:
    """The guest of a drained host stays in its zone, whether the zone is named by label or host by host."""
    by_label = plan(problem(Rule(name="zone", kind="among", guests=("1", "2"), label="zone")))
    by_name = plan(problem(Rule(name="zone", kind="among", guests=("1", "2"), parts=(("a", "c"), ("b", "d")))))
    assert [(step.guest, step.destination) for step in by_label.steps] == [("1", "c")]
    assert by_label.id == by_name.id


def test_a_label_that_no_host_has_is_refused() -> None:
    """Nobody could be kept among no hosts; the message says what is missing."""
    with pytest.raises(BadProblem, match="rule zone keeps its guests among no hosts; give it parts, or a label"):
        plan(problem(Rule(name="zone", kind="among", guests=("1",), label="rack")))
