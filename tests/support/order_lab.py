"""Small clusters on which moves get in each other's way, and plans of them, carried out by chance."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from hypothesis import strategies as st

from tasks.planner.order import Order
from worker.contract.plans import Goal, GuestSpec, HostSpec, Plan, Problem, Rule, Spread, Totals

NONE = Spread(most=0, mean=0, deviation=0)


def host(name: str, memory_mib: int, **more: Any) -> HostSpec:
    """A host on which nothing is kept free."""
    return HostSpec(name=name, memory_mib=memory_mib, **{"mib_per_second": 10, **more})


def guest(name: str, on: str, memory_mib: int = 10, **more: Any) -> GuestSpec:
    """A guest of which the id is its name with ``id-`` before it."""
    return GuestSpec(id=f"id-{name}", name=name, host=on, memory_mib=memory_mib, **more)


def problem(hosts: list[HostSpec], guests: list[GuestSpec], *rules: Rule, most: float = 100, **more: Any) -> Problem:
    """Whatever is to be placed, by order's argument."""
    goal = Goal(kind="place", most_percent=most)
    return Problem(hosts=tuple(hosts), guests=tuple(guests), rules=rules, **{"goal": goal, **more})


def apart(name: str, *guests: str, label: str = "") -> Rule:
    """Names of guests, without ``id-``."""
    return Rule(name=name, kind="apart", guests=tuple(f"id-{g}" for g in guests), label=label)


def plan_of(problem: Problem, found: Order) -> Plan:
    """A plan that says of itself what its steps say."""
    bounced = [step for step in found.steps if step.bounce == 1]
    totals = Totals(
        moves=len(found.steps),
        gib=sum(step.memory_mib for step in found.steps) / 1024,
        bounces=len(bounced),
        bounce_gib=sum(step.memory_mib for step in bounced) / 1024,
        seconds=found.seconds,
        serial_seconds=found.serial_seconds,
        bound_seconds=found.bound_seconds,
        peak_concurrent=found.peak_concurrent,
        cpu_before=NONE,
        cpu_after=NONE,
        memory_before=NONE,
        memory_after=NONE,
    )
    return Plan(id="p-1", goal=problem.goal, status="best-effort", steps=found.steps, stuck=found.stuck, totals=totals)


def crowded() -> st.SearchStrategy[tuple[Problem, dict[str, str]]]:
    """A cluster with little room, or too little, and where its guests should go."""
    return st.integers(0, 10**9).map(lambda seed: _crowded(Random(seed)))  # noqa: S311


def _crowded(dice: Random) -> tuple[Problem, dict[str, str]]:
    names = [f"h{n}" for n in range(dice.randint(2, 6))]
    odd = dice.random() < 0.3
    sizes, cores = dice.choice([[4], [4, 8], [0, 2, 4, 8, 16]]), dice.choice([[0.0], [0.5, 2.0]])
    guests = [
        guest(f"g{n}", dice.choice(names), dice.choice(sizes), cpu_cores=dice.choice(cores), **_dirty(dice))
        for n in range(dice.randint(2, 14))
    ]
    roomy = dice.choice(names)

    def some_host(name: str) -> HostSpec:
        used = sum(g.memory_mib for g in guests if g.host == name)
        room = dice.choice([8, 12, 20]) if name == roomy else dice.choice([0, 0, 1, 2, 4, -2 if odd else 0])
        return host(
            name,
            max(0, used + room),
            cpu_cores=dice.choice([0, 0, 2, 6]),
            labels=dice.choice([{}, {"rack": "a"}, {"rack": "b"}]),
            network=dice.choice(["", "wide"]),
            max_outgoing=dice.choice([0, 1] if odd else [1, 2]),
            max_incoming=dice.randint(1, 2),
            takes=not odd or dice.random() < 0.8,
            gives=not odd or dice.random() < 0.8,
        )

    rules = [
        Rule(
            name=f"r{n}",
            kind=dice.choice(["apart", "apart", "together", "among"]),
            guests=tuple(sorted(g.id for g in dice.sample(guests, min(len(guests), dice.randint(1, 4))))),
            label=dice.choice(["", "rack"]),
            parts=(tuple(names[:2]), tuple(names[2:4])),
        )
        for n in range(dice.choice([0, 0, 1, 2]))
    ]
    cluster = problem(
        [some_host(name) for name in names],
        guests,
        *rules,
        networks={"wide": dice.randint(1, 3)},
        max_migrations=dice.choice([None, None, 1, 3]),
    )
    return cluster, _targets(dice, names, guests)


def _dirty(dice: Random) -> dict[str, float]:
    return {"dirty_mib_per_second": dice.choice([0, 9])}


