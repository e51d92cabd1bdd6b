"""One way in which all moves can be done, one after the other; without times.

Direct moves come first: those to a host that has room for everything that still wants there can never be in anyone's
way; of the others those that give room to a host that lacks it. When none fits, guests that wait to leave a full host
are parked on a host in between, the least memory first. What the timetable does later, it does such that the rest of
this sequence stays possible: so it never runs into a deadlock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from tasks.planner.moves import Key, Layout, Move


@dataclass
class Sequence:
    """What came out: the moves in an order that works, and those that no order can do."""

    moves: list[Move] = field(default_factory=list)
    left: list[Move] = field(default_factory=list)


WORK = 12_000
"""Moves times attempts: so much is tried where something is left, within ``ATTEMPTS``."""
ATTEMPTS = (2, 16)


def sequence(layout: Layout, moves: Iterable[Move]) -> Sequence:
    """Order ``moves``. Where some are left, other attempts let some guests wait, chosen by chance but always the same:
    who goes straight may take the room that others need to be parked. The one that leaves fewest is taken.
    """
    given = list(moves)
    attempts = min(max(WORK // max(len(given), 1), ATTEMPTS[0]), ATTEMPTS[1])
    best = _attempt(layout, given, set())
    for attempt in range(1, attempts):
        if not best.left:
            break
        chance = Random(attempt)  # noqa: S311
        found = _attempt(layout, given, {move.guest for move in given if chance.random() < chance.random()})
        best = min(best, found, key=lambda one: (len(one.left), len(one.moves)))
    return best


def _attempt(layout: Layout, moves: list[Move], patient: set[int]) -> Sequence:
    """A sequence in which nobody ends parked: who would goes only straight, and all of it is tried again."""
    straight: set[int] = set()
    while True:
        found = _Search(layout, moves, straight, patient).run()
        parked = {move.guest for move in found.left if move.bounce}
        if not parked:
            return found
        straight |= parked


class _Search:
    def __init__(self, layout: Layout, moves: list[Move], unparkable: set[int], patient: set[int]) -> None:
        hosts = range(len(layout.memory))
        self.layout, self.unparkable = layout, unparkable
        self.patient = set(patient)
        """They go when nobody else can."""
        self.memory, self.cpu = list(layout.memory), list(layout.cpu)
        self.held = layout.holders()
        self.waiting: dict[Key, list[int]] = {}
        """Guests that want a place that a rule gives to one guest only."""
        self.pending = {move.guest: move for move in moves}
        self.arrivals: list[dict[int, None]] = [{} for _ in hosts]
        self.departures: list[dict[int, None]] = [{} for _ in hosts]
        self.wanted, self.wanted_cpu = [0] * len(self.memory), [0] * len(self.memory)
        """By all that still want there."""
        self.parked_seconds = [0.0] * len(self.memory)
        self.changed = [0] * len(self.memory)
        self.ready: list[tuple[int, int, int]] = []
        self.options: list[tuple[int, int, int, tuple[int, ...]]] = []
        self.stale: set[int] = set(range(len(self.memory)))
        """Hosts of which the options to make room are not known."""
        self.out = Sequence()
        for move in moves:
            self._want(move)
            for key in layout.keys(move.guest, move.target):
                self.waiting.setdefault(key, []).append(move.guest)

    def run(self) -> Sequence:
        self._wake_all()
        while True:
            self._direct()
            if self.pending and self._park_some():
                continue
            if not self.pending or not self.patient:
                break
            self.patient.clear()
            self._wake_all()
        self.out.left = [self.pending[guest] for guest in sorted(self.pending)]
        return self.out

    def _want(self, move: Move) -> None:
        self.arrivals[move.target][move.guest] = None
        self.departures[move.source][move.guest] = None
        self.wanted[move.target] += move.memory
        self.wanted_cpu[move.target] += move.cpu

    def _lacks(self, host: int) -> bool:
        return self.wanted[host] > self.memory[host] or self.wanted_cpu[host] > self.cpu[host]

    def _fits(self, move: Move, target: int) -> bool:
        if self.memory[target] < move.memory or self.cpu[target] < move.cpu:
            return False
        return not any(self.held.get(key, set()) - {move.guest} for key in self.layout.keys(move.guest, target))

    def _class(self, move: Move) -> int:
        """0: in nobody's way. 1: gives room to a host that lacks it. 2: anything else."""
        if not self._lacks(move.target):
            return 0
        return 1 if self._lacks(move.source) else 2

    def _wake_all(self) -> None:
        for host in range(len(self.memory)):
            self._wake(host)

    def _wake(self, host: int) -> None:
        self.stale.add(host)
        self.changed[host] += 1
        for guest in self.arrivals[host]:
            move = self.pending[guest]
            if guest not in self.patient and self._fits(move, host):
                heapq.heappush(self.ready, (self._class(move), -move.memory, guest))

    def _direct(self) -> None:
        while self.ready:
            rank, size, guest = heapq.heappop(self.ready)
            move = self.pending.get(guest)
            if move is None or not self._fits(move, move.target):
                continue
            if (now := self._class(move)) > rank:
                heapq.heappush(self.ready, (now, size, guest))
                continue
            self._do(move)

    def _do(self, move: Move) -> None:
        guest, source, target = move.guest, move.source, move.target
        del self.pending[guest], self.arrivals[target][guest], self.departures[source][guest]
        self.wanted[target] -= move.memory
        self.wanted_cpu[target] -= move.cpu
        self.memory[target] -= move.memory
        self.memory[source] += move.memory
        self.cpu[target] -= move.cpu
        self.cpu[source] += move.cpu
        woken = {source}
        for key in self.layout.keys(guest, source):
            self.held[key].discard(guest)
            woken |= {self.pending[w].target for w in self.waiting.get(key, ()) if w in self.pending}
        for key in self.layout.keys(guest, target):
            self.held.setdefault(key, set()).add(guest)
        self.out.moves.append(move)
        self.stale.add(target)
        self.changed[target] += 1
        for host in sorted(woken):
            self._wake(host)

    # When nothing fits: who could be parked so that something does?

    def _park_some(self) -> bool:
        for host in sorted(self.stale):
            for guest in self.arrivals[host]:
                if guest not in self.patient and (aside := self._who(self.pending[guest])) is not None:
                    cost = sum(self.pending[other].memory for other in aside)
                    heapq.heappush(self.options, (cost, guest, self.changed[host], aside))
        self.stale.clear()
        tried, done = [], False
        while self.options and not done:
            option = heapq.heappop(self.options)
            _, guest, version, aside = option
            move = self.pending.get(guest)
            if move is None or version != self.changed[move.target] or any(x not in self.pending for x in aside):
                continue
            if done := self._park(aside):
                if guest in self.pending and self._fits(move, move.target):
                    self._do(move)
            else:
                tried.append(option)
        for option in tried:
            heapq.heappush(self.options, option)
        return done

    def _parkable(self, guest: int) -> bool:
        return guest in self.pending and not self.pending[guest].bounce and guest not in self.unparkable

    def _who(self, move: Move) -> tuple[int, ...] | None:
        """The guests that have to be out of the way so that ``move`` fits: little memory; ``None`` if it cannot be."""
        aside: set[int] = set()
        for key in self.layout.keys(move.guest, move.target):
            aside |= self.held.get(key, set()) - {move.guest}
        if not all(map(self._parkable, aside)):
            return None
        host = move.target
        here = [self.pending[guest] for guest in aside if self.pending[guest].source == host]
        memory = move.memory - self.memory[host] - sum(other.memory for other in here)
        cpu = move.cpu - self.cpu[host] - sum(other.cpu for other in here)
        if memory > 0 or cpu > 0:
            others = sorted(
                (
                    self.pending[guest]
                    for guest in self.departures[host]
                    if guest not in aside and self._parkable(guest)
                ),
                key=lambda other: (other.memory, other.guest),
            )
            one = next((other for other in others if other.memory >= memory and other.cpu >= cpu), None)
            several = []
            for other in others:
                if memory <= 0 and cpu <= 0:
                    break
                several.append(other)
                memory, cpu = memory - other.memory, cpu - other.cpu
            if (memory > 0 or cpu > 0) and one is None:
                return None
            if one is not None and one.memory <= sum(other.memory for other in several):
                several = [one]
            aside |= {other.guest for other in several}
        return tuple(sorted(aside)) or None

    def _park(self, guests: tuple[int, ...]) -> bool:
        """Send guests to hosts in between, all of them or none."""
        first = len(self.out.moves)
        places: dict[int, int] = {}
        taken: dict[int, int] = {}
        taken_cpu: dict[int, int] = {}
        keys: set[Key] = set()
        for guest in guests:
            move = self.pending[guest]
            host = self._between(move, taken, taken_cpu, keys)
            if host is None:
                return False
            places[guest] = host
            taken[host] = taken.get(host, 0) + move.memory
            taken_cpu[host] = taken_cpu.get(host, 0) + move.cpu
            keys |= set(self.layout.keys(guest, host))
        for guest, host in places.items():
            self._detour(self.pending[guest], host)
        return len(self.out.moves) > first

    def _between(self, move: Move, taken: dict[int, int], taken_cpu: dict[int, int], keys: set[Key]) -> int | None:
        """The host to park on: best one that lacks no room itself, has parked little so far, and has much room."""
        layout, best, best_rank = self.layout, None, (True, 0.0, 0)
        allowed = layout.between(move.guest, move.target)
        near = range(len(self.memory)) if allowed is None else sorted(allowed)
        for host in near:
            left = self.memory[host] - taken.get(host, 0) - move.memory
            if left < 0 or host in (move.source, move.target):
                continue
            spec = layout.problem.hosts[host]
            if not (layout.takes[host] and spec.gives and spec.max_incoming and spec.max_outgoing):
                continue
            short = self.wanted[host] > left
            rank = (short, self.parked_seconds[host] / min(spec.max_incoming, spec.max_outgoing), -left)
            if best is not None and rank >= best_rank:
                continue
            if self.cpu[host] - taken_cpu.get(host, 0) < move.cpu or not layout.may_hold(move.guest, host):
                continue
            if not self._fits(move, host) or keys.intersection(layout.keys(move.guest, host)):
                continue
            best, best_rank = host, rank
        return best

    def _detour(self, move: Move, host: int) -> None:
        """Do the first leg and leave the second one to be done."""
        guest = move.guest
        del self.arrivals[move.target][guest]
        self.wanted[move.target] -= move.memory
        self.wanted_cpu[move.target] -= move.cpu
        first = self.layout.move(guest, move.source, host, 1)
        second = self.layout.move(guest, host, move.target, 2)
        self.pending[guest] = first
        self.arrivals[host][guest] = None
        self.wanted[host] += move.memory
        self.wanted_cpu[host] += move.cpu
        self._do(first)
        self.pending[guest] = second
        self._want(second)
        self.parked_seconds[host] += first.seconds
        self._wake(move.target)
