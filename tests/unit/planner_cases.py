"""Problems for the planner's tests: small ones by hand, generated ones by hypothesis and by a seed."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from worker.contract.plans import Goal, GuestSpec, HostSpec, Plan, Problem, Rule

GIB = 1024


def host(name: str, gib: float = 100, cores: float = 0, **more: Any) -> HostSpec:
    """A host with so much memory."""
    return HostSpec(name=name, memory_mib=int(gib * GIB), cpu_cores=cores, **more)


def guest(name: str, on: str, gib: float = 10, cores: float = 0, **more: Any) -> GuestSpec:
    """A guest of which the id is its name."""
    return GuestSpec(id=name, name=name, host=on, memory_mib=int(gib * GIB), cpu_cores=cores, **more)


def problem(machines: list[HostSpec], guests: list[GuestSpec], /, *rules: Rule, **goal: Any) -> Problem:
    """A problem; a balance where ``goal`` does not say otherwise, at no price per move."""
    return Problem(
        hosts=tuple(machines),
        guests=tuple(guests),
        rules=rules,
        goal=Goal(**({"kind": "balance", "price_per_move_gib": 0} | goal)),
    )


def outcome(before: Problem, plan: Plan) -> Problem:
    """The problem when the plan has been carried out."""
    at = {step.guest: step.destination for step in plan.steps}
    guests = tuple(spec.model_copy(update={"host": at.get(spec.id, spec.host)}) for spec in before.guests)
    return before.model_copy(update={"guests": guests})


def lopsided(hosts: int, seed: int = 1, fill: float = 0.6, **goal: Any) -> Problem:
    """Hosts of 256 GiB and 64 cores, filled to very different degrees, with pins and ``apart`` rules."""
    chance = random.Random(seed)  # noqa: S311 a seed decides
    guests, level = [], [min(0.95, max(0.05, chance.gauss(fill, 0.25))) for _ in range(hosts)]
    for n in range(hosts):
        used, cores = 0, 0.0
        while True:
            gib = chance.choice((2, 4, 4, 8, 8, 16, 32))
            if used + gib > level[n] * 256:
                break
            cpu = round(gib / 8 * chance.uniform(0.1, 1.6), 2)
            pinned = "by hand" if chance.random() < 0.02 else ""
            guests.append(guest(f"v{len(guests)}", f"h{n}", gib, min(cpu, 60 - cores), pinned=pinned))
            used, cores = used + gib, cores + guests[-1].cpu_cores
    names = [spec.id for spec in guests]
    chance.shuffle(names)
    where = {spec.id: spec.host for spec in guests}
    rules = []
    for n in range(0, len(names) // 10 - 3, 3):
        trio = names[n : n + 3]
        if len({where[name] for name in trio}) == 3:
            rules.append(Rule(name=f"r{n}", kind="apart", guests=tuple(trio)))
    return problem([host(f"h{n}", 256, 64) for n in range(hosts)], guests, *rules, **goal)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Small clusters with everything in them: kinds, labels, rules, pins, reserves, hosts that do not take or give."""
    count = draw(st.integers(2, 6))
    hosts = [
        host(
            f"h{n}",
            draw(st.sampled_from((16, 32, 64))),
            draw(st.sampled_from((0, 8, 16))),
            kind=draw(st.sampled_from(("a", "a", "a", "b"))),
            labels={"rack": draw(st.sampled_from("xyz"))},
            takes=draw(st.integers(0, 5)) > 0,
            gives=draw(st.integers(0, 7)) > 0,
            why="so",
            reserve_memory_mib=draw(st.sampled_from((0, GIB))),
        )
        for n in range(count)
    ]
    guests = [
        guest(
            f"v{n}",
            f"h{draw(st.integers(0, count - 1))}",
            draw(st.sampled_from((0.5, 1, 2, 3.3, 4, 8))),
            draw(st.sampled_from((0, 0.25, 1, 3))),
            pinned=draw(st.sampled_from(("", "", "", "", "p"))),
            requires=draw(st.sampled_from(({}, {}, {}, {"rack": "x"}))),
            dirty_mib_per_second=draw(st.sampled_from((0, 100))),
        )
        for n in range(draw(st.integers(0, 14)))
    ]
    ids = [spec.id for spec in guests]
    rules = []
    for n in range(draw(st.integers(0, 3)) if len(ids) > 1 else 0):
        kind = draw(st.sampled_from(("apart", "apart", "together", "among")))
        members = draw(st.lists(st.sampled_from(ids), min_size=2, max_size=4, unique=True))
        half = [spec.name for spec in hosts]
        cut = draw(st.integers(1, count - 1))
        rules.append(
            Rule(
                name=f"r{n}",
                kind=kind,
                guests=tuple(members),
                label=draw(st.sampled_from(("", "rack"))) if kind == "apart" else "",
                parts=(tuple(half[:cut]), tuple(half[cut:])) if kind == "among" else (),
            )
        )
    goal: dict[str, Any] = {"kind": draw(st.sampled_from(("balance", "balance", "drain", "consolidate", "place")))}
    if goal["kind"] == "drain":
        goal["hosts"] = tuple(draw(st.lists(st.sampled_from([h.name for h in hosts]), min_size=1, unique=True)))
    if goal["kind"] == "place":
        if not ids:
            goal["kind"] = "balance"
        else:
            chosen = draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
            goal["targets"] = {name: f"h{draw(st.integers(0, count - 1))}" for name in chosen}
    goal["ceiling_points"] = draw(st.sampled_from((0, 5, 10)))
    goal["price_per_move_gib"] = draw(st.sampled_from((0, 1)))
    goal["max_moves"] = draw(st.sampled_from((None, None, None, 0, 2)))
    goal["max_gib"] = draw(st.sampled_from((None, None, None, 5)))
    goal["max_minutes"] = draw(st.sampled_from((None, None, None, 0.5)))
    return problem(hosts, guests, *rules, **goal)
