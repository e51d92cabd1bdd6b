"""A running perform: the blocking call in a thread of its own, watched from the thread that asked for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import libvirt

from worker.hypervisors.base import HostConfig, Move, Stop, Watch
from worker.hypervisors.libvirt.steering import Steering

HEARTBEAT_SECONDS = 2.0
"""``Watch`` wants to be called at least this often."""


class Running:
    """One blocking call that moves a domain away, started at once."""

    def __init__(self, domain: libvirt.virDomain, call: Callable[[], bytes]) -> None:
        self._domain, self._call = domain, call
        self._done = threading.Event()
        self.aborted = False
        """Whether libvirt took an order to abort: that is then why the call failed, whatever its error says."""
        self.why = ""
        """The verdict, where it was told to stop for a stall."""
        self._cookie = b""
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="libvirt-perform", daemon=True).start()

    def _run(self) -> None:
        try:
            self._cookie = self._call()
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    def watch_over(self, watch: Watch, host: HostConfig, move: Move) -> Stop | None:
        """Report progress and steer until the call ends; abort it when asked to, by deadline, or by policy.

        Returns why it was told to stop, if it was; the call may have ended well all the same. Whatever
        ``watch`` raises is raised after the call was aborted and has ended: it is never left behind.
        """
        steering = Steering(self._domain, watch, move.convergence, host.stall)
        pause = min(host.poll_seconds, HEARTBEAT_SECONDS)
        began = time.monotonic()
        stop: Stop | None = None
        try:
            while not self._done.wait(pause):
                seconds, progress = time.monotonic() - began, steering.look()
                stop = stop or watch.stop()
                if stop is None and move.deadline_seconds is not None and seconds > move.deadline_seconds:
                    stop = Stop.DEADLINE
                if stop is None and (why := steering.steer(progress, seconds)):
                    stop, self.why = Stop.STALL, why
                if stop is not None:
                    self._abort()
        except BaseException:
            while not self._done.is_set():
                self._abort()
                self._done.wait(pause)
            raise
        finally:
            if self._error is not None:
                steering.undo()
        return stop

    def result(self) -> bytes:
        """The cookie that perform returned, or what it raised (``libvirt.libvirtError``)."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._cookie

    def _abort(self) -> None:
        """Ask libvirt to abort the job; it refuses while there is none yet, so ask again at the next look."""
        try:
            self._domain.abortJob()
        except libvirt.libvirtError:
            return
        self.aborted = True
