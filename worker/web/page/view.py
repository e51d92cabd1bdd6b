"""What a page shows: items of plain fields, and lists of items by key. Pure.

Server and browser fill the same markup from it, and what changes travels as a difference of two views.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = str | int | float | bool
Item = Mapping[str, Value]
"""Fields by name. What is empty is not there."""
Items = Mapping[str, Item]
NOTHING: Item = {}


@dataclass(frozen=True, slots=True)
class View:
    """One moment of one page."""

    items: Items = field(default_factory=dict)
    """By key, as ``h/alpha`` or ``m/3f2a…``."""
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The keys of each list, in the order in which they are shown."""

    def listed(self, name: str) -> list[tuple[str, Item]]:
        """A list's items with their keys."""
        return [(key, self.items.get(key, NOTHING)) for key in self.lists.get(name, ())]

    def document(self) -> dict[str, Any]:
        """As it travels."""
        return {"items": self.items, "lists": self.lists}


def item(**fields: Value | None) -> Item:
    """An item without what is empty: ``None``, "" and ``False``; a zero stays."""
    return {name: value for name, value in fields.items() if value is not None and value != "" and value is not False}


def difference(old: View, new: View) -> dict[str, Any]:
    """What makes ``new`` of ``old``: ``items`` (changed fields, ``null`` for one that is gone), ``gone``, ``lists``.

    Empty where nothing has changed.
    """
    items: dict[str, dict[str, Value | None]] = {}
    for key, fields in new.items.items():
        before = old.items.get(key)
        if before == fields:
            continue
        changed: dict[str, Value | None] = {
            name: value for name, value in fields.items() if before is None or not _same(before.get(name), value)
        }
        if before is not None:
            changed |= dict.fromkeys(before.keys() - fields.keys())
        items[key] = changed
    lists = {name: list(keys) for name, keys in new.lists.items() if old.lists.get(name) != keys}
    lists |= {name: [] for name in old.lists.keys() - new.lists.keys()}
    told = {"items": items, "gone": sorted(old.items.keys() - new.items.keys()), "lists": lists}
    return {name: value for name, value in told.items() if value}


def _same(one: Value | None, other: Value) -> bool:
    return one == other and type(one) is type(other)


def applied(old: View, changes: Mapping[str, Any]) -> View:
    """The view after a difference: what the browser does with it, said in Python for the tests."""
    items: dict[str, Item] = {key: fields for key, fields in old.items.items() if key not in changes.get("gone", ())}
    for key, changed in changes.get("items", {}).items():
        merged = {**items.get(key, NOTHING), **changed}
        items[key] = {name: value for name, value in merged.items() if value is not None}
    lists = {**old.lists, **{name: tuple(keys) for name, keys in changes.get("lists", {}).items()}}
    return View(items, {name: keys for name, keys in lists.items() if keys})
