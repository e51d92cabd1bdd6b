"""Post-copy between two real libvirt hosts: its states, its end, and its failure, after which nothing is removed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import LIVE, eventually
from libvirt_relay import LibvirtRelay
from relay_lab import running_relay, until

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import DomainState, Finished, Hypervisor, Measured, Move, Stop
from worker.hypervisors.flags import MigrateFlag as Flag
from worker.hypervisors.verdict import VerdictKind, verdict

if TYPE_CHECKING:
    from types import ModuleType

    from libvirt_lab import Guest, Lab, Stage

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


def assert_measured(source: Hypervisor, move: Move) -> None:
    """See that the source has every figure."""
    found = source.measured(move)
    assert found.downtime_seconds is not None
    assert found.transferred_bytes
    assert found.total_seconds
    assert found.iterations


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
    """Both sides count as migrating until all memory is there; then it runs there, and confirm goes as ever.

    What was measured is known to the source alone, and only then.
    """
    stage, move, uuid = lazy.stage, lazy.move, lazy.guest.uuid
    lazy.limit(1 << 20)
    finished = lazy.finishing.result(30)
    assert finished.domain.state is RUNNING
    assert (finished.downtime_seconds, finished.total_seconds) == (None, None)
    again = stage.destination.finish(move, lazy.cookie, False, stage.watch)
    assert again.domain.state is RUNNING
    for _ in range(2):
        assert stage.source.confirm(move, again.cookie, False, stage.watch).state is ABSENT
        assert_measured(stage.source, move)
    assert stage.states(uuid) == (ABSENT, RUNNING)
    lazy.guest.beats_on()


def test_told(lazy: Lazy) -> None:
    """While finish waits for the memory it tells again and again that the guest runs there, and nothing of bytes."""
    seen = lazy.stage.watch.seen
    before = len(seen)
    eventually(lambda: len(seen) > before + 1, "two words from finish")
    assert not lazy.finishing.done()
    assert {(told.postcopy, told.description, told.total_bytes) for told in seen[before:]} == {
        (True, "the guest runs on beta; fetching the rest of its memory", 0)
    }
    lazy.limit(1 << 20)
    assert lazy.finishing.result(30).domain.state is RUNNING
    assert lazy.stage.source.confirm(lazy.move, b"", False, lazy.stage.watch).state is ABSENT


def test_without_a_switch(netns_stage: Stage) -> None:
    """A guest that may switch and need not is finished as ever, and what it measured is not the next move's."""
    stage = netns_stage
    guest = stage.guest("quick")
    move = guest.move(LIVE | int(Flag.POSTCOPY))
    finished = stage.destination.finish(move, stage.up_to_perform(move), False, stage.watch)
    assert finished.total_seconds
    assert stage.source.confirm(move, finished.cookie, False, stage.watch).state is ABSENT
    assert_measured(stage.source, move)
    stage.turned().migrate(move)
    stage.source.begin(move, stage.watch)
    assert stage.source.measured(move) == Measured()
    stage.source.confirm(move, b"", True, stage.watch)


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


def test_through_the_relay(netns_lab: Lab, heartbeat: ModuleType) -> None:
    """Record, result and ``status`` say that finish waits for memory; in the end every figure is there and counted."""
    import libvirt

    slowly = {"bandwidth": 16, "bandwidth.postcopy": 4}  # MiB/s
    with (
        TemporaryDirectory(prefix="vmrelay-") as directory,
        running_relay(Path(directory), lambda path, redis: LibvirtRelay(path, redis, netns_lab, heartbeat)) as relay,
    ):
        guest = relay.guest("fetcher", memory=96, rate=64)
        try:
            more = {"params": slowly, "options": {"postcopy": True}, "postcopy_after_precopy": True}
            ident = relay.migrate("fetcher", **more)
            told = until(
                lambda: [each for each in relay.events(ident, "progress") if "runs on" in each["description"]],
                "finish waits for memory",
            )
            assert told[0]["postcopy"]
            record = relay.record(ident)
            assert record is not None
            assert (record.state, record.phase, {"type": "progress"} | record.progress) == ("active", "finish", told[0])
            shown = relay.result(ident)
            assert (shown["status"], shown["result"]["percent"]) == ("PROGRESS", 94)
            assert shown["result"]["description"] == "the guest runs on beta; fetching the rest of its memory"
            assert "the guest runs on beta; fetching" in " ".join(relay.cli("status", ident).stdout.split())
            with relay.domain("fetcher", "alpha") as domain:
                domain.migrateSetMaxSpeed(1 << 20, libvirt.VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY)
            record = relay.wait(ident)
            assert record.outcome == "succeeded", record
            assert None not in (record.downtime_seconds, record.total_seconds, record.iterations)
            assert record.transferred_bytes
            counted = "vmrelay_downtime_seconds_count"
            until(lambda: relay.metrics("alpha", counted, driver="qemu") == 1, "the downtime is counted")
            relay.lives(guest, "beta")
        finally:
            relay.remove_guests()
