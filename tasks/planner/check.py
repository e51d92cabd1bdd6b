"""Whether a plan is right: its faults, as sentences. Written from the documents alone; ``replay`` aside, it shares no
code with the rest of the planner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from tasks.planner.replay import Replay, rooms, rules
from worker.contract.plans import Goal, GuestSpec, HostSpec, Plan, Problem

TOLERANCE = 0.01
"""Seconds and shares are rounded; a core is counted in thousandths."""
GROWN = 1.05
"""A guest may have grown by so much since a plan was made, as long as everything fits."""


def check(problem: Problem, plan: Plan) -> list[str]:
    """Every fault of a plan for a problem; none where it is right."""
    hosts = {host.name: host for host in problem.hosts}
    guests = {guest.id: guest for guest in problem.guests}
    if faults := [*_numbering(plan), *_known(plan, hosts, guests)]:
        return faults
    replay = Replay(problem, plan.steps)
    return [
        *_chains(replay),
        *_goal(replay, problem.goal),
        *_allowed(replay),
        *rooms(replay),
        *rules(replay),
        *_slots(replay),
        *_totals(replay, plan),
        *_claims(replay, plan),
    ]


def outdated(plan: Plan, problem: Problem) -> list[str]:
    """Why a plan that was made earlier does not fit ``problem``, which says how things are now; none where it fits.

    Only what plays a part counts: guests and hosts of the plan's steps, what else is on those hosts, and the rules
    of those guests.
    """
    hosts = {host.name: host for host in problem.hosts}
    guests = {guest.id: guest for guest in problem.guests}
    first = {step.guest: step for step in reversed(plan.steps)}
    faults = []
    for step in first.values():
        guest = guests.get(step.guest)
        if guest is None:
            faults.append(f"{step.domain} is gone")
        elif guest.host != step.source:
            faults.append(f"{step.domain} is on {guest.host}, not on {step.source}")
        elif guest.memory_mib > step.memory_mib * GROWN:
            faults.append(f"{step.domain} has {guest.memory_mib} MiB now, {step.memory_mib} MiB when the plan was made")
    for name in sorted({name for step in plan.steps for name in (step.source, step.destination)} - hosts.keys()):
        faults.append(f"host {name} is gone")
    if faults:
        return faults
    now = problem.model_copy(update={"goal": plan.goal})
    replay = Replay(now, plan.steps)
    return [*_goal(replay, now.goal), *_allowed(replay), *rooms(replay), *rules(replay)]


# What a plan says of itself


def _numbering(plan: Plan) -> Iterator[str]:
    ended: dict[int, float] = {}
    started = 0.0
    for place, step in enumerate(plan.steps, 1):
        if step.n != place:
            yield f"step {step.n} is the {place}. of the list"
        if step.start < started - TOLERANCE:
            yield f"step {step.n} starts before the step that is listed before it"
        started = max(started, step.start)
        for before in step.after:
            if not 1 <= before < place:
                yield f"step {step.n} comes after step {before}, which is no earlier step"
            elif before in ended and ended[before] > step.start + TOLERANCE:
                yield f"step {step.n} starts before step {before} has ended"
        ended[place] = step.start + step.seconds


def _known(plan: Plan, hosts: Mapping[str, HostSpec], guests: Mapping[str, GuestSpec]) -> Iterator[str]:
    for step in plan.steps:
        if step.guest not in guests:
            yield f"step {step.n} moves {step.guest}, which is no guest"
        for name in (step.source, step.destination):
            if name not in hosts:
                yield f"step {step.n} names {name}, which is no host"
        if step.source == step.destination:
            yield f"step {step.n} moves {step.domain} to where it is"


# Each guest, each step


def _chains(replay: Replay) -> Iterator[str]:
    for guest, chain in replay.chains.items():
        spec, here, last = replay.guests[guest], replay.guests[guest].host, 0
        for step in chain:
            if step.source != here:
                yield f"step {step.n} takes {step.domain} from {step.source}, but it is on {here} then"
            if last and not replay.waits(step.n, last):
                yield f"step {step.n} moves {step.domain} on without waiting for step {last}"
            if step.memory_mib != spec.memory_mib or abs(step.cpu_cores - spec.cpu_cores) > TOLERANCE:
                yield f"step {step.n} counts other memory or CPU than {step.domain} has"
            if step.domain != spec.name:
                yield f"step {step.n} calls {spec.name} {step.domain}"
            here, last = step.destination, step.n
        if [step.bounce for step in chain] not in ([0], [1, 2]):
            yield f"{spec.name} is moved {len(chain)} times, which is neither straight nor one bounce"
        if here == spec.host:
            yield f"{spec.name} is moved away and back"


def _goal(replay: Replay, goal: Goal) -> Iterator[str]:
    moved = {guest: chain[0].memory_mib for guest, chain in replay.chains.items()}
    if goal.max_moves is not None and len(moved) > goal.max_moves:
        yield f"{len(moved)} guests are moved, where {goal.max_moves} may"
    if goal.max_gib is not None and (gib := sum(moved.values()) / 1024) > goal.max_gib + TOLERANCE:
        yield f"{gib:g} GiB are moved, where {goal.max_gib:g} may"
    ends = max((step.start + step.seconds for step in replay.steps), default=0.0)
    if goal.max_minutes is not None and ends > goal.max_minutes * 60 + TOLERANCE:
        yield f"it takes {ends / 60:g} min, where {goal.max_minutes:g} may"
    emptied, givers = (goal.hosts, ()) if goal.kind == "drain" else ((), goal.hosts)
    for step in replay.steps:
        guest = replay.guests[step.guest]
        if step.destination in emptied:
            yield f"step {step.n} sends {guest.name} to {step.destination}, which is to be emptied"
        if givers and guest.host not in givers:
            yield f"step {step.n} moves {guest.name}, which is on none of the goal's hosts"
        if _named(guest, goal.exclude) or (goal.select and not _named(guest, goal.select)):
            yield f"step {step.n} moves {guest.name}, which is excluded"


def _allowed(replay: Replay) -> Iterator[str]:
    for step in replay.steps:
        guest = replay.guests[step.guest]
        source, there = replay.hosts[step.source], replay.hosts[step.destination]
        if guest.pinned:
            yield f"step {step.n} moves {guest.name}, which is pinned: {guest.pinned}"
        if not source.gives:
            yield f"step {step.n} takes {guest.name} from {source.name}, which does not give: {source.why}"
        if not there.takes:
            yield f"step {step.n} sends {guest.name} to {there.name}, which does not take: {there.why}"
        if there.kind != replay.hosts[guest.host].kind:
            yield f"step {step.n} sends {guest.name} to {there.name}, which is of another kind"
        for label, value in guest.requires.items():
            if there.labels.get(label) != value:
                yield f"step {step.n} sends {guest.name} to {there.name}, which lacks label {label}={value}"


def _named(guest: GuestSpec, patterns: Iterable[str]) -> bool:
    names = (guest.name, guest.id)
    return any(pattern in names or any(fnmatchcase(name, pattern) for name in names) for pattern in patterns)


# Limits at the planned times


def _slots(replay: Replay) -> Iterator[str]:
    problem = replay.problem
    limits: dict[tuple[str, str], int] = {}
    for host in problem.hosts:
        limits["out of", host.name] = host.max_outgoing
        limits["into", host.name] = host.max_incoming
    limits |= {("over network", name): most for name, most in problem.networks.items()}
    if problem.max_migrations is not None:
        limits["in", "all"] = problem.max_migrations
    events = []
    for step in replay.steps:
        networks = {replay.hosts[name].network for name in (step.source, step.destination)}
        uses = [("out of", step.source), ("into", step.destination), ("in", "all")]
        uses += [("over network", name) for name in sorted(networks)]
        events += [(step.start, 1, uses), (step.start + step.seconds - TOLERANCE, -1, uses)]
    running: Counter[tuple[str, str]] = Counter()
    told = set()
    for at, change, uses in sorted(events, key=lambda event: (event[0], event[1])):
        for use in uses:
            running[use] += change
            if use in limits and running[use] > limits[use] and use not in told:
                told.add(use)
                yield f"{running[use]} migrations run {' '.join(use)} at {at:g} s, where {limits[use]} may"


# Numbers


def _totals(replay: Replay, plan: Plan) -> Iterator[str]:
    steps, totals = plan.steps, plan.totals
    ends = [step.start + step.seconds for step in steps]
    expected = {
        "moves": (totals.moves, len(steps)),
        "gib": (totals.gib, sum(step.memory_mib for step in steps) / 1024),
        "bounces": (totals.bounces, sum(step.bounce == 1 for step in steps)),
        "bounce_gib": (totals.bounce_gib, sum(step.memory_mib for step in steps if step.bounce == 1) / 1024),
        "seconds": (totals.seconds, max(ends, default=0)),
        "serial_seconds": (totals.serial_seconds, sum(step.seconds for step in steps)),
    }
    for name, (said, counted) in expected.items():
        if abs(said - counted) > TOLERANCE * max(1, len(steps) ** 0.5):
            yield f"totals.{name} is {said:g}, counted {counted:g}"


def _claims(replay: Replay, plan: Plan) -> Iterator[str]:
    """What the plan says that hosts are like afterwards."""
    hot = 0
    for view in plan.hosts:
        host = replay.hosts.get(view.name)
        if host is None:
            yield f"the plan shows {view.name}, which is no host"
            continue
        stays = [stay for stay in replay.stays.get(view.name, ()) if not stay.goes]
        memory = sum(replay.guests[stay.guest].memory_mib for stay in stays)
        cpu = sum(replay.guests[stay.guest].cpu_cores for stay in stays)
        room, cores = host.memory_mib - host.reserve_memory_mib, host.cpu_cores - host.reserve_cpu_cores
        shares = (memory / room if room > 0 else 0.0, cpu / cores if cores > 0 else 0.0)
        if view.after.guests != len(stays):
            yield f"{view.name} is said to have {view.after.guests} guests in the end, and has {len(stays)}"
        if abs(view.after.memory - shares[0]) > TOLERANCE or abs(view.after.cpu - shares[1]) > TOLERANCE:
            yield f"{view.name} is said to use {view.after.memory:.0%} of memory in the end, and uses {shares[0]:.0%}"
        hot += shares[0] > view.ceiling_memory + 1e-6 or shares[1] > view.ceiling_cpu + 1e-6
    if plan.hosts and plan.totals.hot_after != hot:
        yield f"totals.hot_after is {plan.totals.hot_after}, counted {hot}"
