"""Every state that can be made: what inspect shows of it, and what resume, remove and abort do to it."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from contract_pairs import Pair, Recorder, until

from worker.errors import Cancelled, HypervisorError, Rejected
from worker.hypervisors.base import DomainState, Measured, Move, Phase, Stop
from worker.hypervisors.flags import MigrateFlag

RUNNING, PAUSED, ABSENT, SHUTOFF = DomainState.RUNNING, DomainState.PAUSED, DomainState.ABSENT, DomainState.SHUTOFF
NOBODY = "11111111-2222-4333-8444-555555555555"


def test_inspect_after_each_phase(pair: Pair) -> None:
    """Both sides show what their kind shows then, and the lists of domains say the same."""
    attempt = pair.attempt(pair.move())
    for phase in Phase:
        attempt.run(first=phase, last=phase)
        assert pair.states(attempt.move.uuid) == pair.kind.shows[phase], phase
        for host in (pair.source, pair.destination):
            listed = {domain.uuid: domain.state for domain in host.domains()}
            assert listed.get(attempt.move.uuid, ABSENT) is host.inspect(attempt.move.uuid).state


def test_inspect_during_perform(pair: Pair) -> None:
    """Both sides show that a guest is moving, each as its kind does."""
    attempt = pair.attempt(pair.move(endless=True)).run(last=Phase.PREPARE)
    ends: list[Exception] = []

    def perform() -> None:
        try:
            attempt.call(Phase.PERFORM)
        except (Cancelled, HypervisorError) as error:
            ends.append(error)

    thread = threading.Thread(target=perform)
    thread.start()
    until(lambda: any(progress.iteration for progress in attempt.watch.seen), "progress")
    assert pair.states(attempt.move.uuid) == pair.kind.copying
    attempt.watch.wish = Stop.CANCEL
    thread.join()
    assert [type(end) for end in ends] == [Cancelled]
    attempt.drop()


@pytest.mark.parametrize("state", [PAUSED, SHUTOFF])
def test_inspect_what_its_user_did(pair: Pair, state: DomainState) -> None:
    """A paused guest is paused, one that was switched off is shut off, each on its source only."""
    move = pair.move()
    pair.guests.enter(move.uuid, state)
    assert pair.states(move.uuid) == (state, ABSENT)
    assert pair.source.inspect(move.uuid).persistent


def test_a_guest_that_is_off_is_not_begun(pair: Pair) -> None:
    """Live migration is of running guests."""
    move = pair.move()
    pair.guests.enter(move.uuid, SHUTOFF)
    with pytest.raises((Rejected, HypervisorError), match="not running"):
        pair.attempt(move).run(last=Phase.BEGIN)
    assert pair.states(move.uuid) == (SHUTOFF, ABSENT)


def test_a_paused_guest_arrives_paused(pair: Pair) -> None:
    """Begin says that it is paused; with PAUSED in the flags it stays so, until it is resumed there."""
    move = pair.move(flags=pair.flags | MigrateFlag.PAUSED)
    pair.guests.enter(move.uuid, PAUSED)
    attempt = pair.attempt(move).run()
    assert attempt.begun.paused
    assert attempt.finished.domain.state is PAUSED
    assert pair.states(move.uuid) == (ABSENT, PAUSED)
    assert pair.destination.resume(move.uuid).state is RUNNING


def test_a_paused_guest_stays_paused_where_the_attempt_is_dropped(pair: Pair) -> None:
    """Nobody but its user lets it run on."""
    move = pair.move(flags=pair.flags | MigrateFlag.PAUSED)
    pair.guests.enter(move.uuid, PAUSED)
    attempt = pair.attempt(move).run(last=Phase.PREPARE)
    assert pair.destination.finish(move, b"", True, attempt.watch).domain.state is ABSENT
    assert pair.source.confirm(move, b"", True, attempt.watch).state is PAUSED
    assert pair.states(move.uuid) == (PAUSED, ABSENT)


def test_resume(pair: Pair) -> None:
    """A paused guest runs on; one that runs is left alone; one that is not here is an error."""
    move = pair.move()
    pair.guests.enter(move.uuid, PAUSED)
    for _ in range(2):
        assert pair.source.resume(move.uuid).state is RUNNING
    with pytest.raises(HypervisorError):
        pair.destination.resume(move.uuid)
    assert pair.states(move.uuid) == (RUNNING, ABSENT)


def test_resume_starts_nothing_that_is_off(pair: Pair) -> None:
    """A copy that was switched off may have moved: it is not started."""
    move = pair.move()
    pair.guests.enter(move.uuid, SHUTOFF)
    with pytest.raises(HypervisorError):
        pair.source.resume(move.uuid)
    assert pair.states(move.uuid) == (SHUTOFF, ABSENT)


@pytest.mark.parametrize("state", [RUNNING, PAUSED, SHUTOFF])
def test_remove(pair: Pair, state: DomainState) -> None:
    """A copy is forgotten in whatever state it was; the second time it is harmless."""
    move = pair.move()
    if state is not RUNNING:
        pair.guests.enter(move.uuid, state)
    for _ in range(2):
        pair.source.remove(move.uuid)
    assert pair.states(move.uuid) == (ABSENT, ABSENT)


@pytest.mark.parametrize("state", [RUNNING, PAUSED, SHUTOFF])
def test_abort_where_nothing_migrates(pair: Pair, state: DomainState) -> None:
    """It changes nothing, and the guest can be moved afterwards."""
    move = pair.move()
    if state is not RUNNING:
        pair.guests.enter(move.uuid, state)
    pair.source.abort(move.uuid)
    pair.destination.abort(move.uuid)
    assert pair.states(move.uuid) == (state, ABSENT)
    if state is RUNNING:
        pair.attempt(move).run()
        assert pair.states(move.uuid) == (ABSENT, RUNNING)


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("phase", [Phase.BEGIN, Phase.PREPARE])
def test_abort_before_the_copying(pair: Pair, phase: Phase, side: str) -> None:
    """Perform, called after it, ends well or as aborted: one copy lives, and a new attempt moves it."""
    attempt = pair.attempt(pair.move()).run(last=phase)
    getattr(pair, side).abort(attempt.move.uuid)
    with suppress(Cancelled, HypervisorError):
        attempt.run(first=list(Phase)[list(Phase).index(phase) + 1])
    if pair.destination.inspect(attempt.move.uuid).state is not RUNNING:
        assert attempt.drop() is ABSENT
        pair.attempt(attempt.move, Recorder()).run()
    assert pair.states(attempt.move.uuid) == (ABSENT, RUNNING)


def test_what_was_measured(pair: Pair) -> None:
    """Finish, or perform where the whole move happens in it, tells how long the guest stood still and what was sent."""
    attempt = pair.attempt(pair.move()).run()
    told = [(end.downtime_seconds, end.transferred_bytes) for end in (attempt.performed, attempt.finished)]
    downtime, transferred = next(pair for pair in told if None not in pair)
    assert downtime is not None
    assert downtime >= 0
    assert transferred
    source = pair.source.measured(attempt.move)
    assert (source.downtime_seconds, source.transferred_bytes) in ((None, None), (downtime, transferred))


def test_nothing_is_measured_of_nobody(pair: Pair) -> None:
    """Asked for the figures of a guest that never left it, a host has none, and raises nothing."""
    assert pair.source.measured(Move("nobody", NOBODY, int(pair.flags))) == Measured()


def test_nothing_is_known_of_nobody(pair: Pair) -> None:
    """A uuid that no host knows is absent, and cannot be resumed."""
    assert pair.states(NOBODY) == (ABSENT, ABSENT)
    with pytest.raises(HypervisorError):
        pair.source.resume(NOBODY)
