"""Migrations that the source's daemon drives by itself, between two real libvirt hosts with a network each."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import LIVE, eventually

from worker.errors import Cancelled, HypervisorError, Rejected, Retry
from worker.hypervisors.base import DomainState, HostConfig, Stop
from worker.hypervisors.flags import MigrateFlag as Flag

if TYPE_CHECKING:
    from libvirt_lab import Stage

pytestmark = [pytest.mark.lab, pytest.mark.netns]

ABSENT, RUNNING, PAUSED, MIGRATING = DomainState.ABSENT, DomainState.RUNNING, DomainState.PAUSED, DomainState.MIGRATING
PEER = LIVE | int(Flag.PEER2PEER)
SLOW = {"bandwidth": 1}  # MiB/s: a guest that dirties more than that is copied for ever


@pytest.mark.parametrize("flags", [PEER, PEER | int(Flag.TUNNELLED)], ids=["direct", "tunnelled"])
def test_there(netns_stage: Stage, flags: int) -> None:
    """A guest moves in perform alone; the other phases see it, and finish tells what was measured."""
    stage = netns_stage
    guest = stage.guest(f"peer-{flags}")
    move, watch = guest.move(flags), stage.watch
    begun, prepared = stage.up_to_prepare(move)
    assert (begun.xml, begun.paused, prepared.uri) == ("", False, "")
    assert prepared.cookie.decode() == stage.lab.peers["beta"]
    assert stage.states(guest.uuid) == (RUNNING, ABSENT)
    performed = stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, watch)
    assert stage.states(guest.uuid) == (ABSENT, RUNNING)
    for _ in range(2):
        finished = stage.destination.finish(move, performed.cookie, False, watch)
        assert (finished.domain.name, finished.domain.state, finished.domain.persistent) == (guest.name, RUNNING, True)
        assert finished.total_seconds
        assert finished.downtime_seconds is not None
        assert finished.transferred_bytes
        assert stage.source.confirm(move, finished.cookie, False, watch).state is ABSENT
    guest.beats_on()


def test_postcopy(netns_stage: Stage) -> None:
    """After post-copy the destination tells nothing, and the source has what was measured."""
    import libvirt

    stage = netns_stage
    guest = stage.guest("hasty", memory=64, rate=64)
    move = guest.move(PEER | int(Flag.POSTCOPY), params={"bandwidth": 16})
    with stage.by_hand("alpha", guest.uuid) as domain:

        def switch() -> Stop | None:
            seen = stage.watch.seen
            if seen and seen[-1].total_bytes and not seen[-1].postcopy:
                with suppress(libvirt.libvirtError):  # it was just switched
                    domain.migrateStartPostCopy()
            return None

        stage.watch.stopping = switch
        performed = stage.up_to_perform(move)
    finished = stage.destination.finish(move, performed, False, stage.watch)
    assert finished.downtime_seconds is None
    assert stage.source.confirm(move, finished.cookie, False, stage.watch).state is ABSENT
    found = stage.source.measured(move)
    assert None not in (found.downtime_seconds, found.transferred_bytes, found.total_seconds, found.iterations)
    guest.beats_on()


def test_parameters_have_the_types_that_libvirt_wants(netns_stage: Stage) -> None:
    """Each kind of parameter goes through libvirt-python as it goes through the phases."""
    stage = netns_stage
    guest = stage.guest("typed")
    flags = PEER | int(Flag.AUTO_CONVERGE | Flag.COMPRESSED | Flag.PARALLEL)
    numbers = {
        "bandwidth": 64,
        "auto_converge.initial": 10,
        "auto_converge.increment": 5,
        "parallel.connections": 2,
        "disks_port": 0,
    }
    move = guest.move(flags, params={**numbers, "destination_name": "retyped", "compression": ["xbzrle"]})
    stage.migrate(move)
    assert stage.destination.inspect(guest.uuid).name == "retyped"


def test_paused_guest_arrives_paused(netns_stage: Stage) -> None:
    """A guest that its user paused arrives paused, and beats on when it is resumed there."""
    stage = netns_stage
    guest = stage.guest("sleeper")
    with stage.by_hand("alpha", guest.uuid) as domain:
        domain.suspend()
    assert stage.source.begin(guest.move(PEER), stage.watch).paused
    stage.migrate(guest.move(PEER | int(Flag.PAUSED)))
    assert stage.states(guest.uuid) == (ABSENT, PAUSED)
    assert stage.destination.resume(guest.uuid).state is RUNNING
    guest.beats_on()


def test_cancelled_during_perform(netns_stage: Stage) -> None:
    """A perform told to stop is aborted once memory is copied, and the guest runs on at its source."""
    stage = netns_stage
    guest = stage.guest("stayer", rate=16)
    move = guest.move(PEER, params=SLOW)
    stage.watch.stopping = lambda: Stop.CANCEL if any(seen.total_bytes for seen in stage.watch.seen) else None
    begun, prepared = stage.up_to_prepare(move)
    with pytest.raises(Cancelled):
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    stage.drop(move)
    stage.drop(move)
    guest.beats_on()


def test_cancelled_before_perform(netns_stage: Stage) -> None:
    """An attempt dropped before perform has touched nothing, and another connection may begin anew."""
    stage = netns_stage
    guest = stage.guest("early")
    stage.up_to_prepare(guest.move(PEER))
    stage.drop(guest.move(PEER))
    stage.migrate(guest.move(PEER))
    guest.beats_on()


def test_perform_is_made_once(netns_stage: Stage) -> None:
    """A second perform is refused by the driver before libvirt is asked."""
    stage = netns_stage
    guest = stage.guest("once")
    move = guest.move(PEER)
    begun, prepared = stage.up_to_prepare(move)
    nowhere = stage.lab.peers["beta"].replace("/system", ":9/system")
    with pytest.raises(HypervisorError, match="Connection refused") as refused:
        stage.source.perform(move, begun.xml, "", nowhere.encode(), stage.watch)
    assert nowhere not in repr(refused.value)  # messages name no URI
    assert (refused.value.retry, refused.value.after) == (Retry.VERIFY, Retry.TRANSIENT)
    with pytest.raises(HypervisorError, match="made already") as caught:
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert caught.value.retry is Retry.VERIFY
    stage.drop(move)


def test_destination_daemon_killed_during_perform(netns_stage: Stage) -> None:
    """The move fails as something to be verified, and the guest runs on at its source alone."""
    stage = netns_stage
    guest = stage.guest("shaken", rate=16)
    move = guest.move(PEER, params=SLOW)
    failure = stage.lose_daemon_in_perform(move, "beta")
    assert (failure.retry, failure.after) == (Retry.VERIFY, Retry.TRANSIENT)
    stage.drop(move)
    guest.beats_on()


def test_client_lost_during_perform(netns_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source's daemon goes on alone: finish and confirm show where the guest is, and take nothing away."""
    from worker.hypervisors.libvirt import peer

    monkeypatch.setattr(peer, "SETTLING_SECONDS", 0.1)
    stage = netns_stage
    guest = stage.guest("orphan", rate=16)
    move, beta = guest.move(PEER), stage.lab.peers["beta"]
    words = ["--live", "--p2p", "--persistent", "--undefinesource", "--bandwidth", "1", guest.name, beta]
    with (
        subprocess.Popen(["virsh", "-q", "-c", stage.lab.uris["alpha"], "migrate", *words]) as client,
        stage.by_hand("alpha", guest.uuid) as domain,
    ):
        eventually(lambda: bool(domain.jobStats().get("data_total")), "the copy")
        client.kill()
        client.wait()
        assert stage.destination.finish(move, b"", True, stage.watch).domain.state is DomainState.PAUSED_IN
        assert stage.states(guest.uuid) == (MIGRATING, DomainState.PAUSED_IN)
        domain.migrateSetMaxSpeed(1 << 20)
        eventually(lambda: stage.states(guest.uuid) == (ABSENT, RUNNING), "the daemon's own end")
    assert stage.destination.finish(move, b"", True, stage.watch).domain.state is RUNNING
    assert stage.destination.finish(move, b"", False, stage.watch).domain.state is RUNNING
    assert stage.source.confirm(move, b"", False, stage.watch).state is ABSENT
    guest.beats_on()


