"""Pre-copy of a guest's memory: passes over what was dirtied in the pass before.

A model of what QEMU does with the parameters that the dispatcher sets (vz-sdk 3.2): the guest is
stopped once the rest can be sent within the maximum downtime; auto-converge slows a guest that dirties
memory faster than it can be sent. Sizes in bytes, rates in bytes per second, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

MAX_DOWNTIME = 3.0
"""Seconds; the dispatcher sets 3000 ms."""
DEVICE_STATE = 0.02
"""Seconds of downtime that sending the devices' state takes in any case."""
FIRST_THROTTLE, THROTTLE_STEP, LAST_THROTTLE = 0.20, 0.10, 0.99
"""Auto-converge: shares of the guest's CPU time taken away, as QEMU's defaults."""


@dataclass(slots=True)
class PreCopy:
    """How far the copying is."""

    memory: float
    dirty_rate: float
    auto_converge: bool = True
    remaining: float = field(init=False)
    """What this pass has still to send."""
    size: float = field(init=False)
    """What this pass had to send when it began."""
    dirtied: float = 0.0
    """What the next pass will have to send."""
    sent: float = 0.0
    passes: int = 0
    throttle: float = 0.0
    converged: bool = False
    """The guest may be stopped now: ``downtime`` says for how long."""

    def __post_init__(self) -> None:
        self.remaining = self.size = self.memory

    def advance(self, seconds: float, bandwidth: float) -> None:
        """Copy for this long, or until converged."""
        while seconds > 0 and not self.converged:
            lasts = min(seconds, self.remaining / bandwidth)
            self.sent += bandwidth * lasts
            self.remaining -= bandwidth * lasts
            self.dirtied = min(self.memory, self.dirtied + self.dirty_rate * (1 - self.throttle) * lasts)
            seconds -= lasts
            if self.remaining <= bandwidth * 1e-9:
                self._next_pass(bandwidth)

    def run_out(self, bandwidth: float, passes: int = 64) -> None:
        """Copy without regard to time, at most this many passes; converged afterwards in any case."""
        while not self.converged and self.passes < passes:
            self.advance(self.remaining / bandwidth + 1e-6, bandwidth)
        self.converged = True

    def percent(self) -> int:
        """As the dispatcher computes it; may go down. 100 is never shown before the end."""
        return percent(self.remaining, self.memory)

    def downtime(self, bandwidth: float) -> float:
        """Seconds for which the guest stands still at switch-over."""
        return self.remaining / bandwidth + DEVICE_STATE

    def _next_pass(self, bandwidth: float) -> None:
        before, self.size, self.remaining = self.size, self.dirtied, self.dirtied
        self.dirtied = 0.0
        self.passes += 1
        self.converged = self.remaining / bandwidth + DEVICE_STATE <= MAX_DOWNTIME
        if not self.converged and self.auto_converge and self.remaining > before / 2:
            step = THROTTLE_STEP if self.throttle else FIRST_THROTTLE
            self.throttle = min(LAST_THROTTLE, self.throttle + step)


def percent(remaining: float, total: float) -> int:
    """``100 - ceil(100 * remaining / total)``, from 0 to 99; nothing to send counts as 0 (vz-sdk 3.2)."""
    if total <= 0:
        return 0
    return max(0, min(99, 100 - ceil(100 * remaining / total)))
