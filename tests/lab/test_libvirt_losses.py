"""Connections and daemons that go away between and during the phases, on real libvirt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from libvirt_lab import command

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import DomainState

if TYPE_CHECKING:
    from libvirt_lab import Stage

pytestmark = pytest.mark.lab

ABSENT = DomainState.ABSENT
RUNNING = DomainState.RUNNING
PAUSED_OUT = DomainState.PAUSED_OUT
PAUSED_IN = DomainState.PAUSED_IN
SLOW = {"bandwidth": 1}  # MiB/s: a guest that dirties more than that is copied for ever


def test_destination_connection_lost_before_perform(stage: Stage) -> None:
    """The incoming domain dies with the connection that prepared it: perform fails, the source runs on."""
    guest = stage.guest("deserted")
    begun, prepared = stage.up_to_prepare(guest.move())
    stage.destination.close()
    with pytest.raises(HypervisorError) as caught:
        stage.source.perform(guest.move(), begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert (caught.value.retry, caught.value.after) == (Retry.VERIFY, Retry.TRANSIENT)
    stage.drop(guest.move())
    guest.beats_on()
    stage.migrate(guest.move())
    guest.beats_on()


def test_source_connection_lost_before_perform(stage: Stage) -> None:
    """libvirt drops the job with the connection that began it: perform is not even tried."""
    guest = stage.guest("orphan")
    begun, prepared = stage.up_to_prepare(guest.move())
    stage.source.close()
    with pytest.raises(HypervisorError, match="begin again") as caught:
        stage.source.perform(guest.move(), begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert (caught.value.retry, caught.value.untouched) == (Retry.REPREPARE, True)
    stage.drop(guest.move())
    guest.beats_on()


def test_both_connections_lost_after_perform(stage: Stage) -> None:
    """Paused on the source and gone from the destination: the source is resumed, and no beat is lost."""
    guest = stage.guest("stranded")
    stage.up_to_perform(guest.move())
    stage.source.close()
    stage.destination.close()
    assert stage.source.inspect(guest.uuid).state is PAUSED_OUT
    stage.drop(guest.move())
    guest.beats_on()


def test_source_connection_lost_after_perform(stage: Stage) -> None:
    """The guest is finished on the destination, even without a cookie; the source's copy is removed."""
    guest = stage.guest("widow")
    stage.up_to_perform(guest.move())
    stage.source.close()
    assert stage.states(guest.uuid) == (PAUSED_OUT, PAUSED_IN)
    assert stage.destination.finish(guest.move(), b"", False, stage.watch).domain.state is RUNNING
    with pytest.raises(HypervisorError, match="is still on alpha"):
        stage.source.confirm(guest.move(), b"", False, stage.watch)
    stage.source.remove(guest.uuid)
    stage.source.remove(guest.uuid)
    assert stage.states(guest.uuid) == (ABSENT, RUNNING)
    guest.beats_on()


def test_daemon_killed_and_back(stage: Stage) -> None:
    """A dead daemon is a transient error, the guest runs on, and the driver connects anew by itself."""
    guest = stage.guest("survivor")
    stage.source.begin(guest.move(), stage.watch)
    command("host", stage.lab.folder, "alpha", "kill")
    try:
        with pytest.raises(HypervisorError) as caught:
            stage.source.inspect(guest.uuid)
        assert (caught.value.retry, caught.value.untouched) == (Retry.TRANSIENT, True)
        with pytest.raises(HypervisorError):
            stage.source.begin(guest.move(), stage.watch)
        assert len(stage.watch.retried) == 3
    finally:
        command("host", stage.lab.folder, "alpha", "start")
    guest.beats_on()
    stage.migrate(guest.move())
    guest.beats_on()


def test_source_daemon_killed_during_perform(stage: Stage) -> None:
    """The answer of a perform is lost with its daemon: verify, and both sides are settled afterwards."""
    guest = stage.guest("shaken", rate=16)
    move = guest.move(params=SLOW)
    failure = stage.lose_daemon_in_perform(move, "alpha")
    assert (failure.retry, failure.after) == (Retry.VERIFY, Retry.TRANSIENT)
    stage.drop(move)
    guest.beats_on()


def test_what_was_only_begun_is_not_followed(stage: Stage) -> None:
    """Between begin and perform the guest has a job and goes nowhere: following it ends the job, and it can move."""
    guest = stage.guest("unmoved")
    stage.up_to_prepare(guest.move())
    assert stage.source.inspect(guest.uuid).state is DomainState.MIGRATING
    assert stage.source.follow(guest.move(), stage.watch).state is RUNNING
    stage.drop(guest.move())
    guest.beats_on()
    stage.migrate(guest.move())
    guest.beats_on()
