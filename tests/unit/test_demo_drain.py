"""What the drain demo on real hosts would find wrong."""

from __future__ import annotations

import pytest

from worker.cli.demo_drain import GUESTS, HOSTS, drained_problems

HOME = {"web": "alpha", "db": "beta"}


def test_each_of_the_three_hosts_has_four_of_the_twelve_guests() -> None:
    """The demo that the documents promise: twelve guests with names of their own, four on each host."""
    assert len({guest.name for guest in GUESTS}) == 12
    assert [sum(guest.host == host for guest in GUESTS) for host in HOSTS] == [4, 4, 4]


@pytest.mark.parametrize(
    ("db", "complaint"),
    [
        ({"alpha": True}, None),
        ({"gamma": True}, None),
        ({"beta": True}, "db runs on beta, not on any host but beta"),
        ({"alpha": True, "gamma": True}, "db runs on alpha and gamma"),
        ({"alpha": True, "beta": False}, "a copy of db was left on beta"),
        ({"beta": False}, "db runs on no host"),
    ],
)
def test_a_guest_that_did_not_leave_a_drained_host_is_found(db: dict[str, bool], complaint: str | None) -> None:
    """Wherever a drained guest runs is right, if it is one other host; each other case is named."""
    found = drained_problems({"web": {"alpha": True}, "db": db}, HOME)
    assert [complaint in line for line in found] == [True] if complaint else found == []


def test_a_guest_of_another_host_has_to_stay_there() -> None:
    """A drain of beta does not move what runs on alpha."""
    found = drained_problems({"web": {"gamma": True}, "db": {"alpha": True}}, HOME)
    assert found == ["web runs on gamma, not on alpha"]
