"""Processes under a supervisor's eyes: whatever dies is started again after a short, fixed pause."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from worker.leash import leashed

PAUSE_SECONDS = 0.5
"""From a death to the new start, as systemd's or a container's restart would take."""
TICK_SECONDS = 0.01
STOP_SECONDS = 10.0


@dataclass
class _Kept:
    """A command, and the process that runs it now."""

    name: str
    argv: Sequence[str]
    before_start: Callable[[], None] | None
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    started: float = 0.0
    died: float = 0.0
    """Of the monotonic clock; 0 while it runs."""
    killed: bool = False
    """Its end is our doing."""


@dataclass
class Keeper:
    """Starts processes, starts them again when they die, and kills, stops and continues them on demand.

    All processes are children of one thread that lives as long as the keeper: they die with it.
    """

    folder: Path
    environment: Mapping[str, str]
    deaths: list[str] = field(default_factory=list)
    """The names of processes that died without having been killed here."""

    def __post_init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="keeper", daemon=True)
        self._thread.start()

    # -- life -------------------------------------------------------------------------------------

    def add(self, name: str, argv: Sequence[str], before_start: Callable[[], None] | None = None) -> None:
        """Keep a process running from now on; it writes to ``<name>.log``. ``before_start`` precedes each start."""
        with self._lock:
            self._kept[name] = _Kept(name, argv, before_start)

    def stop(self) -> None:
        """End everything."""
        self._ended.set()
        self._thread.join()
        for kept in self._kept.values():
            if kept.process is not None:
                with suppress(ProcessLookupError):
                    kept.process.kill()
                kept.process.wait(STOP_SECONDS)

    def _watch(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            with self._lock:
                for kept in self._kept.values():
                    self._reap(kept)
                    if kept.process is None and (not kept.starts or time.monotonic() - kept.died >= PAUSE_SECONDS):
                        self._start(kept)

    def _reap(self, kept: _Kept) -> None:
        if kept.process is not None and kept.process.poll() is not None:
            if not kept.killed:
                self.deaths.append(kept.name)
            kept.process, kept.died, kept.killed = None, time.monotonic(), False

    def _start(self, kept: _Kept) -> None:
        if kept.before_start is not None:
            kept.before_start()
        with (self.folder / f"{kept.name}.log").open("ab") as log:
            kept.process = subprocess.Popen(
                leashed(kept.argv),
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        kept.starts, kept.started, kept.died = kept.starts + 1, time.monotonic(), 0.0

    # -- what is done to them ---------------------------------------------------------------------

    def pid(self, name: str) -> int:
        """The process id; 0 while it does not run."""
        process = self._kept[name].process
        return process.pid if process is not None else 0

    def kill(self, *names: str) -> None:
        """SIGKILL these processes at once and wait until they are gone; the keeper starts them again."""
        with self._lock:
            processes = []
            for kept in (self._kept[name] for name in names):
                if kept.process is not None:
                    kept.killed = True
                    kept.process.kill()
                    processes.append(kept.process)
            for process in processes:
                process.wait(STOP_SECONDS)
            for name in names:
                self._reap(self._kept[name])

    def freeze(self, name: str) -> None:
        """SIGSTOP a process; returns when it stands still."""
        if pid := self.pid(name):
            os.kill(pid, signal.SIGSTOP)
            while _state(pid) not in "TXZ":
                time.sleep(0.001)

    def thaw(self, name: str) -> None:
        """SIGCONT a process; harmless where it runs."""
        if pid := self.pid(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def restarted(self, name: str) -> float | None:
        """When a killed process was started again (monotonic clock); ``None`` before that."""
        kept = self._kept[name]
        return kept.started if kept.process is not None and not kept.killed else None


def _state(pid: int) -> str:
    """The letter that proc(5) gives a process's state; ``X`` where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
