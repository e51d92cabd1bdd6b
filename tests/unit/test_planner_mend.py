"""Rules that are broken before a balance: it mends them with the least memory, or says why it cannot."""

from __future__ import annotations

from planner_cases import guest, host, outcome, problem

from tasks.planner.plan import plan
from worker.contract.plans import Problem, Rule

CLOSE = Rule(name="close", kind="apart", guests=("v1", "v2"))


def moves(asked: Problem) -> dict[str, tuple[str, str]]:
    """Who goes where, and why; what that leads to needs no further move."""
    made = plan(asked)
    assert plan(outcome(asked, made)).steps == ()
    return {step.guest: (step.destination, step.why) for step in made.steps}


def test_of_two_that_are_too_close_the_smaller_leaves() -> None:
    """An ``apart`` rule that is broken on a host is mended by its smaller guest; nothing moves less."""
    asked = problem([host("a"), host("b")], [guest("v1", "a", 10), guest("v2", "a", 4)], CLOSE, ceiling_points=50)
    assert moves(asked) == {"v2": ("b", "rule close")}
    made = plan(asked)
    assert (made.status, made.bound_gib, made.gap) == ("optimal", 4, 0)


def test_a_pinned_guest_stays() -> None:
    """Of two that are too close the one that may move leaves, even if it is the larger one."""
    guests = [guest("v1", "a", 10), guest("v2", "a", 4, pinned="so")]
    assert moves(problem([host("a"), host("b")], guests, CLOSE, ceiling_points=50)) == {"v1": ("b", "rule close")}


def test_room_is_made_for_a_rule() -> None:
    """A third guest makes room where the rule's own ones find none."""
    hosts = [host("a", 60), host("b", 60), host("c", 30)]
    guests = [guest("v1", "a", 25), guest("v2", "a", 25), guest("w", "b", 30), guest("x", "b", 10), guest("y", "c", 18)]
    asked = problem(hosts, guests, CLOSE, ceiling_points=50)
    assert moves(asked) == {"x": ("c", "make room for v2"), "v2": ("b", "rule close")}


def test_labels_and_parts_are_restored() -> None:
    """A guest on a host without its label, or outside of its group's part, goes where it belongs."""
    hosts = [host("a"), host("b", labels={"disk": "fast"}), host("c")]
    guests = [guest("v1", "a", requires={"disk": "fast"}), guest("v2", "b", 20), guest("v3", "c", 5)]
    part = Rule(name="site", kind="among", guests=("v2", "v3"), parts=(("a", "b"), ("c",)))
    asked = problem(hosts, guests, part, ceiling_points=50)
    assert moves(asked) == {"v1": ("b", "requires disk=fast"), "v3": ("a", "rule site")}


def test_those_who_belong_together_meet() -> None:
    """The smaller part of a group joins the larger one."""
    rule = Rule(name="pair", kind="together", guests=("v1", "v2"))
    asked = problem([host("a"), host("b")], [guest("v1", "a", 10), guest("v2", "b", 5)], rule, ceiling_points=50)
    assert moves(asked) == {"v2": ("a", "rule pair")}


def test_what_cannot_be_mended_is_listed() -> None:
    """Where no host has room, the guest is left with a reason, and a note names the rule."""
    hosts, guests = [host("a"), host("b", 10)], [guest("v1", "a", 20), guest("v2", "a", 20)]
    made = plan(problem(hosts, guests, CLOSE, ceiling_points=50))
    assert made.steps == ()
    assert [(left.guest, left.code) for left in made.left] == [("v2", "no-room")]
    assert any("close" in note for note in made.notes)
