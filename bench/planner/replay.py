"""Moves carried out one after the other, as many at once as the limits allow, on nothing but a problem's numbers.

The executor is the simplest that keeps the limits: a move starts when those that it names in ``after`` have ended, and
when its source, its destination, their networks and the cluster have a slot; of several, the first in the list goes
first. It does *not* look whether the destination has room: that is what the order is for, and what is counted.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.planner.moves import Move
from bench.planner.scene import SLIP, Scene

SETUP_SECONDS = 5.0


@dataclass
class Replay:
    """What happened."""

    makespan: float = 0.0
    started: int = 0
    overcommitted: int = 0
    """Starts after which a destination has more memory assigned than it has (and more than it had before the plan)."""
    over_limit: int = 0
    """The same against ``most_percent``."""
    worst_over: float = 0.0
    """The most by which a destination was overcommitted, as a share of its memory."""
    too_close: int = 0
    """Starts that bring a guest to a host where another one is, or still is, that it has to be apart from."""
    peak: int = 0
    """The most migrations at once."""
    place: list[int] = field(default_factory=list)
    """Where each guest is in the end."""


@dataclass(frozen=True)
class _Job:
    move: Move
    guest: int
    source: int
    target: int
    seconds: float


def replay(scene: Scene, moves: Sequence[Move], jitter: int | None = None) -> Replay:
    """Carry the moves out. ``jitter``: a seed; each duration is then multiplied by something from 0.5 to 2."""
    return _Executor(scene, moves, jitter).run()


def makespan_bound(scene: Scene, moves: Sequence[Move]) -> float:
    """No order of these moves can be faster: the work of what is busiest over its slots, or the longest migration."""
    jobs = _jobs(scene, moves, None)
    work: dict[tuple[str, int], float] = defaultdict(float)
    shared: dict[str, float] = defaultdict(float)
    hosts, problem = scene.problem.hosts, scene.problem
    for job in jobs:
        work["out", job.source] += job.seconds
        work["in", job.target] += job.seconds
        for network in {hosts[job.source].network, hosts[job.target].network}:
            shared[network] += job.seconds
    busiest = [
        seconds / max(1, hosts[host].max_outgoing if way == "out" else hosts[host].max_incoming)
        for (way, host), seconds in work.items()
    ]
    busiest += [seconds / limit for name, seconds in shared.items() if (limit := problem.networks.get(name))]
    if problem.max_migrations:
        busiest.append(sum(job.seconds for job in jobs) / problem.max_migrations)
    return max([*busiest, *(job.seconds for job in jobs)], default=0.0)


def _jobs(scene: Scene, moves: Sequence[Move], jitter: int | None) -> list[_Job]:
    draw = random.Random(jitter)  # noqa: S311 - durations, not secrets
    hosts, place = scene.problem.hosts, scene.start.tolist()
    jobs = []
    for move in moves:
        guest, target = scene.guest[move.guest], scene.number[move.destination]
        source = place[guest]
        share = min(
            hosts[end].mib_per_second / max(hosts[end].max_outgoing, hosts[end].max_incoming, 1)
            for end in (source, target)
        )
        factor = 1.0 if jitter is None else 2 ** draw.uniform(-1, 1)
        jobs.append(_Job(move, guest, source, target, factor * (SETUP_SECONDS + float(scene.need[guest, 1]) / share)))
        place[guest] = target
    return jobs


class _Executor:
    def __init__(self, scene: Scene, moves: Sequence[Move], jitter: int | None) -> None:
        self.scene = scene
        self.jobs = _jobs(scene, moves, jitter)
        self.outcome = Replay(place=scene.start.tolist())
        self.memory = [0.0] * len(scene.room)
        for guest, host in enumerate(self.outcome.place):
            self.memory[host] += float(scene.need[guest, 1])
        # A host that has too much already may keep it, but not get more.
        most = scene.problem.goal.most_percent / 100
        self.all = [max(float(room), used) for room, used in zip(scene.room[:, 1], self.memory, strict=True)]
        self.limit = [max(float(room) * most, used) for room, used in zip(scene.room[:, 1], self.memory, strict=True)]
        self.slots = _Slots(scene)
        self.apart = _Apart(scene)
        self.waits, self.then = self._dependencies()
        self.ready: dict[int, set[int]] = defaultdict(set)
        """Jobs that only wait for a slot, by each of their hosts."""

    def _dependencies(self) -> tuple[list[int], dict[int, list[int]]]:
        number = {job.move.n: at for at, job in enumerate(self.jobs)}
        last: dict[int, int] = {}
        waits, then = [], defaultdict(list)
        for at, job in enumerate(self.jobs):
            before = {number[n] for n in job.move.after if n in number}
            if job.guest in last:
                before.add(last[job.guest])
            last[job.guest] = at
            waits.append(len(before))
            for earlier in before:
                then[earlier].append(at)
        return waits, then

    def run(self) -> Replay:
        now, running = 0.0, list[tuple[float, int]]()
        waiting = {at for at, count in enumerate(self.waits) if not count}
        for at in waiting:
            self._set_ready(at)
        candidates = sorted(waiting)
        while True:
            for at in candidates:
                job = self.jobs[at]
                if self.slots.take(job.source, job.target):
                    self._unset_ready(at)
                    self._start(job)
                    heapq.heappush(running, (now + job.seconds, at))
            self.outcome.peak = max(self.outcome.peak, len(running))
            if not running:
                break
            now, at = heapq.heappop(running)
            candidates = sorted(self._end(at))
        self.outcome.makespan = now
        return self.outcome

    def _start(self, job: _Job) -> None:
        outcome, memory = self.outcome, float(self.scene.need[job.guest, 1])
        outcome.started += 1
        self.memory[job.target] += memory
        over = self.memory[job.target] - self.all[job.target]
        outcome.overcommitted += over > SLIP
        outcome.over_limit += self.memory[job.target] > self.limit[job.target] + 1
        outcome.worst_over = max(outcome.worst_over, over / float(self.scene.room[job.target, 1]))
        outcome.too_close += self.apart.arrive(job.guest, job.source, job.target)

    def _end(self, at: int) -> set[int]:
        """Finish a job; which others may start now."""
        job = self.jobs[at]
        self.slots.give(job.source, job.target)
        self.memory[job.source] -= float(self.scene.need[job.guest, 1])
        self.apart.leave(job.guest, job.source)
        self.outcome.place[job.guest] = job.target
        for later in self.then.get(at, ()):
            self.waits[later] -= 1
            if not self.waits[later]:
                self._set_ready(later)
        if self.slots.shared:
            return set().union(*self.ready.values())
        mine = {later for later in self.then.get(at, ()) if not self.waits[later]}
        return mine | self.ready[job.source] | self.ready[job.target]

    def _set_ready(self, at: int) -> None:
        self.ready[self.jobs[at].source].add(at)
        self.ready[self.jobs[at].target].add(at)

    def _unset_ready(self, at: int) -> None:
        self.ready[self.jobs[at].source].discard(at)
        self.ready[self.jobs[at].target].discard(at)


class _Slots:
    """Of hosts, networks and the cluster."""

    def __init__(self, scene: Scene) -> None:
        problem = scene.problem
        self.outgoing = [host.max_outgoing for host in problem.hosts]
        self.incoming = [host.max_incoming for host in problem.hosts]
        self.network = [host.network for host in problem.hosts]
        self.networks = dict(problem.networks)
        self.cluster = problem.max_migrations
        self.shared = bool(self.networks) or self.cluster is not None

    def take(self, source: int, target: int) -> bool:
        """Take what a migration needs, or nothing."""
        used = {name for name in (self.network[source], self.network[target]) if name in self.networks}
        if not self.outgoing[source] or not self.incoming[target] or any(not self.networks[name] for name in used):
            return False
        if self.cluster is not None:
            if not self.cluster:
                return False
            self.cluster -= 1
        self._count(source, target, used, -1)
        return True

    def give(self, source: int, target: int) -> None:
        """Give it back."""
        if self.cluster is not None:
            self.cluster += 1
        self._count(source, target, {n for n in (self.network[source], self.network[target]) if n in self.networks}, 1)

    def _count(self, source: int, target: int, used: set[str], by: int) -> None:
        self.outgoing[source] += by
        self.incoming[target] += by
        for name in used:
            self.networks[name] += by


class _Apart:
    """How many guests of each ``apart`` rule are in each zone, those on their way in and out counted on both sides."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rules: dict[int, list[int]] = defaultdict(list)
        for at, rule in enumerate(scene.problem.rules):
            if rule.kind == "apart":
                for ident in rule.guests:
                    self.rules[scene.guest[ident]].append(at)
        self.inside = Counter(
            (at, self.zone(at, int(scene.start[guest]))) for guest, rules in self.rules.items() for at in rules
        )

    def zone(self, rule: int, host: int) -> str:
        """A host, or the hosts that share the rule's label with it."""
        label = self.scene.problem.rules[rule].label
        spec = self.scene.problem.hosts[host]
        return f"{label}={spec.labels[label]}" if label in spec.labels else f"host {spec.name}"

    def arrive(self, guest: int, source: int, host: int) -> bool:
        """Whether it is now with another one (itself, still leaving a host of the same zone, is none)."""
        close = False
        for rule in self.rules.get(guest, ()):
            zone = self.zone(rule, host)
            self.inside[rule, zone] += 1
            itself = self.zone(rule, source) == zone
            close |= self.inside[rule, zone] > 1 + itself
        return close

    def leave(self, guest: int, host: int) -> None:
        """It is gone from there."""
        for rule in self.rules.get(guest, ()):
            self.inside[rule, self.zone(rule, host)] -= 1
