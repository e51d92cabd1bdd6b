"""Whether a plan is right: its faults, as sentences. Written from the documents alone; shares no code with the planner.

Room is proved for every timing, not only for the planned one. What a host holds at worst, whatever takes how long, is
the heaviest set of arrivals that may have begun while none of the departures ended that they need not wait for. That
is a maximum closure (J. Picard, "Maximal Closure of a Graph", 1976): what was there, and all arrivals, less the maximum
flow of room from departures to the arrivals that wait for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from worker.contract.plans import GuestSpec, HostSpec, Plan, Problem, Rule, Step

TOLERANCE = 0.01
"""Seconds and shares are rounded; a core is counted in thousandths."""


def check(problem: Problem, plan: Plan) -> list[str]:
    """Every fault of a plan for a problem; none where it is right."""
    hosts = {host.name: host for host in problem.hosts}
    guests = {guest.id: guest for guest in problem.guests}
    if faults := [*_numbering(plan), *_known(plan, hosts, guests)]:
        return faults
    replay = _Replay(problem, plan.steps)
    return [
        *_chains(replay),
        *_allowed(replay, problem),
        *_rooms(replay),
        *_rules(replay),
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
        elif guest.memory_mib > step.memory_mib:
            faults.append(f"{step.domain} has {guest.memory_mib} MiB now, {step.memory_mib} MiB when the plan was made")
    for name in sorted({name for step in plan.steps for name in (step.source, step.destination)} - hosts.keys()):
        faults.append(f"host {name} is gone")
    if faults:
        return faults
    now = problem.model_copy(update={"goal": plan.goal})
    replay = _Replay(now, plan.steps)
    return [*_allowed(replay, now), *_rooms(replay), *_rules(replay)]


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


@dataclass(frozen=True)
class _Stay:
    """A guest on a host: the steps with which it came and goes (0: it was there; 0: it stays)."""

    guest: str
    host: str
    came: int
    goes: int


class _Replay:
    """A plan as stays of guests on hosts, and who waits for whom, directly or not."""

    def __init__(self, problem: Problem, steps: Collection[Step]) -> None:
        self.problem, self.steps = problem, steps
        self.hosts = {host.name: host for host in problem.hosts}
        self.guests = {guest.id: guest for guest in problem.guests}
        self.chains: dict[str, list[Step]] = {}
        self.before = [0] * (len(steps) + 1)
        """A bit for each step that has surely ended when this one starts."""
        for step in steps:
            self.chains.setdefault(step.guest, []).append(step)
            for number in step.after:
                self.before[step.n] |= self.before[number] | 1 << number
        self.stays: dict[str, list[_Stay]] = {}
        self.place: dict[str, str] = {}
        """Where each guest is in the end."""
        for guest in problem.guests:
            came, host = 0, guest.host
            for step in self.chains.get(guest.id, ()):
                self.stays.setdefault(host, []).append(_Stay(guest.id, host, came, step.n))
                came, host = step.n, step.destination
            self.stays.setdefault(host, []).append(_Stay(guest.id, host, came, 0))
            self.place[guest.id] = host

    def waits(self, late: int, early: int) -> bool:
        """Whether step ``late`` starts only after ``early`` has ended."""
        return bool(self.before[late] >> early & 1)


# Each guest, each step


def _chains(replay: _Replay) -> Iterator[str]:
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


def _allowed(replay: _Replay, problem: Problem) -> Iterator[str]:
    goal = problem.goal
    moved = {guest: chain[0].memory_mib for guest, chain in replay.chains.items()}
    if goal.max_moves is not None and len(moved) > goal.max_moves:
        yield f"{len(moved)} guests are moved, where {goal.max_moves} may"
    if goal.max_gib is not None and (gib := sum(moved.values()) / 1024) > goal.max_gib + TOLERANCE:
        yield f"{gib:g} GiB are moved, where {goal.max_gib:g} may"
    for step in replay.steps:
        guest = replay.guests[step.guest]
        source, there = replay.hosts[step.source], replay.hosts[step.destination]
        if guest.pinned:
            yield f"step {step.n} moves {guest.name}, which is pinned: {guest.pinned}"
        if _named(guest, goal.exclude) or (goal.select and not _named(guest, goal.select)):
            yield f"step {step.n} moves {guest.name}, which is excluded"
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


# Room, whatever the timing


def _rooms(replay: _Replay) -> Iterator[str]:
    most = replay.problem.goal.most_percent / 100
    for name, stays in replay.stays.items():
        host = replay.hosts[name]
        if not any(stay.came for stay in stays):
            continue
        memory = {stay: replay.guests[stay.guest].memory_mib for stay in stays}
        limit = int((host.memory_mib - host.reserve_memory_mib) * most + 1e-6)
        worst = _worst(replay, stays, memory)
        if sum(size for stay, size in memory.items() if not stay.came) > limit:
            worst = max(_worst(replay, stays, memory, stay) for stay in stays if stay.came)
        if worst > limit:
            yield f"{name} may come to hold {worst} MiB of guests, above {limit} MiB, in some order of events"
        if not host.cpu_cores:
            continue
        cpu = {stay: round(replay.guests[stay.guest].cpu_cores * 1000) for stay in stays}
        had = sum(size for stay, size in cpu.items() if not stay.came)
        has = sum(size for stay, size in cpu.items() if not stay.goes)
        limit = max(int((host.cpu_cores - host.reserve_cpu_cores) * 1000 + 1e-6), had, has)
        if (worst := _worst(replay, stays, cpu)) > limit:
            yield f"{name} may come to use {worst / 1000:g} cores, above {limit / 1000:g}, in some order of events"


def _worst(replay: _Replay, stays: Iterable[_Stay], size: Mapping[_Stay, int], begun: _Stay | None = None) -> int:
    """The most that a host may hold at once; with ``begun``, at a time when that arrival has begun."""
    over = replay.before[begun.came] if begun else 0
    arrivals = [stay for stay in stays if stay.came and size[stay]]
    departures = [stay for stay in stays if stay.goes and size[stay]]
    gone = {stay for stay in departures if over >> stay.goes & 1}
    held = sum(size[stay] for stay in stays) - sum(size[stay] for stay in gone)
    departures = [stay for stay in departures if stay not in gone]
    edges = [[at for at, d in enumerate(departures) if replay.waits(a.came, d.goes)] for a in arrivals]
    return held - _flow([size[a] for a in arrivals], [size[d] for d in departures], edges)


def _flow(wanted: list[int], offered: list[int], edges: list[list[int]]) -> int:
    """The most that can be paid of ``wanted`` from ``offered`` along ``edges``: shortest augmenting paths."""
    rest, free, total = list(wanted), list(offered), 0
    paid: list[dict[int, int]] = [{} for _ in offered]
    """To each of ``offered``: what it pays to which of ``wanted``."""
    for start in range(len(wanted)):
        while rest[start] and (path := _path(start, free, edges, paid)):
            amount = min(
                rest[start],
                free[path[-1][1]],
                *(paid[d][a] for (_, d), (a, _) in pairwise(path)),
                rest[start],
            )
            for at, (a, d) in enumerate(path):
                paid[d][a] = paid[d].get(a, 0) + amount
                if at + 1 < len(path):
                    other = path[at + 1][0]
                    paid[d][other] -= amount
            free[path[-1][1]] -= amount
            rest[start] -= amount
            total += amount
    return total


def _path(start: int, free: list[int], edges: list[list[int]], paid: list[dict[int, int]]) -> list[tuple[int, int]]:
    """From an arrival to a departure with something left: pairs (arrival, departure), each arrival after the first
    one being paid by the departure before it so far.
    """
    came: dict[int, tuple[int, int | None]] = {}
    todo: list[tuple[int, int | None]] = [(start, None)]
    seen = {start}
    for arrival, through in todo:
        for departure in edges[arrival]:
            if departure in came:
                continue
            came[departure] = (arrival, through)
            if free[departure]:
                path, at = [], departure
                while True:
                    a, before = came[at]
                    path.append((a, at))
                    if before is None:
                        return path[::-1]
                    at = before
            for other, amount in paid[departure].items():
                if amount and other not in seen:
                    seen.add(other)
                    todo.append((other, departure))
    return []


# Rules, whatever the timing


def _rules(replay: _Replay) -> Iterator[str]:
    start = {guest.id: guest.host for guest in replay.problem.guests}
    for rule in replay.problem.rules:
        members = [guest for guest in rule.guests if guest in replay.guests]
        if not any(guest in replay.chains for guest in members):
            continue
        if rule.kind == "apart":
            yield from _apart(replay, rule, members)
        elif _off(rule, members, replay.place) > _off(rule, members, start):
            yield f"rule {rule.name} ({rule.kind}) holds less in the end than before"


def _off(rule: Rule, members: Collection[str], place: Mapping[str, str]) -> int:
    """How far guests are from being together, or within one part."""
    if rule.kind == "together":
        return len({place[guest] for guest in members})
    return min((sum(place[guest] not in part for guest in members) for part in rule.parts), default=0)


def _apart(replay: _Replay, rule: Rule, members: Collection[str]) -> Iterator[str]:
    """No two guests in one place at once, but those that were there together from the beginning."""
    stays: dict[tuple[str, str], list[_Stay]] = {}
    for guest in members:
        last: _Stay | None = None
        for stay in _stays_of(replay, guest):
            key = _place(replay, rule, stay.host)
            if last is not None and _place(replay, rule, last.host) == key:
                stays[key].remove(last)
                last = _Stay(guest, stay.host, last.came, stay.goes)
            else:
                last = stay
            stays.setdefault(key, []).append(last)
    for (_, where), here in stays.items():
        for at, one in enumerate(here):
            for other in here[at + 1 :]:
                both = not (one.came or other.came)
                if both or _before(replay, one, other) or _before(replay, other, one) or one.guest == other.guest:
                    continue
                names = " and ".join(sorted(replay.guests[stay.guest].name for stay in (one, other)))
                yield f"rule {rule.name}: {names} may be on {where} at once, in some order of events"


def _stays_of(replay: _Replay, guest: str) -> Iterator[_Stay]:
    came, host = 0, replay.guests[guest].host
    for step in replay.chains.get(guest, ()):
        yield _Stay(guest, host, came, step.n)
        came, host = step.n, step.destination
    yield _Stay(guest, host, came, 0)


def _place(replay: _Replay, rule: Rule, host: str) -> tuple[str, str]:
    value = replay.hosts[host].labels.get(rule.label) if rule.label else None
    return ("host", host) if value is None else (rule.label, value)


def _before(replay: _Replay, one: _Stay, other: _Stay) -> bool:
    return bool(one.goes and other.came and replay.waits(other.came, one.goes))


# Limits at the planned times


def _slots(replay: _Replay) -> Iterator[str]:
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


def _totals(replay: _Replay, plan: Plan) -> Iterator[str]:
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


def _claims(replay: _Replay, plan: Plan) -> Iterator[str]:
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
