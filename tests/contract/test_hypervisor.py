"""What every driver must do: the five phases, cancelled anywhere, and the calls around them."""

from __future__ import annotations

import threading

import pytest
from contract_pairs import Pair, Recorder, until

from worker.errors import Cancelled, HypervisorError, Rejected
from worker.hypervisors.base import DomainState, Finished, Hypervisor, Move, Stop
from worker.hypervisors.flags import MigrateFlag

RUNNING, PAUSED, ABSENT = DomainState.RUNNING, DomainState.PAUSED, DomainState.ABSENT
NOBODY = "11111111-2222-4333-8444-555555555555"


def migrate(pair: Pair, move: Move, watch: Recorder) -> Finished:
    """All five phases."""
    return pair.attempt(move, watch).run().finished


def test_there_and_back(pair: Pair) -> None:
    """A running guest moves, and moves back; each time one side has it and the other has not."""
    move, watch = pair.move(), Recorder()
    assert migrate(pair, move, watch).domain.state is RUNNING
    assert pair.states(move.uuid) == (ABSENT, RUNNING)
    finished = migrate(pair.turned(), move, watch)
    assert (finished.domain.name, finished.domain.uuid) == (move.domain, move.uuid)
    assert pair.states(move.uuid) == (RUNNING, ABSENT)


def test_a_new_name_on_the_destination(pair: Pair) -> None:
    """The uuid stays."""
    move = pair.move()
    move = Move(move.domain, move.uuid, move.flags, {"destination_name": f"{move.domain}-moved"})
    assert migrate(pair, move, Recorder()).domain.name == f"{move.domain}-moved"
    assert pair.states(move.uuid) == (ABSENT, RUNNING)


def test_arriving_paused(pair: Pair) -> None:
    """With PAUSED the guest stands still until somebody resumes it."""
    move = pair.move(flags=pair.flags | MigrateFlag.PAUSED)
    assert migrate(pair, move, Recorder()).domain.state is PAUSED
    assert pair.states(move.uuid) == (ABSENT, PAUSED)
    assert pair.destination.resume(move.uuid).state is RUNNING


def test_cancelled_after_begin(pair: Pair) -> None:
    """Confirm(cancelled) leaves the guest as it was."""
    move, watch = pair.move(), Recorder()
    pair.source.begin(move, watch)
    assert pair.source.confirm(move, b"", True, watch).state is RUNNING
    assert pair.states(move.uuid) == (RUNNING, ABSENT)
    migrate(pair, move, watch)


def test_cancelled_after_prepare(pair: Pair) -> None:
    """Finish(cancelled) leaves nothing on the destination; a new attempt works."""
    move, watch = pair.move(), Recorder()
    begun = pair.source.begin(move, watch)
    pair.destination.prepare(move, begun.xml, begun.cookie, watch)
    assert pair.destination.finish(move, b"", True, watch).domain.state is ABSENT
    assert pair.source.confirm(move, b"", True, watch).state is RUNNING
    migrate(pair, move, watch)


@pytest.mark.parametrize(("why", "code"), [(Stop.CANCEL, "cancelled"), (Stop.DRAIN, "drained")])
def test_cancelled_in_perform(pair: Pair, why: Stop, code: str) -> None:
    """``Cancelled``, with the code of why, and the guest runs on where it was; a new attempt can begin."""
    move = pair.move(endless=True)
    watch = Recorder(stop_at=lambda progress: progress.iteration > 0, why=why)
    begun = pair.source.begin(move, watch)
    prepared = pair.destination.prepare(move, begun.xml, begun.cookie, watch)
    with pytest.raises(Cancelled) as caught:
        pair.source.perform(move, begun.xml, prepared.uri, prepared.cookie, watch)
    assert caught.value.code == code
    after = Recorder()
    assert pair.destination.finish(move, b"", True, after).domain.state is ABSENT
    assert pair.states(move.uuid) == (RUNNING, ABSENT)
    pair.source.begin(move, after)
    pair.source.confirm(move, b"", True, after)


