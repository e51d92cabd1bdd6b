"""Post-copy between two real libvirt hosts: its states, its end, and its failure, after which nothing is removed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import LIVE, eventually

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import DomainState, Finished, Move, Stop
from worker.hypervisors.flags import MigrateFlag as Flag
from worker.hypervisors.verdict import VerdictKind, verdict

if TYPE_CHECKING:
    from libvirt_lab import Guest, Stage

pytestmark = [pytest.mark.lab, pytest.mark.netns]

ABSENT, RUNNING, MIGRATING, UNKNOWN = (
    DomainState.ABSENT,
    DomainState.RUNNING,
    DomainState.MIGRATING,
    DomainState.UNKNOWN,
)


@dataclass
class Lazy:
    """A guest that post-copy moves, slowly: perform has ended with the switch, finish runs in a thread."""

    stage: Stage
    guest: Guest
    move: Move
    cookie: bytes
    finishing: Future[Finished]

    def limit(self, mebibytes: int) -> None:
        """Let post-copy go so fast."""
        import libvirt

        with self.stage.by_hand("alpha", self.guest.uuid) as domain:
            domain.migrateSetMaxSpeed(mebibytes, libvirt.VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY)

    def tear(self) -> None:
        """Break the link between the two QEMUs."""
        import libvirt

        with self.stage.by_hand("alpha", self.guest.uuid) as domain:
            domain.abortJobFlags(libvirt.VIR_DOMAIN_ABORT_JOB_POSTCOPY)


@pytest.fixture
def lazy(netns_stage: Stage, request: pytest.FixtureRequest) -> Iterator[Lazy]:
    """The guest runs on beta, which fetches its memory from alpha."""
    stage = netns_stage
    guest = stage.guest("lazy" + "".join(filter(str.isalnum, request.node.name)), memory=64, rate=64)
    move = guest.move(LIVE | int(Flag.POSTCOPY), params={"bandwidth": 1, "bandwidth.postcopy": 1})
    begun, prepared = stage.up_to_prepare(move)
    with stage.by_hand("alpha", guest.uuid) as domain:

        def switch() -> Stop | None:
            if stage.watch.seen and stage.watch.seen[-1].total_bytes:
                domain.migrateStartPostCopy()
            return None

        stage.watch.stopping = switch
        performed = stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert stage.states(guest.uuid) == (MIGRATING, DomainState.PAUSED_IN)
    with ThreadPoolExecutor(1) as pool:
        finishing = pool.submit(stage.destination.finish, move, performed.cookie, False, stage.watch)
        eventually(lambda: stage.states(guest.uuid) == (MIGRATING, MIGRATING), "the switch")
        yield Lazy(stage, guest, move, performed.cookie, finishing)


def test_there(lazy: Lazy) -> None:
    """Both sides count as migrating until all memory is there; then it runs there, and confirm goes as ever."""
    stage, move, uuid = lazy.stage, lazy.move, lazy.guest.uuid
    lazy.limit(1 << 20)
    assert lazy.finishing.result(30).domain.state is RUNNING
    again = stage.destination.finish(move, lazy.cookie, False, stage.watch)
    assert again.domain.state is RUNNING
    for _ in range(2):
        assert stage.source.confirm(move, again.cookie, False, stage.watch).state is ABSENT
    assert stage.states(uuid) == (ABSENT, RUNNING)
    lazy.guest.beats_on()


def test_failed(lazy: Lazy) -> None:
    """Each side holds a part of the guest: both are unknown, the attempt is in doubt, and nothing is removed.

    Neither by undoing the attempt, again and again, nor by the end of the connections that made it.
    """
    stage, move, uuid = lazy.stage, lazy.move, lazy.guest.uuid
    lazy.tear()
    with pytest.raises(HypervisorError, match="post-copy") as caught:
        lazy.finishing.result(30)
    eventually(lambda: stage.states(uuid) == (UNKNOWN, UNKNOWN), f"not {stage.states(uuid)}")
    assert (caught.value.retry, caught.value.after) == (Retry.VERIFY, Retry.OPERATOR)
    for close in (lambda: None, stage.source.close, stage.destination.close):
        close()
        assert stage.destination.finish(move, b"", True, stage.watch).domain.state is UNKNOWN
        assert stage.source.confirm(move, b"", True, stage.watch).state is UNKNOWN
    assert stage.states(uuid) == (UNKNOWN, UNKNOWN)
    assert verdict(UNKNOWN, UNKNOWN, RUNNING).kind is VerdictKind.UNKNOWN
    with stage.by_hand("alpha", uuid) as source, stage.by_hand("beta", uuid) as destination:
        assert source.isActive()
        assert destination.isActive()
