"""The shortest of several timetables: each is made with the critical paths that the one before it had."""

from __future__ import annotations

from collections.abc import Sequence as Many

from tasks.planner.moves import Layout, Move
from tasks.planner.timetable import Timetable, timetable

WORK = 15_000
"""Moves times timetables: so much is tried, within ``PASSES``."""
PASSES = (3, 12)
PATIENCE = 3
"""So many in a row that are no shorter are enough."""
GOOD = 1.01
"""Times the bound: short enough."""


def shortest(layout: Layout, moves: Many[Move], bound: float) -> Timetable:
    """The shortest timetable of a sequence that was found; ``bound`` seconds is the least that there can be."""
    found = best = timetable(layout, moves)
    passes = min(max(WORK // max(len(moves), 1), PASSES[0]), PASSES[1])
    last = 0
    for turn in range(1, passes):
        if best.seconds <= bound * GOOD or turn - last > PATIENCE:
            break
        found = timetable(layout, moves, tails(layout, moves, found, whole=turn % 3 == 1))
        if found.seconds < best.seconds:
            best, last = found, turn
    return best


def tails(layout: Layout, moves: Many[Move], found: Timetable, *, whole: bool) -> list[float]:
    """How long each move and the longest chain of those that wait for it take, in seconds.

    With ``whole``, also those that wait for its slots; and where a move waited for room, the chain counts at the
    departure from its host that could have made as much room soonest. Neither way is better for all plans.
    """
    tail = [move.seconds for move in moves]
    end = {at: found.start[at] + moves[at].seconds for at in found.started}
    sooner = _Sooner(layout, moves, found, end)
    freed: dict[tuple[str, int, float], float] = {}
    for at in reversed(found.started):
        move = moves[at]
        if whole:
            slots = (("out", move.source), ("in", move.target))
            tail[at] = max(tail[at], *(move.seconds + freed.get((*slot, end[at]), 0.0) for slot in slots))
            for slot in slots:
                since = (*slot, found.start[at])
                freed[since] = max(freed.get(since, 0.0), tail[at])
        for before in found.after[at]:
            cause = sooner.than(before, at) if whole else before
            tail[cause] = max(tail[cause], moves[cause].seconds + tail[at])
    return tail


class _Sooner:
    """Departures that could have made room sooner than those that did."""

    def __init__(self, layout: Layout, moves: Many[Move], found: Timetable, end: dict[int, float]) -> None:
        self.layout, self.moves, self.end = layout, moves, end
        self.could_end = {
            at: max((end[before] for before in found.after[at]), default=0.0) + moves[at].seconds
            for at in found.started
        }
        self.spare = [move.memory for move in moves]
        self.leaving: dict[int, list[int]] = {}
        for at in sorted(found.started, key=self.could_end.__getitem__):
            self.leaving.setdefault(moves[at].source, []).append(at)

    def than(self, before: int, at: int) -> int:
        """The departure that ``at`` would best wait for instead of ``before``."""
        move = self.moves[at]
        if self.moves[before].source != move.target:
            return before
        lacks = max(move.memory - max(self.layout.memory[move.target], 0), 0)
        best = before
        for other in self.leaving[move.target]:
            if self.could_end[other] >= self.end[before]:
                break
            if self.spare[other] >= lacks:
                best = other
                break
        self.spare[best] -= lacks
        return best
