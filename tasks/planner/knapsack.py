"""The cheapest guests whose departure brings a host under its ceiling: a covering knapsack of two resources, solved by
dynamic programming over (how many leave, memory that leaves) -> the most CPU that leaves.

Exact where the guests' memory has a common divisor that keeps the table small, which is usual (whole GiB). Otherwise
memory is rounded down to a coarser unit, and what is returned as a bound stays one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.planner.fleet import SLIP, Bools, Floats, Ints

CELLS = 40_000
"""Of the table; a larger one would be finer and slower."""
TRIES = 64
"""So many cells are tried, in the order of their cost, for one whose guests really cover what is needed."""


@dataclass(frozen=True)
class Cover:
    """Which guests leave, and what no choice goes below."""

    chosen: tuple[int, ...]
    """Indices into the guests given."""
    mib: float
    """No choice moves less memory."""
    cost: float
    """No choice costs less: memory and the price of each move (MiB)."""


def cover(memory: Ints, cpu: Floats, need_memory: float, need_cpu: float, price: float) -> Cover | None:
    """The cheapest choice that frees both; ``None`` where all guests together would not.

    ``price`` is what a move costs besides its memory (MiB). Of two choices of one cost the one with fewer moves wins.
    """
    if memory.sum() < need_memory - SLIP or cpu.sum() < need_cpu - SLIP:
        return None
    if need_memory <= SLIP and need_cpu <= SLIP:
        return Cover((), 0.0, 0.0)
    handy = _greedy(memory, cpu, need_memory, need_cpu, price)
    most = float(memory[handy].sum() + price * len(handy))
    order = np.argsort(memory, kind="stable")
    deepest = max(len(handy), int(np.searchsorted(np.cumsum(memory[order]), most, side="right")))
    deepest = min(deepest, len(memory))
    divisor = max(1, int(np.gcd.reduce(memory)))
    unit = divisor
    while (deepest + 1) * (most / unit + 1) > CELLS:
        unit = max(unit + 1, int(unit * 1.25)) if unit < divisor * 8 else int(unit * 1.25) + 1
    weights = memory // unit
    slack = 0 if unit == divisor else unit - 1  # what rounding down may have taken from each guest
    width = int(most // unit)
    table, taken = _fill(weights[order], cpu[order], deepest, width)
    counts, sums = np.nonzero(table >= max(0.0, need_cpu - SLIP))  # below 0: no set of guests is behind the cell
    reach = sums * unit + counts * slack >= need_memory - SLIP
    counts, sums = counts[reach], sums[reach]
    mib = np.maximum(sums * float(unit), need_memory)
    cost = mib + price * counts
    if not len(cost):  # floating point only: the greedy choice is one
        return Cover(tuple(handy), max(0.0, need_memory), max(0.0, need_memory))
    chosen = handy
    for cell in np.lexsort((counts, cost))[:TRIES]:
        found = order[_trace(taken, weights[order], int(counts[cell]), int(sums[cell]))]
        if memory[found].sum() >= need_memory - SLIP and cpu[found].sum() >= need_cpu - SLIP:
            if memory[found].sum() + price * len(found) <= most + SLIP:
                chosen = [int(guest) for guest in found]
            break
    return Cover(tuple(sorted(chosen)), float(mib.min()), float(cost.min()))


def _fill(weights: Ints, cpu: Floats, deepest: int, width: int) -> tuple[Floats, Bools]:
    """The table, and for each guest the cells that it improved. Rows and columns grow as guests are added."""
    table = np.full((deepest + 1, width + 1), -np.inf)
    table[0, 0] = 0.0
    taken = np.zeros((len(weights), deepest + 1, width + 1), dtype=bool)
    reached = 0
    for guest, weight in enumerate(weights.tolist()):
        if weight > width:
            break  # the rest is heavier still
        rows = min(guest, deepest - 1) + 1
        columns = min(reached, width - weight) + 1
        candidate = table[:rows, :columns] + cpu[guest]
        target = table[1 : rows + 1, weight : weight + columns]
        better = candidate > target
        np.copyto(target, candidate, where=better)
        taken[guest, 1 : rows + 1, weight : weight + columns] = better
        reached = min(width, reached + weight)
    return table, taken


def _trace(taken: Bools, weights: Ints, count: int, total: int) -> Ints:
    """The guests behind a cell."""
    found = []
    for guest in range(len(weights) - 1, -1, -1):
        if count and taken[guest, count, total]:
            found.append(guest)
            count -= 1
            total -= int(weights[guest])
    return np.array(found, dtype=np.int64)


def _greedy(memory: Ints, cpu: Floats, need_memory: float, need_cpu: float, price: float) -> list[int]:
    """A choice that covers, not the cheapest: by what a guest frees of what is still needed for what it costs."""
    weights, cores = memory.tolist(), cpu.tolist()
    chosen: list[int] = []
    left = set(range(len(weights)))
    short_cpu, short_memory = max(0.0, need_cpu), max(0.0, need_memory)
    while left and (short_cpu > SLIP or short_memory > SLIP):

        def worth(one: int, lacks_cpu: float = short_cpu, lacks_memory: float = short_memory) -> tuple[float, int]:
            gain = min(cores[one], lacks_cpu) / need_cpu if lacks_cpu > SLIP else 0.0
            gain += min(weights[one], lacks_memory) / need_memory if lacks_memory > SLIP else 0.0
            return gain / (weights[one] + price + 1.0), -one

        best = max(left, key=worth)
        chosen.append(best)
        left.remove(best)
        short_cpu, short_memory = short_cpu - cores[best], short_memory - weights[best]
    spare_cpu, spare_memory = SLIP - short_cpu, SLIP - short_memory
    if need_cpu <= 0:
        spare_cpu = np.inf
    if need_memory <= 0:
        spare_memory = np.inf
    for one in sorted(chosen, key=lambda one: -weights[one]):  # what the later ones made needless
        if cores[one] <= spare_cpu and weights[one] <= spare_memory:
            chosen.remove(one)
            spare_cpu, spare_memory = spare_cpu - cores[one], spare_memory - weights[one]
    return chosen
