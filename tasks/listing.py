"""The lists of all migrations and batches, kept whole by the leading scheduler (``worker/journal/lists.py``)."""

from __future__ import annotations

import time

import structlog

from worker.journal import Journal
from worker.runtime import Runtime
from worker.scheduler import seldom

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
"""How often the lists are counted against the other indexes."""
BUDGET_SECONDS = 0.02
"""So much of a round goes into making them complete."""


class Lister:
    """What another version wrote without the lists gets into them, some hundred in a step, from round to round."""

    def __init__(self) -> None:
        self._place: tuple[str, str] | None = ("", "0")
        self._looked = 0.0
        self._changed = 0

    def look(self, journal: Journal, now: float, until: float) -> None:
        """Go on for as long as there is time; begin anew where something is missing. Times are of one clock."""
        if self._place is None:
            if now - self._looked < LOOK_SECONDS:
                return
            self._looked = now
            if journal.is_listed():
                return
            self._place, self._changed = ("", "0"), 0
        while self._place is not None and time.monotonic() < until:
            place, changed = journal.enlist(self._place)
            self._changed += changed
            self._place, self._looked = place if place[0] else None, now
        if self._place is None and self._changed:
            logger.info("lists of migrations and batches completed", changed=self._changed)


_lister = Lister()


@seldom
def keep_lists(parts: Runtime) -> None:
    """Drop what has expired, and complete what is missing."""
    parts.journal.forget(parts.settings.keep_seconds)
    now = time.monotonic()
    _lister.look(parts.journal, now, now + BUDGET_SECONDS)
