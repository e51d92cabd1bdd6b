"""One ``vmrelay up`` for each state directory: a locked file that names the process and says when it is ready."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.errors import Unavailable

NAME = "up.lock"
PATIENCE_SECONDS = 0.5
"""How long the lock is tried for: somebody who only looks holds it for a moment."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The ``vmrelay up`` that runs on a state directory."""

    pid: int
    ready: bool


class Lock:
    """The lock that this process holds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._write(False)

    def ready(self) -> None:
        """Tell everybody that everything is up."""
        self._write(True)

    def _write(self, ready: bool) -> None:
        text = f"{os.getpid()} {'ready' if ready else 'starting'}\n".encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))


@contextmanager
def held(state_dir: Path) -> Iterator[Lock]:
    """Hold the state directory, which is made where it does not exist.

    Raises ``Unavailable`` (``already-up``) that names the holder. The kernel gives the lock back when
    this process ends, however it ends.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(state_dir / NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as denied:
        raise Unavailable(
            f"the state directory {state_dir} cannot be used ({denied.strerror}); choose another with VMRELAY_STATE_DIR"
        ) from None
    try:
        if not _try(descriptor, fcntl.LOCK_EX, PATIENCE_SECONDS):
            pid = _read(descriptor).pid
            raise Unavailable(
                f"vmrelay is up already: pid {pid} runs it in {state_dir}; use that one, or stop it with 'kill {pid}'",
                code="already-up",
            )
        yield Lock(descriptor)
    finally:
        os.close(descriptor)


def holder(state_dir: Path) -> Holder | None:
    """Who runs on the state directory; ``None`` where nobody does."""
    try:
        descriptor = os.open(state_dir / NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _try(descriptor, fcntl.LOCK_SH, 0) else _read(descriptor)
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _read(descriptor: int) -> Holder:
    pid, _, state = os.pread(descriptor, 100, 0).decode().strip().partition(" ")
    return Holder(int(pid or 0), state == "ready")
