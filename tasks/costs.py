"""How many slots a migration takes: one, and more for a guest with much memory or one that writes much."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from worker.runtime import Runtime
from worker.settings import AdmissionSettings

MOST = 64
"""No limit of a host is higher; what fewer slots there are is known when it starts."""
KNOWN_SECONDS = 5.0
"""So long the loads of a host are taken as they were read: agents measure them less often than that."""
GIB = 1024**3


def cost_of(memory_bytes: float, dirty_mib_per_second: float, weights: AdmissionSettings) -> int:
    """The slots of each host and network: what a guest of that size and activity counts."""
    heavy = memory_bytes // (weights.heavy_memory_gib * GIB)
    active = dirty_mib_per_second // weights.heavy_dirty_mib_per_second
    return int(min(1 + heavy + active, MOST))


class DirtyRates:
    """What the guests of each host write, as its agent has told; read at most every five seconds."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Mapping[str, float]]] = {}

    def of(self, parts: Runtime, host: str, uuid: str) -> float:
        """MiB in a second; 0 where nobody has measured it."""
        now = time.monotonic()
        read, rates = self._known.get(host, (-KNOWN_SECONDS, {}))
        if now - read >= KNOWN_SECONDS:
            load = parts.journal.loads([host]).get(host)
            rates = {uuid: guest.dirty for uuid, guest in load.guests.items() if guest.dirty} if load else {}
            self._known[host] = now, rates
        return rates.get(uuid, 0.0)


_rates = DirtyRates()


def cost_at(parts: Runtime, domain: Mapping[str, Any], source: str) -> int:
    """The same of a domain, from what is published of it; nothing that is not known makes it dearer."""
    dirty = _rates.of(parts, source, str(domain["uuid"]))
    return cost_of(float(domain.get("memory_bytes") or 0), dirty, parts.settings.admission)
