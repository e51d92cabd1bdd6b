"""The exit codes of ``vmrelay``: stable, for scripts."""

from __future__ import annotations

from worker.errors import InDoubt, Rejected, RelayError, SettingsError
from worker.journal.batch import Batch
from worker.journal.record import Record

MOVED = 0
"""The domain is on its destination (or a command of another kind did what it was asked). Of a batch: all that it was
to move has moved, or there was nothing to do."""
FAILED = 1
"""The domain is safe on its source (or a command of another kind failed). Of a batch: something failed, was skipped
or had to stay, or no plan could be made; of a dry run: the plan does not reach its goal."""
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


def for_batch(batch: Batch) -> int:
    """The exit code for how a batch ended."""
    if batch.in_doubt:
        return IN_DOUBT
    return FAILED if batch.failed or batch.skipped or batch.staying or batch.exhausted else MOVED
