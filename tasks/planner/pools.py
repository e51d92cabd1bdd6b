"""Repacking of small pools of hosts by CP-SAT, around what neither best fit nor search could place.

Needs the extra ``planner`` (ortools), which is imported only when a pool is to be solved. One worker, a seed and a
deterministic time limit make the outcome repeatable.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from tasks.planner.fleet import CPU, MEMORY, SLIP, Floats, Ints
from tasks.planner.place import Placement

SIZES = (24, 40)
"""Hosts in a pool; a larger one where a smaller one does not do."""
WORK = 0.25
"""CP-SAT's deterministic seconds for one pool."""
MOST_HOSTS = 150
"""With more of them search finds more in the same time (measured: 300 hosts, 80 % of memory in use)."""
SECONDS = 2.5
"""What one pool may take, roughly: a plan's seconds allow so many."""
MILLI = 1000
"""CPU is counted in thousandths of a core, memory in MiB."""
Options = dict[int, dict[int, Any]]
"""For each unit and each host that it may be on a variable of the model."""


def available() -> bool:
    """Whether the extra is there."""
    return find_spec("ortools") is not None


class Pools:
    """How many pools may still be solved for one plan."""

    def __init__(self, place: Placement, price: float) -> None:
        goal = place.fleet.problem.goal
        self.place, self.price, self.seed = place, price, goal.seed
        small = len(place.fleet.hosts) <= MOST_HOSTS
        self.left = int(goal.plan_seconds / SECONDS) if small and available() else 0

    def placed(self, unit: int) -> bool:
        """Place a unit that must leave its host; ``False``, and nothing changed, where no pool was found that can."""
        need = self.place.fleet.need[:, [unit]]
        return self._grown(np.array([unit]), need, -1)

    def relieved(self, host: int, units: tuple[int, ...]) -> bool:
        """Bring a host under its limits, which these units would do if they could be placed."""
        need = self.place.fleet.need[:, list(units)].max(axis=1, keepdims=True)
        return self._grown(np.empty(0, dtype=np.int64), need, host)

    def _grown(self, wanted: Ints, need: Floats, host: int) -> bool:
        place, before = self.place, 0
        for size in SIZES:
            if self.left <= 0 or place.fleet.clock.over():
                break
            hosts = _around(place, need, size, host)
            if len(hosts) <= before:
                break
            before, self.left = len(hosts), self.left - 1
            mark, had = place.mark(), place.slack[:, hosts].copy()
            found = _solved(place, hosts, wanted, host, self.price, self.seed)
            for unit, target in found or []:
                place.move(unit, target)
            worse = place.slack[:, hosts] < np.minimum(had, 0) - SLIP * 10
            if found is not None and not worse.any() and (host < 0 or (place.slack[:, host] >= -SLIP * 10).all()):
                return True
            place.undo(mark)
        return False


def _around(place: Placement, need: Floats, size: int, host: int) -> Ints:
    """The host, and those that lack the least for what is to be placed, half of them; then those with most room."""
    fleet = place.fleet
    good = fleet.takes & ~place.closed & (place.slack >= -SLIP * 10).all(axis=0)
    if host >= 0:
        good &= fleet.kind == fleet.kind[host]
        good[host] = False
    hosts = np.flatnonzero(good)
    short = (np.maximum(0, need - place.slack[:, hosts]) / np.maximum(need, SLIP)).sum(axis=0)
    near = hosts[np.argsort(short, kind="stable")]
    share = (place.slack[:, hosts] / np.maximum(place.limits[:, hosts], SLIP)).min(axis=0)
    free = hosts[np.argsort(-share, kind="stable")]
    chosen = dict.fromkeys([*([host] if host >= 0 else []), *near[: size // 2].tolist(), *free.tolist()])
    return np.array(list(chosen)[:size], dtype=np.int64)


def _solved(
    place: Placement, hosts: Ints, wanted: Ints, relieve: int, price: float, seed: int
) -> list[tuple[int, int]] | None:
    """The cheapest repacking of these hosts that also holds what is wanted; ``None`` where none was found."""
    from ortools.sat.python import cp_model

    fleet = place.fleet
    inside = np.zeros(len(fleet.hosts) + 1, dtype=bool)
    inside[hosts] = True
    units = np.concatenate([np.flatnonzero(inside[place.at] & fleet.movable), wanted])
    model = cp_model.CpModel()
    options: Options = {}
    for unit in units.tolist():
        allowed = fleet.allowed[fleet.look[unit]]
        goes = [h for h in hosts.tolist() if allowed[h] or h == place.at[unit]]
        options[unit] = {h: model.new_bool_var("") for h in goes}
        model.add_exactly_one(options[unit].values())
        for h, var in options[unit].items():
            model.add_hint(var, int(h == place.at[unit]))
    _capacity(model, place, hosts, options, relieve)
    _apart(model, place, options)
    terms = [
        (var, int(fleet.need[MEMORY, unit] + price))
        for unit, goes in options.items()
        for h, var in goes.items()
        if h != fleet.start[unit]
    ]
    model.minimize(cp_model.LinearExpr.weighted_sum([var for var, _ in terms], [cost for _, cost in terms]))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.max_deterministic_time = WORK
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    chosen = [(unit, h) for unit, goes in options.items() for h, var in goes.items() if solver.boolean_value(var)]
    return [(unit, h) for unit, h in chosen if h != place.at[unit]]


def _capacity(model: Any, place: Placement, hosts: Ints, options: Options, relieve: int) -> None:  # noqa: ANN401
    fleet = place.fleet
    for host in hosts.tolist():
        mine = [unit for unit, goes in options.items() if host in goes]
        here = [unit for unit in mine if place.at[unit] == host]
        for resource, scale in ((CPU, MILLI), (MEMORY, 1)):
            need = np.ceil(fleet.need[resource] * scale - SLIP).astype(np.int64)
            slack = float(place.slack[resource, host])
            free = int(np.floor((max(slack, 0.0) if host != relieve else slack) * scale)) + int(need[here].sum())
            terms = [(options[unit][host], int(need[unit])) for unit in mine]
            model.add(sum(var * size for var, size in terms) <= free)


def _apart(model: Any, place: Placement, options: Options) -> None:  # noqa: ANN401
    """No two units of a rule in one zone, but where there are two now."""
    fleet = place.fleet
    for rule in sorted({rule for unit in options for rule in fleet.rules_of.get(unit, ())}):
        apart = fleet.aparts[rule]
        zones: dict[int, list[Any]] = {}
        fixed: dict[int, int] = {}
        now: dict[int, int] = {}
        for unit in apart.units:
            zone = int(apart.zones[place.last[unit]])
            now[zone] = now.get(zone, 0) + 1
            if unit not in options:
                fixed[zone] = fixed.get(zone, 0) + 1
                continue
            for host, var in options[unit].items():
                zones.setdefault(int(apart.zones[host]), []).append(var)
        for zone, found in zones.items():
            model.add(sum(found) <= max(1, now.get(zone, 0)) - fixed.get(zone, 0))
