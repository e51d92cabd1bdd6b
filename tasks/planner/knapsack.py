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
    counts, sums = np.nonzero(table >= need_cpu - SLIP)
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
    chosen: list[int] = []
    left = list(range(len(memory)))
    short = np.array([max(0.0, need_cpu), max(0.0, need_memory)])
    whole = np.where(short > 0, short, 1.0)
    while (short > SLIP).any():
        gain = np.minimum(cpu[left], short[0]) / whole[0] + np.minimum(memory[left], short[1]) / whole[1]
        best = left[int(np.argmax(gain / (memory[left] + price + 1.0)))]
        chosen.append(best)
        left.remove(best)
        short = np.maximum(0.0, short - np.array([cpu[best], float(memory[best])]))
    for guest in sorted(chosen, key=lambda one: -memory[one]):  # what the later ones made needless
        rest = [one for one in chosen if one != guest]
        if memory[rest].sum() >= need_memory - SLIP and cpu[rest].sum() >= need_cpu - SLIP:
            chosen = rest
    return chosen
