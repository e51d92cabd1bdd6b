"""A problem as arrays, for the judge and the rivals; nothing of the planner's own code is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.contract.plans import Problem

SLIP = 1e-6
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """Hosts and guests by number. Two columns: CPU in cores, memory in MiB."""

    problem: Problem
    number: Mapping[str, int]
    """Of a host."""
    guest: Mapping[str, int]
    """Of a guest, by id."""
    room: Floats
    """(hosts, 2): capacity less reserve; infinite where CPU is not known."""
    need: Floats
    """(guests, 2)."""
    start: Ints
    """(guests): where they are."""
    movable: Bools
    """(guests): not pinned, and their hosts let go of them."""
    takes: Bools
    """(hosts)."""
    ceiling: Floats
    """(2): of ``balance``, as a share of ``room``; infinite for the other goals."""

    def loads(self, at: Ints) -> Floats:
        """(hosts, 2): what is in use, as a share of ``room``."""
        used = np.zeros_like(self.room)
        np.add.at(used, at, self.need)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(used > 0, used / self.room, 0.0)

    def hot(self, at: Ints) -> Bools:
        """(hosts): whether a host is above its ceiling."""
        return np.asarray((self.loads(at) > self.ceiling + SLIP).any(axis=1))


def scene(problem: Problem) -> Scene:
    """The arrays of a problem."""
    hosts, guests = problem.hosts, problem.guests
    number = {host.name: n for n, host in enumerate(hosts)}
    cpu = [host.cpu_cores - host.reserve_cpu_cores if host.cpu_cores else np.inf for host in hosts]
    memory = [host.memory_mib - host.reserve_memory_mib for host in hosts]
    room = np.maximum(np.array([cpu, memory], float).T.reshape(-1, 2), SLIP)
    need = np.array([[guest.cpu_cores, guest.memory_mib] for guest in guests], float).reshape(-1, 2)
    leaving = set(problem.goal.hosts) if problem.goal.kind == "drain" else set()
    return Scene(
        problem=problem,
        number=number,
        guest={guest.id: n for n, guest in enumerate(guests)},
        room=room,
        need=need,
        start=np.array([number[guest.host] for guest in guests], np.int64),
        movable=np.array([not guest.pinned and hosts[number[guest.host]].gives for guest in guests], bool),
        takes=np.array([host.takes and host.name not in leaving for host in hosts], bool),
        ceiling=_ceiling(problem, room, need),
    )


def _ceiling(problem: Problem, room: Floats, need: Floats) -> Floats:
    goal = problem.goal
    if goal.kind != "balance":
        return np.full(2, np.inf)
    if goal.ceiling_percent is not None:
        return np.full(2, goal.ceiling_percent / 100)
    known = np.isfinite(room)
    capacity = np.where(known, room, 0).sum(axis=0)
    mean = need.sum(axis=0) / np.maximum(capacity, SLIP)
    return np.asarray(mean + goal.ceiling_points / 100)
