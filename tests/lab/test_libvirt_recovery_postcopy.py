"""Agents killed in post-copy, on real libvirt: the guest runs on its destination, and nothing may cut it off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import LIVE, Guest, Stage, eventually
from mortal import Mortal, mortal

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import DomainState, Move
from worker.hypervisors.flags import MigrateFlag as Flag

if TYPE_CHECKING:
    from libvirt_lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns]

ABSENT, RUNNING, SHUTOFF = DomainState.ABSENT, DomainState.RUNNING, DomainState.SHUTOFF
MIGRATING, UNKNOWN = DomainState.MIGRATING, DomainState.UNKNOWN


@pytest.fixture
def agents(netns_lab: Lab) -> Iterator[Callable[[str], Mortal]]:
    """Start a process with a driver of a host; all are killed at the end."""
    with ExitStack() as stack:
        yield lambda host: stack.enter_context(mortal(netns_lab, host))


def switched(stage: Stage, guest: Guest, source: Mortal, destination: Mortal) -> Move:
    """A perform that has ended with the switch to post-copy; finish runs, and lasts until ``hurry``."""
    move = guest.move(LIVE | int(Flag.POSTCOPY), params={"bandwidth": 1, "bandwidth.postcopy": 1})
    begun = source.call("begin", move)
    prepared = destination.call("prepare", move, begun.xml, begun.cookie)
    source.start("perform", move, begun.xml, prepared.uri, prepared.cookie)
    with stage.by_hand("alpha", guest.uuid) as domain:
        eventually(lambda: domain.jobStats().get("data_remaining", 0) > 0, "copying")
        domain.migrateStartPostCopy()
    destination.start("finish", move, source.answer().cookie, False)
    eventually(lambda: stage.states(guest.uuid) == (MIGRATING, MIGRATING), "the switch")
    return move


def hurry(stage: Stage, guest: Guest) -> None:
    """Let post-copy come to its end."""
    import libvirt

    with stage.by_hand("alpha", guest.uuid) as domain:
        domain.migrateSetMaxSpeed(1 << 10, libvirt.VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY)


def test_source_agent_killed_while_memory_is_fetched(netns_stage: Stage, agents: Callable[[str], Mortal]) -> None:
    """The source counts it as failed, and ends its copy by itself when all is there; until then it is not released."""
    stage, source, destination = netns_stage, agents("alpha"), agents("beta")
    guest = stage.guest("orphaned", memory=64, rate=64)
    move = switched(stage, guest, source, destination)
    source.kill()
    eventually(lambda: stage.states(guest.uuid) == (UNKNOWN, MIGRATING), "the source without its agent")
    with pytest.raises(HypervisorError, match="stands still") as caught:
        stage.source.release(move)
    assert caught.value.retry is Retry.VERIFY
    hurry(stage, guest)
    assert destination.answer().domain.state is RUNNING
    eventually(lambda: stage.states(guest.uuid) == (SHUTOFF, RUNNING), "the source to let go")
    for _ in range(2):
        assert stage.source.release(move).state is ABSENT
    guest.beats_on()


def test_source_agent_killed_when_memory_was_fetched(netns_stage: Stage, agents: Callable[[str], Mortal]) -> None:
    """The source counts it as failed and keeps its copy, of which nothing is left to be read: it is released."""
    stage, source, destination = netns_stage, agents("alpha"), agents("beta")
    guest = stage.guest("widowed", memory=64, rate=64)
    move = switched(stage, guest, source, destination)
    hurry(stage, guest)
    assert destination.answer().domain.state is RUNNING
    source.kill()
    eventually(lambda: stage.states(guest.uuid) == (UNKNOWN, RUNNING), "the source without its agent")
    for _ in range(2):
        assert stage.source.release(move).state is ABSENT
    guest.beats_on()


def test_destination_agent_killed_while_memory_is_fetched(netns_stage: Stage, agents: Callable[[str], Mortal]) -> None:
    """The daemon goes on; the next agent's finish waits until all memory is there, and confirm goes as ever."""
    stage, source, destination = netns_stage, agents("alpha"), agents("beta")
    guest = stage.guest("bereft", memory=64, rate=64)
    move = switched(stage, guest, source, destination)
    destination.kill()
    hurry(stage, guest)
    assert stage.destination.finish(move, b"", False, stage.watch).domain.state is RUNNING
    assert source.call("confirm", move, b"", False).state is ABSENT
    guest.beats_on()
