"""What goes wrong, as small classes with a stable code. The message is the relay's where the relay spoke."""

from __future__ import annotations


class RelayError(Exception):
    """Any error that this package raises on purpose.

    ``code`` is what programs compare (the relay's reference lists them), ``message`` is for people.
    """

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code:
            self.code = code

    def __str__(self) -> str:
        return self.message


class Rejected(RelayError):
    """The request is refused; no host was touched."""

    code = "rejected"


class IdempotencyConflict(Rejected):
    """The idempotency key was used for another request before; nothing was done. Seen over HTTP only."""

    code = "idempotency-conflict"


class Failed(RelayError):
    """The migration failed; the domain is safe on its source."""

    code = "failed"


class Cancelled(RelayError):
    """The migration was cancelled; the domain is on its source."""

    code = "cancelled"


class InDoubt(RelayError):
    """Where the domain runs could not be established. Do not ask for it again: an operator must look."""

    code = "in-doubt"


class TimedOut(RelayError):
    """It is not over yet. Only the waiting ended: the migration, or the batch, goes on."""

    code = "timed-out"


class Unavailable(RelayError):
    """The relay could not be asked, or did not answer in time.

    ``retry_after`` is in how many seconds it asked to be asked again, where it said so.
    """

    code = "unavailable"
    retry_after: float | None = None


class Denied(Unavailable):
    """The token is missing, unknown, or may not do this. The settings are at fault and not the request: mend them, and
    ask again.
    """

    code = "denied"
