"""vmrelay's events of one migration, handed on to a browser while they come."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from anyio import CapacityLimiter, sleep, to_thread
from moves import Move, Moves
from vmrelay_client import Client, Event, RelayError

VIEWERS = CapacityLimiter(100)
"""So many watch at once, and more wait: each occupies a thread, and these are not those that serve pages."""


async def progress(moves: Moves, relay: Client, move: Move) -> AsyncIterator[dict[str, Any]]:
    """What to show of a move, until it is over; the last one says ``over``."""
    while move.state == "unsent":
        yield {"text": "to be sent"}
        await sleep(1)
        move = moves.get(move.id) or move
    if not move.over:
        events = relay.events(move.migration)
        # A browser that leaves ends this generator; its thread ends at the next event.
        hear = partial(to_thread.run_sync, next, events, None, abandon_on_cancel=True, limiter=VIEWERS)
        try:
            while event := await hear():
                if (text := words(event)) is not None:
                    yield {"text": text, "percent": event.data.get("percent")}
        except RelayError as lost:
            yield {"text": f"no news ({lost}); the migration goes on without us"}
            return  # the browser comes again
    look = await to_thread.run_sync(moves.look, move)
    yield {"text": look.text, "percent": look.percent, "over": look.move.over}


def words(event: Event) -> str | None:
    """An event for people; None for those that this page passes over. New types may come."""
    match event.type, event.data:
        case "phase", {"phase": phase, "host": host}:
            return f"{phase} on {host}"
        case "progress", {"percent": percent}:
            return f"{percent} % copied"
        case "retry" | "backoff", _:
            return "trying again in a moment"
        case "in-doubt", _:
            return "in doubt: an operator has to look"
    return None
