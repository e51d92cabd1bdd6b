"""The life of a migration in the journal, one method for each script or look-up."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from redis.exceptions import NoScriptError

from worker.errors import RelayError
from worker.hypervisors.base import Domain
from worker.journal.batches import Batches
from worker.journal.cordons import Cordons
from worker.journal.glances import Glances
from worker.journal.hosts import Hosts, domain_document
from worker.journal.lists import Lists
from worker.journal.looks import Looks
from worker.journal.outcomes import Outcomes, Shown
from worker.journal.queue import Queue
from worker.journal.record import Record, from_hash
from worker.journal.rolls import Rolls
from worker.journal.webhooks import Webhooks

MOST_WISHES = 16
"""So many tunings may wait for one perform."""
STANDING = (
    "state", "attempt", "epoch", "phase", "step", "token", "owner", "incarnation", "host", "waiting",
    "domain", "driver", "source", "destination",
)  # fmt: skip
INDEXES = ("pending", "due", "active", "doubt", "ended")
Fields = Mapping[str, str | int | float | None]


class LostClaim(RelayError):
    """Somebody else has taken over this phase; what was to be written was not."""

    code = "lost-claim"


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: whether the phase is ours, and what to know about it."""

    verdict: str
    """``OK``, ``CONFLICT``, ``STALE`` or ``FORGED``."""
    cancel: bool = False
    queued_seconds: float = 0.0

    @property
    def won(self) -> bool:
        """Whether the hypervisor may be called."""
        return self.verdict == "OK"


def _flat(fields: Fields) -> str:
    return json.dumps({name: str(value) for name, value in fields.items() if value is not None and value != ""})