def _targets(dice: Random, names: list[str], guests: list[GuestSpec]) -> dict[str, str]:
    """Mostly equal guests that change places, and some that go anywhere."""
    targets = {g.id: dice.choice(names) for g in guests if dice.random() < 0.15}
    for size in sorted({g.memory_mib for g in guests}):
        equal = [g for g in guests if g.memory_mib == size and dice.random() < 0.8]
        places = [g.host for g in equal]
        dice.shuffle(places)
        targets |= {g.id: place for g, place in zip(equal, places, strict=True)}
    return targets


class Run:
    """A plan carried out: what may start does so by chance, takes any time, and now and then fails."""

    def __init__(self, problem: Problem, plan: Plan, chance: Random, fails: float = 0.0) -> None:
        self.problem, self.chance, self.fails = problem, chance, fails
        self.hosts = {host.name: host for host in problem.hosts}
        self.guests = {guest.id: guest for guest in problem.guests}
        self.place = {guest.id: guest.host for guest in problem.guests}
        self.waiting = list(plan.steps)
        self.running: list[Any] = []
        self.done: set[int] = set()
        self.failed: set[int] = set()

    def on(self, name: str) -> set[str]:
        """The guests that a host holds, those on their way in or out included."""
        return {g for g, at in self.place.items() if at == name} | {
            step.guest for step in self.running if name in (step.source, step.destination)
        }

    def memory(self, name: str) -> int:
        """What they take."""
        return sum(self.guests[guest].memory_mib for guest in self.on(name))

    def go(self) -> None:
        """Carry it out, and see to it that capacity and ``apart`` rules hold whenever something starts."""
        while self.running or any(self._may(step) for step in self.waiting):
            ready = [step for step in self.waiting if self._may(step)]
            if ready and (not self.running or self.chance.random() < 0.6):
                step = self.chance.choice(ready)
                self.waiting.remove(step)
                self.running.append(step)
                self._holds(step)
            else:
                self._end(self.running.pop(self.chance.randrange(len(self.running))))

    def _may(self, step: Any) -> bool:
        out = sum(other.source == step.source for other in self.running)
        into = sum(other.destination == step.destination for other in self.running)
        free = out < self.hosts[step.source].max_outgoing and into < self.hosts[step.destination].max_incoming
        return free and set(step.after) <= self.done

    def _end(self, step: Any) -> None:
        if self.chance.random() < self.fails:
            self.failed.add(step.n)
        else:
            self.done.add(step.n)
            self.place[step.guest] = step.destination

    def _holds(self, step: Any) -> None:
        assert self.place[step.guest] == step.source
        there = self.hosts[step.destination]
        most = (there.memory_mib - there.reserve_memory_mib) * self.problem.goal.most_percent / 100
        assert self.memory(there.name) <= most + 1e-6, f"{there.name} holds too much while step {step.n} runs"
        for rule in self.problem.rules:
            if rule.kind != "apart" or step.guest not in rule.guests:
                continue
            here = self._part(rule, step.destination)
            if here == self._part(rule, step.source):
                continue
            others = {g for name in self.hosts if self._part(rule, name) == here for g in self.on(name)} - {step.guest}
            assert not others & set(rule.guests), f"{rule.name} is broken while step {step.n} runs"

    def _part(self, rule: Rule, name: str) -> tuple[str, str]:
        value = self.hosts[name].labels.get(rule.label) if rule.label else None
        return ("host", name) if value is None else ("label", value)


def wanted(problem: Problem, targets: Mapping[str, str]) -> dict[str, str]:
    """The targets that are not where the guest is."""
    here = {guest.id: guest.host for guest in problem.guests}
    return {guest: target for guest, target in targets.items() if here[guest] != target}


def rotations(hosts: int, *, spare: int, seed: int) -> tuple[Problem, dict[str, str]]:
    """Hosts 94 % full, equal guests of which change places in rings of two to five; ``spare`` of them half empty."""
    chance = Random(seed)  # noqa: S311
    specs, guests, by_size = [], [], dict[tuple[int, int], list[int]]()
    for at in range(hosts):
        specs.append(host(f"h{at}", 256 * 1024, mib_per_second=1126))
        left = (140 if at < spare else 241) * 1024
        while left >= 4096:
            size = chance.choice([s * 1024 for s in (4, 4, 4, 8, 8, 16, 32) if s * 1024 <= left])
            by_size.setdefault((at, size), []).append(len(guests))
            guests.append(guest(f"g{len(guests)}", f"h{at}", size, dirty_mib_per_second=94))
            left -= size
    targets: dict[str, str] = {}
    for _ in range(hosts):
        ring = chance.sample(range(hosts), chance.randint(2, 5))
        size = chance.choice([8, 16, 32]) * 1024
        if all(by_size.get((at, size)) for at in ring):
            for at, to in zip(ring, ring[1:] + ring[:1], strict=True):
                targets[guests[by_size[at, size].pop()].id] = f"h{to}"
    return problem(specs, guests, most=98), targets
