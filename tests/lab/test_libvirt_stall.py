"""A guest that dirties memory faster than it is copied, on real libvirt: the verdict, and what each policy does."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from steered import BUSY, busy_guest, steered

from worker.errors import Cancelled
from worker.hypervisors.base import DomainState, Stop
from worker.hypervisors.convergence import Convergence, Stall, StallAction, StallKind

if TYPE_CHECKING:
    from libvirt_lab import Guest, Stage

pytestmark = pytest.mark.lab

NUMBERS = re.compile(
    r"after round \d+: the guest dirties \d+(\.\d)? MiB/s, \d+(\.\d)? MiB/s are copied, "
    r"expected downtime \d+\.\d s, allowed 0\.\d s$"
)


def is_told(stall: Stall) -> None:
    """See that a verdict tells its numbers, and that they are those of a guest that dirties what is copied."""
    assert stall.kind is StallKind.NOT_CONVERGING
    assert NUMBERS.match(stall.reason), stall.reason
    assert stall.iteration > 3
    assert stall.dirty_bytes_per_second > 4 << 20
    assert stall.bandwidth_bytes_per_second > 4 << 20
    assert stall.expected_downtime_seconds is not None
    assert stall.expected_downtime_seconds > 0.3


def perform_stopped(stage: Stage, guest: Guest, policy: StallAction, **rest: object) -> Cancelled:
    """A perform that is told to stop, and what follows: the guest runs on at its source with every beat."""
    move = guest.move(params=BUSY, convergence=Convergence(on_stall=policy, **rest))  # type: ignore[arg-type]
    with pytest.raises(Cancelled) as caught:
        stage.up_to_perform(move)
    assert stage.source.inspect(guest.uuid).state is DomainState.RUNNING
    stage.drop(move)
    guest.beats_on()
    return caught.value


def test_report(stage: Stage) -> None:
    """With REPORT the verdict is told once, with its numbers, and copying goes on while it lasts."""
    guest, watch = busy_guest(stage, "reported"), steered(stage)
    watch.stopping = lambda: (
        Stop.CANCEL if watch.stalls and watch.seen[-1].iteration > watch.stalls[0][0].iteration + 2 else None
    )
    assert perform_stopped(stage, guest, StallAction.REPORT).code == "cancelled"
    [(stall, action, detail)] = watch.stalls
    assert (action, detail) == (StallAction.REPORT, "")
    is_told(stall)
    first = [progress for progress in watch.seen if progress.iteration == 1]
    assert first
    assert all(not told.dirty_bytes_per_second and told.expected_downtime_seconds is None for told in first)
    last = watch.seen[-1]
    assert last.transferred_bytes > first[0].transferred_bytes
    assert last.elapsed_seconds > first[0].elapsed_seconds


def test_abort(stage: Stage) -> None:
    """With ABORT perform ends as stalled, with the verdict in its message, and the guest runs on at its source."""
    guest, watch = busy_guest(stage, "given-up"), steered(stage)
    error = perform_stopped(stage, guest, StallAction.ABORT)
    [(stall, action, _)] = watch.stalls
    is_told(stall)
    assert action is StallAction.ABORT
    assert (error.code, error.message) == (
        "stalled",
        f"aborted because it stalled: {stall.reason}; the domain is on its source",
    )


@pytest.mark.parametrize("by", ["stall", "timeout"])
def test_suspend(stage: Stage, by: str) -> None:
    """With SUSPEND the guest stands still until it has moved, and runs on at the destination, not restarted."""
    guest, watch = busy_guest(stage, f"halted-{by}"), steered(stage)
    beats: list[int] = []

    def count() -> None:
        if watch.stalls:
            beats.append(stage.heartbeat.read(guest.serial).last)

    watch.stopping = count
    suspend, late = StallAction.SUSPEND, Convergence(timeout_seconds=1.0)
    stage.migrate(guest.move(params=BUSY, convergence=late if by == "timeout" else Convergence(on_stall=suspend)))
    [(stall, action, detail)] = watch.stalls
    assert (action, detail) == (StallAction.SUSPEND, "the guest stands still until it has moved")
    if by == "timeout":
        assert (stall.kind, stall.reason) == (StallKind.TIMEOUT, "still copying after 1 s")
    else:
        is_told(stall)
    assert len(set(beats)) == 1, "it beat on while it was suspended"
    assert stage.states(guest.uuid) == (DomainState.ABSENT, DomainState.RUNNING)
    guest.beats_on()


def test_suspended_and_cancelled(stage: Stage) -> None:
    """A guest that was suspended for its move runs on at its source when the move is cancelled."""
    guest, watch = busy_guest(stage, "woken"), steered(stage)
    watch.stopping = lambda: Stop.CANCEL if watch.stalls else None
    perform_stopped(stage, guest, StallAction.REPORT, timeout_seconds=0.5)
    assert [action for _, action, _ in watch.stalls] == [StallAction.SUSPEND]


def test_suspended_and_dropped_after_perform(stage: Stage) -> None:
    """The same after a perform that went well, when the destination cannot finish it."""
    guest, watch = busy_guest(stage, "revived"), steered(stage)
    move = guest.move(params=BUSY, convergence=Convergence(timeout_seconds=0.5))
    stage.up_to_perform(move)
    assert [action for _, action, _ in watch.stalls] == [StallAction.SUSPEND]
    assert stage.source.inspect(guest.uuid).state is DomainState.PAUSED_OUT
    stage.drop(move)
    guest.beats_on()


def test_downtime(stage: Stage) -> None:
    """With DOWNTIME each further round allows more, until the guest has moved."""
    guest, watch = busy_guest(stage, "stretched"), steered(stage, rounds=1, downtime_step_seconds=0.2)
    stage.migrate(guest.move(params=BUSY, convergence=Convergence(on_stall=StallAction.DOWNTIME)))
    is_told(watch.stalls[0][0])
    assert {action for _, action, _ in watch.stalls} == {StallAction.DOWNTIME}
    allowed = [detail for _, _, detail in watch.stalls]
    assert allowed == [f"a downtime of {0.3 + 0.2 * (n + 1):.3g} s is allowed from now on" for n in range(len(allowed))]
    assert len(allowed) > 1
    assert stage.states(guest.uuid) == (DomainState.ABSENT, DomainState.RUNNING)
    guest.beats_on()


def test_downtime_at_its_limit(stage: Stage) -> None:
    """At the limit of the downtime that is said, once, and copying goes on."""
    guest = busy_guest(stage, "limited")
    watch = steered(stage, rounds=1, downtime_step_seconds=0.1, downtime_limit_seconds=0.4)
    watch.stopping = lambda: (
        Stop.CANCEL if len(watch.stalls) > 1 and watch.seen[-1].iteration > watch.stalls[1][0].iteration + 1 else None
    )
    perform_stopped(stage, guest, StallAction.DOWNTIME)
    assert [(action, detail) for _, action, detail in watch.stalls] == [
        (StallAction.DOWNTIME, "a downtime of 0.4 s is allowed from now on"),
        (StallAction.REPORT, "the allowed downtime is at its limit of 0.4 s"),
    ]


def test_refused_by_libvirt(stage: Stage) -> None:
    """What libvirt refuses is told with its reason, tried again in later rounds, and not for ever."""
    guest, watch = busy_guest(stage, "refused"), steered(stage, rounds=1)
    watch.stopping = lambda: Stop.CANCEL if watch.seen and watch.seen[-1].iteration > 7 else None
    perform_stopped(stage, guest, StallAction.POSTCOPY)
    assert len(watch.stalls) == 3
    assert all(detail.startswith("libvirt refused it: ") for _, _, detail in watch.stalls)
    assert len({stall.iteration for stall, _, _ in watch.stalls}) == 3


def qemu_of(folder: Path, host: str, guest: str) -> int:
    """The process id of a guest on a host of a lab."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if any(word.startswith(f"guest={guest},") for word in words) and any(f"{folder}/{host}/" in w for w in words):
            return int(entry.name)
    raise AssertionError(f"{guest} does not run on {host}")


