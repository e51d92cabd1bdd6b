"""One judge for every method: what its moves achieve, what they cost, and what happens when they are carried out.

It knows the problem and the moves, and nothing of how they were found: a plan's own numbers are only compared.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from bench.planner.bound import Bound
from bench.planner.moves import Found
from bench.planner.replay import makespan_bound, replay
from bench.planner.scene import Ints, Scene
from worker.contract.plans import Plan

JITTERS = (1, 2, 3)
"""Seeds of replays in which migrations take half to twice as long as expected."""

Row = dict[str, Any]


def judged(scene: Scene, least: Bound, found: Found) -> Row:
    """The row of one method: seconds, GiB, shares of capacity; see ``docs/benchmark.md`` for each field."""
    took = {
        "method": found.method,
        "seconds": round(found.wall_seconds, 3),
        "cpu_seconds": round(found.cpu_seconds, 3),
        "rss_mib": round(found.rss_mib) or None,
        "limited": found.limited,
        "note": found.note,
    }
    if found.error:
        return took | {"error": found.error}
    try:
        run = replay(scene, found.moves)
    except KeyError as unknown:
        return took | {"error": f"a move names what is not there: {unknown}"}
    shaken = [replay(scene, found.moves, seed) for seed in JITTERS]
    runs = [run, *shaken]
    bounces = [move for move in found.moves if move.bounce]
    bounce_gib = sum(scene.need[scene.guest[move.guest], 1] for move in bounces) / 1024
    gib = sum(scene.need[scene.guest[move.guest], 1] for move in found.moves) / 1024
    shortest = makespan_bound(scene, found.moves)
    return took | {
        **_state(scene, np.array(run.place, np.int64), least),
        "moves": len(found.moves),
        "gib": round(gib, 3),
        "bound_gib": round(least.gib, 3),
        "gap": _gap(scene, np.array(run.place, np.int64), least, gib - bounce_gib),
        "bounces": len(bounces),
        "bounce_gib": round(bounce_gib, 3),
        "makespan": round(run.makespan, 1),
        "makespan_bound": round(shortest, 1),
        "makespan_ratio": round(run.makespan / shortest, 3) if shortest else None,
        "overcommitted": run.overcommitted,
        "overcommitted_shaken": max(one.overcommitted for one in shaken),
        "over_limit": max(one.over_limit for one in runs),
        "worst_over": round(max(0.0, *(one.worst_over for one in runs)), 4),
        "too_close": max(one.too_close for one in runs),
        "never_started": len(found.moves) - run.started,
        "wrong": wrong(scene, found),
        **(_claims(found.plan) if found.plan else {}),
    }


def _state(scene: Scene, at: Ints, least: Bound) -> Row:
    before, after = scene.loads(scene.start), scene.loads(at)
    known = np.isfinite(scene.room[:, 0])
    cpu = (before[known, 0], after[known, 0]) if known.any() else (np.zeros(1), np.zeros(1))
    leaving = {scene.number[name] for name in scene.problem.goal.hosts} if scene.problem.goal.kind == "drain" else set()
    left = [guest for guest, host in enumerate(at.tolist()) if host in leaving]
    targets = scene.problem.goal.targets
    astray = [ident for ident, host in targets.items() if at[scene.guest[ident]] != scene.number[host]]
    return {
        "worst_cpu": round(float(cpu[1].max()), 4),
        "worst_memory": round(float(after[:, 1].max()), 4),
        "hot_before": int(scene.hot(scene.start).sum()),
        "hot": int(scene.hot(at).sum()),
        "hopeless": least.hopeless,
        "left": len(left) + len(astray),
        "deviation_before": round(float(cpu[0].std() + before[:, 1].std()), 4),
        "deviation": round(float(cpu[1].std() + after[:, 1].std()), 4),
        "broken_rules": broken_rules(scene, at) - broken_rules(scene, scene.start),
    }


def _gap(scene: Scene, at: Ints, least: Bound, gib: float) -> float | None:
    """How much more than the bound was moved; ``None`` where the goal was not reached, so that it means nothing."""
    state = _state(scene, at, least)
    if state["hot"] > least.hopeless or state["left"]:
        return None
    if not least.gib:
        return 0.0 if not gib else None
    return round(gib / least.gib - 1, 5)


def _claims(plan: Plan) -> Row:
    return {
        "status": plan.status,
        "inside_seconds": round(plan.spent_seconds, 3),
        "claimed_bound_gib": round(plan.bound_gib, 3),
        "claimed_gap": plan.gap if plan.gap is None or math.isfinite(plan.gap) else None,
        "claimed_seconds": round(plan.totals.seconds, 1),
        "claimed_bound_seconds": round(plan.totals.bound_seconds, 1),
        "stuck": len(plan.stuck),
        "said_left": len(plan.left),
        "left_codes": dict(Counter(left.code for left in plan.left)),
        "impossible": sorted({one.code for one in plan.impossible}),
    }


def broken_rules(scene: Scene, at: Ints) -> int:
    """How many rules do not hold where the guests are so."""
    hosts = scene.problem.hosts
    labelled = {rule.label: rule for rule in scene.problem.rules if rule.kind == "among" and not rule.parts}
    zones = {label: rule.sets(hosts) for label, rule in labelled.items()}
    broken = 0
    for rule in scene.problem.rules:
        places = [hosts[int(at[scene.guest[ident]])] for ident in rule.guests]
        names = {host.name for host in places}
        if rule.kind == "together":
            broken += len(names) > 1
        elif rule.kind == "among":
            broken += not any(names <= set(part) for part in rule.parts or zones[rule.label])
        else:
            broken += len({host.labels.get(rule.label) or f"host {host.name}" for host in places}) < len(places)
    return broken


def wrong(scene: Scene, found: Found) -> list[str]:
    """Moves that nobody may make, whatever they achieve: the first ten, in words."""
    complaints = []
    place = scene.start.copy()
    problem = scene.problem
    for move in found.moves:
        guest, host = scene.guest[move.guest], scene.number[move.destination]
        spec, target = problem.guests[guest], problem.hosts[host]
        if not scene.movable[guest]:
            complaints.append(f"{move.guest} is pinned, or its host is away")
        elif not scene.takes[host]:
            complaints.append(f"{move.guest} goes to {target.name}, which takes no guests")
        elif place[guest] == host:
            complaints.append(f"{move.guest} goes to {target.name}, where it is")
        elif any(target.labels.get(label) != value for label, value in spec.requires.items()):
            complaints.append(f"{move.guest} goes to {target.name}, which has not the labels it requires")
        elif problem.hosts[place[guest]].kind != target.kind:
            complaints.append(f"{move.guest} goes to {target.name}, which is of another kind")
        place[guest] = host
    return complaints[:10]
