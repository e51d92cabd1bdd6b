"""Batches as tests of their scripts make them, feed them and end them."""

from __future__ import annotations

from typing import Any

from terms import terms_text

from worker.journal import Journal
from worker.journal.batch import Batch, Item

KEEP = 1000
SHOWN = ("celery-task-meta-b", "{}", 1000)
WINDOWS = dict.fromkeys(("alpha", "beta", "gamma"), (4, 4))


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
    assert journal.turn_away(migration, told, KEEP, by_settings=True)


def states(journal: Journal, ident: str = "b") -> str:
    """The states of all moves by their first letters: w, a, m, f, s, r."""
    return "".join(item.state[0] for item in journal.items(ident))
