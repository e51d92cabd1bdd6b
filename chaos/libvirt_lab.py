"""The processes of a lab of real hosts as the machine shows them, whether their daemons answer or not."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from chaos.keeper import Keeper
from chaos.stage import NotReached

COMMANDS = Path(__file__).resolve().parents[1] / "deploy" / "lab"
COMMAND_SECONDS = 120.0
DAEMON = "libvirtd-"
"""What precedes a host's name in the keeper's name of its daemon."""


def command(name: str, *arguments: str | Path) -> str:
    """What one of the lab's commands prints. Raises ``NotReached`` with what it says is wrong."""
    done = subprocess.run(
        [str(COMMANDS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    if done.returncode:
        raise NotReached(f"deploy/lab/{name} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def load_heartbeat() -> ModuleType:
    """The module deploy/lab/heartbeat.py."""
    spec = importlib.util.spec_from_file_location("heartbeat", COMMANDS / "heartbeat.py")
    if spec is None or spec.loader is None:
        raise NotReached(f"{COMMANDS / 'heartbeat.py'} cannot be loaded")
    module = sys.modules["heartbeat"] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine."""

    pid: int
    words: tuple[str, ...]

    def kill(self) -> None:
        """SIGKILL; harmless where it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def processes() -> Iterator[Process]:
    """All of them that have a command line."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                text = (folder / "cmdline").read_bytes().decode(errors="replace")
                if text:
                    yield Process(int(folder.name), tuple(text.rstrip("\0").split("\0")))


class Host:
    """One host of a netns lab."""

    def __init__(self, lab: Path, name: str) -> None:
        self.name = name
        self.socket = lab / name / "run" / "libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        self._config = lab / name / "etc" / "libvirtd.conf"
        self._mark = f"{lab / name}/"
        self._namespace = ""
        self._init = 0

    def find(self) -> None:
        """Find the first process of the host's namespaces, once the lab is up. Raises ``NotReached``."""
        for process in processes():
            if "lab-host" in process.words and process.words[-1] == self._mark:
                with suppress(OSError):
                    numbers = _field(process.pid, "NSpid").split()
                    if len(numbers) > 1 and numbers[-1] == "1":
                        self._init = process.pid
                        self._namespace = os.readlink(f"/proc/{process.pid}/ns/pid")
                        return
        raise NotReached(f"host {self.name} does not run")

    def daemons(self) -> list[Process]:
        """Its libvirtd, also one that the lab's own ``up`` started."""
        return [p for p in processes() if p.words[0] == "libvirtd" and p.words[-1] == str(self._config)]

    def daemon_command(self) -> list[str]:
        """What runs its libvirtd, as ``deploy/lab/host NAME start`` does."""
        inside = ["nsenter", "--all", "--target", str(self._init)]
        environment = ["env", "-i", f"PATH={os.environ['PATH']}:/usr/sbin:/sbin", "LANG=C", "HOME=/root"]
        return [*inside, *environment, "libvirtd", "--listen", "-f", str(self._config)]

    def guests(self, name: str) -> list[Process]:
        """The processes that are, or wait for, a guest on this host."""
        found = []
        for process in processes():
            is_guest = Path(process.words[0]).name.startswith("qemu-system-")
            if is_guest and any(word.startswith(f"guest={name},") for word in process.words):
                with suppress(OSError):
                    if os.readlink(f"/proc/{process.pid}/ns/pid") == self._namespace:
                        found.append(process)
        return found


class LabKeeper(Keeper):
    """Keeps the daemons of hosts as well. They run below ``nsenter``, which waits for them and ends as they do."""

    def kill(self, *names: str) -> None:
        """See ``Keeper``."""
        with self._lock:  # else the end of the process outside is seen before it is known to be our doing
            for name in names:
                for pid in self._inside(name):
                    os.kill(pid, signal.SIGKILL)
            super().kill(*names)

    def freeze(self, name: str) -> None:
        """See ``Keeper``. The process outside is stopped as well, by itself."""
        inside = self._inside(name)
        for pid in inside:
            os.kill(pid, signal.SIGSTOP)
        if inside:
            _await_stop(self.pid(name))
        super().freeze(name)

    def thaw(self, name: str) -> None:
        """See ``Keeper``."""
        super().thaw(name)
        for pid in self._inside(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _inside(self, name: str) -> list[int]:
        pid = self.pid(name)
        if not pid or not name.startswith(DAEMON):
            return []
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []


def _await_stop(pid: int) -> None:
    deadline = time.monotonic() + 1.0
    while _field(pid, "State")[:1] not in ("T", "") and time.monotonic() < deadline:
        time.sleep(0.001)


def _field(pid: int, name: str) -> str:
    """A line of ``/proc/PID/status``; empty where there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), "")
