"""How long a set of moves takes at least, in whatever order and with whatever detours: bounds that hold for every plan.

Each follows from the expected duration of a move over the links of its own host, which no detour makes shorter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import gcd

from tasks.planner.durations import link_share, seconds
from tasks.planner.moves import Layout, Move


def least_seconds(layout: Layout, moves: Iterable[Move]) -> float:
    """The greatest of: the longest move; what the busiest host, network and all of it have to carry; how long moves
    have to wait until guests have left that take their room; and, where memory is short, how long all of it lasts with
    what is free as the memory that may be held twice at once.
    """
    found = list(moves)
    return max(_busiest(layout, found), _chained(layout, found), _crowded(layout, found), 0.0)


def _own(layout: Layout, move: Move, host: int) -> float:
    """Seconds of a move over the links of one of its hosts."""
    spec, guest = layout.problem.hosts[host], layout.problem.guests[move.guest]
    return seconds(guest.memory_mib, guest.dirty_mib_per_second, link_share(spec, spec))


def _busiest(layout: Layout, moves: list[Move]) -> float:
    hosts, networks, most = layout.problem.hosts, layout.problem.networks, layout.problem.max_migrations
    out: defaultdict[int, float] = defaultdict(float)
    into: defaultdict[int, float] = defaultdict(float)
    over: defaultdict[str, float] = defaultdict(float)
    for move in moves:
        sent, received = _own(layout, move, move.source), _own(layout, move, move.target)
        out[move.source] += sent
        into[move.target] += received
        for name, took in {hosts[move.target].network: received, hosts[move.source].network: sent}.items():
            over[name] += took
    loads = [move.seconds for move in moves]
    loads += [load / hosts[host].max_outgoing for host, load in out.items()]
    loads += [load / hosts[host].max_incoming for host, load in into.items()]
    loads += [load / networks[name] for name, load in over.items() if name in networks]
    if most:
        loads.append(sum(move.seconds for move in moves) / most)
    return max(loads, default=0.0)


def _chained(layout: Layout, moves: list[Move]) -> float:
    """An arrival waits until enough has left its host, at best all of it at once from the beginning."""
    leaving: defaultdict[int, list[Move]] = defaultdict(list)
    for move in moves:
        leaving[move.source].append(move)
    longest = 0.0
    for host, arrivals in _by_target(moves).items():
        short = [move for move in arrivals if move.memory > layout.memory[host]]
        gone = sorted((_own(layout, move, host), move.memory) for move in leaving[host])
        for move in short:
            lacks = move.memory - layout.memory[host]
            for ended, memory in gone:
                lacks -= memory
                if lacks <= 0:
                    longest = max(longest, ended + _own(layout, move, host))
                    break
    return longest


def _by_target(moves: list[Move]) -> dict[int, list[Move]]:
    arrivals: defaultdict[int, list[Move]] = defaultdict(list)
    for move in moves:
        arrivals[move.target].append(move)
    return arrivals


def _crowded(layout: Layout, moves: list[Move]) -> float:
    """What moves is held twice, as far as what is free allows: in whole multiples of what all sizes divide by."""
    unit = gcd(*(move.memory for move in moves))
    if not unit:
        return 0.0
    free = sum(max(room, 0) // unit * unit for room in layout.memory)
    held = sum(move.memory * move.seconds for move in moves)
    return held / free if free else 0.0
