"""When each move starts, and which earlier ones it has to wait for.

The sequence is carried out as early as limits and room allow, several moves at once and out of turn where the rest of
it stays possible (E. Dijkstra's banker's algorithm: a known way to the end must remain). Room is handed on like coins:
what is free at first, or what a departure leaves, is given to one arrival only, and the arrival names the departures
that it lives on. So whoever keeps to ``after`` never overfills a host, however long each migration takes and whichever
fails: an arrival starts only when all its coins have been paid, and no coin is paid twice.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from tasks.planner.moves import Key, Layout, Move


@dataclass
class Purse:
    """Free room of a host, in coins that say which departure left them."""

    first: int
    """Free from the beginning. Below zero where the host has too much: the first departures pay that."""
    coins: dict[int, int] = field(default_factory=dict)
    paid: set[int] = field(default_factory=set)
    """The departures that paid the debt: every arrival has to wait for them."""

    def free(self) -> int:
        return self.first + sum(self.coins.values())

    def give(self, step: int, amount: int) -> None:
        """A departure has ended."""
        if self.first < 0:
            debt = min(-self.first, amount)
            self.first += debt
            self.paid.add(step)
            amount -= debt
        if amount > 0:
            self.coins[step] = self.coins.get(step, 0) + amount

    def take(self, amount: int) -> set[int]:
        """Give room to an arrival; the departures that it lives on. Room that was free at first goes first."""
        own = max(min(self.first, amount), 0)
        self.first -= own
        amount -= own
        used = set(self.paid)
        while amount > 0:
            enough = [(size, step) for step, size in self.coins.items() if size >= amount]
            size, step = min(enough) if enough else max((size, -step) for step, size in self.coins.items())
            step = abs(step)
            part = min(size, amount)
            amount -= part
            used.add(step)
            if part == size:
                del self.coins[step]
            else:
                self.coins[step] = size - part
        return used


@dataclass
class Timetable:
    """Starts (seconds from the plan's start) and dependencies of the moves of a sequence, by their position in it."""

    started: list[int] = field(default_factory=list)
    """Positions in the order in which they start."""
    start: dict[int, float] = field(default_factory=dict)
    after: dict[int, set[int]] = field(default_factory=dict)
    seconds: float = 0
    peak: int = 0
    memory: list[int] = field(default_factory=list)
    """The least free memory of each host at any moment."""


def timetable(layout: Layout, moves: Many[Move], tails: Many[float] | None = None) -> Timetable:
    """Carry out a sequence. ``tails``: how long what waits for each move is known to take; the longest goes first."""
    return _Run(layout, moves, tails).run()


class _Run:
    def __init__(self, layout: Layout, moves: Many[Move], tails: Many[float] | None) -> None:
        problem = layout.problem
        count = len(problem.hosts)
        self.layout, self.moves = layout, moves
        self.memory = [Purse(free) for free in layout.memory]
        self.cpu = [Purse(free) for free in layout.cpu]
        self.leaving, self.leaving_cpu = [0] * count, [0] * count
        """Under way from each host: room that it will surely have."""
        self.line: list[list[int]] = [[] for _ in range(count)]
        """What is still to come at each host, both directions, in the sequence's order."""
        self.coming, self.coming_cpu = [0] * count, [0] * count
        self.held = layout.holders()
        self.left: dict[Key, set[int]] = {}
        self.claims: dict[Key, list[int]] = {}
        self.out_slots = [host.max_outgoing for host in problem.hosts]
        self.in_slots = [host.max_incoming for host in problem.hosts]
        self.out_most = [max(slots, 1) for slots in self.out_slots]
        self.in_most = [max(slots, 1) for slots in self.in_slots]
        self.slots = len(moves) if problem.max_migrations is None else problem.max_migrations
        self.networks = dict(problem.networks)
        self.out_load, self.in_load = [0.0] * count, [0.0] * count
        self.previous = [-1] * len(moves)
        self.waits = set(range(len(moves)))
        self.tails = tails or [move.seconds for move in moves]
        self.held_back: dict[str | None, list[tuple[float, int]]] = {}
        """Those for which only a network, or the whole (``None``), had no slot."""
        self.flying: list[tuple[float, int]] = []
        self.now = 0.0
        self.out = Timetable(memory=list(layout.memory))
        first: dict[int, int] = {}
        for at, move in enumerate(moves):
            self.previous[at] = first.get(move.guest, -1)
            first[move.guest] = at
            self.line[move.source].append(at)
            self.line[move.target].append(at)
            self.coming[move.target] += move.memory
            self.coming_cpu[move.target] += move.cpu
            self.out_load[move.source] += move.seconds
            self.in_load[move.target] += move.seconds
            for key in layout.keys(move.guest, move.target):
                self.claims.setdefault(key, []).append(at)
        self.free_memory, self.free_cpu = list(layout.memory), list(layout.cpu)

    def run(self) -> Timetable:
        dirty = set(range(len(self.line)))
        while self.waits:
            self._start_all(dirty)
            dirty = self._end_next()
        while self.flying:
            self._end_next()
        self.out.seconds = self.now
        return self.out

    def _start_all(self, dirty: set[int]) -> None:
        """Start what can be started now that something changed at these hosts, the most urgent first."""
        self._start_held_back()
        while dirty:
            found = {at for host in dirty for at in self.line[host] if self._may(at)}
            dirty = set()
            for _, at in sorted((-self._urgency(at), at) for at in found):
                if self._try(at):
                    dirty.add(self.moves[at].source)

    def _start_held_back(self) -> None:
        for name in list(self.held_back):
            waiting = self.held_back[name]
            while waiting and (self.slots if name is None else self.networks[name]) > 0:
                at = heapq.heappop(waiting)[1]
                if at in self.waits:
                    self._try(at)

    def _urgency(self, at: int) -> float:
        move = self.moves[at]
        out = self.out_load[move.source] / self.out_most[move.source]
        into = self.in_load[move.target] / self.in_most[move.target]
        return max(out, into, self.tails[at])

    def _may(self, at: int) -> bool:
        """What is cheap to ask, and says no most of the time."""
        move = self.moves[at]
        return (
            self.free_memory[move.target] >= move.memory
            and self.out_slots[move.source] > 0
            and self.in_slots[move.target] > 0
        )

    def _try(self, at: int) -> bool:
        move = self.moves[at]
        if not self._may(at) or self.previous[at] in self.waits or self._flies(self.previous[at]):
            return False
        if not self._room(at, move) or not self._places(at, move):
            return False
        networks = self._networks(move)
        full = [name for name in sorted(networks) if self.networks.get(name, 1) <= 0]
        if self.slots <= 0 or full:
            queue = self.held_back.setdefault(None if self.slots <= 0 else full[0], [])
            heapq.heappush(queue, (-self._urgency(at), at))
            return False
        self._start(at, move, networks)
        return True

    def _flies(self, at: int) -> bool:
        return at >= 0 and any(other == at for _, other in self.flying)

    def _networks(self, move: Move) -> set[str]:
        hosts = self.layout.problem.hosts
        return {hosts[move.source].network, hosts[move.target].network}

    def _room(self, at: int, move: Move) -> bool:
        """Whether it fits now, and what is before it in the sequence still fits afterwards."""
        host = move.target
        if self.free_cpu[host] < move.cpu:
            return False
        if self.coming[host] <= self.free_memory[host] and self.coming_cpu[host] <= self.free_cpu[host]:
            return True
        memory = self.free_memory[host] + self.leaving[host] - move.memory
        cpu = self.free_cpu[host] + self.leaving_cpu[host] - move.cpu
        for other in self.line[host]:
            if other == at:
                return True
            them = self.moves[other]
            sign = 1 if them.source == host else -1
            memory += sign * them.memory
            cpu += sign * them.cpu
            if memory < 0 or cpu < 0:
                return False
        return True

    def _places(self, at: int, move: Move) -> bool:
        """Whether the places that rules give to one guest are free, and nobody before it in the sequence wants them."""
        for key in self.layout.keys(move.guest, move.target):
            if self.held.get(key, set()) - {move.guest}:
                return False
            if any(self.moves[other].guest != move.guest for other in self.claims[key] if other < at):
                return False
        return True

    def _start(self, at: int, move: Move, networks: set[str]) -> None:
        source, target = move.source, move.target
        after = self.memory[target].take(move.memory) | self.cpu[target].take(move.cpu)
        if self.previous[at] >= 0:
            after.add(self.previous[at])
        for key in self.layout.keys(move.guest, target):
            if move.guest not in self.held.setdefault(key, set()):
                after |= self.left.pop(key, set())
                self.held[key].add(move.guest)
            self.claims[key].remove(at)
        self.waits.discard(at)
        self.free_memory[target] -= move.memory
        self.free_cpu[target] -= move.cpu
        self.out.memory[target] = min(self.out.memory[target], self.free_memory[target])
        self.coming[target] -= move.memory
        self.coming_cpu[target] -= move.cpu
        self.leaving[source] += move.memory
        self.leaving_cpu[source] += move.cpu
        for host in (source, target):
            line = self.line[host]
            del line[bisect_left(line, at)]
        self.out_load[source] -= move.seconds
        self.in_load[target] -= move.seconds
        self.out_slots[source] -= 1
        self.in_slots[target] -= 1
        self.slots -= 1
        for name in networks & self.networks.keys():
            self.networks[name] -= 1
        insort(self.flying, (self.now + move.seconds, at))
        self.out.peak = max(self.out.peak, len(self.flying))
        self.out.started.append(at)
        self.out.start[at] = self.now
        self.out.after[at] = after

    def _end_next(self) -> set[int]:
        """Go on to the next end; which hosts that changes something for."""
        if not self.flying:
            raise AssertionError("the sequence cannot be carried out")
        self.now = self.flying[0][0]
        dirty: set[int] = set()
        while self.flying and self.flying[0][0] <= self.now:
            at = self.flying.pop(0)[1]
            move = self.moves[at]
            self.memory[move.source].give(at, move.memory)
            self.cpu[move.source].give(at, move.cpu)
            self.free_memory[move.source] += move.memory
            self.free_cpu[move.source] += move.cpu
            self.leaving[move.source] -= move.memory
            self.leaving_cpu[move.source] -= move.cpu
            self.out_slots[move.source] += 1
            self.in_slots[move.target] += 1
            self.slots += 1
            for name in self._networks(move) & self.networks.keys():
                self.networks[name] += 1
            here = set(self.layout.keys(move.guest, move.target))
            for key in self.layout.keys(move.guest, move.source):
                if key not in here:
                    self.held[key].discard(move.guest)
                    self.left.setdefault(key, set()).add(at)
                    dirty |= {self.moves[other].target for other in self.claims.get(key, ())}
            dirty |= {move.source, move.target}
        return dirty