class Journal(Hosts, Lists, Batches, Cordons, Glances, Looks, Outcomes, Queue, Rolls, Webhooks):
    """Everything vmrelay remembers, behind one Redis client."""

    # -- the life of a migration ----------------------------------------------------------------

    def submit(
        self, ident: str, fields: Fields, told: Mapping[str, Any], baton: str, terms: str
    ) -> tuple[list[Any], list[Any]]:
        """Create a record and admit its first attempt if there is room; one round trip.

        Returns the answers of ``create.lua`` and ``admit.lua``. A second request under the same id
        changes nothing.
        """
        submitter = secrets.token_hex(8)
        create = (ident, _flat(fields), json.dumps(told), submitter)
        admit = (ident, 1, baton, terms, submitter)

        def both() -> list[list[Any]]:
            # By digest: Pipeline's own handling of scripts asks first which ones Redis has.
            pipe = self.client.pipeline(transaction=False)
            pipe.evalsha(self._scripts["create"].sha, 1, self.prefix, *create)
            pipe.evalsha(self._scripts["admit"].sha, 1, self.prefix, *admit)
            return cast(list[list[Any]], pipe.execute())

        try:
            created, admitted = both()
        except NoScriptError:
            self.load()
            created, admitted = both()
        return created, admitted

    def refuse(self, ident: str, fields: Fields, keep_seconds: int, told: Mapping[str, Any]) -> bool:
        """Record a rejected request; false where it is recorded already (``refuse.lua``)."""
        return bool(self._run("refuse", ident, _flat(fields), keep_seconds, json.dumps(told))[0] == "OK")

    def claim(
        self,
        ident: str,
        attempt: int,
        epoch: int,
        phase: str,
        baton: str,
        token: str,
        host: str,
        shown: Shown,
        incarnation: str = "",
    ) -> Claim:
        """Take a phase before calling the hypervisor (``claim.lua``)."""
        answer = self._run("claim", ident, attempt, epoch, phase, baton, token, host, *shown, incarnation)
        if answer[0] != "OK":
            return Claim(answer[0])
        return Claim("OK", answer[1] == "1", float(answer[2]) / 1000)

    def advance(
        self,
        ident: str,
        token: str,
        following: str,
        baton: str,
        run: Mapping[str, Any],
        fields: Fields,
        patience: int,
        host: str = "",
    ) -> list[str]:
        """Store a phase's result and queue the next, for ``host`` (``advance.lua``). Raises ``LostClaim``.

        Returns the kinds of the tunings that were wished for and not done before the phase ended.
        """
        answer = self._owned("advance", ident, token, following, baton, json.dumps(run), _flat(fields), patience, host)
        return [str(kind) for kind in answer[1:]]

    def conclude(
        self,
        ident: str,
        token: str,
        run: Mapping[str, Any],
        fields: Fields,
        keep_seconds: int,
        moved: Domain | None,
    ) -> tuple[bool, Record]:
        """End a migration (``conclude.lua``): the final record, and whether this call ended it.

        That is true exactly once in a migration's life. Raises ``LostClaim``.
        """
        here = json.dumps(domain_document(moved)) if moved else ""
        ended = {"outcome": fields["outcome"], "reason": fields.get("reason") or None}
        answer = self._owned(
            "conclude",
            ident,
            token,
            json.dumps(run),
            _flat(fields),
            keep_seconds,
            json.dumps(ended),
            "1" if moved else "",
            here,
        )
        flat = cast(list[str], answer[1])
        return answer[0] == "OK", from_hash(ident, dict(zip(flat[::2], flat[1::2], strict=True)))

    def backoff(
        self,
        ident: str,
        token: str,
        run: Mapping[str, Any],
        fields: Fields,
        pause: float,
        told: Mapping[str, Any],
        shown: Shown,
    ) -> None:
        """Another attempt after ``pause`` seconds (``backoff.lua``). Raises ``LostClaim``."""
        self._owned(
            "backoff", ident, token, json.dumps(run), _flat(fields), int(pause * 1000), json.dumps(told), *shown
        )

    def doubt(
        self,
        ident: str,
        token: str,
        run: Mapping[str, Any],
        fields: Fields,
        told: Mapping[str, Any],
        shown: Shown,
    ) -> None:
        """Hand the migration to an operator (``doubt.lua``). Raises ``LostClaim``."""
        self._owned("doubt", ident, token, json.dumps(run), _flat(fields), json.dumps(told), *shown)

    def _owned(self, name: str, *args: str | int) -> list[Any]:
        answer = self._run(name, *args)
        if answer[0] == "STALE":
            raise LostClaim(f"migration {args[0]}: this phase was taken over by somebody else")
        return answer

    def cancel(self, ident: str, by: str, keep_seconds: int) -> tuple[str, str]:
        """Ask for a migration to stop (``cancel.lua``)."""
        end: Fields = {"outcome": "cancelled", "reason": "cancelled", "error": "cancelled before it started"}
        answer = self._run("cancel", ident, _flat(end), keep_seconds, json.dumps({"by": by, "outcome": "cancelled"}))
        return str(answer[0]), str(answer[1]) if len(answer) > 1 else ""

    def progress(
        self, ident: str, token: str, progress: Mapping[str, Any] | None, note: bool, shown: Shown
    ) -> tuple[bool, str, list[str]]:
        """Sign of life of a running phase. Raises ``LostClaim``.

        Returns whether it is cancelled, the host that wants its guests left alone (or ""), and the wishes for it.
        """
        told = json.dumps(progress) if progress else ""
        answer = self._owned("progress", ident, token, told, "1" if note and told else "", *shown)
        return bool(answer[1] == "1"), str(answer[2]), [str(wish) for wish in answer[3:]]

    def tune(self, ident: str, wish: str) -> list[str]:
        """Ask something of a running perform (``tune.lua``)."""
        return [str(word) for word in self._run("tune", ident, wish, MOST_WISHES)]

    def note(self, ident: str, token: str, kind: str, told: Mapping[str, Any], wish: str = "") -> None:
        """Tell of a stall or of the end of a wish (``note.lua``). Raises ``LostClaim``."""
        self._owned("note", ident, token, kind, json.dumps(told), wish)

    def retried(self, ident: str, token: str, told: Mapping[str, Any]) -> None:
        """Note that a phase is about to retry (``retried.lua``)."""
        self._run("retried", ident, token, json.dumps(told))

    # -- what waits -----------------------------------------------------------------------------

    def overdue(self, queues: str, most: int = 100) -> Iterator[tuple[str, str, str, str]]:
        """Phase messages that nobody claimed in time: id, baton, phase, traceparent or "" (``overdue.lua``)."""
        flat = self._run("overdue", "", most, queues)
        yield from zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)

    # -- recovery -------------------------------------------------------------------------------

    def recover(
        self, found: Record, host: str, baton: str, told: Mapping[str, Any], patience: int, fields: Fields | None = None
    ) -> bool:
        """Void what was claimed or sent for an attempt, and queue a look at its hosts, at ``host`` first.

        False where the record has gone on since it was read (``recover.lua``).
        """
        where = (found.id, found.epoch, found.phase, found.step, found.token)
        answer = self._run("recover", *where, host, baton, json.dumps(told), patience, _flat(fields or {}))
        return bool(answer[0] == "OK")

    def restore(self, lost: Record, host: str, baton: str, told: Mapping[str, Any], patience: int) -> str:
        """Put a migration that Redis forgot into recovery, at ``host`` first: ``OK``, ``SAME`` or ``BUSY``."""
        fields, told_text = _flat(lost.asked_fields), json.dumps(told)
        return str(self._run("restore", lost.id, fields, lost.attempt, lost.epoch, host, baton, told_text, patience)[0])

    def waiting(self, ident: str, epoch: int, host: str, why: str, shown: Shown = ("", "", 0)) -> bool:
        """Tell that a migration waits for a host; whether that is news (``waiting.lua``)."""
        return bool(self._run("waiting", ident, epoch, host, why, *shown)[0] == "OK")

    def hasten(self, ident: str, told: Mapping[str, Any]) -> tuple[str, str]:
        """Let the next attempt of a migration that failed for now start at once (``hasten.lua``)."""
        answer = self._run("hasten", ident, json.dumps(told))
        return str(answer[0]), str(answer[1]) if len(answer) > 1 else ""

    def now(self) -> float:
        """Redis's clock, in seconds: the one clock that all processes share."""
        seconds, micro = self.client.time()
        return float(seconds) + float(micro) / 1e6

    def baton(self, ident: str) -> str:
        """The baton of the phase that is queued or running; empty where there is none."""
        return cast(str | None, self.client.hget(self._key("m", ident), "baton")) or ""

    # -- reading --------------------------------------------------------------------------------

    def record(self, ident: str) -> Record | None:
        """One migration, or ``None``."""
        raw = self.client.hgetall(self._key("m", ident))
        return from_hash(ident, raw) if raw else None

    def records(self, *indexes: str, most: int = 1000) -> list[Record]:
        """Migrations in the named indexes (all of them where none is), newest first."""
        found: list[tuple[str, float]] = []
        for index in indexes or INDEXES:
            found += self.client.zrange(self._key(index), 0, most - 1, desc=True, withscores=True)
        pipe = self.client.pipeline(transaction=False)
        for ident, _ in found:
            pipe.hgetall(self._key("m", ident))
        records = [from_hash(ident, raw) for (ident, _), raw in zip(found, pipe.execute(), strict=True) if raw]
        return sorted(records, key=lambda record: record.created, reverse=True)[:most]

    def touching(self, host: str) -> list[Record]:
        """The migrations that leave or enter a host now."""
        idents = self.client.sunion(self._key("slots", host, "out"), self._key("slots", host, "in"))
        pipe = self.client.pipeline(transaction=False)
        for ident in idents:
            pipe.hgetall(self._key("m", ident))
        return [from_hash(ident, raw) for ident, raw in zip(idents, pipe.execute(), strict=True)]

    def standing(self) -> list[Record]:
        """Every active migration, by the few fields that tell where it stands."""
        idents = self.client.zrange(self._key("active"), 0, -1)
        pipe = self.client.pipeline(transaction=False)
        for ident in idents:
            pipe.hmget(self._key("m", ident), STANDING)
        rows = zip(idents, pipe.execute(), strict=True)
        return [from_hash(ident, {n: v for n, v in zip(STANDING, row, strict=True) if v}) for ident, row in rows]

    def count(self, index: str) -> int:
        """How many migrations an index holds."""
        return int(self.client.zcard(self._key(index)))

    def doubts(self) -> tuple[int, float | None]:
        """How many migrations are in doubt, and since when the oldest is, in seconds of Redis's clock."""
        pipe = self.client.pipeline(transaction=False)
        pipe.zcard(self._key("doubt"))
        pipe.zrange(self._key("doubt"), 0, 0, withscores=True)
        number, oldest = pipe.execute()
        return int(number), float(oldest[0][1]) / 1000 if oldest else None

    def events(
        self, ident: str, after: str = "0", block_seconds: float | None = None
    ) -> list[tuple[str, str, dict[str, Any]]]:
        """A migration's events after a stream id: (id, type, data). Waits for one where asked to."""
        block = max(1, int(block_seconds * 1000)) if block_seconds else None  # 0 would be for ever
        answer = self.client.xread({self._key("m", ident, "events"): after}, block=block)
        entries = cast(list[tuple[str, dict[str, str]]], answer[0][1] if answer else [])
        return [(at, entry["type"], json.loads(entry["data"] or "{}")) for at, entry in entries]
