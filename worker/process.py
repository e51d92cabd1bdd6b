"""Running a Celery worker as the program: threads pool, own queue, own way of stopping."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType

import structlog
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready

from worker.app import app

logger = structlog.get_logger(__name__)


def run(name: str, queue: str, threads: int, *, ready: Callable[[], None], drain: Callable[[], None]) -> int:
    """Consume ``queue`` until told to stop; returns the exit code.

    The first SIGTERM or SIGINT calls ``drain`` in a thread of its own and goes on consuming until it
    returns: what is in flight still needs its later phases. A second one stops at once.
    """
    # Celery warns root of pickled messages; only JSON is accepted here, and doctor has advice on root.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = app.Worker(
        hostname=f"{name}@{socket.gethostname()}",
        pool="threads",
        concurrency=threads,
        queues=[queue],
        quiet=True,
        without_mingle=True,
        without_gossip=True,
        loglevel=None,
    )
    stopping = threading.Event()

    def stop_now() -> None:
        from celery.worker import state

        vars(state)["should_stop"] = 0

    def drain_and_stop() -> None:
        try:
            drain()
        finally:
            stop_now()

    def on_signal(number: int, _: FrameType | None) -> None:
        if stopping.is_set():
            logger.warning("stopping at once", signal=signal.Signals(number).name)
            stop_now()
            return
        stopping.set()
        logger.info("draining", signal=signal.Signals(number).name)
        threading.Thread(target=drain_and_stop, name="drain", daemon=True).start()

    @worker_ready.connect(weak=False)
    def _started(**_: object) -> None:
        # Celery has installed its own handlers by now; they would stop consuming at once.
        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        ready()

    worker.start()
    sys.stdout.flush()
    return int(worker.exitcode or 0)
