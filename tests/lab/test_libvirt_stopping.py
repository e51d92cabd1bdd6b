"""What ends a perform before its end, and attempts that are dropped, on real libvirt."""

from __future__ import annotations

import os
import re
import signal
import threading
import uuid as uuids
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import eventually

from worker.errors import Cancelled, HypervisorError, Retry
from worker.hypervisors.base import DomainState, Stop

if TYPE_CHECKING:
    from libvirt_lab import Stage

pytestmark = pytest.mark.lab

RUNNING = DomainState.RUNNING
SLOW = {"bandwidth": 1}  # MiB/s: a guest that dirties more than that is copied for ever


def test_cancelled_after_prepare(stage: Stage) -> None:
    """An attempt dropped after prepare leaves the guest running, and the next one succeeds."""
    guest = stage.guest("stayer")
    stage.up_to_prepare(guest.move())
    stage.drop(guest.move())
    guest.beats_on()
    stage.migrate(guest.move())
    guest.beats_on()


def test_cancelled_after_perform(stage: Stage) -> None:
    """An attempt dropped after perform lets the guest run on at its source with every beat."""
    guest = stage.guest("returner")
    stage.up_to_perform(guest.move())
    stage.drop(guest.move())
    guest.beats_on()


@pytest.mark.parametrize("why", list(Stop))
def test_stopped_during_perform(stage: Stage, why: Stop) -> None:
    """A perform told to stop is aborted with progress seen, and the guest runs on at its source."""
    guest = stage.guest(f"stopped-{why}", rate=16)
    deadline = 0.3 if why is Stop.DEADLINE else None
    move = guest.move(params=SLOW, deadline_seconds=deadline)
    if why is not Stop.DEADLINE:  # which perform finds by itself
        stage.watch.stopping = lambda: why if len(stage.watch.seen) > 2 else None
    begun, prepared = stage.up_to_prepare(move)
    with pytest.raises(Cancelled, match=str(why)):
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert any(progress.total_bytes for progress in stage.watch.seen)
    stage.drop(move)
    guest.beats_on()


def test_aborted_from_elsewhere(stage: Stage) -> None:
    """A perform aborted by somebody else fails as aborted, and what comes next is an operator's choice."""
    guest = stage.guest("aborted", rate=16)
    move = guest.move(params=SLOW)
    begun, prepared = stage.up_to_prepare(move)
    copying = threading.Event()

    def abort() -> None:
        copying.wait(30)
        stage.source.abort(guest.uuid)

    def told() -> Stop | None:
        if stage.watch.seen and stage.watch.seen[-1].total_bytes:
            copying.set()
        return None

    stage.watch.stopping = told
    thread = threading.Thread(target=abort)
    thread.start()
    with pytest.raises(HypervisorError) as caught:
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    thread.join()
    assert (caught.value.code, caught.value.after) == ("VIR_ERR_OPERATION_ABORTED", Retry.OPERATOR)
    stage.drop(move)
    stage.source.abort(guest.uuid)
    stage.source.abort(str(uuids.uuid4()))
    guest.beats_on()


def test_watch_that_fails_leaves_no_perform_behind(stage: Stage) -> None:
    """What the watch raises comes out of perform only when the copying has ended."""
    guest = stage.guest("watched", rate=16)
    move = guest.move(params=SLOW)
    begun, prepared = stage.up_to_prepare(move)

    def broken() -> Stop | None:
        raise LookupError("the journal is gone")

    stage.watch.stopping = broken
    with pytest.raises(LookupError):
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert stage.source.inspect(guest.uuid).state is RUNNING
    stage.drop(move)
    guest.beats_on()


def test_repeated_cancelled_finish_and_confirm(stage: Stage) -> None:
    """Dropping an attempt twice changes nothing more."""
    guest = stage.guest("dropped")
    stage.up_to_prepare(guest.move())
    stage.drop(guest.move())
    stage.drop(guest.move())
    guest.beats_on()


def test_cancelled_finish_tells_that_the_guest_runs(stage: Stage) -> None:
    """A cancelled finish that comes after a good one shows the running guest and does not harm it."""
    guest = stage.guest("late")
    move = guest.move()
    finished = stage.destination.finish(move, stage.up_to_perform(move), False, stage.watch)
    assert stage.destination.finish(move, b"", True, stage.watch).domain.state is RUNNING
    stage.source.confirm(move, finished.cookie, False, stage.watch)
    guest.beats_on()


def test_refused_perform_frees_the_source(stage: Stage) -> None:
    """A perform that libvirt refuses before it takes the job leaves no job behind."""
    guest = stage.guest("freed")
    begun, prepared = stage.up_to_prepare(guest.move())
    bad = guest.move(params={"auto_converge.initial": 20})
    with pytest.raises(HypervisorError) as caught:
        stage.source.perform(bad, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert (caught.value.code, caught.value.retry) == ("VIR_ERR_INVALID_ARG", Retry.PERMANENT)
    assert stage.source.inspect(guest.uuid).state is RUNNING
    stage.drop(guest.move())
    stage.migrate(guest.move())
    guest.beats_on()


def test_destination_killed_during_perform(stage: Stage) -> None:
    """A cancelled finish says why: it knows of the destination's QEMU what perform's broken socket does not."""
    guest = stage.guest("bereft", rate=16)
    move = guest.move(params=SLOW)
    begun, prepared = stage.up_to_prepare(move)
    killed: list[int] = []

    def kill() -> Stop | None:
        if not killed and stage.watch.seen and stage.watch.seen[-1].total_bytes:
            (pid,) = (stage.lab.folder / "beta").rglob(f"{guest.name}.pid")
            killed.append(int(pid.read_text()))
            os.kill(killed[0], signal.SIGKILL)
        return None

    stage.watch.stopping = kill
    with pytest.raises(HypervisorError) as caught:
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert caught.value.code == "VIR_ERR_OPERATION_FAILED"
    dropped = stage.destination.finish(move, b"", True, stage.watch)
    assert dropped.domain.state is DomainState.ABSENT
    if dropped.failure is not None:  # not where libvirt saw the end of it first, and has forgotten it
        assert "unexpectedly closed the monitor" in str(dropped.failure)
        assert (dropped.failure.retry, dropped.failure.after) == (Retry.VERIFY, Retry.TRANSIENT)
    stage.drop(move)
    guest.beats_on()


def test_destination_that_cannot_load_the_guest(stage: Stage) -> None:
    """A cancelled finish gives QEMU's own reason, where perform saw a stream that broke."""
    guest = stage.guest("misfit")
    told: list[HypervisorError] = []

    def attempt() -> bool:
        """Whether the reason was told: not where libvirt saw the end of QEMU first, and has forgotten it."""
        begun = stage.source.begin(guest.move(), stage.watch)
        # a guest of another shape: its serial line is sent, and nobody there knows what it is
        xml = re.sub(r"<(serial|console) .*?</\1>", "", begun.xml, flags=re.DOTALL)
        prepared = stage.destination.prepare(guest.move(), xml, begun.cookie, stage.watch)
        with pytest.raises(HypervisorError, match="unexpectedly failed"):
            stage.source.perform(guest.move(), begun.xml, prepared.uri, prepared.cookie, stage.watch)
        failure = stage.destination.finish(guest.move(), b"", True, stage.watch).failure
        stage.drop(guest.move())
        told.extend([failure] if failure else [])
        return bool(told)

    eventually(attempt, "QEMU's reason")
    assert "Unknown savevm section or instance 'serial'" in str(told[0])
    assert (told[0].retry, told[0].after) == (Retry.VERIFY, Retry.PERMANENT)
    guest.beats_on()
