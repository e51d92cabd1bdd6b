"""Running a Celery worker as the program: threads pool, own queue, own way of stopping."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.transport import redis as redis_transport

from worker.app import app
from worker.channel import NO_MESSAGE, Channel, IntakeChannel
from worker.journal.intake import Intake

logger = structlog.get_logger(__name__)

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter from the others."""


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


def run(
    name: str,
    queue: str,
    threads: int,
    *,
    ready: Callable[[], None],
    drain: Callable[[], None],
    intake: Intake | None = None,
) -> int:
    """Consume ``queue``, through an ``intake`` where one is given, until told to stop; returns the exit code.

    The first SIGTERM or SIGINT calls ``drain`` in a thread of its own and goes on consuming until it
    returns: what is in flight still needs its later phases. A second one stops at once.
    """
    # The consumer's loop lets go of the interpreter at every system call, several times for each message. By
    # default it then waits up to 5 ms for a busy task thread to hand it back: measured, half the throughput.
    sys.setswitchinterval(SWITCH_SECONDS)
    # Celery warns root of pickled messages; only JSON is accepted here, and doctor has advice on root.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    redis_transport.Transport.Channel = Channel
    if intake is not None:
        IntakeChannel.intake = intake
        redis_transport.Transport.Channel = IntakeChannel
        intake.start()
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

    try:
        worker.start()
    finally:
        if intake is not None:
            intake.stop()
    sys.stdout.flush()
    return int(worker.exitcode or 0)
