"""The errors of vmrelay: small classes, each with a stable code.

The message says what, why, and what to do next. The code is what programs may rely on: it appears in
records, in metrics (label ``reason``), in JSON output and at the end of what ``AsyncResult`` raises.
"""

from __future__ import annotations

from enum import StrEnum

DRAINED = "drained"
"""The code of an attempt that gave way to an agent being stopped; another attempt follows when it is back."""


class Retry(StrEnum):
    """What may be done after a hypervisor error (vz-sdk, section 4; libvirt: ``libvirt/errors.py``)."""

    TRANSIENT = "transient"
    """Nothing happened; the same call may be made again after a pause."""
    REPREPARE = "re-prepare"
    """Nothing happened, but what prepare handed out is void: a new attempt from prepare on."""
    VERIFY = "verify"
    """The result is unknown: look at both sides before anything else."""
    OPERATOR = "operator"
    """Something must be changed by a human first."""
    PERMANENT = "permanent"
    """This request can never succeed as it is."""
    DONE = "done"
    """It was done already."""


class RelayError(Exception):
    """Any error that vmrelay raises on purpose."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return self.message


class Rejected(RelayError):
    """The request is refused; no host was touched."""

    code = "rejected"
    driver = ""
    flags = ""
    """Flag profile and flag set (as in metrics), as far as they were known when it was refused."""

    def with_code(self) -> Rejected:
        """The same with its code at the end of the text: a result back end keeps nothing else of an exception."""
        return Rejected(f"{self.message} [{self.code}]", code=self.code)


class Failed(RelayError):
    """The migration failed; the domain is safe on its source."""

    code = "failed"


class Cancelled(RelayError):
    """The migration was cancelled; the domain is on its source."""

    code = "cancelled"


class InDoubt(RelayError):
    """Where the domain runs could not be established; an operator must look."""

    code = "in-doubt"


class SettingsError(RelayError):
    """The settings or the inventory are wrong."""

    code = "settings"


class Unavailable(RelayError):
    """Something vmrelay needs (Redis, a host, an extra) is not there."""

    code = "unavailable"


class HypervisorError(RelayError):
    """A hypervisor refused or failed a call.

    ``code`` is the hypervisor's own symbol (``PRL_ERR_TIMEOUT``, ``VIR_ERR_OPERATION_FAILED``).
    ``untouched`` is true only where the code proves that the domain was not touched.
    ``after`` is the class that holds once both sides have been looked at (for ``Retry.VERIFY``).
    ``tries`` caps how often a transient error is retried; ``None`` leaves it to the settings.
    ``slow`` asks for the long backoff (locks, shutdowns).
    """

    code = "hypervisor"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retry: Retry,
        after: Retry | None = None,
        untouched: bool = False,
        tries: int | None = None,
        slow: bool = False,
    ) -> None:
        super().__init__(message, code=code)
        self.retry = retry
        self.after = after if after is not None else retry
        self.untouched = untouched
        self.tries = tries
        self.slow = slow
