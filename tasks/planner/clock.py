"""The end of a search that takes far longer than its estimates say."""

from __future__ import annotations

import time

TIMES = 3.0
"""A plan's seconds are estimated from sizes, so that the outcome repeats; only so many times as long the clock ends
it."""


class Clock:
    """Looked at by everything that searches; all is ended once time is up, and ``rang`` says so."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + TIMES * seconds
        self.rang = False

    def over(self) -> bool:
        """Whether time is up."""
        self.rang = self.rang or time.monotonic() > self._until
        return self.rang
