"""Generated clusters: the same for the same arguments, on every machine.

A cluster is filled as real ones look: hosts of three types, filled to levels that differ; about twenty guests on each,
of eleven flavours; CPU in use follows from the vCPUs, a Beta distribution and a bias of the host; one guest in ten
belongs to an anti-affinity triple, one in fifty is pinned. The draws are those of the prototype that
``docs/benchmark.md`` compares with, so that its figures and these are about the same clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.contract.plans import Goal, GuestSpec, HostSpec, Problem, Rule

MIB = 1024
LINK_MIB_PER_SECOND = 1126.0
"""1.1 GiB/s: a network of 10 Gbit/s."""
FLAVOURS = ((1, 2), (1, 4), (2, 4), (2, 8), (4, 8), (4, 16), (8, 16), (8, 32), (16, 64), (24, 96), (32, 128))
"""vCPUs and GiB."""
WEIGHTS = (0.10, 0.10, 0.18, 0.16, 0.13, 0.12, 0.07, 0.08, 0.04, 0.015, 0.005)
HOST_TYPES_GIB = (512, 768, 1024)
GIB_PER_THREAD = 5
GUESTS_PER_HOST = 20
SKEW = 0.35
"""Relative deviation of how full the hosts are."""
MEAN_CPU = 0.40
APART_SHARE = 0.10
PINNED_SHARE = 0.02
FILLS = {"58 %": 0.60, "tight": 0.85}
"""Nominal level of memory; clipping makes it a mean of 58 %, and of 78 to 88 %."""


@dataclass(frozen=True)
class _Guests:
    host: NDArray[np.int64]
    cpu: NDArray[np.float64]
    gib: NDArray[np.int64]


def cluster(hosts: int, fill: float, goal: Goal, seed: int = 1) -> Problem:
    """A lopsided cluster of so many hosts, its memory filled to ``fill`` (nominal), with ``goal``."""
    draw = np.random.default_rng(seed)
    capacity = _capacity(draw, hosts, fill)
    guests = _guests(draw, capacity, _levels(draw, capacity, fill))
    number = len(guests.host)
    shuffled = draw.permutation(number)
    triples = (shuffled[3 * n : 3 * n + 3] for n in range(int(APART_SHARE * number) // 3))
    apart = [triple for triple in triples if len(set(guests.host[triple].tolist())) == 3]
    pinned = draw.random(number) < PINNED_SHARE
    cores = np.round(capacity / GIB_PER_THREAD)
    cpu = _scaled(guests.cpu, cores)
    return Problem(
        hosts=tuple(_host(n, int(gib), float(cores[n])) for n, gib in enumerate(capacity)),
        guests=tuple(
            GuestSpec(
                id=_guest(n),
                name=_guest(n),
                host=_name(int(guests.host[n])),
                cpu_cores=float(cpu[n]),
                memory_mib=int(guests.gib[n]) * MIB,
                pinned="pinned by its owner" if pinned[n] else "",
            )
            for n in range(number)
        ),
        rules=tuple(
            Rule(name=f"apart-{n}", kind="apart", guests=tuple(_guest(int(guest)) for guest in triple))
            for n, triple in enumerate(apart)
        ),
        goal=goal,
    )


def drained(hosts: int, number: int, fill: float, seed: int = 1) -> Problem:
    """A cluster of which the first ``number`` hosts are to be emptied."""
    goal = Goal(kind="drain", hosts=tuple(_name(n) for n in range(number)))
    problem = cluster(hosts, fill, goal, seed)
    leaving = set(goal.hosts)
    return problem.model_copy(
        update={
            "hosts": tuple(
                host.model_copy(update={"takes": False, "why": "cordoned"}) if host.name in leaving else host
                for host in problem.hosts
            ),
            "guests": tuple(
                guest.model_copy(update={"pinned": ""}) if guest.host in leaving else guest for guest in problem.guests
            ),
        }
    )


def cycles(hosts: int, free: float = 0.02, spare: float = 0.02, share: float = 0.15, seed: int = 2) -> Problem:
    """Full hosts, and guests of equal size that are to change places around rings of two to five hosts.

    ``free`` of each host's memory is left, which is less than most guests need: rings can only be broken over the few
    hosts (``spare`` of all) that are half empty.
    """
    draw = np.random.default_rng(seed)
    size, limit = 256, 256 * 0.98
    where: list[int] = []
    gib: list[int] = []
    for host in range(hosts):
        used = 0
        wanted = size * (0.55 if spare > 0 and host < max(1, round(spare * hosts)) else (1 - free) * 0.98) - 1
        while used < wanted:
            take = int(draw.choice([4, 8, 16, 32], p=[0.35, 0.3, 0.25, 0.1]))
            take = take if used + take <= limit else 2
            if used + take > limit:
                break
            where.append(host)
            gib.append(take)
            used += take
    targets = _rings(draw, hosts, np.array(where), np.array(gib), int(share * len(where)))
    return Problem(
        hosts=tuple(_host(n, size, 100.0) for n in range(hosts)),
        guests=tuple(
            GuestSpec(id=_guest(n), name=_guest(n), host=_name(host), cpu_cores=1, memory_mib=gib[n] * MIB)
            for n, host in enumerate(where)
        ),
        goal=Goal(kind="place", targets={_guest(guest): _name(host) for guest, host in sorted(targets.items())}),
    )


def _rings(
    draw: np.random.Generator, hosts: int, where: NDArray[np.int64], gib: NDArray[np.int64], wanted: int
) -> dict[int, int]:
    targets: dict[int, int] = {}
    tries = 0
    while len(targets) < wanted and tries < wanted * 20:
        tries += 1
        length = int(draw.integers(2, 6))
        ring = draw.choice(hosts, length, replace=False)
        size = int(draw.choice([8, 16, 32]))
        members = []
        for host in ring:
            fitting = [int(guest) for guest in np.nonzero((where == host) & (gib == size))[0] if guest not in targets]
            if not fitting:
                break
            members.append(int(draw.choice(fitting)))
        if len(members) == length:
            targets |= {guest: int(ring[(n + 1) % length]) for n, guest in enumerate(members)}
    return targets


def _capacity(draw: np.random.Generator, hosts: int, fill: float) -> NDArray[np.float64]:
    """GiB of each host, such that about ``GUESTS_PER_HOST`` mean flavours fill it to ``fill``."""
    types = np.array(HOST_TYPES_GIB, float)[draw.integers(0, len(HOST_TYPES_GIB), hosts)]
    weights = np.array(WEIGHTS) / sum(WEIGHTS)
    mean = float((np.array(FLAVOURS)[:, 1] * weights).sum())
    return np.asarray(np.maximum(1, np.round(types * GUESTS_PER_HOST * mean / (fill * types.mean()))))


def _levels(draw: np.random.Generator, capacity: NDArray[np.float64], fill: float) -> NDArray[np.float64]:
    levels = np.clip(fill * (1 + SKEW * draw.standard_normal(len(capacity))), 0.15, 0.97)
    return np.asarray(np.clip(levels * fill / ((levels * capacity).sum() / capacity.sum()), 0.1, 0.97))


def _guests(draw: np.random.Generator, capacity: NDArray[np.float64], levels: NDArray[np.float64]) -> _Guests:
    weights = np.array(WEIGHTS) / sum(WEIGHTS)
    host, cpu, gib = [], [], []
    for n, room in enumerate(levels * capacity):
        used, bias = 0, draw.uniform(0.5, 1.6)
        while True:
            vcpus, size = FLAVOURS[int(draw.choice(len(FLAVOURS), p=weights))]
            if used + size > room:
                if used + FLAVOURS[0][1] > room or draw.random() < 0.3:
                    break
                continue
            used += size
            host.append(n)
            cpu.append(max(0.02, vcpus * min(1.0, bias * draw.beta(1.3, 4.5))))
            gib.append(size)
    return _Guests(np.array(host), np.array(cpu), np.array(gib))


def _scaled(cpu: NDArray[np.float64], cores: NDArray[np.float64]) -> NDArray[np.float64]:
    """CPU in use, such that its mean over the cluster is ``MEAN_CPU``."""
    rough = np.round(cpu, 2)
    return np.asarray(np.round(np.maximum(0.01, rough * (MEAN_CPU * cores.sum() / rough.sum())), 2))


def _host(number: int, gib: int, cores: float) -> HostSpec:
    return HostSpec(
        name=_name(number), kind="qemu", cpu_cores=cores, memory_mib=gib * MIB, mib_per_second=LINK_MIB_PER_SECOND
    )


def _name(number: int) -> str:
    return f"h{number}"


def _guest(number: int) -> str:
    return f"vm{number}"
