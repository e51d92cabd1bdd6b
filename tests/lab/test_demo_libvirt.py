"""``vmrelay demo --libvirt``, run as a user runs it."""

from __future__ import annotations

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

VMRELAY = Path(sys.executable).with_name("vmrelay")
PATIENCE = 200.0

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


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


def test_a_guest_moves_there_and_back_and_is_never_restarted(folder: Path) -> None:
    """Exit 0: four moves by the same tasks, an unbroken heartbeat, counters, and nothing is left."""
    with start(folder) as demo:
        said, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, said
    nothing_left(folder)
    assert len(re.findall(r"guest-1 +(alpha → beta|beta → alpha) .* succeeded", said)) == 4
    assert "0 restarts, 0 repeated, 0 missing" in said
    assert len(re.findall(r"to (alpha|beta): longest silence between two beats \d", said)) == 4
    assert "alpha itself says: guest-1 (runs)" in said
    assert "beta itself says: no domain" in said
    assert re.search(r"qemu +live,persist_dest,undefine_source +succeeded +- +4", said)


def test_an_interrupt_in_mid_move_removes_everything(folder: Path) -> None:
    """Ctrl-C: the migration in flight ends, then hosts, guest and files are gone."""
    with start(folder) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "perform on" in line:
                demo.send_signal(signal.SIGINT)
                break
        said, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 130, said
    nothing_left(folder)
