"""deploy/lab: what it makes it removes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from conftest import COMMANDS, command, eventually

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.lab


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that the lab's user may reach."""
    path = Path(tempfile.mkdtemp(prefix="lab.", dir="/tmp"))
    yield path
    if (path / "lab").exists():
        command("down", path)
    shutil.rmtree(path, ignore_errors=True)


def processes_of(folder: Path) -> list[str]:
    """Command lines of all processes that work under the folder."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if f"{folder}/" in line:
            lines.append(line)
    return lines


def test_a_second_lab_beside_the_first(lab: Lab, folder: Path, heartbeat: ModuleType) -> None:
    """A second lab with the same names works beside the first, and goes away with guests and daemons."""
    lines = command("up", "-d", folder, "1").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["alpha"]
    assert lines[0].split()[1] != lab.uris["alpha"]
    serial = Path(command("guest", folder, "alpha", "neighbour").stdout.strip())
    eventually(lambda: heartbeat.read(serial).beats > 2, "beats in the second lab")
    command("down", folder)
    eventually(lambda: not processes_of(folder), "the end of the second lab's processes")
    assert not folder.exists()
    command("down", folder)
    assert processes_of(lab.folder)


def test_a_failed_up_leaves_nothing(folder: Path) -> None:
    """Where a daemon does not come up, up says so, and nothing of the lab stays."""
    programs = folder / "programs"
    programs.mkdir(mode=0o755)
    folder.chmod(0o755)
    daemon = programs / "libvirtd"
    # one host comes up, and the other's daemon dies
    daemon.write_text('#!/bin/sh\ncase "$*" in */beta/*) echo no luck; exit 1;; esac\nexec /usr/sbin/libvirtd "$@"\n')
    daemon.chmod(0o755)
    with pytest.raises(AssertionError, match="no luck\nthe daemon of host beta ended"):
        command("up", "-d", folder / "l", env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
    assert not (folder / "l").exists()
    eventually(lambda: not processes_of(folder / "l"), "the end of the failed lab's processes")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_up_leaves_nothing(folder: Path, how: signal.Signals) -> None:
    """Interrupted while its daemons start, up removes them."""
    up = subprocess.Popen([str(COMMANDS / "up"), "-d", str(folder)], stdout=subprocess.PIPE)
    eventually((folder / "alpha").exists, "the first host's folder")
    up.send_signal(how)
    assert up.wait(30) == 1
    assert up.stdout is not None
    up.stdout.close()
    assert not folder.exists()
    eventually(lambda: not processes_of(folder), "the end of the lab's processes")


def test_a_path_too_long_for_sockets(folder: Path) -> None:
    """A folder whose sockets would not work is refused, and nothing of it stays."""
    with pytest.raises(AssertionError, match="too long"):
        command("up", "-d", folder / ("x" * 60))
    assert not list(folder.iterdir())


def test_folders_of_others_are_safe(folder: Path) -> None:
    """Up takes no folder with something in it, and down removes none that is not a lab."""
    (folder / "precious").touch()
    with pytest.raises(AssertionError, match="not empty"):
        command("up", "-d", folder)
    with pytest.raises(AssertionError, match="no lab"):
        command("down", folder)
    assert (folder / "precious").exists()


@pytest.mark.parametrize("words", [("0",), ("11",), ("Alpha",), ("a/b",), ("a" * 17,)])
def test_bad_names_and_numbers(folder: Path, words: tuple[str, ...]) -> None:
    """Numbers and names that cannot be hosts are refused before anything is made."""
    with pytest.raises(AssertionError, match="host"):
        command("up", "-d", folder, *words)
    assert not list(folder.iterdir())


def test_install_is_content() -> None:
    """With all packages there, install does and says nothing."""
    done = command("install")
    assert (done.stdout, done.stderr) == ("", "")
