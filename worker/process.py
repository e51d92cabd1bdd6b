"""Running a Celery worker as the program: threads pool, own queue, own way of stopping."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from queue import Empty
from types import FrameType
from typing import Any

import structlog
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.transport import redis as redis_transport

from worker.app import app

logger = structlog.get_logger(__name__)

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter from the others."""

NO_MESSAGE = (TypeError, ValueError, LookupError, AttributeError, RecursionError)
"""What Celery and kombu raise over something in a queue that is no task message, and then end the worker."""


class Channel(redis_transport.Channel):
    """Drops what is not even an envelope, so that one entry in a queue cannot end the worker.

    Keeps one client: kombu makes a new one for each command, which takes longer than the command.
    """

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401 - kombu's own signature
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        if self._kept is None or self._kept.connection_pool is not self.pool:  # a lost connection makes a new pool
            self._kept = super()._create_client()  # type: ignore[misc]
        return self._kept

    def _brpop_read(self, **options: Any) -> Any:  # noqa: ANN401 - kombu's own signature
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except NO_MESSAGE as wrong:
            logger.warning("queue entry dropped: it is no message", error=type(wrong).__name__)
            raise Empty from None


class Consumer(CeleryConsumer):
    """Drops messages whose headers or body are not what Celery writes."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:  # noqa: ANN401
        """See ``celery.worker.consumer.Consumer``."""
        handle = super().create_task_handler(*args, **kwargs)

        def handle_or_drop(message: Any) -> None:  # noqa: ANN401
            try:
                handle(message)
            except NO_MESSAGE as wrong:
                logger.warning("malformed message dropped", error=type(wrong).__name__)
                message.reject_log_error(logger, self.connection_errors)  # type: ignore[attr-defined]

        return handle_or_drop


def run(name: str, queue: str, threads: int, *, ready: Callable[[], None], drain: Callable[[], None]) -> int:
    """Consume ``queue`` until told to stop; returns the exit code.

    The first SIGTERM or SIGINT calls ``drain`` in a thread of its own and goes on consuming until it
    returns: what is in flight still needs its later phases. A second one stops at once.
    """
    # The consumer's loop lets go of the interpreter at every system call, several times for each message. By
    # default it then waits up to 5 ms for a busy task thread to hand it back: measured, half the throughput.
    sys.setswitchinterval(SWITCH_SECONDS)
    # Celery warns root of pickled messages; only JSON is accepted here, and doctor has advice on root.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    redis_transport.Transport.Channel = Channel
    worker = app.Worker(
        consumer_cls=Consumer,
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
