"""Lists of migrations, of batches and of their moves, page by page: bounded work in Redis, however many there are.

Newest first, by the millisecond in which they were asked for and then by id. That never changes, so a page stays where
it is while others are asked for: what is new stands before the first page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from worker.errors import Rejected
from worker.journal.batch import Batch, Item
from worker.journal.batches import Batches
from worker.journal.record import Record, from_hash

STEP = 500
"""So many ids are read, or looked at by a script, at once."""
MOST_LOOKED = 20_000
"""So many are looked at for one page: it may be shorter than asked for although there are more."""
OPEN = {"pending": "pending", "backoff": "due", "active": "active", "in-doubt": "doubt"}
"""The index of each state but ``ended``."""
Place = tuple[int, str]
"""In a list: when it was asked for (milliseconds), and its id."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which migrations a list is of; what is empty does not matter."""

    states: tuple[str, ...] = ()
    """In one of these."""
    outcome: str = ""
    host: str = ""
    """They leave it or enter it."""
    domain: str = ""
    """Name or uuid."""
    batch: str = ""
    requested_by: str = ""

    @property
    def conditions(self) -> list[dict[str, Any]]:
        """What ``match.lua`` is told."""
        wanted = (
            (("state",), self.states),
            (("outcome",), (self.outcome,)),
            (("source", "destination"), (self.host,)),
            (("domain", "uuid"), (self.domain, self.domain.lower())),
            (("batch",), (self.batch,)),
            (("requested_by",), (self.requested_by,)),
        )
        return [{"fields": fields, "values": values} for fields, values in wanted if any(values)]


