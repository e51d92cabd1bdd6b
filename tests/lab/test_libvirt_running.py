"""A running perform against a libvirt that does what no real one can be made to do at the right moment.

Needs libvirt-python, no host.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from libvirt_lab import Recorder

from worker.hypervisors.base import HostConfig, Move, Stop
from worker.hypervisors.convergence import Convergence, StallAction

pytestmark = pytest.mark.lab

HOST = HostConfig("alpha", "", "alpha", poll_seconds=0.001)
# libvirt's numbers of a state and its reason, and of a job
RUNNING, BY_USER, BY_MIGRATION = [1, 1], [3, 1], [3, 2]
UNBOUNDED = 2


def broken(message: str) -> Exception:
    """An error of libvirt's."""
    import libvirt

    return libvirt.libvirtError(message)  # type: ignore[no-any-return]


@dataclass
class FakeDomain:
    """A domain whose migration fails when it is suspended."""

    suspended: list[int]
    """What it shows after it was suspended."""
    shown: list[int] = field(default_factory=lambda: RUNNING)
    failing: threading.Event = field(default_factory=threading.Event)
    resumed: int = 0

    def jobStats(self) -> dict[str, int]:
        """A migration in its first round."""
        return {"type": UNBOUNDED, "memory_iteration": 1}

    def abortJob(self) -> None:
        """There is no job any more."""
        raise broken("no job")

    def state(self) -> list[int]:
        """State and reason."""
        return self.shown

    def suspend(self) -> None:
        """Perform fails meanwhile."""
        self.shown = self.suspended
        self.failing.set()

    def resume(self) -> None:
        """It runs again."""
        self.resumed += 1
        self.shown = RUNNING

    def perform(self) -> bytes:
        """Fail when it is suspended."""
        assert self.failing.wait(30)
        raise broken("the stream broke")


def performed(domain: FakeDomain, watch: Recorder, convergence: Convergence) -> Stop | None:
    """Watch over a perform that fails."""
    import libvirt

    from worker.hypervisors.libvirt.running import Running

    running = Running(domain, domain.perform)
    stop = running.watch_over(watch, HOST, Move("web-1", "u", 0, convergence=convergence))
    with pytest.raises(libvirt.libvirtError, match="the stream broke"):
        running.result()
    return stop


@pytest.mark.parametrize(
    ("before", "after", "resumed"),
    [
        # the move had failed and libvirt had let the guest run, so the order hit a guest that stays at home
        (RUNNING, BY_USER, 1),
        # libvirt's own state: confirm decides, which knows the other side
        (RUNNING, BY_MIGRATION, 0),
        # paused by its user long before
        (BY_USER, BY_USER, 0),
    ],
)
def test_a_guest_suspended_too_late_runs_on(before: list[int], after: list[int], resumed: int) -> None:
    """Who suspends a guest for its move and loses the race against its failure lets it run on, and nobody else."""
    domain, watch = FakeDomain(suspended=after, shown=before), Recorder()
    if before == BY_USER:
        domain.failing.set()
    assert performed(domain, watch, Convergence(timeout_seconds=0)) is None
    assert domain.resumed == resumed
    assert {action for _, action, _ in watch.stalls} <= {StallAction.SUSPEND}


def test_order_to_abort_that_came_too_late() -> None:
    """Where the call ended before the order to abort was taken, that order is not why it failed."""
    from worker.hypervisors.libvirt.running import Running

    domain, watch = FakeDomain(suspended=BY_USER), Recorder(stopping=lambda: Stop.CANCEL)
    running = Running(domain, domain.perform)
    domain.failing.set()
    running.watch_over(watch, HOST, Move("web-1", "u", 0))
    assert not running.aborted


def test_watch_that_raises_waits_for_the_call() -> None:
    """What the watch raises comes out when the call has ended, not before."""
    from worker.hypervisors.libvirt.running import Running

    domain = FakeDomain(suspended=BY_USER)
    told = threading.Event()

    def stopping() -> Stop | None:
        told.set()
        raise LookupError("the journal is gone")

    def end() -> None:
        told.wait(30)
        domain.failing.set()

    thread = threading.Thread(target=end)
    thread.start()
    running = Running(domain, domain.perform)
    with pytest.raises(LookupError):
        running.watch_over(Recorder(stopping=stopping), HOST, Move("web-1", "u", 0))
    assert domain.failing.is_set()
    thread.join()


@pytest.mark.parametrize("answer", [None, 700])
def test_allowed_downtime_that_is_not_told(answer: int | None) -> None:
    """libvirt-python returns ``None`` where the daemon has gone: the last downtime known then counts."""
    from worker.hypervisors.libvirt.steering import Steering

    domain, watch = FakeDomain(suspended=BY_USER), Recorder()
    domain.migrateGetMaxDowntime = lambda: answer  # type: ignore[attr-defined]
    steering = Steering(domain, watch, Move("web-1", "u", 0), HOST.stall)
    for number in range(9):
        stats = {
            "type": UNBOUNDED,
            "memory_iteration": number,
            "memory_dirty_rate": 2048,
            "memory_page_size": 4096,
            "memory_bps": 8 << 20,
            "downtime": 1371,
            "data_total": 16 << 20,
            "data_processed": number,
        }
        assert steering.steer(steering.tell(stats), number) is None
    [(stall, _, _)] = watch.stalls
    assert stall.reason.endswith(f"expected downtime 1.4 s, allowed {0.3 if answer is None else 0.7} s")
