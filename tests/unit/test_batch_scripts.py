"""The scripts of batches against a real Redis: every way through a batch, its duplicates, and ten thousand moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from terms import terms_text

from worker.journal import Journal, connect
from worker.journal.batch import Batch, Item

KEEP = 1000
SHOWN = ("celery-task-meta-b", "{}", 1000)
WINDOWS = dict.fromkeys(("alpha", "beta", "gamma"), (4, 4))


@pytest.fixture
def journal(redis_url: str) -> Iterator[Journal]:
    """An empty journal."""
    with connect(redis_url) as client:
        yield Journal(client)


def move(n: int, *after: int, source: str = "alpha", destination: str = "beta") -> Item:
    """A move of a batch."""
    return Item(n, f"vm-{n}", f"uuid-{n}", source, destination, after)


def created(journal: Journal, *items: Item, kind: str = "list", ident: str = "b", **more: Any) -> Batch:
    """A batch that runs."""
    fields = {"kind": kind, "digest": "d", "hosts": [], "request": {}} | more
    assert journal.create_batch(ident, fields, "moves", len(items), {}) == ("OK", "")
    if items:
        assert journal.add_items(ident, items) == len(items)
    assert journal.begin_batch(ident, {}) in ("running", "planned")
    return batch(journal, ident)


def batch(journal: Journal, ident: str = "b") -> Batch:
    """The batch now."""
    found = journal.batch(ident)
    assert found is not None
    return found


def fields_of(item: Item, ident: str = "b") -> dict[str, str | int | float | None]:
    """What the record of an item's migration is created with."""
    return {
        "domain": item.domain,
        "uuid": item.uuid,
        "source": item.source,
        "destination": item.destination,
        "driver": "vz",
        "batch": ident,
        "item": item.n,
    }


def ask(journal: Journal, item: Item, migration: str, ident: str = "b") -> str:
    """Ask for an item's migration: the answer of ``create.lua``."""
    created, _ = journal.submit(migration, fields_of(item, ident), {}, "baton", terms_text(0, 0))
    return str(created[0])


def fed(journal: Journal, ident: str = "b", most: int = 100) -> list[int]:
    """Ask for everything that can be asked for; the numbers."""
    found = journal.feedable(ident, WINDOWS, most)
    assert all(ask(journal, item, migration, ident) == "OK" for item, migration in found)
    return [item.n for item, _ in found]


def refuse(journal: Journal, item: Item, migration: str, code: str = "cordoned") -> bool:
    """Refuse an item's migration when it is to start."""
    fields = fields_of(item) | {"reason": code, "error": f"it is {code}"}
    return journal.refuse(migration, fields, KEEP, {})


def end(journal: Journal, migration: str, outcome: str = "succeeded", code: str = "") -> None:
    """End a migration that waits, however it is to have ended (through ``conclude`` of ``ending.lua``)."""
    told = {"outcome": outcome, "reason": code, "error": code and f"it is {code}"}
    journal.client.hset("vmrelay:cordons", "beta", "{}")
    assert journal.turn_away(migration, {n: v for n, v in told.items() if v} | {"reason": code, "error": ""}, KEEP)
    journal.client.hdel("vmrelay:cordons", "beta")


def states(journal: Journal, ident: str = "b") -> str:
    """The states of all moves by their first letters: w, a, m, f, s, r."""
    return "".join(item.state[0] for item in journal.items(ident))


def test_the_same_request_is_the_same_batch_and_another_one_is_refused(journal: Journal) -> None:
    """The id belongs to the first request, also once its batch runs; and to a migration that has it already."""
    created(journal, move(1))
    assert journal.create_batch("b", {"kind": "list", "digest": "d"}, "moves", 1, {}) == ("SAME", "running")
    assert journal.create_batch("b", {"kind": "list", "digest": "other"}, "moves", 1, {}) == ("EXISTS", "")
    journal.refuse("m", {"domain": "x"}, KEEP, {})
    assert journal.create_batch("m", {"kind": "list", "digest": "d"}, "moves", 1, {}) == ("EXISTS", "")


def test_moves_are_written_once_and_in_order(journal: Journal) -> None:
    """Whoever writes what is there already changes nothing, and nobody leaves a gap."""
    journal.create_batch("b", {"kind": "list", "digest": "d"}, "moves", 3, {})
    assert journal.add_items("b", [move(1), move(2, 1)]) == 2
    assert journal.add_items("b", [move(1), move(2, 1)]) == 2
    assert journal.begin_batch("b", {}) == ""
    assert journal.add_items("b", [move(3), move(4)]) is None
    assert journal.add_items("b", [move(3)]) == 3
    assert journal.begin_batch("b", {}) == "running"
    assert journal.begin_batch("b", {}) == ""
    assert [item.after for item in journal.items("b")] == [(), (1,), ()]
    assert batch(journal).total == 3


def test_a_move_is_asked_for_once_and_when_those_before_it_were_made(journal: Journal) -> None:
    """Nothing but its own migration id, at its turn, makes a record."""
    created(journal, move(1), move(2, 1))
    assert fed(journal) == [1]
    assert fed(journal) == []
    assert ask(journal, move(1), "b.1") == "SAME"
    assert ask(journal, move(2, 1), "b.2") == "STALE"
    assert ask(journal, move(1), "b.1.2") == "STALE"
    end(journal, "b.1")
    assert states(journal) == "mw"
    assert ask(journal, move(1), "b.1.2") == "STALE"
    assert fed(journal) == [2]
