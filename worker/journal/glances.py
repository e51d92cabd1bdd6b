"""What runs, waits, is in doubt and ended last, in two round trips: for those who look twice a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.journal.batch import Batch, batch_of
from worker.journal.batches import BRIEF
from worker.journal.record import Record, from_hash
from worker.journal.scripting import Scripts

FIELDS = (
    "state", "domain", "uuid", "source", "destination", "destination_name", "priority", "requested_by",
    "request_reason", "batch", "attempt", "attempts_allowed", "phase", "step", "host", "waiting", "retries", "cancel",
    "progress", "stalled", "created", "started", "ended", "outcome", "reason", "error", "downtime_seconds", "warning",
)  # fmt: skip
"""Of a record: not the baton, the phases, and what was asked for, which are most of it."""
BATCH = (*BRIEF, "ended")


@dataclass(frozen=True, slots=True)
class Glance:
    """The journal at one moment. Lists are cut; counts are not."""

    now: float
    """Redis's clock, seconds."""
    active: Sequence[Record] = ()
    """Those that run, in the order in which they were asked for, and after them those between two attempts."""
    pending: Sequence[Record] = ()
    """Those that wait for slots, the oldest first."""
    doubts: Sequence[tuple[Record, float]] = ()
    """Those in doubt, and since when (Redis's clock, seconds)."""
    ended: Sequence[Record] = ()
    """The last first."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many are ``active``, ``due``, ``pending`` and in ``doubt``."""
    batches: Sequence[Batch] = ()
    """Those that have not finished, and after them the last that have; without what only a receipt needs."""
    scheduler: bool = False
    """Whether a scheduler leads."""


class Glances(Scripts):
    """One look at everything, without what only one migration's page needs."""

    def glance(self, active: int = 300, pending: int = 200, ended: int = 30, batches: int = 20) -> Glance:
        """Read it, so many of each kind at most. Raises ``redis.RedisError``."""
        pipe = self.client.pipeline(transaction=False)
        pipe.time()
        pipe.exists(self._key("lease", "scheduler"))
        pipe.zrange(self._key("active"), 0, -1)
        for index, most in (("due", active), ("pending", pending)):
            pipe.zrange(self._key(index), 0, most - 1)
        pipe.zrange(self._key("doubt"), 0, active - 1, withscores=True)
        pipe.zrange(self._key("ended"), 0, ended - 1, desc=True)
        pipe.zrange(self._key("batches"), 0, batches - 1)
        pipe.zrange(self._key("batches", "ended"), 0, min(batches, 5) - 1, desc=True)
        for index in ("active", "due", "pending", "doubt"):
            pipe.zcard(self._key(index))
        (seconds, micro), leads, running, due, waiting, doubts, over, open_, closed, *counts = pipe.execute()
        # By id, as ``active`` is ordered by signs of life: those on show would be others at each look.
        groups = [sorted(running)[:active], due, waiting, [ident for ident, _ in doubts], over]
        records, found = self._briefs(groups, [*open_, *closed])
        since = {ident: at / 1000 for ident, at in doubts}
        return Glance(
            now=seconds + micro / 1e6,
            active=[*sorted(records[0], key=lambda each: (each.created, each.id)), *records[1]],
            pending=records[2],
            doubts=[(each, since[each.id]) for each in records[3]],
            ended=records[4],
            counts=dict(zip(("active", "due", "pending", "doubt"), map(int, counts), strict=True)),
            batches=found,
            scheduler=bool(leads),
        )

    def _briefs(
        self, groups: Sequence[Sequence[str]], batches: Sequence[str]
    ) -> tuple[list[list[Record]], list[Batch]]:
        """The records of each group that are still there, and these batches."""
        pipe = self.client.pipeline(transaction=False)
        for ident in (ident for group in groups for ident in group):
            pipe.hmget(self._key("m", ident), FIELDS)
        for ident in batches:
            pipe.hmget(self._key("b", ident), BATCH)
            pipe.scard(self._key("b", ident, "asked"))
        answers = iter(pipe.execute())
        records = [[from_hash(ident, _told(FIELDS, next(answers))) for ident in group] for group in groups]
        kept = [[record for record in group if record.state] for group in records]
        doubts = [record for group in kept for record in group if record.state == "in-doubt"]
        found = []
        for ident in batches:
            raw, asked = _told(BATCH, next(answers)), int(next(answers))
            own = tuple(record.id for record in doubts if record.batch == ident)
            found += [batch_of(ident, raw, asked, own)] if raw else []
        return kept, found


def _told(names: Sequence[str], values: Sequence[Any]) -> dict[str, str]:
    return {name: value for name, value in zip(names, values, strict=True) if value}
