"""The scheduler process: consumes requests, and runs the rounds under a lease.

What the rounds do is registered by ``tasks`` (``on_round``): admit what waits, republish what was lost.
Several schedulers may run; one of them at a time holds the lease and runs the rounds.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable

import redis
import structlog

from worker import metrics
from worker.contract import SCHEDULER_QUEUE
from worker.journal import Journal, connect
from worker.journal.batch import KINDS
from worker.journal.health import persists
from worker.journal.intake import Intake
from worker.runtime import Runtime, runtime

logger = structlog.get_logger(__name__)

LEASE = "scheduler"
LEASE_SECONDS = 3.0
ROUND_SECONDS = 0.1
JUDGE_SECONDS = 5.0
"""How often Redis is asked whether it keeps what it is told, and where this scheduler is found is told."""
CARD_SECONDS = 3 * JUDGE_SECONDS
"""How long that is believed."""

SELDOM_SECONDS = 1.0
"""How often the leading scheduler does what nobody waits for."""
Work = Callable[[Runtime], None]

_rounds: list[Work] = []
_seldom: list[Work] = []


def on_round(work: Work) -> Work:
    """Register work that the leading scheduler does in every round."""
    _rounds.append(work)
    return work


def seldom(work: Work) -> Work:
    """Register work that it does once a second: what is only shown, or tidied up."""
    _seldom.append(work)
    return work


class Rounds:
    """The loop of one scheduler."""

    def __init__(self, parts: Runtime, name: str, metrics_port: int) -> None:
        self._name = name
        # The loop's own client: a round must not wait behind a task.
        self._parts = Runtime(
            parts.settings, parts.inventory, Journal(connect(parts.settings.redis_url), parts.settings.key_prefix)
        )
        self._ended = threading.Event()
        self._led = -LEASE_SECONDS
        self._showed = -SELDOM_SECONDS
        self._card = {
            "incarnation": secrets.token_hex(8),
            "pid": os.getpid(),
            "node": socket.gethostname(),
            "metrics_address": parts.settings.metrics_address,
            "metrics_port": metrics_port,
        }
        self._thread = threading.Thread(target=self._loop, name="rounds", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and let another scheduler lead at once."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(5)
        metrics.lead_no_more()
        try:
            for lease in (LEASE, self._name):
                self._parts.journal.unlease(lease, str(self._card["incarnation"]))
        except redis.RedisError:
            logger.warning("scheduler lease left to lapse")

    def _loop(self) -> None:
        judged = -JUDGE_SECONDS
        while not self._ended.wait(ROUND_SECONDS):
            try:
                if time.monotonic() - judged >= JUDGE_SECONDS:
                    judged = time.monotonic()
                    self._judge()
                    self._parts.journal.lease(self._name, self._card, CARD_SECONDS)  # leading or not
                self._turn()
                metrics.redis_up.labels(self._address).set(1)
            except redis.RedisError as lost:
                logger.warning("round skipped: Redis does not answer", error=type(lost).__name__)
                metrics.redis_up.labels(self._address).set(0)
                if time.monotonic() - self._led > LEASE_SECONDS:
                    metrics.lead_no_more()  # somebody else may lead, and what is shown is of the past
                self._ended.wait(1)

    def _turn(self) -> None:
        """Lead, or let lead."""
        began = time.monotonic()
        if self._parts.journal.lease(LEASE, self._card, LEASE_SECONDS) is None:
            self._led = began
            metrics.leads.show({(): 1})
            self._round()
        else:
            metrics.lead_no_more()  # whoever leads shows it

    @property
    def _address(self) -> str:
        """Where Redis is, as metrics name it: without user or password."""
        where = self._parts.journal.client.connection_pool.connection_kwargs
        return str(where.get("path") or f"{where.get('host')}:{where.get('port')}")

    def _judge(self) -> None:
        """Show whether Redis persists, leading or not."""
        with contextlib.suppress(redis.ResponseError):  # not every user of a Redis may ask
            metrics.redis_persists.labels(self._address).set(persists(self._parts.journal.client.info()))

    def _round(self) -> None:
        now, work_now = time.monotonic(), _rounds
        if now - self._showed >= SELDOM_SECONDS:
            self._showed, work_now = now, _rounds + _seldom
        for work in work_now:
            try:
                work(self._parts)
            except redis.RedisError:
                raise
            except Exception as error:  # one migration that cannot be dealt with must not stop all others
                logger.warning("round failed", work=work.__name__, error=f"{type(error).__name__}: {error}"[:500])


def run_scheduler() -> int:
    """Be a scheduler until told to stop; returns the exit code."""
    from worker import process

    parts = runtime()
    parts.journal.load()
    metrics.expect_batches(KINDS)
    server, port = metrics.serve(parts.settings.metrics_address, parts.settings.scheduler_metrics_port)
    intake = Intake(parts.settings.redis_url, parts.settings.key_prefix, SCHEDULER_QUEUE)
    rounds = Rounds(parts, intake.name, port)

    def drain(_: threading.Event) -> bool:
        rounds.stop()  # another one leads at once; what this one has in hand ends as it does
        return True

    def ready() -> None:
        rounds.start()
        logger.info("scheduler ready", metrics_port=port)

    try:
        return process.run(
            f"scheduler-{os.getpid()}",
            SCHEDULER_QUEUE,
            parts.settings.scheduler_threads,
            ready=ready,
            drain=drain,
            intake=intake,
        )
    finally:
        rounds.stop()
        server.shutdown()
