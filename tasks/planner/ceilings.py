"""How full a host may be in the end: what a goal means in cores and MiB."""

from __future__ import annotations

import numpy as np

from tasks.planner.fleet import CPU, MEMORY, SLIP, UNKNOWN, Fleet, Floats, Ints
from worker.contract.plans import Goal


def hard(fleet: Fleet) -> Floats:
    """(2, hosts): all of a host's CPU, ``most_percent`` of its memory; nothing that is moved makes a host fuller."""
    limits = fleet.room.copy()
    limits[MEMORY] = np.floor(limits[MEMORY] * (fleet.problem.goal.most_percent / 100) + SLIP)
    return limits


def ceilings(fleet: Fleet, at: Ints, more_points: float = 0) -> Floats:
    """(2, hosts): what the goal wants no host to be above.

    The mean is that of the hosts of one kind that take guests: others cannot share the load. Guests move to such hosts
    only, so the mean never falls while a plan is carried out, and a plan's own outcome is below its ceilings.
    ``more_points`` raises them, to tell what that would change.
    """
    goal, limits = fleet.problem.goal, hard(fleet)
    if goal.kind not in ("balance", "consolidate"):
        return limits
    if goal.ceiling_percent is not None:
        return np.minimum(limits, fleet.room * ((goal.ceiling_percent + more_points) / 100))
    if goal.kind == "consolidate":
        return limits
    loads = fleet.loads(at)
    for kind in np.unique(fleet.kind):
        here = fleet.kind == kind
        for resource in (CPU, MEMORY):
            known = here & fleet.takes & fleet.known[resource]
            room = float(fleet.room[resource, known].sum())
            if room > 0:
                share = float(loads[resource, known].sum()) / room + (goal.ceiling_points + more_points) / 100
                mine = here & (fleet.room[resource] < UNKNOWN)
                limits[resource, mine] = np.minimum(limits[resource, mine], fleet.room[resource, mine] * share)
    return limits


def price_mib(goal: Goal) -> float:
    """What a move costs besides its memory."""
    return goal.price_per_move_gib * 1024
