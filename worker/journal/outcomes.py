"""What follows from the end of a migration, once: its outcome counted, its result shown."""

from __future__ import annotations

import json
from typing import cast

from worker.journal.scripting import Scripts

Shown = tuple[str, str, int]
"""Key, text and life (seconds) of what the result back end is to show; an empty key shows nothing."""
Outcome = tuple[str, str, str, str]
"""Driver, flag set, outcome, reason."""


class Outcomes(Scripts):
    """The count of outcomes, and the outbox of results. Both are written by the scripts that end a record."""

    def outcomes(self) -> dict[Outcome, int]:
        """How many migrations ended how, since there is this journal."""
        raw = self.client.hgetall(self._key("outcomes"))
        return {cast(Outcome, tuple(json.loads(key))): int(number) for key, number in raw.items()}

    def count_outcome(self, driver: str, flags: str, outcome: str, reason: str) -> None:
        """Count the end of a request that no record is kept of (``count.lua``)."""
        self._run("count", "", driver, flags, outcome, reason)

    def show_result(self, ident: str, shown: Shown) -> bool:
        """Show the final result of a record that ended; false where it did not or is shown (``result.lua``)."""
        return bool(self._run("result", ident, *shown)[0] == "OK")

    def unshown(self, seconds: float, most: int = 100) -> list[str]:
        """Migrations that ended so long ago without their result being shown (``unshown.lua``)."""
        return [str(ident) for ident in self._run("unshown", "", int(seconds * 1000), most)]
