"""What no plan can do, by name, before anything is searched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tasks.planner.bound import Relief, placeable
from tasks.planner.drain import leaving
from tasks.planner.explain import LONGEST, amount, listed, no_host
from tasks.planner.fleet import CPU, MEMORY, SLIP, Fleet, Floats, Ints
from worker.contract.plans import Impossible

WORDS = {CPU: "CPU", MEMORY: "memory"}


def impossibilities(fleet: Fleet, limits: Floats, found: Relief | None) -> list[Impossible]:
    """For the goal of the problem; ``found`` is what must leave hot hosts, where the goal is a balance."""
    goal = fleet.problem.goal.kind
    if goal == "drain":
        return [*_drain(fleet, limits), *_rules(fleet)]
    if goal == "balance" and found is not None:
        return [*_demand(fleet, limits), *_hosts(fleet, limits, found)]
    return []


def _told(code: str, subject: str, why: str, unblock: str = "") -> Impossible:
    return Impossible(code=code, subject=subject, why=why[:LONGEST], unblock=unblock[:LONGEST])


# Drain


def _drain(fleet: Fleet, limits: Floats) -> Iterator[Impossible]:
    for unit in np.flatnonzero(fleet.drained[fleet.start]).tolist() if len(fleet.start) else []:
        host = fleet.hosts[fleet.start[unit]].name
        code, why = fleet.barred.get(unit, ("", ""))
        if code == "pinned":
            yield _told("pinned-on-drained", fleet.name(unit), f"it is pinned to {host}: {why}", "take the pin away")
    away = {int(fleet.start[u]) for u, (code, _) in fleet.barred.items() if code == "host-away"}
    for at in sorted(away):
        if fleet.drained[at]:
            spec = fleet.hosts[at]
            yield _told("host-away", spec.name, spec.why or "no guest can leave it now", "wait until it gives guests")
    units = leaving(fleet)
    yield from _too_big(fleet, limits, units)
    slack = np.maximum(0, limits - fleet.loads(fleet.start))
    for kind in np.unique(fleet.kind[fleet.start[units]]).tolist():
        mine = units[fleet.kind[fleet.start[units]] == kind]
        takers = fleet.takes & (fleet.kind == kind)
        for resource in (MEMORY, CPU):
            if not takers.any() or not fleet.known[resource, takers].all():
                continue
            need, free = float(fleet.need[resource, mine].sum()), float(slack[resource, takers].sum())
            if need > free + SLIP:
                wants, has, more = (
                    amount(*(value if r == resource else 0 for r in (CPU, MEMORY)))
                    for value in (need, free, need - free)
                )
                text = f"what is to leave needs {wants}, and the {takers.sum()} hosts that take guests have {has}"
                yield _told("demand-over-ceiling", WORDS[resource], text, f"{more} more in all")


def _too_big(fleet: Fleet, limits: Floats, units: Ints) -> Iterator[Impossible]:
    """Units that not even an empty host could take."""
    can = placeable(fleet, limits, units) if len(units) else np.zeros(0, dtype=bool)
    for unit in units[~can[units]].tolist() if len(units) else []:
        hosts = np.flatnonzero(fleet.allowed[fleet.look[unit]] & (np.arange(len(fleet.hosts)) != fleet.start[unit]))
        if not len(hosts):
            why, unblock = no_host(fleet, unit)
            yield _told("no-host", fleet.name(unit), why, unblock)
            continue
        short = np.maximum(0, fleet.need[:, [unit]] - limits[:, hosts])
        best = int(np.argmin((short / np.maximum(fleet.need[:, [unit]], 1e-9)).sum(axis=0)))
        largest, name = limits[:, hosts[best]], fleet.hosts[hosts[best]].name
        wants = amount(*(fleet.need[r, unit] if short[r, best] > 0 else 0 for r in (CPU, MEMORY)))
        has = amount(*(largest[r] if short[r, best] > 0 else 0 for r in (CPU, MEMORY)))
        why = f"alone it needs {wants}; of the hosts that may have it none may use more than {name}: {has}"
        yield _told("guest-too-big", fleet.name(unit), why, f"{amount(*short[:, best])} more on {name}")


def _rules(fleet: Fleet) -> Iterator[Impossible]:
    """``apart`` rules with more guests than places once the drained hosts are empty."""
    for apart in fleet.aparts:
        units = np.array(apart.units, dtype=np.int64)
        going = fleet.drained[fleet.start[units]] & fleet.movable[units]
        if not going.any():
            continue
        reach = np.array(fleet.allowed[np.unique(fleet.look[units])].any(axis=0), dtype=bool)
        reach[fleet.start[units[~going]]] = True
        places = len(np.unique(apart.zones[reach]))
        if places < len(units):
            why = (
                f"it keeps {len(units)} guests apart, and without the drained hosts there are {places} places for them"
            )
            yield _told(
                "rule-too-big", apart.name, why, f"{len(units) - places} more hosts, or fewer guests in the rule"
            )


# Balance


def _demand(fleet: Fleet, limits: Floats) -> Iterator[Impossible]:
    """All that is in use against all that may be."""
    loads = fleet.loads(fleet.start)
    for kind in np.unique(fleet.kind).tolist():
        takers = fleet.takes & (fleet.kind == kind)
        for resource in (CPU, MEMORY):
            known = takers & fleet.known[resource]
            need, most = float(loads[resource, known].sum()), float(limits[resource, known].sum())
            room = float(fleet.room[resource, known].sum())
            if room > 0 and need > most * (1 + 1e-9) + SLIP:
                why = f"guests use {need / room:.1%} of all {WORDS[resource]}, above the ceilings of {most / room:.1%}"
                yield _told("demand-over-ceiling", WORDS[resource], why, f"a ceiling of {need / room:.1%} or more")


def _hosts(fleet: Fleet, limits: Floats, found: Relief) -> Iterator[Impossible]:
    """Hosts that stay above their ceiling, and who keeps them there."""
    loads = fleet.loads(fleet.start)
    by_host = fleet.by_host(fleet.start)
    told: set[int] = set()
    for host, resources in found.hopeless.items():
        units = by_host[host]
        can = placeable(fleet, limits, units)
        big = [unit for unit in units[fleet.movable[units] & ~can[units]].tolist() if unit not in told]
        told.update(big)
        yield from _too_big(fleet, limits, np.array(big, dtype=np.int64))
        fixed = units[~(fleet.movable[units] & can[units])]
        for resource in resources:
            largest = fixed[np.argsort(-fleet.need[resource, fixed], kind="stable")].tolist()
            room = float(fleet.room[resource, host]) or 1.0
            kept = float(fleet.need[resource, fixed].sum()) / room
            names = [f"{fleet.name(u)} ({fleet.barred[u][0] if u in fleet.barred else 'too big'})" for u in largest]
            why = (
                f"{loads[resource, host] / room:.0%} of its {WORDS[resource]} is in use, above "
                f"{limits[resource, host] / room:.0%}, and what cannot leave uses {kept:.0%}: {listed(names)}"
            )
            yield _told(
                "host-over-ceiling", fleet.hosts[host].name, why, f"a ceiling of {kept:.0%}, or let one of them go"
            )
