"""Running a Celery worker as the program: threads pool, own queue, own way of stopping."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.transport import redis as redis_transport

from worker import starting
from worker.app import app
from worker.channel import NO_MESSAGE, Channel, IntakeChannel
from worker.journal.intake import Intake

logger = structlog.get_logger(__name__)

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter from the others."""

UNFINISHED = 5
"""The exit code of a process that was ended although something still ran: recovery brings that to its end."""

ENDING_SECONDS = 10.0
"""How long a worker that hurries may take to end once it stopped consuming."""

Drain = Callable[[threading.Event], bool]
"""Waits for what is in flight, no longer than needed once the event is set; returns whether nothing of it is left."""


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


class Stopper:
    """What SIGTERM and SIGINT do: the first one drains, the second one hurries, a third one ends the process."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._signals = 0
        self._hurry = threading.Event()

    def listen(self) -> None:
        """Take the signals over, in the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._signals += 1
        name = signal.Signals(number).name
        if self._signals == 1:
            logger.info("draining", signal=name)
            threading.Thread(target=self._stop, name="drain", daemon=True).start()
        elif self._signals == 2:
            logger.warning("stopping now, without waiting for what could be aborted", signal=name)
            self._hurry.set()
        else:
            logger.error("ending at once; whatever runs is left to recovery", signal=name)
            os._exit(UNFINISHED)

    def _stop(self) -> None:
        from celery.worker import state

        done = False
        try:
            done = self._drain(self._hurry)
        finally:
            vars(state)["should_stop"] = 0
            if done:
                self._hurry.wait()
            # A thread of the pool cannot be cut short, and without this the process would wait for the last of them.
            time.sleep(ENDING_SECONDS)
            logger.error("not everything has ended; whatever runs is left to recovery")
            os._exit(UNFINISHED)


def run(
    name: str,
    queue: str,
    threads: int,
    *,
    ready: Callable[[], None],
    drain: Drain,
    intake: Intake | None = None,
) -> int:
    """Consume ``queue``, through an ``intake`` where one is given, until told to stop; returns the exit code.

    The first SIGTERM or SIGINT calls ``drain`` in a thread of its own and goes on consuming until it
    returns: what is in flight still needs its later phases. A second one sets the event that ``drain`` was
    given. Where ``drain`` leaves something, or somebody hurries, the process ends ``ENDING_SECONDS`` after
    the consumer was stopped, with ``UNFINISHED``, even if a task hangs.
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
    stopper = Stopper(drain)

    @worker_ready.connect(weak=False)
    def _started(**_: object) -> None:
        # Celery has installed its own handlers by now; they would stop consuming at once.
        stopper.listen()
        starting.ready()
        ready()

    try:
        worker.start()
    finally:
        if intake is not None:
            intake.stop()
    sys.stdout.flush()
    return int(worker.exitcode or 0)
