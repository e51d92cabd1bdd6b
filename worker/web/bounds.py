"""How much one caller may ask for: a token bucket for each, in memory, and never more of them than a bound."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict

MOST_CALLERS = 10_000
"""So many are remembered; the one that was silent longest is forgotten, and begins with a full bucket again."""
BURST_SHARE = 0.1
"""Of what one may ask for in a minute, so much at once."""
LEAST_BURST = 20


class Buckets:
    """Who asks more than ``per_minute`` for long, or more than a tenth of it at once, has to wait."""

    def __init__(self, per_minute: int, most: int = MOST_CALLERS) -> None:
        self._rate = per_minute / 60
        self._size = float(max(1, min(per_minute, max(LEAST_BURST, int(per_minute * BURST_SHARE)))))
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, caller: str, now: float) -> int:
        """Count one request, at ``now`` (seconds of a monotonic clock): 0, or the seconds until one more is served."""
        level, at = self._levels.pop(caller, (self._size, now))
        level = min(self._size, level + max(0.0, now - at) * self._rate)
        wait = 0 if level >= 1 else math.ceil((1 - level) / self._rate)
        self._levels[caller] = (level if wait else level - 1, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return wait


def caller_of(address: str) -> str:
    """Who asks from this address: of IPv6 the network, for one machine has many addresses. Pure."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped:
            return str(known.ipv4_mapped)
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(known)
