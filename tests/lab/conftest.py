"""The lab's helpers under the name by which its tests know them; they are in ``tests/support``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from libvirt_lab import COMMANDS, LIVE, Guest, Lab, Recorder, Stage, command, driver, eventually, traces_of, virsh

__all__ = [
    "COMMANDS",
    "LIVE",
    "Guest",
    "Lab",
    "Recorder",
    "Stage",
    "command",
    "driver",
    "eventually",
    "traces_of",
    "virsh",
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that the lab's user may reach; what the test leaves of a lab in it is removed."""
    path = Path(tempfile.mkdtemp(prefix="lab.", dir="/tmp"))
    yield path
    if (path / "lab").exists() or not path.exists():
        command("down", path)
    shutil.rmtree(path, ignore_errors=True)