class Lists(Batches):
    """Pages. A cursor that is none, or that of another list, is refused (``bad-cursor``)."""

    def page(
        self, filters: Filters | None = None, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Record], str | None]:
        """Migrations, newest first, ``limit`` at most, and the cursor of the next page (``None``: there is none).

        Raises ``Rejected`` (``bad-cursor``).
        """
        filters = filters or Filters()
        mark = _mark("m", asdict(filters))
        after = _opened(cursor, mark)
        only_open = bool(filters.states) and set(filters.states) <= set(OPEN)
        if only_open:
            steps = self._open(filters.states, filters.conditions, after)
        else:
            steps = self._walk("all", "m", filters.conditions, after, limit)
        places, follows = _chosen(steps, limit)
        pipe = self.client.pipeline(transaction=False)
        for _, ident in places:
            pipe.hgetall(self._key("m", ident))
        records = [from_hash(ident, raw) for (_, ident), raw in zip(places, pipe.execute(), strict=True) if raw]
        return records, _closed(follows, mark)

    def batch_page(
        self, states: Sequence[str] = (), limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Batch], str | None]:
        """Batches, newest first; as ``page``."""
        mark = _mark("b", list(states))
        conditions = [{"fields": ["state"], "values": list(states)}] if states else []
        places, follows = _chosen(self._walk("batches:all", "b", conditions, _opened(cursor, mark), limit), limit)
        return self._batches([ident for _, ident in places]), _closed(follows, mark)

    def item_page(
        self, ident: str, state: str = "", limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Item], str | None]:
        """Moves of a batch by number, those in one state where that is wanted; otherwise as ``page``."""
        mark = _mark("i", [ident, state])
        first = (_opened(cursor, mark) or (0, ""))[0] + 1
        found: list[Item] = []
        for start in range(first, first + MOST_LOOKED, STEP):
            some = self.items(ident, start, STEP)
            found += [item for item in some if not state or item.state == state]
            if len(found) > limit:
                return found[:limit], _closed((found[limit - 1].n, ""), mark)
            if len(some) < STEP:
                return found, None
        return found, _closed((first + MOST_LOOKED - 1, ""), mark)

    def named(self, beginning: str, most: int = 10) -> list[str]:
        """The ids of migrations that begin so, ``most`` at most."""
        pattern = "".join(f"[{letter}]" if letter in "[]*?\\" else letter for letter in beginning) + "*"
        found: list[str] = []
        for ident, _ in self.client.zscan_iter(self._key("all"), match=pattern, count=2 * STEP):
            found.append(ident)
            if len(found) == most:
                break
        return found

    # -- what the leading scheduler does for them -------------------------------------------------

    def forget(self, keep_seconds: float, most: int = STEP) -> int:
        """Drop migrations and batches from the lists that are kept no longer; how many (``forget.lua``)."""
        return int(self._run("forget", "", int(keep_seconds * 1000), most)[1])

    def enlist(self, place: tuple[str, str] = ("", "0")) -> tuple[tuple[str, str], int]:
        """One step of making the lists complete: where to go on (index ``""``: done), and what changed."""
        answer = self._run("enlist", "", *place)
        return (str(answer[1]), str(answer[2])), int(answer[3])

    def is_listed(self) -> bool:
        """Whether the lists have as many migrations and batches as the indexes by state."""
        pipe = self.client.pipeline(transaction=False)
        for index in (*OPEN.values(), "ended", "all", "batches", "batches:ended", "batches:all"):
            pipe.zcard(self._key(index))
        *counts, all_, open_, ended, batches = pipe.execute()
        return (sum(counts), open_ + ended) == (all_, batches)

    # -- how they are read --------------------------------------------------------------------------

    def _walk(
        self, index: str, kind: str, conditions: Sequence[dict[str, Any]], after: Place | None, limit: int
    ) -> Iterator[Step]:
        """A list from a place on, in steps. By score, not by rank: what is added or dropped meanwhile moves nothing."""
        offset, number = 0, STEP if conditions else min(STEP, limit + 1)
        while True:
            highest = "+inf" if after is None else str(after[0])
            looked, ident, score, *flat = self._run(
                "match", "", kind, json.dumps(conditions), index, highest, offset, number
            )[1:]
            fitting = [(int(at), str(found)) for found, at in zip(flat[::2], flat[1::2], strict=True)]
            last = (int(score), str(ident)) if ident else None
            yield Step([place for place in fitting if after is None or place < after], int(looked), last)
            if last is None or looked < number:
                return
            offset = offset + number if str(last[0]) == highest else 0
            after = last if after is None else min(after, last)

    def _open(self, states: Sequence[str], conditions: Sequence[dict[str, Any]], after: Place | None) -> Iterator[Step]:
        """The same of those that have not ended, which are few among many that have."""
        pipe = self.client.pipeline(transaction=False)
        for state in states:
            pipe.zrange(self._key(OPEN[state]), 0, -1)
        idents = [ident for some in pipe.execute() for ident in some]
        created = self.client.zmscore(self._key("all"), idents) if idents else []
        places = [(int(score), str(ident)) for ident, score in zip(idents, created, strict=True) if score is not None]
        rest = sorted((place for place in places if after is None or place < after), reverse=True)
        for start in range(0, len(rest), STEP):
            some = rest[start : start + STEP]
            found = self._run("match", "", "m", json.dumps(conditions), "", *(ident for _, ident in some))
            fitting = set(found[4::2])
            yield Step([place for place in some if place[1] in fitting], len(some), some[-1])


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a list that was looked at."""

    fitting: list[Place]
    looked: int
    last: Place | None
    """Where the next part begins after; ``None`` where nothing was left."""


def _chosen(steps: Iterable[Step], limit: int) -> tuple[list[Place], Place | None]:
    """Those that fit, and the place after which the next page begins; ``None`` at the end of the list. Pure."""
    found: list[Place] = []
    looked = 0
    for step in steps:
        found += step.fitting
        if len(found) > limit:
            return found[:limit], found[limit - 1]
        looked += step.looked
        if looked >= MOST_LOOKED:
            return found, step.last
    return found, None


# -- cursors ------------------------------------------------------------------------------------------


def _mark(kind: str, filters: object) -> str:
    """What tells one list from another."""
    return hashlib.sha256(json.dumps([kind, filters]).encode()).hexdigest()[:12]


def _closed(place: Place | None, mark: str) -> str | None:
    if place is None:
        return None
    return base64.urlsafe_b64encode(json.dumps([mark, *place]).encode()).decode().rstrip("=")


def _opened(cursor: str | None, mark: str) -> Place | None:
    if cursor is None:
        return None
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        told = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        of, at, ident = told
    except (binascii.Error, ValueError, TypeError):
        of, at, ident = "", 0, ""
    whole = isinstance(at, int) and not isinstance(at, bool) and 0 <= at < 2**53 and isinstance(ident, str)
    if of != mark or not whole:
        raise Rejected(
            "the cursor is not one of this list: take 'next' of its last page with the same filters, or begin anew "
            "without a cursor",
            code="bad-cursor",
        )
    return at, ident