def test_no_data(stage: Stage) -> None:
    """Where nothing is sent for a while that is told, once; what would not help is not done; then it goes on."""
    guest, watch = stage.guest("silent"), steered(stage, no_data_seconds=0.4)
    move = guest.move(params={"bandwidth": 32}, convergence=Convergence(on_stall=StallAction.SUSPEND))
    begun, prepared = stage.up_to_prepare(move)
    receiver = qemu_of(stage.lab.folder, "beta", "silent")

    def wake() -> None:
        if watch.stalls and watch.seen[-1].elapsed_seconds > watch.seen[0].elapsed_seconds + 1:
            os.kill(receiver, signal.SIGCONT)

    over = threading.Event()

    def nudge() -> None:
        # Stopped before it has taken the connection, it keeps the source waiting for that, and nothing is seen.
        while not over.wait(5) and not watch.stalls:
            os.kill(receiver, signal.SIGCONT)
            over.wait(0.2)
            os.kill(receiver, signal.SIGSTOP)

    watch.stopping = wake
    os.kill(receiver, signal.SIGSTOP)
    nudging = threading.Thread(target=nudge)
    nudging.start()
    try:
        performed = stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, watch)
    finally:
        over.set()
        nudging.join()
        os.kill(receiver, signal.SIGCONT)
    [(stall, action, detail)] = watch.stalls
    assert stall.kind is StallKind.NO_DATA
    assert stall.reason.startswith("nothing was sent for ")
    assert (action, detail) == (StallAction.REPORT, "suspend would not help where no data flows")
    finished = stage.destination.finish(move, performed.cookie, False, watch)
    assert stage.source.confirm(move, finished.cookie, False, watch).state is DomainState.ABSENT
    guest.beats_on()


def test_heart_beats_while_the_hypervisor_hangs(stage: Stage) -> None:
    """Where QEMU answers nothing any more the watch is called all the same, and a wish to stop is carried out later."""
    guest, watch = busy_guest(stage, "hung"), steered(stage)
    move = guest.move(params=BUSY)
    begun, prepared = stage.up_to_prepare(move)
    sender = qemu_of(stage.lab.folder, "alpha", "hung")
    calls: list[int] = []  # how much had been told when the watch was called since QEMU hangs

    def hang() -> Stop | None:
        if len(watch.seen) < 3:
            return None
        if not calls:
            os.kill(sender, signal.SIGSTOP)
        calls.append(len(watch.seen))
        if calls.count(calls[-1]) < 3:  # at most one answer was on its way
            return Stop.CANCEL if len(calls) > 1 else None
        os.kill(sender, signal.SIGCONT)
        return Stop.CANCEL

    watch.stopping = hang
    try:
        with pytest.raises(Cancelled):
            stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, watch)
    finally:
        os.kill(sender, signal.SIGCONT)
    stage.drop(move)
    guest.beats_on()
