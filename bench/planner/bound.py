"""The least memory that every plan has to move, proved without the planner's own code.

Balance: from each host above its ceiling guests must leave until both CPU and memory are under it. The cheapest such
set is a covering knapsack of two resources, solved exactly by dynamic programming over its memory (H. Kellerer,
U. Pferschy, D. Pisinger, "Knapsack Problems", 2004, section 2.3: states by weight, each with the most of the other
resource). Nothing forces a guest that leaves one hot host to leave another, so the sum over the hosts is a bound.
Drain: all that may leave. Place: all that is not where it belongs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.planner.scene import SLIP, Bools, Floats, Ints, Scene


class Bound(NamedTuple):
    """What is proved."""

    gib: float
    hopeless: int
    """Hosts that no plan brings under their ceiling: what may leave them is not enough. They are not in ``gib``."""


def bound(scene: Scene) -> Bound:
    """The bound of a problem."""
    goal = scene.problem.goal
    if goal.kind == "drain":
        leaving = np.isin(scene.start, [scene.number[name] for name in goal.hosts]) & scene.movable
        return Bound(float(scene.need[leaving, 1].sum()) / 1024, 0)
    if goal.kind == "place":
        wanted = {scene.guest[ident]: scene.number[host] for ident, host in goal.targets.items()}
        away = [guest for guest, host in wanted.items() if scene.start[guest] != host and scene.movable[guest]]
        return Bound(float(scene.need[away, 1].sum()) / 1024, 0)
    if goal.kind != "balance":
        return Bound(0.0, 0)
    leaves = scene.movable & _fits_somewhere(scene)
    total, hopeless = 0, 0
    for host in np.nonzero(scene.hot(scene.start))[0]:
        excess = np.maximum(0, _excess(scene, int(host)))
        least = covering(scene.need[leaves & (scene.start == host)], excess)
        if least is None:
            hopeless += 1
        else:
            total += least
    return Bound(total / 1024, hopeless)


def covering(guests: Floats, excess: Floats) -> int | None:
    """The least memory (MiB) of a set of guests with at least so much CPU and memory; ``None`` where there is none."""
    memory = guests[:, 1].astype(np.int64)
    if not len(memory) or guests[:, 0].sum() < excess[0] - SLIP or memory.sum() < excess[1] - SLIP:
        return 0 if not len(memory) and (excess <= SLIP).all() else None
    unit = int(np.gcd.reduce(memory)) or 1
    sizes: Ints = memory // unit
    most = np.full(int(sizes.sum()) + 1, -np.inf)
    most[0] = 0.0
    for size, cpu in zip(sizes.tolist(), guests[:, 0].tolist(), strict=True):
        most[size:] = np.maximum(most[size:], most[: len(most) - size] + cpu)
    start = int(np.ceil(excess[1] / unit - SLIP))
    enough = np.nonzero(most[start:] >= excess[0] - SLIP)[0]
    return (start + int(enough[0])) * unit if len(enough) else None


def _excess(scene: Scene, host: int) -> Floats:
    here = scene.need[scene.start == host].sum(axis=0)
    limit = np.where(np.isfinite(scene.room[host]), scene.ceiling * scene.room[host], np.inf)
    return np.asarray(here - limit)


def _fits_somewhere(scene: Scene) -> Bools:
    """(guests): whether some host that takes guests has a ceiling above what the guest alone needs."""
    limits = np.where(np.isfinite(scene.room), scene.ceiling * scene.room, np.inf)[scene.takes]
    fits = np.zeros(len(scene.need), bool)
    for limit in np.unique(limits, axis=0):
        fits |= (scene.need <= limit + SLIP).all(axis=1)
    return fits
