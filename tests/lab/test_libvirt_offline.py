"""A domain that is shut off moves as its definition, with OFFLINE, between two real libvirt hosts."""

from __future__ import annotations

import uuid as uuids
from typing import TYPE_CHECKING

import pytest

from worker.errors import HypervisorError, Rejected
from worker.hypervisors.base import DomainState, Move
from worker.hypervisors.flags import MigrateFlag as Flag

if TYPE_CHECKING:
    from libvirt_lab import Stage

pytestmark = pytest.mark.lab

ABSENT, SHUTOFF, PAUSED_IN = DomainState.ABSENT, DomainState.SHUTOFF, DomainState.PAUSED_IN
OFFLINE = int(Flag.OFFLINE | Flag.PERSIST_DEST | Flag.UNDEFINE_SOURCE)


@pytest.fixture
def move(stage: Stage, request: pytest.FixtureRequest) -> Move:
    """What an attempt with a domain that is defined on alpha is to do."""
    import libvirt

    uuid, flags = str(uuids.uuid4()), getattr(request, "param", OFFLINE)
    connection = libvirt.open(stage.lab.uris["alpha"])
    connection.defineXML(
        f"<domain type='qemu'><name>still</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    )
    connection.close()
    stage.guests.append(uuid)
    return Move("still", uuid, flags)


def undo(stage: Stage, move: Move) -> None:
    """What follows a failed attempt: everything is as it was before."""
    assert stage.destination.finish(move, b"", True, stage.watch).domain.state is ABSENT
    assert stage.source.confirm(move, b"", True, stage.watch).state is SHUTOFF
    assert stage.states(move.uuid) == (SHUTOFF, ABSENT)


@pytest.mark.parametrize("move", [OFFLINE, OFFLINE | int(Flag.LIVE)], indirect=True)
def test_a_definition_moves(stage: Stage, move: Move) -> None:
    """It is shut off on the destination and gone from the source, and nothing claims to have been measured."""
    begun, prepared = stage.up_to_prepare(move)
    assert not begun.paused
    assert stage.states(move.uuid) == (SHUTOFF, PAUSED_IN)
    performed = stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert stage.states(move.uuid) == (SHUTOFF, PAUSED_IN)
    finished = stage.destination.finish(move, performed.cookie, False, stage.watch)
    assert (finished.domain.name, finished.domain.state, finished.domain.persistent) == ("still", SHUTOFF, True)
    assert (finished.downtime_seconds, finished.total_seconds, finished.iterations) == (None, None, None)
    assert stage.source.confirm(move, finished.cookie, False, stage.watch).state is ABSENT
    assert stage.states(move.uuid) == (ABSENT, SHUTOFF)


@pytest.mark.parametrize("move", [int(Flag.OFFLINE | Flag.PERSIST_DEST)], indirect=True)
def test_the_source_keeps_its_definition_without_undefine(stage: Stage, move: Move) -> None:
    """Without UNDEFINE_SOURCE both sides have the definition, as libvirt does it."""
    finished = stage.destination.finish(move, stage.up_to_perform(move), False, stage.watch)
    assert stage.source.confirm(move, finished.cookie, False, stage.watch).state is SHUTOFF
    assert stage.states(move.uuid) == (SHUTOFF, SHUTOFF)


def test_finish_takes_no_cookie_of_prepare(stage: Stage, move: Move) -> None:
    """Whoever skips perform and hands prepare's cookie to finish is not refused: libvirt would not send it."""
    _, prepared = stage.up_to_prepare(move)
    assert stage.destination.finish(move, prepared.cookie, False, stage.watch).domain.state is SHUTOFF
    assert stage.source.confirm(move, b"", False, stage.watch).state is ABSENT


def test_cancelled_after_begin(stage: Stage, move: Move) -> None:
    """Nothing is on the destination; the source is as it was, and the next attempt succeeds."""
    stage.source.begin(move, stage.watch)
    assert stage.source.confirm(move, b"", True, stage.watch).state is SHUTOFF
    stage.migrate(move)
    assert stage.states(move.uuid) == (ABSENT, SHUTOFF)


@pytest.mark.parametrize("times", [1, 2])
def test_cancelled_after_prepare(stage: Stage, move: Move, times: int) -> None:
    """What prepare made is removed, though libvirt itself would leave it; the next attempt succeeds."""
    stage.up_to_prepare(move)
    for _ in range(times):
        undo(stage, move)
    stage.migrate(move)


def test_cancelled_after_the_destination_lost_its_connection(stage: Stage, move: Move) -> None:
    """An offline migration outlives the connection that prepared it, and is still dropped."""
    stage.up_to_prepare(move)
    stage.destination.close()
    assert stage.states(move.uuid) == (SHUTOFF, PAUSED_IN)
    undo(stage, move)


def test_cancelled_after_finish(stage: Stage, move: Move) -> None:
    """A cancelled finish that comes after a good one shows the definition, and removes nothing."""
    finished = stage.destination.finish(move, stage.up_to_perform(move), False, stage.watch)
    late = stage.destination.finish(move, b"", True, stage.watch)
    assert (late.domain.state, late.domain.persistent) == (SHUTOFF, True)
    assert stage.source.confirm(move, finished.cookie, False, stage.watch).state is ABSENT


def test_repeated_finish_and_confirm(stage: Stage, move: Move) -> None:
    """Finish and confirm give the same answer when they are asked again."""
    cookie = stage.up_to_perform(move)
    for _ in range(2):
        assert stage.destination.finish(move, cookie, False, stage.watch).domain.state is SHUTOFF
    for _ in range(2):
        assert stage.source.confirm(move, b"", False, stage.watch).state is ABSENT


def test_a_source_that_lost_its_job_still_has_the_definition(stage: Stage, move: Move) -> None:
    """Confirm does not call it done while both sides have a definition that should be on one."""
    finished = stage.destination.finish(move, stage.up_to_perform(move), False, stage.watch)
    stage.source.close()
    with pytest.raises(HypervisorError, match="is still on alpha"):
        stage.source.confirm(move, finished.cookie, False, stage.watch)
    stage.source.remove(move.uuid)
    assert stage.source.confirm(move, b"", False, stage.watch).state is ABSENT


def test_a_running_guest_does_not_move_offline(stage: Stage) -> None:
    """libvirt would copy its definition and leave it where it is; begin refuses before it takes the job."""
    guest = stage.guest("awake")
    with pytest.raises(Rejected, match="shut it down, or move it live"):
        stage.source.begin(guest.move(OFFLINE), stage.watch)
    assert stage.states(guest.uuid) == (DomainState.RUNNING, ABSENT)
