"""What ``vmrelay up`` does: start processes in order, watch over them, and stop them in reverse order.

A stop is a drain. SIGTERM goes to the group that was started last (agents), and the next group (scheduler,
simulators, Redis) is not touched until that one has ended, because a migration in flight needs all of them.
Until its turn comes a process is still supervised. How long a process may take is its own ``grace``.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from worker.errors import SettingsError, Unavailable
from worker.leash import leashed
from worker.prefix import Write

TICK_SECONDS = 0.05
"""How often exits, ready checks and stop requests are looked at."""
HURRY_SECONDS = 5.0
"""How long a process has after a second request to stop, until it is killed, where its ``Child`` does not say."""
REPEAT_SECONDS = 0.2
"""Between two signals of one kind: those that wait to be heard count as one."""
LINE_LIMIT = 64 * 1024
"""A longer line of output is broken up (bytes)."""
SELF = "up"
"""The name under which the supervisor itself speaks."""


@dataclass(frozen=True)
class Child:
    """A process to be supervised.

    ``env`` is added to the supervisor's environment. ``ready`` tells whether the process does its work; it
    returns at once, or nearly so, and raises nothing; without one a process counts as ready when it runs.
    ``ready_within`` is how long it may take for that, restarts included (seconds). ``hopeless`` are the exit
    codes that end the start at once: to try again would not help. ``grace`` is how long it may take to end
    after SIGTERM until it is killed (seconds); ``None``: as long as it needs. ``hurry`` is how long it may take
    after a second request (seconds); ``None``: ``HURRY_SECONDS``. ``cwd`` is where it runs.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    ready_within: float = 30.0
    hopeless: Collection[int] = ()
    grace: float | None = 10.0
    hurry: float | None = None
    cwd: Path | None = None


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a process that died is started again (seconds)."""

    initial: float = 0.5
    factor: float = 2.0
    limit: float = 30.0
    steady: float = 60.0
    """A process that ran this long starts with ``initial`` again."""

    def delay(self, failures: int) -> float:
        """The pause after the ``failures``-th death in a row, counted from 1; never more than ``limit``."""
        delay = self.initial
        for _ in range(failures - 1):
            if delay >= self.limit:
                break
            delay *= self.factor
        return min(delay, self.limit)


class _Member:
    """A child and the process that stands for it now, if any."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.process: subprocess.Popen[bytes] | None = None
        self.buffer = b""
        self.wanted = False
        self.was_ready = False
        self.failures = 0
        self.started = 0.0
        self.next_start = 0.0
        self.last_code: int | None = None
        self.last_line = ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal; SIGKILL goes to everything that the process started as well."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)  # it leads its own session; not reaped, so still its id
            else:
                os.kill(self.process.pid, number)


