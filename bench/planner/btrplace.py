"""BtrPlace's published instances (JSON, gzip) as problems.

A host has the resources ``uCpu`` and ``memory``; a VM takes what their views say, and, where a ``preserve`` asks for
more, what that asks for: the load has increased, hosts are over their capacity, and the plan has to repair that.
``spread`` becomes ``apart``, ``among`` becomes ``among``: by a label of the hosts, since thousands of these constraints
name the same parts, all hosts among them. Format: https://github.com/btrplace/scheduler (module json).
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from worker.contract.plans import Goal, GuestSpec, HostSpec, Problem, Rule

CPU_UNITS = 100
"""Units of ``uCpu`` in a core."""
KNOWN = {"online", "preserve", "spread", "among"}


class Unreadable(ValueError):
    """An instance that uses what this reader does not know; it says what."""


def load(path: Path, plan_seconds: float = 5) -> Problem:
    """Read an instance; raises ``OSError`` where there is none, ``Unreadable`` where it is not understood."""
    with gzip.open(path, "rt") as file:
        return read(json.load(file), plan_seconds)


def read(instance: dict[str, Any], plan_seconds: float = 5) -> Problem:
    """The problem that an instance describes: every host within its capacity, with the least memory moved."""
    constraints = instance["constraints"]
    if strange := {entry["id"] for entry in constraints} - KNOWN:
        raise Unreadable(f"constraints that are not known here: {', '.join(sorted(strange))}")
    model = instance["model"]
    resources = {view["rcId"]: view for view in model["views"] if view["id"] == "shareableResource"}
    if strange := set(resources) - {"uCpu", "memory"}:
        raise Unreadable(f"resources that are not known here: {', '.join(sorted(strange))}")
    asked = {
        (entry["rc"], str(entry["vm"])): int(entry["amount"]) for entry in constraints if entry["id"] == "preserve"
    }

    def capacity(resource: str, host: str) -> int:
        view = resources[resource]
        return int(view["nodes"].get(host, view["defCapacity"]))

    def taken(resource: str, vm: str) -> int:
        view = resources[resource]
        return max(int(view["vms"].get(vm, view["defConsumption"])), asked.get((resource, vm), 0))

    mapping, parts = model["mapping"], _Parts()
    rules = tuple(_rules(constraints, parts))
    return Problem(
        hosts=tuple(
            HostSpec(
                name=_host(host),
                cpu_cores=capacity("uCpu", host) / CPU_UNITS,
                memory_mib=capacity("memory", host),
                labels=parts.labels[int(host)],
            )
            for host in mapping["onlineNodes"]
        ),
        guests=tuple(
            GuestSpec(
                id=_vm(vm),
                name=_vm(vm),
                host=_host(host),
                cpu_cores=taken("uCpu", str(vm)) / CPU_UNITS,
                memory_mib=taken("memory", str(vm)),
            )
            for host, content in mapping["onlineNodes"].items()
            for vm in content["runningVMs"]
        ),
        rules=rules,
        goal=Goal(
            kind="balance", ceiling_percent=100, most_percent=100, price_per_move_gib=0, plan_seconds=plan_seconds
        ),
    )


class _Parts:
    """The parts of ``among`` constraints as labels of hosts: one label for each different list of parts."""

    def __init__(self) -> None:
        self.names: dict[tuple[tuple[int, ...], ...], str] = {}
        self.labels: dict[int, dict[str, str]] = defaultdict(dict)

    def label(self, parts: tuple[tuple[int, ...], ...]) -> str:
        """The label of which each value is one of these parts."""
        if parts not in self.names:
            hosts = [host for part in parts for host in part]
            if len(hosts) != len(set(hosts)):
                raise Unreadable("an among constraint of which the parts overlap")
            self.names[parts] = name = f"part-{len(self.names) + 1}"
            for number, part in enumerate(parts):
                for host in part:
                    self.labels[host][name] = str(number)
        return self.names[parts]


def _rules(constraints: Iterable[dict[str, Any]], parts: _Parts) -> Iterable[Rule]:
    for number, entry in enumerate(constraints):
        guests = tuple(_vm(vm) for vm in entry.get("vms", ()))
        if entry["id"] == "spread":
            yield Rule(name=f"spread-{number}", kind="apart", guests=guests)
        elif entry["id"] == "among":
            label = parts.label(tuple(tuple(part) for part in entry["parts"]))
            yield Rule(name=f"among-{number}", kind="among", guests=guests, label=label)


def _host(number: object) -> str:
    return f"n{number}"


def _vm(number: object) -> str:
    return f"vm{number}"
