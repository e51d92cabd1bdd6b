"""The demo's ``vmrelay up``: started, waited for, stopped, and never left behind unasked."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from worker.cli.up_lock import holder
from worker.cli.up_plan import own_command
from worker.errors import Unavailable

READY_SECONDS = 120.0
STOP_SECONDS = 60.0
"""How long a drain may take; the demo's migrations last seconds."""
HURRY_SECONDS = 15.0
TAIL_LINES = 40


class Relay:
    """One ``vmrelay up`` as a child; its output goes to ``<state_dir>/up.log``."""

    def __init__(self, state_dir: Path, *options: str) -> None:
        self.state_dir = state_dir
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it and its children print."""
        return self.state_dir / "up.log"

    @property
    def pid(self) -> int:
        """Its process id. Raises ``Unavailable`` before it is started."""
        if self._process is None:
            raise Unavailable("the demo's vmrelay up was not started")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until everything is ready. Raises ``Unavailable`` with the end of its log."""
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C is for the demo, which then stops this in order.
            self._process = subprocess.Popen(
                [*own_command(), "up", *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not ((found := holder(self.state_dir)) and found.ready and found.pid == self.pid):
            if self._process.poll() is not None:
                raise Unavailable(
                    f"vmrelay up ended with code {self._process.returncode}; its log ends with\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise Unavailable(f"vmrelay up was not ready in {READY_SECONDS:g} s; its log ends with\n{self.tail()}")
            time.sleep(0.05)

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-TAIL_LINES:])

    def stop(self) -> int:
        """Drain and stop; its exit code. A Ctrl-C while this waits stops it at once."""
        if self._process is None:
            return 0
        seconds = STOP_SECONDS
        while self._process.poll() is None:
            self._process.terminate()
            try:
                return self._process.wait(seconds)
            except (KeyboardInterrupt, subprocess.TimeoutExpired):
                if seconds == HURRY_SECONDS:
                    self._process.kill()  # its children go with it
                seconds = HURRY_SECONDS
        return self._process.returncode


@contextmanager
def stopping(relay: Relay) -> Iterator[Relay]:
    """Start ``relay`` for a ``with`` block; however that ends, it is stopped."""
    try:
        relay.start()
        yield relay
    except KeyboardInterrupt:
        click.echo("\nstopping; migrations in flight end first, a second Ctrl-C stops at once", err=True)
        raise
    finally:
        relay.stop()


@contextmanager
def signals_unwind() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as Ctrl-C does: through every ``finally``."""

    def unwind(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    heard = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, unwind) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def use(config: Path, state_dir: Path | None = None, redis_port: int | None = None) -> None:
    """Let this process and its children see these settings; before anything reads them."""
    os.environ["VMRELAY_CONFIG"] = str(config)
    if state_dir is not None:
        os.environ["VMRELAY_STATE_DIR"] = str(state_dir)
    if redis_port is not None:
        os.environ["VMRELAY_REDIS_URL"] = f"redis://127.0.0.1:{redis_port}/0"
