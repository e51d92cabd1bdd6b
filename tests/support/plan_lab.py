"""Plans made by hand, of any size: what shows them needs no planner."""

from __future__ import annotations

import random
from typing import Any

from worker.contract.plans import Gain, Goal, HostView, Impossible, Left, Load, Plan, Spread, Step, Totals

HOSTILE = "<b>&\"'|`\x9b[31m\u202e"
"""A name that breaks pages, tables and terminals that take it as it is; the contract allows it."""


def spread(shares: list[float]) -> Spread:
    """The spread of some loads."""
    mean = sum(shares) / len(shares)
    return Spread(most=max(shares), mean=mean, deviation=(sum((s - mean) ** 2 for s in shares) / len(shares)) ** 0.5)


def a_plan(hosts: int = 3, seed: int = 1, name: str = "", **more: Any) -> Plan:
    """A plan that relieves the hot ones of so many hosts. ``name`` is at the end of each guest's name."""
    dice = random.Random(seed)  # noqa: S311 - figures for a picture
    views, steps = [], []
    for n in range(hosts):
        hot = n % 3 == 0
        before = dice.uniform(0.82, 0.97) if hot else dice.uniform(0.3, 0.6)
        after = dice.uniform(0.6, 0.7)
        views.append(
            HostView(
                name=f"host-{n + 1}",
                before=Load(cpu=before - 0.1, memory=before, guests=12 if hot else 6),
                after=Load(cpu=after - 0.1, memory=after, guests=9),
                peak_memory=max(before, after) + 0.02,
                ceiling_cpu=0.7,
                ceiling_memory=0.75,
                incoming=0 if hot else 2,
                outgoing=3 if hot else 0,
            )
        )
        if hot and hosts > 1:
            steps += [(n, (n + 1 + k % 2) % hosts) for k in range(3)]
    moves = tuple(
        Step(
            n=n,
            guest=f"uuid-{n}",
            domain=f"vm-{n}{name}",
            source=f"host-{source + 1}",
            destination=f"host-{destination + 1}",
            memory_mib=4096 * dice.randint(1, 8),
            seconds=dice.uniform(5, 90),
            start=10.0 * n,
            after=(1,) if n == 3 else (),
            why="memory 92 % above 75 %",
        )
        for n, (source, destination) in enumerate(steps, 1)
    )
    gib = sum(step.memory_mib for step in moves) / 1024
    given: dict[str, Any] = {
        "id": f"p-{seed:08x}",
        "goal": Goal(kind="balance"),
        "made": 1_800_000_000.0,
        "taken": 1_799_999_988.0,
        "status": "bounded",
        "bound_gib": gib * 0.99,
        "gap": 0.008,
        "totals": Totals(
            moves=len(moves),
            gib=gib,
            seconds=250,
            serial_seconds=700,
            bound_seconds=240,
            peak_concurrent=4,
            hot_before=sum(view.before.memory > view.ceiling_memory for view in views),
            cpu_before=spread([view.before.cpu for view in views]),
            cpu_after=spread([view.after.cpu for view in views]),
            memory_before=spread([view.before.memory for view in views]),
            memory_after=spread([view.after.memory for view in views]),
        ),
        "steps": moves,
        "hosts": tuple(views),
        "left": (
            Left(
                guest="uuid-pinned",
                domain=f"db-1{name}",
                host="host-1",
                code="pinned",
                why="rule licence: bound to this host",
                unblock="take it out of [rules.licence]",
            ),
        ),
        "gains": tuple(
            Gain(moves=n, gib=gib * n / len(moves), excess_left=(1 - n / len(moves)) ** 2)
            for n in range(1, len(moves) + 1)
        ),
        "notes": ("a ceiling of 12 points would take 31 GiB less",),
        "spent_seconds": 0.4,
    }
    return Plan(**given | more)


def impossible(name: str = "") -> Plan:
    """A plan for what cannot be done."""
    why = Impossible(
        code="guest-too-big", subject=f"huge{name}", why="it has 2,000 GiB, the largest host 512", unblock="a host"
    )
    return a_plan(1, status="impossible", steps=(), gains=(), impossible=(why,))
