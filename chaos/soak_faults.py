"""What goes wrong in a soak: a fault at random for a share of the migrations."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple

import redis

from chaos.soak_stage import MORTAL, SoakStage
from chaos.stage import Guest, NotReached, until
from worker.errors import RelayError

KINDS = (
    "kill-agent",
    "kill-host",
    "kill-scheduler",
    "kill-redis",
    "same-request-twice",
    "message-twice",
    "message-lost",
    "fail",
    "fail-for-good",
    "cut-link",
    "drop-session",
    "delay",
)
SIMULATED: dict[str, dict[str, object]] = {
    "fail": {"kind": "fail"},
    "fail-for-good": {"kind": "fail", "code": "0x80000018"},
    "cut-link": {"kind": "cut-link"},
    "drop-session": {"kind": "drop-session"},
    "delay": {"kind": "delay", "step": 10, "seconds": 100},
}
"""Armed on the guest's source, for its next migration from there."""
LATEST_SECONDS = 0.4
"""A kill comes so long after its migration's request at most: in any of its phases, or after it."""
CATCH_SECONDS = 2.0
"""For so long a message is waited for that is to be doubled or lost."""


class Order(NamedTuple):
    """A fault that is to happen to one migration."""

    kind: str
    ident: str
    guest: Guest
    source: str
    destination: str


class Saboteur:
    """Lets the ordered faults happen, one after the other, in a thread of its own."""

    def __init__(self, stage: SoakStage, dice: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._stage, self._dice = stage, dice
        self._orders: SimpleQueue[Order] = SimpleQueue()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="saboteur", daemon=True)
        self._thread.start()

    def order(self, order: Order) -> None:
        """Have a fault happen soon."""
        self._orders.put(order)

    def stop(self) -> None:
        """Let what was ordered happen, and nothing more."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not (self._ended.is_set() and self._orders.empty()):
            with suppress(Empty):
                order = self._orders.get(timeout=0.1)
                with suppress(RelayError, redis.RedisError):
                    if self._strike(order):
                        self.done[order.kind] += 1

    def _strike(self, order: Order) -> bool:
        stage = self._stage
        if order.kind in SIMULATED:
            stage.ask(order.source, "fault", fault=SIMULATED[order.kind] | {"vm": order.guest.name})
            return True
        if order.kind == "same-request-twice":
            stage.migrate(order.guest, order.destination, order.ident)
            return True
        if order.kind in ("message-twice", "message-lost"):
            return self._on_a_message(order)
        time.sleep(self._dice.random() * LATEST_SECONDS)
        host = order.source if order.source in MORTAL else self._dice.choice(MORTAL)
        stage.keeper.kill(
            {
                "kill-agent": stage.process(host),
                "kill-host": stage.host_process(host),
                "kill-scheduler": "scheduler",
                "kill-redis": "redis",
            }[order.kind]
        )
        return True

    def _on_a_message(self, order: Order) -> bool:
        """Double or take away the next message for the destination's agent, which stands still meanwhile."""
        stage, host = self._stage, order.destination
        try:
            stage.hold(host, delivered=False)
            found = until(lambda: stage.messages(host)[:1], "a message", CATCH_SECONDS)
            for queue, message in found:
                if order.kind == "message-twice":
                    stage.journal.client.lpush(queue, message)
                else:
                    stage.journal.client.lrem(queue, 1, message)
        except NotReached:
            return False  # nothing came
        finally:
            stage.release(host)
        return True
