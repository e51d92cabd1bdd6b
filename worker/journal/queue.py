"""What waits for slots in the journal, who gets them next, and how many there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from worker.journal.scripting import Scripts
from worker.terms import Terms


class Queue(Scripts):
    """Admission, one method for each script."""

    def choose(self, terms: Terms, most: int = 100) -> list[str]:
        """Who starts next, in this order, as far as there is room (``next.lua``); to be admitted one by one."""
        return [str(ident) for ident in self._run("next", "", terms.text(), most)]

    def admit(self, ident: str, attempt: int, baton: str, terms: str) -> list[Any]:
        """Take all slots and queue begin of the given attempt (``admit.lua``)."""
        return self._run("admit", ident, attempt, baton, terms, "")

    def limits(self, terms: Terms, changes: Mapping[str, int | None] | None = None) -> dict[str, Any]:
        """The limits in force and what they leave, after ``changes`` where there are any (``limits.lua``).

        A change names a field: ``out:HOST``, ``in:HOST``, ``net:NETWORK`` or ``all``; ``None`` gives the settings'
        value back.
        """
        fields = {name: False if limit is None else limit for name, limit in (changes or {}).items()}
        told = self._run("limits", "", json.dumps(fields), terms.text())[1]
        return cast(dict[str, Any], json.loads(told))

    def census(self) -> dict[str, tuple[int, float]]:
        """What stands in line, by priority: how many, and since when the oldest does, in seconds of Redis's clock."""
        flat = self._run("census", "")
        rows = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        return {str(priority): (int(number), float(since) / 1000) for priority, number, since in rows}

    def sweep(self, terms: Terms, cursor: int = 0) -> tuple[int, list[str]]:
        """Give back what nobody gave back, and queue what is in no line (``sweep.lua``).

        ``cursor`` is where the call before ended. Returns where this one did (0: all was seen), and what was given
        back, each an id and a set of slots.
        """
        after, *given = self._run("sweep", "", terms.text(), cursor)
        return int(after), [str(each) for each in given]
