"""Decision tables in words, for whoever prints them.

``tasks`` decides by them, and registers here how they read, as it registers the scheduler's rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """Cells that have one answer."""

    stages: tuple[str, ...]
    """How far the attempt was; all of them where empty."""
    source: tuple[str, ...]
    """What the source shows; anything where empty."""
    destination: tuple[str, ...]
    """What the destination shows; anything where empty."""
    only: str
    """A condition besides; empty where there is none."""
    action: str
    side: str
    """Where it is done, if that is not all the same."""
    why: str

    def document(self) -> dict[str, object]:
        """As JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Table:
    """All rows for one kind of migration. The first one that fits decides."""

    name: str
    about: str
    stages: tuple[str, ...]
    """Every word that a stage may be."""
    shown: tuple[str, ...]
    """Every word that a side may show."""
    rows: tuple[Row, ...] = field(repr=False)
    cell: Callable[[str, str, str], Sequence[Row]] = field(repr=False)
    """The rows that decide a stage, a source and a destination, in order: more than one where conditions differ."""


def listed(words: Sequence[str], every: Sequence[str]) -> str:
    """A set of words as a cell shows it: ``any``, those that are in it, or those that are not."""
    if not words:
        return "any"
    others = [word for word in every if word not in words]
    return "any but " + ", ".join(others) if len(others) < len(words) / 2 else ", ".join(words)


_sources: list[Callable[[], Sequence[Table]]] = []


def on_print(source: Callable[[], Sequence[Table]]) -> Callable[[], Sequence[Table]]:
    """Register tables that can be printed."""
    _sources.append(source)
    return source


def registered() -> list[Table]:
    """All of them."""
    return [table for source in _sources for table in source()]
