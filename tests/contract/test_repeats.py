"""Every call made twice, too early or too late: harmless or refused, and never two copies."""

from __future__ import annotations

from contextlib import suppress

import pytest
from contract_pairs import Pair, Recorder

from worker.errors import Cancelled, HypervisorError
from worker.hypervisors.base import DomainState, Phase, Stop

RUNNING, ABSENT = DomainState.RUNNING, DomainState.ABSENT


@pytest.mark.parametrize("phase", list(Phase))
def test_each_call_repeated(pair: Pair, phase: Phase) -> None:
    """It is refused or changes nothing; with the first one's answer the migration comes to its good end."""
    attempt = pair.attempt(pair.move()).run(last=phase)
    before = pair.states(attempt.move.uuid)
    try:
        attempt.call(phase)
    except HypervisorError:
        assert phase not in (Phase.FINISH, Phase.CONFIRM), "whose answers may be lost, so that they must be repeatable"
    assert pair.states(attempt.move.uuid) == before == pair.kind.shows[phase]
    later = list(Phase)[list(Phase).index(phase) + 1 :]
    if later:
        attempt.run(first=later[0])
    assert pair.states(attempt.move.uuid) == (ABSENT, RUNNING)


@pytest.mark.parametrize("phase", [Phase.BEGIN, Phase.PREPARE, Phase.PERFORM])
def test_dropped_twice_after(pair: Pair, phase: Phase) -> None:
    """Whatever the first time found, the second time finds, and one copy lives; where it stayed it moves then."""
    attempt = pair.attempt(pair.move()).run(last=phase)
    arrived = attempt.drop()
    assert attempt.drop() is arrived
    assert sorted(pair.states(attempt.move.uuid)) == [ABSENT, RUNNING]
    if arrived is ABSENT:
        pair.attempt(attempt.move).run()
        assert pair.states(attempt.move.uuid) == (ABSENT, RUNNING)


def test_dropped_before_anything_was_done(pair: Pair) -> None:
    """A cancelled finish and confirm without a begin leave the guest alone."""
    attempt = pair.attempt(pair.move())
    assert attempt.drop() is ABSENT
    assert pair.states(attempt.move.uuid) == (RUNNING, ABSENT)


def test_a_cancelled_finish_after_a_good_one(pair: Pair) -> None:
    """It tells that the guest runs there, and does not harm it: the source can let go."""
    attempt = pair.attempt(pair.move()).run(last=Phase.FINISH)
    assert pair.destination.finish(attempt.move, b"", True, attempt.watch).domain.state is RUNNING
    attempt.run(first=Phase.CONFIRM)
    assert pair.states(attempt.move.uuid) == (ABSENT, RUNNING)


@pytest.mark.parametrize("phase", [Phase.BEGIN, Phase.PREPARE])
def test_a_wish_to_stop_before_the_copying(pair: Pair, phase: Phase) -> None:
    """Begin and prepare end as cancelled or well; either way the attempt can be dropped and the guest runs on."""
    attempt = pair.attempt(pair.move())
    if phase is Phase.PREPARE:
        attempt.run(last=Phase.BEGIN)
    attempt.watch.wish = Stop.CANCEL
    with suppress(Cancelled):
        attempt.call(phase)
    assert attempt.drop() is ABSENT
    assert pair.states(attempt.move.uuid) == (RUNNING, ABSENT)


def test_a_wish_to_stop_when_perform_is_called(pair: Pair) -> None:
    """Perform ends as cancelled although there is no job yet that could be aborted."""
    attempt = pair.attempt(pair.move(endless=True)).run(last=Phase.PREPARE)
    attempt.watch.wish = Stop.CANCEL
    with pytest.raises(Cancelled):
        attempt.call(Phase.PERFORM)
    assert attempt.drop() is ABSENT
    assert pair.states(attempt.move.uuid) == (RUNNING, ABSENT)


def test_a_wish_to_stop_after_the_copying_comes_too_late(pair: Pair) -> None:
    """Finish and confirm do not listen to it: the guest stands still meanwhile."""
    attempt = pair.attempt(pair.move()).run(last=Phase.PERFORM)
    attempt.watch.wish = Stop.CANCEL
    attempt.run(first=Phase.FINISH)
    assert pair.states(attempt.move.uuid) == (ABSENT, RUNNING)


def test_perform_without_what_prepare_returned(pair: Pair) -> None:
    """It is refused with the guest untouched; with it the same attempt goes on, or a new one can be made."""
    attempt = pair.attempt(pair.move()).run(last=Phase.PREPARE)
    with pytest.raises(HypervisorError) as caught:
        pair.source.perform(attempt.move, attempt.begun.xml, "", b"", Recorder())
    assert caught.value.untouched
    attempt.run(first=Phase.PERFORM)
    assert pair.states(attempt.move.uuid) == (ABSENT, RUNNING)
