"""The journal, read for the pages; raises ``redis.RedisError``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from worker.errors import Rejected
from worker.overview import described
from worker.runtime import Runtime
from worker.web.page.overview import overview
from worker.web.page.timeline import Event, timeline
from worker.web.page.view import View

HOSTS_SECONDS = 2.0
"""Agents publish no more often what their hosts have; a start or an end is seen at once all the same."""


class Overview:
    """Reads the overview page: what moves each time, hosts when they may have changed. One thread at a time."""

    def __init__(self, parts: Runtime) -> None:
        self._parts = parts
        self._at = float("-inf")
        self._moves: tuple[Sequence[str], ...] = ()
        self._hosts: list[dict[str, Any]] = []
        self._census: dict[str, tuple[int, float]] = {}

    def __call__(self) -> View:
        """A look. Raises ``redis.RedisError``."""
        book = self._parts.journal
        glance = book.glance()
        moves = tuple([record.id for record in records] for records in (glance.active, glance.ended, glance.pending))
        if moves != self._moves or time.monotonic() - self._at > HOSTS_SECONDS:
            self._hosts, self._census = described(book, self._parts.inventory), book.census()
            self._moves, self._at = moves, time.monotonic()
        return overview(glance, self._hosts, self._census)


class Timeline:
    """Reads one migration's page: its record, and the events since the last look. One thread at a time."""

    def __init__(self, parts: Runtime, ident: str) -> None:
        self._book = parts.journal
        self._ident = ident
        self._events: list[Event] = []

    def exists(self) -> bool:
        """Whether there is a record. Raises ``redis.RedisError``."""
        return self._book.record(self._ident) is not None

    def __call__(self) -> View:
        """A look. Raises ``Rejected`` (``unknown-migration``) and ``redis.RedisError``."""
        record = self._book.record(self._ident)
        if record is None:
            raise Rejected("the journal keeps this migration no longer", code="unknown-migration")
        after = self._events[-1][0] if self._events else "0"
        self._events += self._book.events(self._ident, after)
        return timeline(record, self._events, self._book.now())
