"""What recovery does to a migration whose processes died: follow, release, and finish without a cookie, each twice."""

from __future__ import annotations

import threading

import pytest
from contract_pairs import Pair, Recorder, until

from worker.errors import HypervisorError, RelayError, Retry
from worker.hypervisors.base import Domain, DomainState, Move, Phase, Stop

RUNNING, PAUSED, ABSENT, SHUTOFF = DomainState.RUNNING, DomainState.PAUSED, DomainState.ABSENT, DomainState.SHUTOFF
NOBODY = "11111111-2222-4333-8444-555555555555"


def test_follow_to_a_good_end(pair: Pair) -> None:
    """Whoever did not start a perform can watch it to its end, and sees there what perform leaves."""
    attempt = pair.attempt(pair.move()).run(last=Phase.PREPARE)
    thread = threading.Thread(target=lambda: attempt.run(first=Phase.PERFORM, last=Phase.PERFORM))
    thread.start()
    # A perform beats before its host shows that the guest migrates: only what is copied tells that it does.
    until(lambda: any(p.iteration for p in attempt.watch.seen) or not thread.is_alive(), "progress, or the end")
    for _ in range(2):
        assert pair.source.follow(attempt.move, Recorder()).state is pair.kind.shows[Phase.PERFORM][0]
    thread.join()
    attempt.run(first=Phase.FINISH)
    assert pair.states(attempt.move.uuid) == (ABSENT, RUNNING)


def test_follow_and_stop(pair: Pair) -> None:
    """Whoever follows a perform can stop it: both end, and the guest runs on where it was."""
    attempt = pair.attempt(pair.move(endless=True)).run(last=Phase.PREPARE)
    ends: list[object] = []

    def perform() -> None:
        try:
            ends.append(attempt.call(Phase.PERFORM))
        except RelayError as error:
            ends.append(error)

    thread = threading.Thread(target=perform)
    thread.start()
    until(lambda: any(progress.iteration for progress in attempt.watch.seen), "progress")
    follower, seen = Recorder(), []
    following = threading.Thread(target=lambda: seen.append(pair.source.follow(attempt.move, follower)))
    following.start()
    until(lambda: any(progress.iteration for progress in follower.seen), "progress of the one who follows")
    assert not seen
    follower.wish = Stop.CANCEL
    following.join()
    thread.join()
    assert [domain.state for domain in seen] == [RUNNING]
    assert len(ends) == 1
    assert isinstance(ends[0], RelayError)
    attempt.drop()
    assert pair.states(attempt.move.uuid) == (RUNNING, ABSENT)


@pytest.mark.parametrize("state", [RUNNING, PAUSED, SHUTOFF])
def test_follow_where_nothing_migrates(pair: Pair, state: DomainState) -> None:
    """It says what is there, twice, and changes nothing."""
    move = pair.move()
    if state is not RUNNING:
        pair.guests.enter(move.uuid, state)
    for _ in range(2):
        assert pair.source.follow(move, Recorder()).state is state
    assert pair.states(move.uuid) == (state, ABSENT)


def test_follow_and_release_nobody(pair: Pair) -> None:
    """A guest that is not here is absent, and nothing is left of it."""
    nobody = Move("nobody", NOBODY, int(pair.flags))
    for _ in range(2):
        assert pair.source.follow(nobody, Recorder()).state is ABSENT
        assert pair.source.release(nobody).state is ABSENT


@pytest.mark.parametrize("phase", [Phase.FINISH, Phase.CONFIRM])
def test_release_after_the_guest_has_moved(pair: Pair, phase: Phase) -> None:
    """The source's copy goes, if there still is one; the guest runs on where it is."""
    attempt = pair.attempt(pair.move()).run(last=phase)
    for _ in range(2):
        assert pair.source.release(attempt.move).state is ABSENT
    assert pair.states(attempt.move.uuid) == (ABSENT, RUNNING)