class Supervisor:
    """Runs groups of children; the groups start one after the other, each when the one before is ready.

    ``write`` takes what the children print, as (name, line); see ``worker.prefix.Prefixer``. ``run`` may be
    called once, in any thread (``foreground`` and ``background`` do it), and calls ``on_ready`` there once
    every child is ready; ``stop`` from anywhere, signal handlers included. Whatever ends that thread ends
    the children.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Child]],
        write: Write,
        *,
        backoff: Backoff | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._groups = [[_Member(child) for child in group] for group in groups]
        self._members = [member for group in self._groups for member in group]
        names = Counter(member.child.name for member in self._members)
        if twice := [name for name, count in names.items() if count > 1]:
            raise SettingsError(f"two processes are called {', '.join(twice)}; each name may be used once")
        self._write = write
        self._backoff = backoff or Backoff()
        self._on_ready = on_ready
        self._selector = selectors.DefaultSelector()
        self._stops = 0
        self._settled = threading.Event()
        self.restarts: Counter[str] = Counter()
        """How often each child was started again after it had died."""
        self.failure: Unavailable | None = None
        """Why the start was given up, if it was."""

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the children that run, by name."""
        return {m.child.name: process.pid for m in self._members if (process := m.process) is not None}

    def stop(self) -> None:
        """Ask for a drain and a stop; asked again, that is passed on, and what still runs has its ``hurry``."""
        self._stops += 1

    def wait_ready(self) -> None:
        """Wait until every child is ready. Raises ``Unavailable`` when one did not become so in time."""
        self._settled.wait()
        if self.failure is not None:
            raise self.failure

    def run(self) -> int:
        """Start everything, watch over it until ``stop``, stop everything; 0, or 1 when the start failed."""
        try:
            for group in self._groups:
                self._start(group)
            self._settled.set()
            if self._on_ready and not self._stops:
                self._on_ready()
            while not self._stops:
                self._tick()
        except Unavailable as failure:
            self.failure = failure
            self._say(str(failure))
        finally:
            self._settled.set()
            for group in reversed(self._groups):
                self._stop(group)
            self._selector.close()
        return 1 if self.failure else 0

    # --- a group ---

    def _start(self, group: Sequence[_Member]) -> None:
        begin = time.monotonic()
        for member in group:
            member.wanted = not self._stops
        waiting = list(group)
        while waiting and not self._stops:
            self._tick()
            for member in waiting:
                member.was_ready = member.process is not None and (member.child.ready is None or member.child.ready())
            waiting = [member for member in waiting if not member.was_ready]
            for member in waiting:
                if member.process is None and member.last_code in member.child.hopeless:
                    why = member.last_line or "no message"
                    raise Unavailable(f"{member.child.name} ended with {_outcome(member.last_code or 0)}: {why}")
                if time.monotonic() > begin + member.child.ready_within:
                    ended = "" if member.last_code is None else f" (it ended with {_outcome(member.last_code)})"
                    raise Unavailable(
                        f"{member.child.name} was not ready within {member.child.ready_within:g} s{ended}; "
                        "its own messages say why"
                    )

    def _stop(self, group: Sequence[_Member]) -> None:
        begin = told = time.monotonic()
        asked = 1
        for member in group:
            member.wanted = False
            member.send(signal.SIGTERM)
        limits = {m: begin + m.child.grace for m in group if m.child.grace is not None}
        while any(member.process for member in group):
            self._tick()
            now = time.monotonic()
            if self._stops > asked and now > told + REPEAT_SECONDS:
                asked, told = asked + 1, now
                for member in group:
                    member.send(signal.SIGTERM)  # an agent aborts what runs; asked a third time, it ends at once
                    limit = now + (HURRY_SECONDS if member.child.hurry is None else member.child.hurry)
                    limits[member] = min(limits.get(member, limit), limit)
            for member in group:
                if member.process and now > limits.get(member, now):
                    self._say(f"{member.child.name} did not end in time and is killed")
                    member.send(signal.SIGKILL)
                    del limits[member]

    # --- one round ---

    def _tick(self) -> None:
        for key, _ in self._selector.select(TICK_SECONDS):
            if not self._read(key.data, key.fd):
                self._selector.unregister(key.fileobj)  # it closed its output, and may run on
        for member in self._members:
            if member.process is not None and member.process.poll() is not None:
                self._ended(member, member.process)
            if member.process is None and member.wanted and time.monotonic() >= member.next_start:
                self._launch(member)

    def _launch(self, member: _Member) -> None:
        if member.last_code is not None:
            self.restarts[member.child.name] += 1
        member.started = time.monotonic()
        member.process = subprocess.Popen(
            leashed(member.child.argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **member.child.env},
            cwd=member.child.cwd,
            start_new_session=True,  # Ctrl-C is for the supervisor alone
        )
        assert member.process.stdout is not None  # noqa: S101 - asked for above
        os.set_blocking(member.process.stdout.fileno(), False)
        self._selector.register(member.process.stdout, selectors.EVENT_READ, member)

    def _ended(self, member: _Member, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is not None:
            if process.stdout in self._selector.get_map():
                while self._read(member, process.stdout.fileno()):
                    pass
                self._selector.unregister(process.stdout)
            process.stdout.close()
        if member.buffer:
            self._pass_on(member, member.buffer)
        member.buffer, member.process, member.last_code = b"", None, process.returncode
        if not member.wanted:
            return
        now = time.monotonic()
        member.failures = 1 if now - member.started >= self._backoff.steady else member.failures + 1
        delay = self._backoff.delay(member.failures)
        member.next_start = now + delay
        if member.was_ready or process.returncode not in member.child.hopeless:
            outcome = _outcome(process.returncode)
            self._say(f"{member.child.name} ended with {outcome}; it is started again in {delay:g} s")

    def _read(self, member: _Member, fd: int) -> bool:
        """Pass on whole lines; false when nothing was there, or nothing will come any more."""
        try:
            data = os.read(fd, LINE_LIMIT)
        except BlockingIOError:
            return False
        *lines, member.buffer = (member.buffer + data).split(b"\n")
        if len(member.buffer) >= LINE_LIMIT:
            lines.append(member.buffer)
            member.buffer = b""
        for line in lines:
            self._pass_on(member, line)
        return bool(data)

    def _pass_on(self, member: _Member, line: bytes) -> None:
        member.last_line = _text(line)
        self._write(member.child.name, member.last_line)

    def _say(self, line: str) -> None:
        self._write(SELF, line)


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode(errors="replace")


def _outcome(code: int) -> str:
    return f"code {code}" if code >= 0 else signal.Signals(-code).name


def foreground(supervisor: Supervisor) -> int:
    """Run in this (the main) thread; SIGTERM, SIGINT and SIGHUP ask for the stop, a second one hurries it.

    A signal that is ignored, as under nohup, stays ignored. Returns what ``Supervisor.run`` returns.
    """

    def ask(_number: int, _frame: FrameType | None) -> None:
        supervisor.stop()

    heard = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {n: signal.signal(n, ask) for n in heard if signal.getsignal(n) != signal.SIG_IGN}
    try:
        return supervisor.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def background(supervisor: Supervisor) -> Iterator[Supervisor]:
    """Run in a thread; the ``with`` block is entered when everything is ready and ends with the stop.

    Raises ``Unavailable`` when a child did not become ready. Ctrl-C while it stops hurries it.
    """
    thread = threading.Thread(target=supervisor.run, name="supervisor")
    thread.start()
    try:
        supervisor.wait_ready()
        yield supervisor
    finally:
        supervisor.stop()
        while thread.is_alive():
            try:
                thread.join()
            except KeyboardInterrupt:
                supervisor.stop()
