"""What follows from what happened in an attempt, over every cell."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.attempt import Ending, conclude, following, may_undo, pause_before
from worker.contract import Baton, ErrorInfo
from worker.errors import Retry
from worker.hypervisors.base import DomainState, Phase
from worker.settings import AttemptSettings

STATES = [None, *DomainState]
BATON = Baton(
    migration="m", attempt=1, epoch=1, domain="web", uuid="u", source="alpha", destination="beta", flags=0, params={}
)
ERRORS = [
    ErrorInfo(code="x", message="x", phase="perform", cancelled=cancelled, retry=retry, after=after)
    for cancelled, retry, after in product((False, True), Retry, Retry)
]


@pytest.mark.parametrize("paused", [False, True])
def test_every_cell_has_a_safe_conclusion(paused: bool) -> None:
    """Never over or again while the destination may run it; moved only where it was seen there."""
    here_as_before = {DomainState.RUNNING} | ({DomainState.PAUSED, DomainState.PAUSED_OUT} if paused else set())
    for error, here, there, last in product(ERRORS, STATES, STATES, (False, True)):
        update = {"error": error, "performed": True, "paused": paused, "last_attempt": last}
        baton = BATON.model_copy(update=update | {"source_state": here, "destination_state": there})
        ending, cell = conclude(baton).ending, (error, here, there, last)
        if ending in (Ending.AGAIN, Ending.GAVE_UP):
            assert there not in (DomainState.RUNNING, DomainState.UNKNOWN, None), cell
            assert here in here_as_before, cell
        if ending is Ending.AGAIN:
            assert there is DomainState.ABSENT, cell
            assert not error.cancelled
            assert not last
            assert error.after in (Retry.TRANSIENT, Retry.REPREPARE), cell
        if ending is Ending.MOVED:
            assert there in (DomainState.RUNNING, DomainState.PAUSED), cell
            assert here in (DomainState.ABSENT, DomainState.SHUTOFF), cell
        if DomainState.UNKNOWN in (here, there) or None in (here, there):
            assert ending is Ending.IN_DOUBT, cell


def test_before_perform_the_guest_is_on_its_source() -> None:
    """Whatever is seen, an attempt that never performed ends as again or gave up."""
    for error, here, there in product(ERRORS, STATES, STATES):
        baton = BATON.model_copy(update={"error": error, "source_state": here, "destination_state": there})
        assert conclude(baton).ending in (Ending.AGAIN, Ending.GAVE_UP)


def test_without_error_it_has_moved() -> None:
    """All five phases said so."""
    assert conclude(BATON.model_copy(update={"performed": True})).ending is Ending.MOVED


@pytest.mark.parametrize("there", STATES, ids=str)
def test_undo_needs_proof(there: DomainState | None) -> None:
    """After perform only an empty destination lets the source run on."""
    assert may_undo(BATON)
    baton = BATON.model_copy(update={"performed": True, "destination_state": there})
    assert may_undo(baton) is (there is DomainState.ABSENT)


def test_phases_follow_as_in_libvirt() -> None:
    """Straight on without failure; begin and prepare fail into confirm, perform into finish, finish into confirm."""
    assert [following(phase, False) for phase in Phase] == [*list(Phase)[1:], None]
    assert [following(phase, True) for phase in Phase] == [
        Phase.CONFIRM,
        Phase.CONFIRM,
        Phase.FINISH,
        Phase.CONFIRM,
        None,
    ]


@given(attempt=st.integers(1, 1000), seed=st.integers())
def test_pauses_grow_and_stay_below_the_limit(attempt: int, seed: int) -> None:
    """Exponential, at most a fifth of jitter, and no overflow however many attempts."""
    settings = AttemptSettings(initial=1, factor=2, limit=60)
    pause = pause_before(attempt, settings, random.Random(seed))  # noqa: S311 - jitter
    base = min(2.0 ** min(attempt - 1, 100), 60)
    assert base <= pause <= base * 1.2


def test_remains_on_the_destination_are_told() -> None:
    """Who reads the failure learns that something is left there, and no attempt is made into it."""
    update = {"error": ERRORS[0], "performed": True, "source_state": DomainState.RUNNING}
    concluded = conclude(BATON.model_copy(update=update | {"destination_state": DomainState.SHUTOFF}))
    assert concluded.ending is Ending.GAVE_UP
    assert concluded.error is not None
    assert "shutoff on the destination" in concluded.error.message
