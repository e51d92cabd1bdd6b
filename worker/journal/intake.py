"""Taking requests from the schedulers' queue so that none is lost: neither with a scheduler nor with a connection.

A request is moved, in one step of Redis, to a list of its scheduler's own, and stays there until it is done. What is
in such a list and in nobody's hands goes back to the queue: after a few seconds that of a scheduler that shows no
sign of life, and that of this one whose answer a broken connection swallowed. So a request may be served twice,
which changes nothing (``create.lua``, ``cancel.lua``).
"""

from __future__ import annotations

import os
import secrets
import socket
import threading

import redis
import structlog

from worker.journal.scripting import Scripts, connect
from worker.journal.trouble import trouble

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often a scheduler shows that it lives and looks for what is in nobody's hands."""
DEAD_SECONDS = 3.0
"""One that has not for so long is taken for dead; where it is not, its requests are served twice."""


class Intake(Scripts):
    """What one scheduler has taken from the queue. Has a client and a thread of its own."""

    def __init__(self, url: str, prefix: str, queue: str) -> None:
        super().__init__(connect(url), prefix)
        self.queue = queue
        self.name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self.taken = self._key("taken", self.name)
        """The key of the list."""
        self._held: dict[str, bytes] = {}
        self._missed: set[bytes] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more, and put back what was not done."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(2 * LOOK_SECONDS)
        try:
            self._put_back(self._entries())
        except redis.RedisError as lost:
            logger.warning("requests left to the other schedulers", error=type(lost).__name__)

    def hold(self, tag: str, entry: bytes) -> None:
        """An entry of the list is in this process's hands, under its delivery tag."""
        self._held[tag] = entry

    def done(self, tag: str) -> None:
        """And is done: it goes from the list, now or, where Redis is away, after it was served once more."""
        entry = self._held.pop(tag, None)
        if entry is not None:
            self.drop(entry)

    def lose(self, tag: str) -> None:
        """And is not done: it is put back into the queue when this scheduler stops, or soon."""
        self._held.pop(tag, None)

    def drop(self, entry: bytes) -> None:
        """Take an entry off the list."""
        try:
            self.client.lrem(self.taken, 1, entry)
        except redis.RedisError as lost:
            logger.warning("a request is served once more", why=trouble(lost), error=type(lost).__name__)

    def look(self) -> None:
        """Show that this scheduler lives, and put back what is in nobody's hands.

        Of its own list that is what it did not hold at two looks: an answer may be on its way.
        """
        missed = set(self._entries()) - set(self._held.values())
        self._put_back([entry for entry in missed if entry in self._missed])
        self._missed = missed

    def _entries(self) -> list[bytes]:
        # What anybody may have put into the queue need not be text.
        entries: list[bytes] = self.client.execute_command("LRANGE", self.taken, 0, -1, NEVER_DECODE=True)
        return entries

    def _put_back(self, lost: list[bytes]) -> None:
        answer = self._run("intake", self.name, int(DEAD_SECONDS * 1000), self.queue, *lost)
        if answer[1]:
            logger.warning("requests put back into the queue", number=answer[1])

    def _keep_looking(self) -> None:
        while True:
            try:
                self.look()
            except redis.RedisError as lost:
                logger.debug("intake: no look", why=trouble(lost), error=type(lost).__name__)
            if self._ended.wait(LOOK_SECONDS):
                return


def schedulers(book: Scripts) -> list[str]:
    """The schedulers that live, as ``node/pid/…``."""
    seconds, micros = book.client.time()
    since = seconds * 1000 + micros // 1000 - DEAD_SECONDS * 1000
    return [str(name) for name in book.client.zrangebyscore(book._key("schedulers"), since, "+inf")]
