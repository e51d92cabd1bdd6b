"""What follows from what happened in an attempt, over every cell."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import phases
from tasks.attempt import Ending, conclude, following, may_undo, pause_before
from tasks.recovery import FRESH_SECONDS
from worker.contract import Baton, ErrorInfo
from worker.errors import Cancelled, Retry
from worker.hypervisors.base import DomainState, Phase, Stop
from worker.hypervisors.flags import MigrateFlag
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


OFFLINE, UNDEFINE = int(MigrateFlag.OFFLINE), int(MigrateFlag.UNDEFINE_SOURCE)
HAS_IT = (DomainState.SHUTOFF, DomainState.RUNNING, DomainState.PAUSED, DomainState.CRASHED)


@pytest.mark.parametrize("flags", [OFFLINE, OFFLINE | UNDEFINE])
def test_every_cell_of_an_offline_move(flags: int) -> None:
    """Moved only where the destination was seen to have it; over or again only where the source was."""
    errors = [error for error in ERRORS if error.retry is error.after]
    for error, phase, here, there, last in product(errors, Phase, STATES, STATES, (False, True)):
        update = {"error": error.model_copy(update={"phase": phase}), "performed": True, "last_attempt": last}
        baton = BATON.model_copy(update=update | {"flags": flags, "source_state": here, "destination_state": there})
        ending, cell = conclude(baton).ending, (error, phase, here, there, last)
        if ending is Ending.MOVED:
            assert there in HAS_IT, cell
            copied = here is there is DomainState.SHUTOFF
            assert here is DomainState.ABSENT or (here is DomainState.SHUTOFF and there is not here) or copied, cell
            assert not copied or (phase is Phase.CONFIRM and not flags & UNDEFINE), cell
        if ending in (Ending.AGAIN, Ending.GAVE_UP):
            assert here in HAS_IT, cell
            assert there not in (DomainState.RUNNING, DomainState.UNKNOWN, None), cell
        if ending is Ending.AGAIN:
            assert there is DomainState.ABSENT, cell
            assert not error.cancelled
            assert not last
        if DomainState.UNKNOWN in (here, there) or None in (here, there):
            assert ending is Ending.IN_DOUBT, cell


def test_the_ends_of_an_offline_move() -> None:
    """Moved, kept on purpose, left behind, and undone, as the states of both sides tell."""

    def end(flags: int, here: DomainState, there: DomainState, phase: Phase | None) -> Ending:
        error = ERRORS[0].model_copy(update={"phase": phase}) if phase else None
        update = {"error": error, "performed": True, "source_state": here, "destination_state": there}
        return conclude(BATON.model_copy(update=update | {"flags": flags})).ending

    off, gone = DomainState.SHUTOFF, DomainState.ABSENT
    assert end(OFFLINE | UNDEFINE, gone, off, None) is Ending.MOVED
    assert end(OFFLINE | UNDEFINE, gone, off, Phase.CONFIRM) is Ending.MOVED
    assert end(OFFLINE | UNDEFINE, off, off, Phase.CONFIRM) is Ending.GAVE_UP
    assert end(OFFLINE, off, off, Phase.CONFIRM) is Ending.MOVED
    assert end(OFFLINE, off, off, Phase.FINISH) is Ending.GAVE_UP
    assert end(OFFLINE | UNDEFINE, off, gone, Phase.FINISH) is Ending.AGAIN
    assert end(OFFLINE | UNDEFINE, gone, gone, Phase.FINISH) is Ending.IN_DOUBT


@pytest.mark.parametrize("here", STATES, ids=str)
@pytest.mark.parametrize("flags", [0, UNDEFINE, OFFLINE, OFFLINE | UNDEFINE])
def test_a_definition_that_stayed_behind_is_told(flags: int, here: DomainState | None) -> None:
    """An offline move went well and the source has it all the same: the result warns, and only then."""
    update = {"performed": True, "flags": flags, "source_state": here, "destination_state": DomainState.SHUTOFF}
    concluded = conclude(BATON.model_copy(update=update))
    assert concluded.ending is Ending.MOVED
    left = flags == OFFLINE | UNDEFINE and here not in (None, DomainState.ABSENT, DomainState.UNKNOWN)
    assert (concluded.error is not None) is left
    if concluded.error is not None:
        assert concluded.error.code == "still-defined"
        assert "undefine it there" in concluded.error.message


@given(
    error=st.sampled_from([None, *ERRORS]),
    phase=st.sampled_from(Phase),
    here=st.sampled_from(STATES),
    there=st.sampled_from(STATES),
    paused=st.booleans(),
)
def test_every_end_of_a_peer_to_peer_move(
    error: ErrorInfo | None, phase: Phase, here: DomainState | None, there: DomainState | None, paused: bool
) -> None:
    """Without URI and cookie it ends as a managed one does: the states decide, and only an empty destination undoes."""
    first = error.model_copy(update={"phase": phase}) if error else None
    update = {"error": first, "performed": True, "paused": paused, "source_state": here, "destination_state": there}
    managed = BATON.model_copy(update=update | {"flags": UNDEFINE, "uri": "tcp:beta:49152", "cookie": "sealed"})
    peer = BATON.model_copy(update=update | {"flags": UNDEFINE | int(MigrateFlag.PEER2PEER)})
    assert conclude(peer) == conclude(managed)
    assert may_undo(peer) is may_undo(managed) is (there is DomainState.ABSENT)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("code", ["stalled", "deadline"])
@pytest.mark.parametrize("asked", [None, *Stop])
def test_a_stall_and_a_deadline_are_failures_that_are_not_repeated(code: str, last: bool, asked: Stop | None) -> None:
    """Nobody cancelled: outcome failed with that code, and no further attempt, however many are left."""
    stopped = phases._stopped(BATON, Cancelled("it was aborted", code=code), asked, Phase.PERFORM)
    seen = {"source_state": DomainState.RUNNING, "destination_state": DomainState.ABSENT}
    concluded = conclude(stopped.model_copy(update=seen | {"performed": True, "last_attempt": last}))
    assert concluded.ending is Ending.GAVE_UP
    assert concluded.error is not None
    assert (concluded.error.code, concluded.error.cancelled) == (code, False)


def test_a_cancel_stays_a_cancel() -> None:
    """And the deadline that a driver does not name is known from what it was asked."""
    cancelled = phases._stopped(BATON, Cancelled("stop"), Stop.CANCEL, Phase.PERFORM)
    assert cancelled.error is not None
    assert cancelled.error.cancelled
    late = phases._stopped(
        BATON.model_copy(update={"deadline_seconds": 3}), Cancelled("stop"), Stop.DEADLINE, Phase.PERFORM
    )
    assert late.error is not None
    assert (late.error.code, late.error.cancelled) == ("deadline", False)
    assert "3 s" in late.error.message


def test_before_perform_the_guest_is_on_its_source() -> None:
    """An attempt that never performed ends as again or gave up, unless the source shows what only perform does."""
    for error, here, there in product(ERRORS, STATES, STATES):
        baton = BATON.model_copy(update={"error": error, "source_state": here, "destination_state": there})
        forgotten = here in (DomainState.PAUSED_OUT, DomainState.ABSENT)
        assert conclude(baton).ending in ((Ending.IN_DOUBT,) if forgotten else (Ending.AGAIN, Ending.GAVE_UP))


def test_without_error_it_has_moved() -> None:
    """All five phases said so."""
    assert conclude(BATON.model_copy(update={"performed": True})).ending is Ending.MOVED


@pytest.mark.parametrize("there", STATES, ids=str)
def test_undo_needs_proof(there: DomainState | None) -> None:
    """After perform only an empty destination lets the source run on."""
    assert may_undo(BATON)
    baton = BATON.model_copy(update={"performed": True, "destination_state": there})
    assert may_undo(baton) is (there is DomainState.ABSENT)


def test_an_old_look_is_no_proof() -> None:
    """A confirm that waited long in the queue lets nothing run on a look of long ago."""
    baton = BATON.model_copy(update={"performed": True, "destination_state": DomainState.ABSENT})
    assert may_undo(baton, FRESH_SECONDS)
    assert not may_undo(baton, FRESH_SECONDS + 0.1)


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
    """A recovery may clear them away; who reads the failure after that learns that something is left there."""
    update = {"error": ERRORS[0], "performed": True, "source_state": DomainState.RUNNING}
    left = BATON.model_copy(update=update | {"destination_state": DomainState.SHUTOFF})
    assert conclude(left).ending is Ending.IN_DOUBT
    concluded = conclude(left.model_copy(update={"recoveries": 1}))
    assert concluded.ending is Ending.GAVE_UP
    assert concluded.error is not None
    assert "shutoff on the destination" in concluded.error.message


@pytest.mark.parametrize(
    ("profile", "flags", "ending"),
    [
        ("qemu", 0, Ending.MOVED),
        ("qemu", UNDEFINE, Ending.IN_DOUBT),
        ("vz", 0, Ending.IN_DOUBT),
        ("vz-libvirt", 0, Ending.IN_DOUBT),
    ],
)
def test_a_definition_that_was_to_go_with_the_guest_is_not_left(profile: str, flags: int, ending: Ending) -> None:
    """Moved where the stopped source keeps its definition, as asked for; else a recovery takes that away first."""
    error = ErrorInfo(code="x", message="x", phase="confirm", retry=Retry.VERIFY, after=Retry.OPERATOR)
    states = {"source_state": DomainState.SHUTOFF, "destination_state": DomainState.RUNNING}
    left = BATON.model_copy(update=states | {"error": error, "performed": True, "flags": flags})
    assert conclude(left, profile).ending is ending
