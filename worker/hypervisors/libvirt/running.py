"""A running perform: the blocking call in a thread of its own, watched from the thread that asked for it.

The call may also be one that only waits for a perform of somebody else to end (``following.py``).

A QEMU that hangs lets every call about it hang. So what is asked again and again (how far it is) and what
is ordered when nothing else helps (to abort) go out from threads of their own too: whatever libvirt does,
the watch is called in time, and the end of perform is noticed at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import libvirt

from worker.hypervisors.base import HostConfig, Move, Stop, Watch
from worker.hypervisors.libvirt.steering import Steering

HEARTBEAT_SECONDS = 2.0
"""``Watch`` wants to be called at least this often."""

Statistics = dict[str, int]
Result = TypeVar("Result")


class Running(Generic[Result]):
    """One blocking call that lasts as long as a domain moves away, started at once."""

    def __init__(self, domain: libvirt.virDomain, call: Callable[[], Result]) -> None:
        self._domain, self._call = domain, call
        self._done = threading.Event()
        self._news: SimpleQueue[Statistics] = SimpleQueue()
        self._aborting: threading.Thread | None = None
        self.aborted = False
        """Whether libvirt took an order to abort: that is then why the call failed, whatever its error says."""
        self.why = ""
        """The verdict, where it was told to stop for a stall."""
        self._result: Result
        self._error: BaseException | None = None
        self._steering: Steering | None = None
        self._start("perform", self._run)

    def watch_over(self, watch: Watch, host: HostConfig, move: Move) -> Stop | None:
        """Report progress and steer until the call ends; abort it when asked to, by deadline, or by policy.

        Returns why it was told to stop, if it was; the call may have ended well all the same. Whatever
        ``watch`` raises is raised after the call was aborted and has ended: it is never left behind.
        """
        steering = self._steering = Steering(self._domain, watch, move, host.stall)
        began = time.monotonic()
        self._start("look", lambda: self._look(host.poll_seconds))
        stop: Stop | None = None
        try:
            while (stats := self._hear()) is not None:
                seconds, progress = time.monotonic() - began, steering.tell(stats)
                asked = watch.stop()  # always: it is the heartbeat too
                stop = stop or asked
                if stop is None and move.deadline_seconds is not None and seconds > move.deadline_seconds:
                    stop = Stop.DEADLINE
                if stop is None and (why := steering.steer(progress, seconds)):
                    stop, self.why = Stop.STALL, why
                if stop is not None:
                    self._abort()
        except BaseException:
            while self._hear() is not None:
                self._abort()
            raise
        finally:
            if self._aborting is not None:
                self._aborting.join(HEARTBEAT_SECONDS)  # its answer may come after perform's
            if self._error is not None:
                self.undo()
        return stop

    def undo(self) -> None:
        """The domain has not moved: let it run on where it was suspended for its move. Never raises."""
        if self._steering is not None:
            self._steering.undo()

    def result(self) -> Result:
        """What the call returned, or what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()
            self._news.put({})

    def _look(self, poll_seconds: float) -> None:
        """Ask for the job's statistics as long as it runs; where nobody has heard the last ones yet, later."""
        while not self._done.wait(poll_seconds):
            if self._news.empty():
                self._news.put(self._statistics())

    def _statistics(self) -> Statistics:
        try:
            stats: Statistics = self._domain.jobStats()
        except libvirt.libvirtError:
            return {}  # not yet, or no longer: the call itself tells what happened
        return stats

    def _hear(self) -> Statistics | None:
        """The next statistics, or none where libvirt is slow to tell; ``None`` when the call has ended."""
        try:
            stats = self._news.get(timeout=HEARTBEAT_SECONDS)
        except Empty:
            stats = {}
        return None if self._done.is_set() else stats

    def _abort(self) -> None:
        """Ask libvirt to abort the job; it refuses while there is none yet, so ask again at the next look."""
        if self._aborting is None or not self._aborting.is_alive():
            self._aborting = self._start("abort", self._order_abort)

    def _order_abort(self) -> None:
        try:
            self._domain.abortJob()
        except libvirt.libvirtError:
            return
        self.aborted = True

    @staticmethod
    def _start(name: str, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name=f"libvirt-{name}", daemon=True)
        thread.start()
        return thread
