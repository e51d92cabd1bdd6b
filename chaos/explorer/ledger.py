"""The journal as a function: one state of it and one call of a real script give the next state and the answer.

The scripts run on a real server. Each pair is asked once and remembered, so that a million steps cost some thousand
calls. What is only a time, an event or a text for humans is left out of a state: it decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import redis

from worker.journal import Journal

PREFIX = "explorer:"
IDENT = "m"
UUID = "11111111-1111-1111-1111-111111111111"
SOURCE, DESTINATION = "alpha", "beta"
_SETS = tuple(f"slots:{host}:{way}" for host in (SOURCE, DESTINATION) for way in ("out", "in"))
_ZSETS = ("pending", "due", "active", "doubt", "ended", "outbox")
_TIMES = ("queued", "claimed", "created", "started", "ended")
_NOISE = ("waiting", "warning", "error", "error_phase", "submitter", "progress", "retries", "reason")
_TOLD = ("perform", "finish")
"""The phases whose result ``cancel.lua`` reads."""


class Snapshot(NamedTuple):
    """All that the journal says and that decides something."""

    record: tuple[tuple[str, str], ...] = ()
    members: frozenset[str] = frozenset()
    """The indexes and slots that hold the migration, and ``lock`` while it holds the domain."""
    outcomes: int = 0
    """How many ends have been counted."""

    def get(self, name: str) -> str:
        """A field of the record; empty where there is none."""
        return next((value for key, value in self.record if key == name), "")


class Ledger:
    """States of the journal by number, and what each script makes of them."""

    def __init__(self, client: redis.Redis, broken: Iterable[tuple[str, str, str]] = ()) -> None:
        """Over a server that holds nothing else. ``broken``: scripts with a part of their text replaced."""
        self._client: Any = client
        self._journal = Journal(client, PREFIX)
        for name, part, instead in broken:
            text = str(self._journal._scripts[name].script)
            if part not in text:
                raise ValueError(f"{name}.lua does not say {part!r} any more")
            self._journal._scripts[name] = client.register_script(text.replace(part, instead))
        self._journal.load()
        self._numbers: dict[Snapshot, int] = {}
        self.snapshots: list[Snapshot] = []
        self._known: dict[tuple[int, str, tuple[str, ...]], tuple[int, Any]] = {}
        self._loaded = -1

    @property
    def calls(self) -> int:
        """How many calls were really made."""
        return len(self._known)

    def number(self, snapshot: Snapshot) -> int:
        """The number of a state."""
        if snapshot not in self._numbers:
            self._numbers[snapshot] = len(self.snapshots)
            self.snapshots.append(snapshot)
        return self._numbers[snapshot]

    def run(self, number: int, name: str, args: tuple[Any, ...]) -> tuple[int, Any]:
        """The state and the answer after a script."""
        texts = tuple(str(arg) for arg in args)
        key = number, name, texts
        known = self._known.get(key)
        if known is None:
            if self._loaded != number:
                self._load(self.snapshots[number])
            answer = _plain(name, self._journal._run(name, *texts))
            self._loaded = self.number(self._read())
            known = self._known[key] = self._loaded, answer
        return known

    def fields(self, number: int) -> dict[str, str]:
        """The record as ``HGETALL`` would return it."""
        return dict(self.snapshots[number].record)

    def _load(self, snapshot: Snapshot) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.flushdb()
        if snapshot.record:
            pipe.hset(PREFIX + "m:" + IDENT, mapping=dict(snapshot.record) | dict.fromkeys(_TIMES, "0"))
        for member in snapshot.members:
            if member == "lock":
                pipe.set(PREFIX + "vm:" + UUID, IDENT)
            elif member.startswith("slots"):
                pipe.sadd(PREFIX + member, IDENT)
            else:
                pipe.zadd(PREFIX + member, {IDENT: 0})
        if snapshot.outcomes:
            pipe.hset(PREFIX + "outcomes", "all", snapshot.outcomes)
        pipe.execute()

    def _read(self) -> Snapshot:
        pipe = self._client.pipeline(transaction=False)
        pipe.hgetall(PREFIX + "m:" + IDENT)
        pipe.hgetall(PREFIX + "outcomes")
        pipe.get(PREFIX + "vm:" + UUID)
        for name in _SETS:
            pipe.sismember(PREFIX + name, IDENT)
        for name in _ZSETS:
            pipe.zscore(PREFIX + name, IDENT)
        raw, outcomes, lock, *held = pipe.execute()
        members = {name for name, there in zip((*_SETS, *_ZSETS), held, strict=True) if there not in (None, 0, False)}
        members |= {name for name, there in zip(_ZSETS, held[len(_SETS) :], strict=True) if there is not None}
        if lock == IDENT:
            members.add("lock")
        return Snapshot(_deciding(raw), frozenset(members), sum(map(int, outcomes.values())))


def _deciding(raw: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """What of a record decides anything."""
    kept = {}
    for name, value in raw.items():
        if name.startswith("phase:"):
            if name.rpartition(":")[2] in _TOLD:
                failed = {"error": "x"} if "error" in json.loads(value) else {}
                kept[name] = json.dumps({"host": "", "seconds": 0} | failed)
        elif name not in _TIMES and name not in _NOISE:
            kept[name] = value
    return tuple(sorted(kept.items()))


def _plain(name: str, answer: list[Any]) -> tuple[Any, ...]:
    """An answer without its times, as a value."""
    if name == "claim" and answer[0] == "OK":
        return ("OK", answer[1], "0")
    return tuple(tuple(item) if isinstance(item, list) else item for item in answer)
