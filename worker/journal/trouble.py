"""Which errors are Redis's own trouble and pass by themselves: the one place that says so. Pure.

Whoever meets such an error waits and calls again; whatever was to be written is still to be written. Anything
else (a wrong command, missing rights, a bug in a script) would be the same the next time.
"""

from __future__ import annotations

import re
from enum import StrEnum

import redis
from redis import exceptions


class Trouble(StrEnum):
    """Why Redis does not do what it was asked; the value is the code that commands and logs show."""

    AWAY = "redis-unavailable"
    """No connection, no answer in time, or no access (which whoever runs Redis repairs)."""
    LOADING = "redis-loading"
    """It was started and reads its data, or runs a script that takes long."""
    FULL = "redis-full"
    """``maxmemory`` is reached and nothing may be evicted: what would take memory is refused."""
    READ_ONLY = "redis-read-only"
    """It is a replica now: after a failover, the master is somewhere else."""
    UNSAFE = "redis-refuses-writes"
    """It cannot keep what is written: its disk is full or broken, or too few replicas follow it."""


CLASSES: tuple[tuple[type[Exception], Trouble], ...] = (
    (exceptions.BusyLoadingError, Trouble.LOADING),
    (exceptions.OutOfMemoryError, Trouble.FULL),
    (exceptions.ReadOnlyError, Trouble.READ_ONLY),
    (exceptions.MasterDownError, Trouble.READ_ONLY),
    (exceptions.ClusterDownError, Trouble.AWAY),
    (redis.ConnectionError, Trouble.AWAY),
    (redis.TimeoutError, Trouble.AWAY),
)
"""redis-py's own classes, looked at from top to bottom."""

WORDS = {
    "OOM": Trouble.FULL,
    "READONLY": Trouble.READ_ONLY,
    "MASTERDOWN": Trouble.READ_ONLY,
    "UNBLOCKED": Trouble.READ_ONLY,
    "MISCONF": Trouble.UNSAFE,
    "NOREPLICAS": Trouble.UNSAFE,
    "LOADING": Trouble.LOADING,
    "BUSY": Trouble.LOADING,
}
"""What an answer begins with that redis-py has no class for, or that comes out of a script (Redis 6)."""

_WORD = re.compile(rf"(?:^|-)({'|'.join(WORDS)}) ")


def trouble(error: BaseException) -> Trouble | None:
    """What ails Redis, where that is what the error means and it passes; ``None`` for every other error."""
    for kind, meaning in CLASSES:
        if isinstance(error, kind):
            return meaning
    found = _WORD.search(str(error)) if isinstance(error, redis.ResponseError) else None
    return WORDS[found[1]] if found else None


def passes(error: BaseException) -> bool:
    """Whether to wait and to call again."""
    return trouble(error) is not None
