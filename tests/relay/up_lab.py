"""``vmrelay up`` and ``vmrelay demo`` as a user runs them: processes in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from worker.journal import Journal, connect

Value = TypeVar("Value")

ROOT = Path(__file__).parents[2]
VMRELAY = Path(sys.executable).with_name("vmrelay")
PATIENCE = 90.0
"""Seconds until a condition counts as missed; the machine may be busy."""
SIMULATOR = """
clock_scale = 100
bandwidth_mib = 1000
[hosts.alpha]
[hosts.beta]
[[vms]]
name = "quick"
host = "alpha"
memory_mib = 64
[[vms]]
name = "long"
host = "alpha"
memory_mib = 600_000
dirty_mib_per_second = 0
"""
SETTINGS = """
redis_url = "redis://127.0.0.1:{port}/0"
embedded_redis = true
simulator_file = "simulator.toml"
poll_seconds = 0.1
[hosts.alpha]
uri = "vzsim://{{state_dir}}/simulator/alpha.sock"
[hosts.beta]
uri = "vzsim://{{state_dir}}/simulator/beta.sock"
"""


def until(condition: Callable[[], Value], what: str) -> Value:
    """Wait until a condition is true; its value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: did not come true in {PATIENCE:.0f} s")
        time.sleep(0.02)
    return value


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder with a short path (sockets); nothing may run in it when the block ends."""
    with TemporaryDirectory(prefix="vmrelay-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)
        until(lambda: not processes(directory), f"{processes(directory)} end")


def processes(directory: str | Path) -> dict[int, str]:
    """Every process that was started with this folder in its environment or command line."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ")
            known = words + (place / "environ").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in known and int(place.name) != os.getpid() and words:
            found[int(place.name)] = words.decode(errors="replace")
    return found


class Command:
    """One run of ``vmrelay`` in the background; its output is read when it is asked for."""

    def __init__(
        self, directory: Path, *words: str, environment: Mapping[str, str] | None = None, program: Path = VMRELAY
    ) -> None:
        self.directory = directory
        self._out = directory / f"out-{time.monotonic_ns()}"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [str(program), *words],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )

    @property
    def output(self) -> str:
        """What it printed up to now."""
        return self._out.read_text(errors="replace")

    def says(self, text: str) -> None:
        """Wait until it printed this; fail when it ended before."""

        def said() -> bool:
            ended = self.process.poll() is not None
            assert text in self.output or not ended, f"ended without saying '{text}':\n{self.output}"
            return text in self.output

        until(said, f"'{text}'")

    def ends(self) -> int:
        """Wait for its end; the exit code."""
        until(lambda: self.process.poll() is not None, f"the end of {self.process.args!r}")
        return self.process.returncode

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.terminate()
        return self.ends()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *about: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def write_config(directory: Path, port: int, top: str = "", hosts: str = "") -> None:
    """Two simulated hosts and a Redis at this port; more settings, and more hosts."""
    (directory / "vmrelay.toml").write_text(top + SETTINGS.format(port=port) + hosts)
    (directory / "simulator.toml").write_text(SIMULATOR)


def journal(port: int) -> Journal:
    """The journal of a relay."""
    return Journal(connect(f"redis://127.0.0.1:{port}/0"))
