"""What one agent has in hand: the phases that its threads run now, and results that nobody took."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from worker.contract import Baton

MOST_KEPT = 256
"""So many results are kept at most; the oldest go first."""


class Running:
    """The claims that this process makes good, by their tokens.

    A claim that the journal says is running here, and that is not in here, has been lost: with the process
    that had it, or with what Redis forgot.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[str, str]] = {}
        self._kept: dict[tuple[str, int, str], Baton] = {}

    @contextmanager
    def phase(self, token: str, migration: str, phase: str) -> Iterator[None]:
        """From before a claim is made until its result is in the journal."""
        with self._lock:
            self._phases[token] = migration, phase
        try:
            yield
        finally:
            with self._lock:
                del self._phases[token]

    def __contains__(self, token: str) -> bool:
        with self._lock:
            return token in self._phases

    def busy_with(self, migration: str, besides: str) -> str:
        """The phase of a migration that is still running here under another token than ``besides``, or ""."""
        with self._lock:
            found = (name for token, (of, name) in self._phases.items() if of == migration and token != besides)
            return next(found, "")

    def keep(self, phase: str, after: Baton) -> None:
        """What a phase returned whose claim was taken over meanwhile: whoever recovers the attempt asks for it."""
        with self._lock:
            self._kept[after.migration, after.attempt, phase] = after
            while len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]

    def take(self, migration: str, attempt: int, phase: str) -> Baton | None:
        """What was kept of a phase, once."""
        with self._lock:
            return self._kept.pop((migration, attempt, phase), None)
