"""What one agent has in hand: the phases that its threads run now, and what the last ones returned."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from worker.contract import RECOVER, Baton

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
        self._won: set[str] = set()
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
                self._won.discard(token)

    def won(self, token: str) -> None:
        """The claim was won: the hypervisor is called now."""
        with self._lock:
            self._won.add(token)

    def __contains__(self, token: str) -> bool:
        with self._lock:
            return token in self._phases

    def busy_with(self, migration: str, besides: str) -> str:
        """The phase of a migration that is still running here under another token than ``besides``, or "".

        Looks of a recovery do not count: the one before may not have ended when the next message comes.
        """
        with self._lock:
            phases = [(token, name) for token, (of, name) in self._phases.items() if of == migration]
        return next((name for token, name in phases if token != besides and name != RECOVER), "")

    def holding(self, migration: str, besides: str) -> str:
        """The same of claims that were won: copies of one message that race for it do not keep each other away."""
        with self._lock:
            held = [(token, *self._phases[token]) for token in self._won if token != besides]
        return next((name for _, of, name in held if of == migration and name != RECOVER), "")

    def keep(self, phase: str, after: Baton) -> None:
        """What a phase returned, in case that its message comes again or somebody recovers the attempt.

        Redis may forget the last second: then what was done must not be done twice.
        """
        with self._lock:
            key = after.migration, after.attempt, phase
            self._kept.pop(key, None)  # what replaces an older result is the newest one
            self._kept[key] = after
            while len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]

    def kept(self, phase: str, before: Baton, epoch: int | None = None) -> Baton | None:
        """What was kept of a phase of this attempt, done in ``before``'s epoch or the one given."""
        with self._lock:
            after = self._kept.get((before.migration, before.attempt, phase))
        if after is None or after.epoch != (before.epoch if epoch is None else epoch):
            return None
        # A recovery that lets the chain go on asks for the phase anew, in the same epoch too.
        return after if after.recoveries == before.recoveries else None