@pytest.mark.parametrize("state", [PAUSED, SHUTOFF])
def test_release_a_copy_that_stands_still(pair: Pair, state: DomainState) -> None:
    """What a crash left, paused or stopped, is taken away."""
    move = pair.move()
    pair.guests.enter(move.uuid, state)
    for _ in range(2):
        assert pair.source.release(move).state is ABSENT
    assert pair.states(move.uuid) == (ABSENT, ABSENT)


def test_release_refuses_a_copy_that_runs(pair: Pair) -> None:
    """Before and after begin: a running guest is never destroyed, whatever the caller thinks it saw."""
    attempt = pair.attempt(pair.move())
    for phase in (None, Phase.BEGIN, Phase.PREPARE):
        if phase is not None:
            attempt.run(first=phase, last=phase)
        for _ in range(2):
            refused(pair, attempt.move)
    attempt.drop()
    assert pair.states(attempt.move.uuid) == (RUNNING, ABSENT)
    pair.attempt(attempt.move).run()


def test_release_refuses_a_copy_that_migrates(pair: Pair) -> None:
    """Nor in the midst of perform."""
    attempt = pair.attempt(pair.move(endless=True)).run(last=Phase.PREPARE)
    ends: list[Exception] = []

    def perform() -> None:
        try:
            attempt.call(Phase.PERFORM)
        except RelayError as error:
            ends.append(error)

    thread = threading.Thread(target=perform)
    thread.start()
    until(lambda: any(progress.iteration for progress in attempt.watch.seen), "progress")
    refused(pair, attempt.move)
    attempt.watch.wish = Stop.CANCEL
    thread.join()
    assert ends
    attempt.drop()
    assert pair.states(attempt.move.uuid) == (RUNNING, ABSENT)


def test_finish_without_a_cookie(pair: Pair) -> None:
    """Where perform's answer was lost, and its cookie with it: the guest runs on, and a second time changes nothing."""
    attempt = pair.attempt(pair.move()).run(last=Phase.PERFORM)
    for _ in range(2):
        assert pair.destination.finish(attempt.move, b"", False, Recorder()).domain.state is RUNNING
    for _ in range(2):
        assert pair.source.release(attempt.move).state is ABSENT
    assert pair.states(attempt.move.uuid) == (ABSENT, RUNNING)


def test_finish_where_nothing_has_arrived(pair: Pair) -> None:
    """It is an error after which both sides want to be looked at; nothing is changed."""
    move = pair.move()
    for _ in range(2):
        with pytest.raises(HypervisorError) as caught:
            pair.destination.finish(move, b"", False, Recorder())
        assert caught.value.retry is Retry.VERIFY
    assert pair.states(move.uuid) == (RUNNING, ABSENT)


@pytest.mark.parametrize("phase", [Phase.BEGIN, Phase.PREPARE, Phase.PERFORM])
def test_drivers_closed_and_opened_again(pair: Pair, phase: Phase) -> None:
    """What both agents' restart leaves is dropped by the new connections, twice: one copy lives, and can be moved."""
    attempt = pair.attempt(pair.move()).run(last=phase)
    for host in (pair.source, pair.destination):
        host.close()
        host.open()
    seen = pair.source.follow(attempt.move, Recorder())
    assert isinstance(seen, Domain)
    arrived = attempt.drop()
    assert attempt.drop() is arrived
    assert sorted(pair.states(attempt.move.uuid)) == [ABSENT, RUNNING]
    if arrived is ABSENT:
        pair.attempt(attempt.move).run()
        assert pair.states(attempt.move.uuid) == (ABSENT, RUNNING)


def refused(pair: Pair, move: Move) -> None:
    """Release is refused, and the source is as it was."""
    before = pair.source.inspect(move.uuid)
    with pytest.raises(HypervisorError) as caught:
        pair.source.release(move)
    assert caught.value.retry is Retry.VERIFY
    assert pair.source.inspect(move.uuid) == before
