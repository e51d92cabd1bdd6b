"""All that this application says to vmrelay, and what it keeps of the answers."""

import logging
from functools import cache
from typing import Any

from celery import Celery
from django.conf import settings
from vmrelay_client import Client, Rejected, RelayError, Unavailable

from .models import Move

log = logging.getLogger(__name__)


@cache
def client() -> Client:
    """One for the process. An application of your own that uses vmrelay's Redis already will do as well."""
    return Client.from_celery(Celery("moves", broker=settings.RELAY_URL, backend=settings.RELAY_URL))


def send(row: Move) -> bool:
    """Ask for what a row says. False where the relay is away: the row stays unsent, and sync_moves sends it again.

    Nobody knows whether a request arrived whose answer was lost. The key makes that harmless: sent again, it is the
    same migration.
    """
    try:
        asked = client().migrate(
            row.guest,
            row.destination,
            idempotency_key=str(row.key),
            requested_by=row.who.get_username(),
            reason=row.reason,
        )
    except Unavailable as away:
        log.warning("move %s is not sent yet: %s", row.pk, away)
        return False
    except Rejected as refused:
        keep(row, Move.State.REJECTED, refused.message)
    else:
        keep(row, asked.state, "", migration=asked.id)
    return True


def look(row: Move) -> dict[str, Any]:
    """How far a move is: percent and text. Keeps what became of it, since the relay forgets after some days."""
    percent, text = (0 if row.open else 100), row.detail or row.get_state_display()
    if row.open and row.migration:
        try:
            seen = client().status(row.migration)
        except RelayError as lost:
            return {"percent": percent, "text": f"no news ({lost}); the migration goes on without us"}
        keep(row, seen.state, seen.error.message if seen.error else "")
        percent, text = seen.percent, seen.text
    return {"percent": percent, "text": text}


def keep(row: Move, state: str, detail: str, **more: str) -> None:
    """Note what was seen, unless somebody has noted the end meanwhile: an older look must not cover it."""
    found = {"state": state, "detail": detail, **more}
    if Move.objects.filter(pk=row.pk).exclude(state__in=Move.OVER).update(**found):
        vars(row).update(found)
    else:
        row.refresh_from_db()
