"""``vmrelay demo --libvirt``, run as a user runs it."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from worker.cli.demo_guests import (
    CANCELLED,
    GUESTS,
    HOME,
    Move,
    beat_problems,
    last_places,
    place_problems,
    record_problems,
    rounds,
)
from worker.cli.demo_stage import Beats
from worker.hypervisors.base import Phase
from worker.journal.record import PhaseRun, Record

VMRELAY = Path(sys.executable).with_name("vmrelay")
PATIENCE = 200.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo puts its temporary files: a short path that the hosts' user can pass through."""
    with TemporaryDirectory(prefix="d", dir="/tmp") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


def start(folder: Path) -> subprocess.Popen[str]:
    """The demo, in the background."""
    return subprocess.Popen(
        [VMRELAY, "demo", "--libvirt"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def nothing_left(folder: Path) -> None:
    """No file and no process of it remains."""
    assert list(folder.iterdir()) == []
    deadline = time.monotonic() + 10
    while left := [pid for pid in _pids() if _names(pid, folder)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _names(pid: int, folder: Path) -> bool:
    try:
        return f"{folder}/".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.lab
@pytest.mark.timeout(300)
def test_four_guests_move_there_and_back_and_are_never_restarted(folder: Path) -> None:
    """Exit 0: seven moves at rates one can watch, one of them cancelled; heartbeats, counters, and nothing is left."""
    with start(folder) as demo:
        said, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, said
    nothing_left(folder)
    assert re.search(r"web-1: alpha → beta +\d+ %, .* left, .*/s, round \d", said)
    for name in ("web-1", "mail-1", "db-1"):
        for route in ("alpha → beta", "beta → alpha"):
            assert re.search(rf"{name} +{route} .*\d\.\d{{3}}s +\d+\.\ds +succeeded", said), said
    assert re.search(r"batch-1 +alpha → beta .*alpha [\d.]+s \(stopped\) .* cancelled", said)
    assert len(re.findall(r"(?:-1) +0\.\d{3} s +0\.\d{3} s +\d+ +0 +0 +0", said)) == len(GUESTS)
    assert "alpha  web-1 (runs), mail-1 (runs), db-1 (runs), batch-1 (runs)" in said
    assert "beta   no domain" in said
    assert re.search(r"qemu +live,persist_dest,undefine_source +succeeded +- +6", said)
    assert re.search(r"qemu +live,persist_dest,undefine_source +cancelled +cancelled +1", said)


@pytest.mark.lab
@pytest.mark.timeout(300)
def test_an_interrupt_in_mid_move_removes_everything(folder: Path) -> None:
    """Ctrl-C: what is in flight is cancelled, then hosts, guests and files are gone."""
    with start(folder) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "perform on" in line:
                demo.send_signal(signal.SIGINT)
                break
        said, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 130, said
    nothing_left(folder)


# -- what it would find wrong -----------------------------------------------------------------------

GOOD = tuple(PhaseRun(1, name, "alpha", 0.1) for name in Phase)
STOPPED = tuple(dataclasses.replace(run, error="cancelled" if run.name == "perform" else None) for run in GOOD)


def move(*, cancel: bool = False) -> Move:
    """A move of the first round."""
    return next(move for move in rounds()[0] if move.cancel is cancel)


def test_all_go_there_and_those_that_went_come_back() -> None:
    """The second round brings back whom the first one did not cancel; all end where they began."""
    there, back = rounds()
    assert [each.guest for each in there] == [guest.name for guest in GUESTS]
    assert {each.guest for each in there} - {each.guest for each in back} == {CANCELLED}
    assert set(last_places([*there, *back]).values()) == {HOME}
    assert last_places(there) == {guest.name: HOME if guest.name == CANCELLED else "beta" for guest in GUESTS}


@pytest.mark.parametrize(
    ("cancel", "outcome", "phases", "complaint"),
    [
        (False, "succeeded", GOOD, None),
        (True, "cancelled", STOPPED, None),
        (False, "failed", GOOD, "failed, not succeeded"),
        (True, "succeeded", GOOD, "succeeded, not cancelled"),
        (False, "succeeded", GOOD[:4], "begin, prepare, perform, finish"),
        (True, "cancelled", GOOD, "cancelled in no phase"),
    ],
)
def test_a_record_that_is_not_as_it_must_be_is_found(
    cancel: bool, outcome: str, phases: tuple[PhaseRun, ...], complaint: str | None
) -> None:
    """Another outcome, a missing phase, a cancel that came too early or too late: each is named."""
    found = record_problems(move(cancel=cancel), Record("a", "ended", outcome=outcome, phases=phases))
    assert [complaint in line for line in found] == [True] if complaint else found == []


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ({"web-1": {"beta": True}}, None),
        ({"web-1": {"alpha": True}}, "runs on alpha, not on beta"),
        ({"web-1": {"alpha": True, "beta": True}}, "runs on alpha and beta"),
        ({"web-1": {"beta": False}}, "runs on no host"),
        ({"web-1": {}}, "runs on no host"),
        ({"web-1": {"alpha": False, "beta": True}}, "a copy of web-1 was left on alpha"),
        ({"web-1": {"beta": True}, "other": {"alpha": True}}, "nobody knows where other comes from"),
    ],
)
def test_a_guest_that_is_not_on_one_host_alone_is_found(
    found: dict[str, dict[str, bool]], complaint: str | None
) -> None:
    """None, two, the wrong one, a copy left behind, a stranger: each is named."""
    wrong = place_problems(found, {"web-1": "beta"})
    assert [complaint in line for line in wrong] == [True] if complaint else wrong == []


def test_a_broken_heartbeat_is_found() -> None:
    """A restart, a beat that came twice and one that is missing are named with their numbers."""
    good, bad = Beats(9, 0, 0, 0, unbroken=True), Beats(9, 1, 2, 3, unbroken=False)
    found = beat_problems({"web-1": good, "db-1": bad})
    assert found == ["the heartbeat of db-1 is broken: 1 restarts, 2 repeats, 3 missing"]
