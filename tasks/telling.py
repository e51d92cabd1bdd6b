"""What webhooks are told, by threads of the leading scheduler: no round waits, and no webhook for another one.

The journal has what is to be told (an outbox for each webhook, written by the scripts that end things), and how it
goes: a new leader goes on where the last one was. A delivery is taken for as long as a try may last, so one in the
hands of whoever was killed is due again afterwards: a receiver may get it twice, under one id, and never not at all.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import redis
import structlog

from worker import metrics, trace
from worker.errors import SettingsError
from worker.journal.trouble import passes
from worker.journal.webhooks import Delivery
from worker.runtime import Runtime
from worker.scheduler import LEASE_SECONDS, on_round
from worker.settings import WebhookSettings
from worker.webhooks import policy
from worker.webhooks.policy import Answer, Result
from worker.webhooks.sender import post

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often the journal is told which webhooks there are, and metrics how it goes with them."""
AGAIN_SECONDS = 0.5
"""So often a note is tried that Redis does not take."""


class Teller:
    """The threads of one process, and when it last led."""

    def __init__(self) -> None:
        self._led = self._looked = -LOOK_SECONDS - LEASE_SECONDS
        self._threads: dict[str, list[threading.Thread]] = defaultdict(list)

    def round(self, parts: Runtime, now: float) -> None:
        """Begin to deliver what is due; ``now`` is of the monotonic clock."""
        self._led = now
        webhooks = parts.settings.webhooks
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            wishes = {name: (each.tells, each.hosts, each.most_waiting) for name, each in webhooks.items()}
            parts.journal.name_webhooks(wishes)
            show(parts)
        for name, webhook in webhooks.items():
            threads = self._threads[name] = [thread for thread in self._threads[name] if thread.is_alive()]
            if len(threads) < webhook.at_once and (delivery := take(parts, name, webhook)):
                work = threading.Thread(
                    target=self._work, args=(parts, name, webhook, delivery), name=f"webhook-{name}", daemon=True
                )
                threads.append(work)
                work.start()

    def _leads(self) -> bool:
        return time.monotonic() - self._led < LEASE_SECONDS

    def _work(self, parts: Runtime, name: str, webhook: WebhookSettings, first: Delivery) -> None:
        delivery: Delivery | None = first
        try:
            while delivery is not None:
                deliver(parts, name, webhook, delivery)
                delivery = take(parts, name, webhook) if self._leads() else None
        except redis.RedisError as lost:
            logger.warning("webhook waits: Redis does not answer", webhook=name, error=type(lost).__name__)
        except Exception as error:  # it is due again when its time is over; the next round goes on with others
            logger.warning("webhook", webhook=name, error=f"{type(error).__name__}: {error}"[:500])


_teller = Teller()


@on_round
def tell_webhooks(parts: Runtime) -> None:
    """Deliver what webhooks are to be told."""
    _teller.round(parts, time.monotonic())


def hold_seconds(webhook: WebhookSettings) -> float:
    """How long a delivery is in the hands of one thread: a try (to connect, and then all the rest), and its note."""
    return 2 * webhook.timeout_seconds + 2


def take(parts: Runtime, name: str, webhook: WebhookSettings) -> Delivery | None:
    """The next delivery that is due, if any."""
    return parts.journal.take_delivery(name, hold_seconds(webhook), webhook.give_up_seconds)


def deliver(parts: Runtime, name: str, webhook: WebhookSettings, delivery: Delivery) -> None:
    """Try once, and write down what came of it. Raises what Redis raises while the try's time lasts."""
    began = time.monotonic()
    told = {"webhook": name, "delivery": delivery.id, "type": delivery.type, "of": delivery.of}
    answer = Answer()
    trace.bind("")
    try:
        found = message(parts, delivery)
        if found is None:
            note(parts, name, delivery, Result.DROPPED, "the record has expired")
            logger.warning("webhook: not told, since the record has expired", **told)
            return
        trace.bind(found[1])
        answer = post(webhook, delivery.id, *found)
    except SettingsError as wrong:
        answer = Answer(error=wrong.message)
    except (KeyError, ValueError) as strange:  # a record of another version, say
        answer = Answer(error=f"no message could be made: {strange}"[:300])
    if answer.seconds:
        metrics.webhook_seconds.labels(name).observe(answer.seconds)
    result = policy.result_of(answer)
    asked = policy.asked_pause(answer.retry_after, time.time())
    again, pause = (
        max(policy.pause(failures + 1, webhook.initial_seconds, webhook.maximum_seconds, random.random()), asked)  # noqa: S311
        for failures in (delivery.tries, delivery.failures)
    )
    note(parts, name, delivery, result, policy.told(answer), again, pause, began + hold_seconds(webhook))
    seconds = round(answer.seconds, 3)
    if result is Result.DELIVERED:
        logger.info("webhook told", seconds=seconds, tries=delivery.tries + 1, **told)
    else:
        logger.warning("webhook not told", result=result, why=policy.told(answer), seconds=seconds, **told)


def message(parts: Runtime, delivery: Delivery) -> tuple[dict[str, Any], str] | None:
    """What is sent, and the trace it belongs to; ``None`` where there is no record any more.

    The document is the record's as it is now: what was in doubt may have been settled since.
    """
    envelope: dict[str, Any] = {"type": delivery.type, "id": delivery.id, "at": delivery.at}
    if delivery.type.startswith("batch."):
        batch = parts.journal.batch(delivery.of)
        return (envelope | {"batch": batch.document()}, batch.traceparent) if batch else None
    record = parts.journal.record(delivery.of)
    return (envelope | {"migration": record.document()}, record.traceparent) if record else None


def note(
    parts: Runtime,
    name: str,
    delivery: Delivery,
    result: Result,
    said: str,
    again: float = 0.0,
    pause: float = 0.0,
    until: float = 0.0,
) -> None:
    """Write down what came of a try, as long as the delivery is in our hands: a note that is lost is a second try."""
    while True:
        try:
            parts.journal.note_delivery(name, delivery, result, said, again, pause)
        except redis.RedisError as lost:
            if not passes(lost) or time.monotonic() > until:
                raise
            time.sleep(AGAIN_SECONDS)
        else:
            return


def show(parts: Runtime) -> None:
    """Serve how many wait, for how long the oldest does, and what came of the others."""
    standings = parts.journal.webhooks(parts.settings.webhooks)
    counts: Mapping[tuple[str, str], int] = {
        (name, result): number for name, each in standings.items() for result, number in each.counts
    }
    metrics.webhook_deliveries.show(counts)
    for name, each in standings.items():
        metrics.webhook_waiting.labels(name).set(each.waiting)
        metrics.webhook_oldest_seconds.labels(name).set(each.oldest_seconds)