def test_the_deadline_ends_perform(pair: Pair) -> None:
    """A move that takes too long is stopped, and the guest runs on where it was."""
    move = pair.move(endless=True)
    move = Move(move.domain, move.uuid, move.flags, move.params, deadline_seconds=0.3)
    watch = Recorder()
    begun = pair.source.begin(move, watch)
    prepared = pair.destination.prepare(move, begun.xml, begun.cookie, watch)
    with pytest.raises(Cancelled):
        pair.source.perform(move, begun.xml, prepared.uri, prepared.cookie, watch)
    pair.destination.finish(move, b"", True, watch)
    assert pair.states(move.uuid) == (RUNNING, ABSENT)


def test_aborted_from_another_thread(pair: Pair) -> None:
    """Perform ends as cancelled; the guest runs on where it was."""
    move, watch, ends = pair.move(endless=True), Recorder(), []
    begun = pair.source.begin(move, watch)
    prepared = pair.destination.prepare(move, begun.xml, begun.cookie, watch)

    def perform() -> None:
        try:
            pair.source.perform(move, begun.xml, prepared.uri, prepared.cookie, watch)
        except (Cancelled, HypervisorError) as error:
            ends.append(error)

    thread = threading.Thread(target=perform)
    thread.start()
    until(lambda: any(progress.iteration for progress in watch.seen), "progress")
    pair.source.abort(move.uuid)
    thread.join()
    assert [type(end) for end in ends] == [pair.kind.aborted]
    pair.destination.finish(move, b"", True, watch)
    assert pair.states(move.uuid) == (RUNNING, ABSENT)


def test_cancelled_after_perform(pair: Pair) -> None:
    """Where the guest is then is the driver's matter; that one copy lives, and not two, is everyone's."""
    move, watch = pair.move(), Recorder()
    begun = pair.source.begin(move, watch)
    prepared = pair.destination.prepare(move, begun.xml, begun.cookie, watch)
    pair.source.perform(move, begun.xml, prepared.uri, prepared.cookie, watch)
    arrived = pair.destination.finish(move, b"", True, watch).domain.state
    if arrived is ABSENT:
        assert pair.source.confirm(move, b"", True, watch).state is RUNNING
    assert sorted(pair.states(move.uuid)) == [ABSENT, RUNNING]


@pytest.mark.parametrize("side", ["source", "destination"])
def test_abort_and_remove_are_harmless_where_there_is_nothing(pair: Pair, side: str) -> None:
    """So that recovery may repeat them."""
    host: Hypervisor = getattr(pair, side)
    host.abort(NOBODY)
    host.remove(NOBODY)
    assert host.inspect(NOBODY).state is ABSENT


def test_domains_and_inspect_agree(pair: Pair) -> None:
    """Every domain that is listed can be looked at."""
    move = pair.move()
    listed = {domain.uuid: domain for domain in pair.source.domains()}
    assert listed[move.uuid] == pair.source.inspect(move.uuid)
    assert move.uuid not in {domain.uuid for domain in pair.destination.domains()}


def test_remove_forgets_a_copy(pair: Pair) -> None:
    """Running or not; the second time it is harmless."""
    move = pair.move()
    pair.source.remove(move.uuid)
    pair.source.remove(move.uuid)
    assert pair.states(move.uuid) == (ABSENT, ABSENT)


def test_begin_refuses_unknown_domains_and_flags(pair: Pair) -> None:
    """An unknown bit is rejected; a domain that is not here is an error of the hypervisor's."""
    watch = Recorder()
    with pytest.raises((Rejected, HypervisorError)):
        pair.source.begin(Move("nobody", NOBODY, int(pair.flags)), watch)
    move = pair.move()
    with pytest.raises(Rejected, match="0x40000000"):
        pair.source.begin(Move(move.domain, move.uuid, move.flags | 1 << 30), watch)
    assert pair.states(move.uuid) == (RUNNING, ABSENT)


def test_prepare_refuses_a_domain_that_is_here(pair: Pair) -> None:
    """And leaves it alone."""
    move, watch = pair.move(), Recorder()
    begun = pair.source.begin(move, watch)
    with pytest.raises(HypervisorError):
        pair.source.prepare(move, begun.xml, begun.cookie, watch)
    assert pair.source.confirm(move, b"", True, watch).state is RUNNING


def test_a_closed_driver_can_be_opened_again(pair: Pair) -> None:
    """Close never raises, twice neither."""
    move = pair.move()
    pair.source.close()
    pair.source.close()
    pair.source.open()
    assert pair.source.inspect(move.uuid).state is RUNNING
