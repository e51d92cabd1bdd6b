"""Waiting, the same for every connector: looks with growing pauses, and trouble that passes is sat out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from vmrelay_client._connector import Connector
from vmrelay_client.errors import Denied, TimedOut, Unavailable

Seen = TypeVar("Seen")

SHORTEST, LONGEST, GROWTH = 0.1, 2.0, 1.3
"""Seconds between two looks: short while something happens, longer while nothing does."""
TROUBLE_SECONDS = 60.0
"""So long a relay that cannot be asked is waited for where no timeout says how long."""


def looks(connector: Connector, look: Callable[[], Seen], deadline: float | None, what: str) -> Iterator[Seen]:
    """Look again and again; whoever iterates stops once it has seen enough.

    ``deadline`` is a time of the connector's clock. Raises ``TimedOut`` after it, and ``Unavailable`` where the relay
    could not be asked for the last ``TROUBLE_SECONDS`` and there is no deadline; ``Denied`` at once.
    """
    pause, before, trouble, since = SHORTEST, None, None, 0.0
    while True:
        try:
            seen = look()
        except Denied:
            raise
        except Unavailable as lost:
            since = since if trouble else connector.now()
            trouble = lost
            pause = max(min(pause * GROWTH, LONGEST), lost.retry_after or 0)
            if deadline is None and connector.now() - since > TROUBLE_SECONDS:
                raise
        else:
            yield seen
            pause = min(pause * GROWTH, LONGEST) if seen == before else SHORTEST
            before, trouble = seen, None
        left = float("inf") if deadline is None else deadline - connector.now()
        if left <= 0:
            why = f" ({trouble})" if trouble else ""
            raise TimedOut(f"{what} is not over yet and goes on; ask for it again later{why}")
        connector.pause(min(pause, left))
