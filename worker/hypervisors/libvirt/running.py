"""A running perform: the blocking call in a thread of its own, watched from the thread that asked for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import libvirt

from worker.hypervisors.base import Stop, Watch
from worker.hypervisors.libvirt.states import progress_of

HEARTBEAT_SECONDS = 2.0
"""``Watch`` wants to be called at least this often."""


class Running:
    """One perform call, started at once."""

    def __init__(self, domain: libvirt.virDomain, call: Callable[[], bytes]) -> None:
        self._domain, self._call = domain, call
        self._done = threading.Event()
        self.aborted = False
        """Whether libvirt took an order to abort: that is then why the call failed, whatever its error says."""
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

    def watch_over(self, watch: Watch, poll_seconds: float, deadline_seconds: float | None) -> Stop | None:
        """Report progress until the call ends, and abort it when asked to or when the deadline passes.

        Returns why it was told to stop, if it was; the call may have ended well all the same. Whatever
        ``watch`` raises is raised after the call was aborted and has ended: it is never left behind.
        """
        began = time.monotonic()
        pause = min(poll_seconds, HEARTBEAT_SECONDS)
        stop: Stop | None = None
        try:
            while not self._done.wait(pause):
                if stats := self._stats():
                    watch.progress(progress_of(stats))
                stop = stop or watch.stop()
                if stop is None and deadline_seconds is not None and time.monotonic() - began > deadline_seconds:
                    stop = Stop.DEADLINE
                if stop is not None:
                    self._abort()
        except BaseException:
            while not self._done.is_set():
                self._abort()
                self._done.wait(pause)
            raise
        return stop

    def result(self) -> bytes:
        """The cookie that perform returned, or what it raised (``libvirt.libvirtError``)."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._cookie

    def _stats(self) -> dict[str, int]:
        try:
            stats: dict[str, int] = self._domain.jobStats()
        except libvirt.libvirtError:
            return {}  # not yet, or no longer: the call itself tells what happened
        return stats

    def _abort(self) -> None:
        """Ask libvirt to abort the job; it refuses while there is none yet, so ask again at the next look."""
        try:
            self._domain.abortJob()
        except libvirt.libvirtError:
            return
        self.aborted = True
