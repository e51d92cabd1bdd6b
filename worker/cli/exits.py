"""The exit codes of ``vmrelay``: stable, for scripts."""

from __future__ import annotations

from worker.errors import InDoubt, Rejected, RelayError, SettingsError
from worker.journal.record import Record

MOVED = 0
"""The domain is on its destination (or a command of another kind did what it was asked)."""
FAILED = 1
"""The domain is safe on its source (or a command of another kind failed)."""
REFUSED = 2
"""Usage, flags, unknown host: no host was touched."""
IN_DOUBT = 3
"""Needs an operator."""
TIMED_OUT = 4
"""Waiting timed out; the migration goes on."""
INTERRUPTED = 130
"""Waiting was interrupted; the migration goes on."""


def for_error(error: RelayError) -> int:
    """The exit code for an error."""
    if isinstance(error, (Rejected, SettingsError)):
        return REFUSED
    return IN_DOUBT if isinstance(error, InDoubt) else FAILED


def for_record(record: Record | None) -> int:
    """The exit code for how a migration ended (``None``: it did not, in time)."""
    if record is None:
        return TIMED_OUT
    if record.state == "in-doubt":
        return IN_DOUBT
    return {"succeeded": MOVED, "rejected": REFUSED}.get(record.outcome, FAILED)
