"""Where is the VM: the decision table over every pair of states."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.hypervisors.base import DomainState as S
from worker.hypervisors.verdict import VerdictKind as K
from worker.hypervisors.verdict import verdict

STATES = st.sampled_from(list(S))
MAY_RUN = (S.RUNNING, S.MIGRATING, S.PAUSED_IN)


@pytest.mark.parametrize(
    ("source", "destination", "was", "expected"),
    [
        (S.RUNNING, S.ABSENT, S.RUNNING, K.SAFE_ON_SOURCE),
        (S.PAUSED, S.ABSENT, S.PAUSED, K.SAFE_ON_SOURCE),
        (S.ABSENT, S.RUNNING, S.RUNNING, K.MOVED),
        (S.ABSENT, S.PAUSED, S.RUNNING, K.MOVED),
        (S.MIGRATING, S.ABSENT, S.RUNNING, K.STILL_RUNNING),
        (S.MIGRATING, S.RUNNING, S.RUNNING, K.STILL_RUNNING),
        (S.SHUTOFF, S.RUNNING, S.RUNNING, K.STUB_LEFT),
        (S.SHUTOFF, S.PAUSED, S.RUNNING, K.STUB_LEFT),
        (S.PAUSED, S.ABSENT, S.RUNNING, K.RESUME_SOURCE),
        (S.SHUTOFF, S.ABSENT, S.RUNNING, K.LOST),
        (S.RUNNING, S.SHUTOFF, S.RUNNING, K.LEFTOVERS),
        (S.RUNNING, S.MIGRATING, S.RUNNING, K.LEFTOVERS),
        (S.RUNNING, S.RUNNING, S.RUNNING, K.SPLIT_BRAIN),
        (S.UNKNOWN, S.RUNNING, S.RUNNING, K.UNKNOWN),
        (S.ABSENT, S.ABSENT, S.RUNNING, K.LOST),
        (S.ABSENT, S.SHUTOFF, S.SHUTOFF, K.MOVED),
        (S.PAUSED, S.RUNNING, S.PAUSED, K.STUB_LEFT),
        (S.PAUSED, S.PAUSED, S.RUNNING, K.UNKNOWN),
    ],
)
def test_the_cells_of_the_facts(source: S, destination: S, was: S, expected: K) -> None:
    """The table of the facts, row by row."""
    assert verdict(source, destination, was).kind is expected


@given(STATES, STATES, STATES)
def test_every_cell_has_a_verdict_with_a_reason(source: S, destination: S, was: S) -> None:
    """No pair of states is without an answer."""
    found = verdict(source, destination, was)
    assert found.kind in K
    assert found.reason


@pytest.mark.parametrize("was", list(S))
def test_no_cell_allows_two_running_copies_or_loses_one(was: S) -> None:
    """Over every cell: nothing is resumed or called safe while the other side may run it."""
    for source, destination in product(S, S):
        kind = verdict(source, destination, was).kind
        unseen = S.UNKNOWN in (source, destination)
        assert (kind is K.SPLIT_BRAIN) == (source is destination is S.RUNNING)
        if kind is K.RESUME_SOURCE:
            assert source in (S.PAUSED, S.PAUSED_OUT)
            assert destination in (S.ABSENT, S.SHUTOFF, S.CRASHED)
        if kind is K.SAFE_ON_SOURCE:
            assert destination is S.ABSENT
            assert source is not S.ABSENT
        if kind in (K.MOVED, K.STUB_LEFT):
            assert source not in (S.RUNNING, S.MIGRATING)
            assert destination in (S.RUNNING, S.PAUSED, S.SHUTOFF, S.CRASHED)
        if unseen:
            assert kind is K.UNKNOWN
        if source is S.MIGRATING and not unseen:
            assert kind is K.STILL_RUNNING
        if kind is K.LOST:
            assert destination not in MAY_RUN
            assert source not in MAY_RUN
