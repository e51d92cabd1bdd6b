"""What leaves a host now, as its agent's gauges."""

from __future__ import annotations

import threading

from worker import metrics
from worker.hypervisors.base import Progress


class Leaving:
    """What the performs of one host send now, summed over them: three gauges that fall to 0 with the last one."""

    def __init__(self, host: str) -> None:
        self._performs: dict[str, Progress] = {}
        self._lock = threading.Lock()
        self._gauges = {
            "remaining_bytes": metrics.perform_remaining_bytes.labels(host),
            "bandwidth_bytes_per_second": metrics.perform_bandwidth.labels(host),
            "dirty_bytes_per_second": metrics.perform_dirty.labels(host),
        }
        self._show()

    def at(self, token: str, progress: Progress) -> None:
        """How far one of them is."""
        with self._lock:
            self._performs[token] = progress
            self._show()

    def over(self, token: str) -> None:
        """One of them has ended, however it did."""
        with self._lock:
            if self._performs.pop(token, None):
                self._show()

    def _show(self) -> None:
        for name, gauge in self._gauges.items():
            gauge.set(sum(getattr(each, name) for each in self._performs.values()))
