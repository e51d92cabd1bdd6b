"""How a worker takes messages from Redis and puts them there: kombu's channel, made to outlast what Redis does.

kombu's own keeps a copy of each message in hand in Redis. Nothing here needs it: what an agent loses is sent again
from the journal's outbox, and what a scheduler takes is kept by its intake. kombu's copies would be written after
the message was taken (a Redis that is full refuses that, and the message is gone) and given back when a connection
breaks (which ends the worker where that fails).
"""

from __future__ import annotations

import time
from queue import Empty
from typing import Any, ClassVar

import structlog
from kombu.transport import redis as redis_transport
from kombu.transport import virtual
from kombu.utils.json import dumps, loads
from redis import exceptions

from worker.journal.intake import Intake
from worker.journal.trouble import Trouble, trouble

logger = structlog.get_logger(__name__)

NO_MESSAGE = (TypeError, ValueError, LookupError, AttributeError, RecursionError)
"""What Celery and kombu raise over something in a queue that is no task message, and then end the worker."""
PAUSE_SECONDS = 0.2
"""How long the consumer's loop waits after Redis refused to hand out a message."""
PUSH = "redis.call('DEL', KEYS[1] .. ':nothing') return redis.call('LPUSH', KEYS[1], ARGV[1])"
BIND = "redis.call('DEL', KEYS[1] .. ':nothing') for _, key in ipairs(KEYS) do redis.call('SADD', key, ARGV[1]) end"
"""What a full Redis lets pass all the same: see ``GOES_ON`` of ``journal/scripting.py``."""


class InHand(virtual.QoS):
    """The messages in hand, in this process's memory alone; nothing is given back when a channel closes."""

    restore_at_shutdown = False

    def ack(self, delivery_tag: str) -> None:
        """It is done."""
        super().ack(delivery_tag)
        self.channel.done(delivery_tag)  # type: ignore[attr-defined]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """It is no message for us, or (``requeue``) nobody consumes any more: another worker is to have it."""
        super().ack(delivery_tag)
        let_go = self.channel.lose if requeue else self.channel.done  # type: ignore[attr-defined]
        let_go(delivery_tag)


class Channel(redis_transport.Channel):
    """An agent's channel. Drops what is not even an envelope, so that one entry in a queue cannot end the worker.

    Keeps one client: kombu makes a new one for each command, which takes longer than the command.
    """

    QoS = InHand  # type: ignore[assignment]
    _kept: Any = None

    def done(self, delivery_tag: str) -> None:
        """A message is done with."""

    def lose(self, delivery_tag: str) -> None:
        """A message is in nobody's hands; the outbox sends it again."""

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401 - kombu's own signature
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        if self._kept is None or self._kept.connection_pool is not self.pool:  # a lost connection makes a new pool
            self._kept = super()._create_client()  # type: ignore[misc]
        return self._kept

    def _brpop_read(self, **options: Any) -> Any:  # noqa: ANN401 - kombu's own signature
        try:
            return self._read(**options)
        except NO_MESSAGE as wrong:
            logger.warning("queue entry dropped: it is no message", error=type(wrong).__name__)
        except exceptions.ResponseError as refused:
            self._wait_out(refused)
        raise Empty

    def _read(self, **options: Any) -> Any:  # noqa: ANN401
        return super()._brpop_read(**options)  # type: ignore[misc]

    @staticmethod
    def _wait_out(refused: exceptions.ResponseError) -> None:
        why = trouble(refused)
        if why is None:
            raise refused
        if why is Trouble.READ_ONLY:  # after a failover: another connection may lead to the master
            raise exceptions.ConnectionError(str(refused)) from None
        logger.debug("no message: Redis refuses", why=why)
        time.sleep(PAUSE_SECONDS)

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:  # noqa: ANN401
        """Also into a full Redis: what has begun goes on."""
        try:
            super()._put(queue, message, **kwargs)
        except exceptions.OutOfMemoryError:
            kombu: Any = super()
            key = kombu._q_for_pri(queue, kombu._get_message_priority(message, reverse=False))
            self._create_client().eval(PUSH, 1, key, dumps(message))
        except exceptions.ReadOnlyError as moved:
            self.pool.disconnect()
            raise exceptions.ConnectionError(str(moved)) from None

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Also in a full Redis, so that an agent can be started there."""
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[misc]
        except exceptions.OutOfMemoryError:
            kombu: Any = super()
            keys = (kombu.keyprefix_queue % (exchange,), kombu.keyprefix_binding_permanent % (exchange,))
            member = kombu.sep.join((routing_key or "", pattern or "", queue or ""))
            self._create_client().eval(BIND, len(keys), *keys, member)


class IntakeChannel(Channel):
    """A scheduler's channel: what it takes stays in its intake until it is done."""

    intake: ClassVar[Intake]

    def done(self, delivery_tag: str) -> None:
        """See ``Intake.done``; works after this channel's own connection was closed."""
        self.intake.done(delivery_tag)

    def lose(self, delivery_tag: str) -> None:
        """See ``Intake.lose``."""
        self.intake.lose(delivery_tag)

    def _brpop_start(self, timeout: float | None = None) -> None:
        if not self.active_queues:
            return
        connection = self.client.connection
        self._in_poll, self._brpop_sent_at = connection, time.monotonic()
        wait = timeout or self.brpop_timeout
        connection.send_command("BLMOVE", self.intake.queue, self.intake.taken, "RIGHT", "LEFT", wait)

    def _read(self, **options: Any) -> Any:  # noqa: ANN401
        connection = self.client.connection
        try:
            entry = self.client.parse_response(connection, "BLMOVE", **options)
        except self.connection_errors:  # type: ignore[attr-defined]
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
        if entry is None:
            raise Empty
        try:
            message = loads(entry.decode())
            self.intake.hold(str(message["properties"]["delivery_tag"]), entry)
            self.connection._deliver(message, self.intake.queue)
        except NO_MESSAGE:
            self.intake.drop(entry)
            raise
        return True