def test_finish_does_not_believe_what_it_does_not_see(netns_stage: Stage) -> None:
    """A finish without the guest on the destination, and a confirm with it on the source, are no success."""
    stage = netns_stage
    guest = stage.guest("present")
    stage.up_to_prepare(guest.move(PEER))
    with pytest.raises(HypervisorError, match="look at both hosts") as caught:
        stage.destination.finish(guest.move(PEER), b"", False, stage.watch)
    assert caught.value.retry is Retry.VERIFY
    with pytest.raises(HypervisorError, match="is still on alpha"):
        stage.source.confirm(guest.move(PEER), b"", False, stage.watch)
    assert stage.source.inspect(guest.uuid).state is RUNNING


def test_definition_moves(netns_stage: Stage) -> None:
    """OFFLINE works peer-to-peer as well."""
    stage = netns_stage
    guest = stage.guest("still")
    with stage.by_hand("alpha", guest.uuid) as domain:
        domain.destroy()
    stage.migrate(guest.move(int(Flag.OFFLINE | Flag.PERSIST_DEST | Flag.UNDEFINE_SOURCE | Flag.PEER2PEER)))
    assert stage.states(guest.uuid) == (ABSENT, DomainState.SHUTOFF)


def test_refused_before_anything_is_touched(netns_stage: Stage) -> None:
    """TUNNELLED alone is refused in begin, and a destination without an address in prepare, which says what to set."""
    from worker.hypervisors.libvirt.driver import LibvirtHypervisor

    stage = netns_stage
    guest = stage.guest("refused")
    with pytest.raises(Rejected, match="tunnelled"):
        stage.source.begin(guest.move(LIVE | int(Flag.TUNNELLED)), stage.watch)
    config = HostConfig("beta", stage.lab.uris["beta"], "beta")
    hermit = LibvirtHypervisor(replace(config, peer_uri=""))
    stage.source.begin(guest.move(PEER), stage.watch)
    with pytest.raises(HypervisorError, match="set peer_uri of this host") as caught:
        hermit.prepare(guest.move(PEER), "", b"", stage.watch)
    assert (caught.value.code, caught.value.retry, caught.value.untouched) == ("no-peer-uri", Retry.PERMANENT, True)
    hermit.close()
    assert stage.source.confirm(guest.move(PEER), b"", True, stage.watch).state is RUNNING
