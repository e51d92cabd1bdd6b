"""Time inside the simulation: real time made faster by a factor, or left out altogether."""

from __future__ import annotations

import asyncio

SHORTEST_TIMEOUT = 2.0
"""Real seconds: a scaled timeout below this would only measure how busy the machine is."""


class Clock:
    """Converts simulated seconds into real ones."""

    def __init__(self, scale: float, instant: bool) -> None:
        self.scale = scale
        self.instant = instant

    def real(self, seconds: float) -> float:
        """Real seconds that ``seconds`` of simulated time last."""
        return 0.0 if self.instant else seconds / self.scale

    def timeout(self, seconds: float) -> float:
        """Real seconds after which something that should answer within ``seconds`` is given up."""
        return max(self.real(seconds), SHORTEST_TIMEOUT)

    async def sleep(self, seconds: float) -> None:
        """Let simulated time pass; nothing at all in instant mode."""
        if not self.instant and seconds > 0:
            await asyncio.sleep(seconds / self.scale)
