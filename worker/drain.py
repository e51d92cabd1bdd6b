"""What an agent that is told to stop waits for, and how long. Pure: the agent looks, and does it."""

from __future__ import annotations

import math
from collections.abc import Collection
from enum import Enum, auto

from worker.hypervisors.base import Phase
from worker.journal import Record


class Step(Enum):
    """What the agent does next."""

    WAIT = auto()
    """Look again soon."""
    EVICT = auto()
    """Wait no longer: abort the performs that are left, and serve what they undo."""
    DONE = auto()
    """Nothing is left that this agent could do something for."""
    LEAVE = auto()
    """End although something is left; recovery brings that to its end."""


class Drain:
    """One stop: first a grace, then the performs that are left are aborted, which may take so long (seconds).

    A migration that waits for a host is not waited for. A guest in post-copy runs on the destination already and
    cannot be held up: it is waited for, unless somebody is in a hurry.
    """

    def __init__(self, now: float, grace: float, abort: float) -> None:
        self._grace_ends, self._abort, self._limit = now + grace, abort, math.inf

    def step(self, now: float, hurry: bool, left: Collection[Record] | None) -> Step:
        """What is next, where ``left`` touches the host (``None``: nobody can say)."""
        if left is not None and all(record.waiting for record in left):
            return Step.DONE
        if self._limit == math.inf:
            if not hurry and now <= self._grace_ends:
                return Step.WAIT
            self._limit = now + self._abort
            return Step.EVICT
        if not hurry and any(_in_postcopy(record) for record in left or ()):
            self._limit = now + self._abort
        return Step.LEAVE if now > self._limit else Step.WAIT


def _in_postcopy(record: Record) -> bool:
    """Whether the guest runs on the destination and still fetches its memory: there is no way back."""
    return record.phase in (Phase.PERFORM, Phase.FINISH) and bool(record.progress.get("postcopy"))
