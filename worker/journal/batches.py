"""Batches in the journal: one method for each script (``scripts/batch-*.lua``) or look-up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from worker.journal.batch import Batch, Item, batch_of, item_of
from worker.journal.outcomes import Shown
from worker.journal.record import Record, from_hash
from worker.journal.scripting import Scripts

CHUNK, SMALL = 500, 100
"""So many moves are written, and so many skipped or asked anew, in one step: Redis serves nobody else meanwhile."""

BRIEF = (
    "kind", "state", "hosts", "priority", "requested_by", "reason", "traceparent", "request", "hold", "abort", "total",
    "moved", "failed", "skipped", "replans", "plans", "exhausted", "renew", "filled", "expected", "base", "revision",
    "created", "started", "last",
)  # fmt: skip


def _texts(fields: Mapping[str, object]) -> str:
    """Fields of a hash: text as it is, everything else as JSON."""
    return json.dumps({n: v if isinstance(v, str) else json.dumps(v) for n, v in fields.items() if v is not None})


class Batches(Scripts):
    """Many migrations asked for together: a durable object, whose every change is one script."""

    # -- the life of a batch --------------------------------------------------------------------

    def create_batch(
        self, ident: str, fields: Mapping[str, object], filling: str, moves: int, told: Mapping[str, Any]
    ) -> tuple[str, str]:
        """Record a batch; ``filling`` is what it is filled with, empty where it is to be planned.

        Answers ``OK``, ``SAME`` with its state where the same request made it before, or ``EXISTS`` where the id is
        that of something else (``batch-create.lua``).
        """
        answer = self._run("batch-create", ident, _texts(fields), filling, moves, json.dumps(told))
        return str(answer[0]), str(answer[1]) if len(answer) > 1 else ""

    def adopt_plan(
        self, seen: Batch, filling: str, moves: int, fields: Mapping[str, object], told: Mapping[str, Any]
    ) -> bool:
        """Give a batch the plan that was made for it as it was ``seen``; false where it has gone on since.

        An empty ``filling`` says that none could be made, and leaves everything else as it is (``batch-adopt.lua``).
        """
        answer = self._run("batch-adopt", seen.id, seen.plans, filling, moves, _texts(fields), json.dumps(told))
        return bool(answer[0] == "OK")

    def add_items(self, ident: str, items: Sequence[Item]) -> int | None:
        """Write the next moves of a batch, at most ``CHUNK`` of them; they are numbered without a gap.

        Answers how many it has now, whoever wrote them; ``None`` where these are none of it (``batch-add.lua``).
        """
        told = [text for item in items for text in (item.asked_text, ",".join(map(str, item.after)))]
        answer = self._run("batch-add", ident, items[0].n, *told)
        return None if answer[0] == "STALE" else int(answer[1])

    def begin_batch(self, ident: str, told: Mapping[str, Any]) -> str:
        """Let a batch run that is filled, or wait where that is wanted: its state, or "" (``batch-begin.lua``)."""
        answer = self._run("batch-begin", ident, json.dumps(told))
        return str(answer[1]) if answer[0] == "OK" else ""

    def feedable(self, ident: str, limits: Mapping[str, tuple[int, int]], most: int) -> list[tuple[Item, str]]:
        """Moves that can be asked for now, each with the id of its migration (``batch-feed.lua``).

        ``limits``: how many may leave and enter each host at once, as the settings say; some more are asked for.
        """
        told = {host: {"out": outgoing, "in": incoming} for host, (outgoing, incoming) in limits.items()}
        flat = self._run("batch-feed", ident, json.dumps(told), most)
        rows = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        return [(item_of(int(n), text, None), str(migration)) for n, text, migration in rows]

    def skip_items(self, ident: str, most: int = SMALL) -> int:
        """Skip what will not be asked for; how many there were (``batch-skip.lua``)."""
        return int(self._run("batch-skip", ident, most)[1])

    def items_again(self, ident: str, most: int = SMALL) -> int:
        """Ask anew for, or replace, what was not made; how many there were (``batch-again.lua``)."""
        return int(self._run("batch-again", ident, most)[1])

    def settle_item(self, ident: str, n: int, state: str, code: str, why: str) -> bool:
        """A move that waits is ``failed`` or ``skipped``; false where it does not wait (``batch-settle.lua``)."""
        return bool(self._run("batch-settle", ident, n, state, code, why)[0] == "OK")

    def withdraw(self, migration: str) -> bool:
        """Take back what a paused batch has asked for and nobody has started (``batch-withdraw.lua``)."""
        return bool(self._run("batch-withdraw", migration)[0] == "OK")

    def replan_batch(self, seen: Batch, why: str) -> bool:
        """Let a batch plan anew that has come to the end of its plan; false where it has not (``batch-replan.lua``)."""
        return bool(self._run("batch-replan", seen.id, seen.revision, why)[0] == "OK")

    def finish_batch(
        self, seen: Batch, fields: Mapping[str, object], keep_seconds: int, shown: Shown, told: Mapping[str, Any]
    ) -> bool:
        """End a batch with the receipt that was made of it as it was ``seen``; true once (``batch-finish.lua``)."""
        answer = self._run(
            "batch-finish", seen.id, seen.revision, _texts(fields), keep_seconds, *shown, json.dumps(told)
        )
        return bool(answer[0] == "OK")

    def show_batch(self, ident: str, shown: Shown) -> bool:
        """Show how far a batch is; false where it has finished (``batch-show.lua``)."""
        return bool(self._run("batch-show", ident, *shown)[0] == "OK")

    def control_batch(self, ident: str, action: str, abort: bool, by: str, message: str) -> tuple[str, str]:
        """Pause, resume, cancel or retry a batch: what came of it, and its state (``batch-control.lua``)."""
        answer = self._run("batch-control", ident, action, "1" if abort else "", by, message)
        return str(answer[0]), str(answer[1]) if len(answer) > 1 else ""

    # -- reading --------------------------------------------------------------------------------

    def batch(self, ident: str) -> Batch | None:
        """One batch, or ``None``."""
        found = self._batches([ident])
        return found[0] if found else None

    def batches(self, *indexes: str, most: int = 1000) -> list[Batch]:
        """Batches that are ``open`` or ``ended`` (both where neither is named), newest first."""
        keys = {"open": self._key("batches"), "ended": self._key("batches", "ended")}
        idents: list[str] = []
        for index in indexes or keys:
            idents += self.client.zrange(keys[index], 0, most - 1, desc=True)
        return sorted(self._batches(idents), key=lambda batch: batch.created, reverse=True)[:most]

    def _batches(self, idents: Sequence[str]) -> list[Batch]:
        if not idents:
            return []
        pipe = self.client.pipeline(transaction=False)
        pipe.zrange(self._key("doubt"), 0, -1)
        for ident in idents:
            pipe.hgetall(self._key("b", ident))
            pipe.scard(self._key("b", ident, "asked"))
        doubts, *rest = pipe.execute()
        owned = self._owned_doubts(doubts)
        return [
            batch_of(ident, raw, int(asked), tuple(owned.get(ident, ())))
            for ident, raw, asked in zip(idents, rest[::2], rest[1::2], strict=True)
            if raw
        ]

    def _owned_doubts(self, doubts: Sequence[str]) -> dict[str, list[str]]:
        pipe = self.client.pipeline(transaction=False)
        for migration in doubts:
            pipe.hget(self._key("m", migration), "batch")
        owned: dict[str, list[str]] = {}
        for migration, batch in zip(doubts, pipe.execute(), strict=True):
            if batch:
                owned.setdefault(batch, []).append(migration)
        return owned

    def batch_states(self, idents: Iterable[str]) -> dict[str, str]:
        """The state of each of these batches; empty where there is none."""
        wanted = list(dict.fromkeys(idents))
        pipe = self.client.pipeline(transaction=False)
        for ident in wanted:
            pipe.hget(self._key("b", ident), "state")
        return {ident: str(state or "") for ident, state in zip(wanted, pipe.execute(), strict=True)}

    def open_batches(self) -> list[Batch]:
        """Every batch that has not finished, oldest first, without what only people read: left, notes."""
        idents = self.client.zrange(self._key("batches"), 0, -1)
        pipe = self.client.pipeline(transaction=False)
        for ident in idents:
            pipe.hmget(self._key("b", ident), BRIEF)
            pipe.scard(self._key("b", ident, "asked"))
        rows = pipe.execute()
        return [
            batch_of(ident, {n: v for n, v in zip(BRIEF, raw, strict=True) if v}, int(asked), ())
            for ident, raw, asked in zip(idents, rows[::2], rows[1::2], strict=True)
        ]

    def items(self, ident: str, first: int = 1, most: int | None = None) -> list[Item]:
        """The moves of a batch in order, from number ``first`` on, ``most`` of them at most."""
        last = int(self.client.hget(self._key("b", ident), "filled") or 0)
        if most is not None:
            last = min(last, first + most - 1)
        found: list[Item] = []
        for start in range(first, last + 1, 2 * CHUNK):
            numbers = [str(n) for n in range(start, min(start + 2 * CHUNK, last + 1))]
            found += self._items(ident, numbers)
        return found

    def items_in(self, ident: str, part: str) -> list[Item]:
        """The moves in one of a batch's sets: ``asked``, ``failed``, ``depends`` or ``cancelled``; in order."""
        numbers = sorted(self.client.smembers(self._key("b", ident, part)), key=int)
        return self._items(ident, numbers) if numbers else []

    def _items(self, ident: str, numbers: Iterable[str]) -> list[Item]:
        wanted = list(numbers)
        pipe = self.client.pipeline(transaction=False)
        pipe.hmget(self._key("b", ident, "items"), wanted)
        pipe.hmget(self._key("b", ident, "fates"), wanted)
        rows = zip(wanted, *pipe.execute(), strict=True)
        return [item_of(int(n), asked, fate) for n, asked, fate in rows if asked]

    def running_of(self, ident: str) -> list[Record]:
        """The migrations of a batch that have not ended, those that run first."""
        idents = [item.migration for item in self.items_in(ident, "asked")]
        pipe = self.client.pipeline(transaction=False)
        for migration in idents:
            pipe.hgetall(self._key("m", migration))
        found = [from_hash(migration, raw) for migration, raw in zip(idents, pipe.execute(), strict=True) if raw]
        return sorted(found, key=lambda record: (record.state != "active", record.started, record.created))

    def filling_of(self, ident: str) -> str:
        """What a batch is filled with: a plan as JSON, or ``{"moves": [...]}``; empty while it is planned."""
        return cast(str | None, self.client.get(self._key("b", ident, "plan"))) or ""

    def to_be_done(self, ident: str) -> tuple[bool, bool]:
        """Whether a batch has moves to skip because of others, and moves to be asked anew or replaced."""
        pipe = self.client.pipeline(transaction=False)
        pipe.exists(self._key("b", ident, "doomed"))
        pipe.exists(self._key("b", ident, "again"))
        doomed, again = pipe.execute()
        return bool(doomed), bool(again)

    def item_outcomes(self) -> dict[tuple[str, str], int]:
        """How many moves of batches ended how, by kind of batch and state, since there is this journal."""
        raw = self.client.hgetall(self._key("batch-items"))
        return {cast(tuple[str, str], tuple(key.split(":"))): int(number) for key, number in raw.items()}

    def batch_events(
        self, ident: str, after: str = "0", block_seconds: float | None = None
    ) -> list[tuple[str, str, dict[str, Any]]]:
        """A batch's events after a stream id: (id, type, data). Waits for one where asked to.

        Types: ``created``, ``planned``, the state that it has gone to (``running``, ``paused``, ``planning``,
        ``cancelling``, ``finished``), ``pause``, ``resume``, ``cancel`` and ``retry`` where an operator's word changed
        nothing at once, ``conflict`` where another request came under its id, and for one move ``item-asked``,
        ``item-withdrawn`` and ``item-ended`` (n, domain, source, destination, state, migration, code, why).
        """
        block = max(1, int(block_seconds * 1000)) if block_seconds else None  # 0 would be for ever
        answer = self.client.xread({self._key("b", ident, "events"): after}, block=block)
        entries = cast(list[tuple[str, dict[str, str]]], answer[0][1] if answer else [])
        return [(at, entry["type"], json.loads(entry["data"] or "{}")) for at, entry in entries]
