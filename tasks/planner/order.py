"""In what order the moves of a plan can be done, so that capacity and rules hold at every moment."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from tasks.planner.critical import shortest
from tasks.planner.moves import Layout, Move, worse
from tasks.planner.sequence import sequence
from tasks.planner.time_bound import least_seconds
from tasks.planner.timetable import Timetable
from worker.contract.plans import Left, Problem, Step


@dataclass(frozen=True)
class Order:
    """Steps in the order in which they start, and what cannot be done in any order that was found."""

    steps: tuple[Step, ...] = ()
    stuck: tuple[Left, ...] = ()
    seconds: float = 0
    """Until the last one has ended."""
    serial_seconds: float = 0
    """The same, one after the other."""
    bound_seconds: float = 0
    """No order can be faster: see ``time_bound``."""
    peak_concurrent: int = 0
    peaks: dict[str, float] = field(default_factory=dict)
    """The most that each host has at any moment, as a share of its memory less its reserve."""


def order(problem: Problem, targets: Mapping[str, str], why: Mapping[str, str]) -> Order:
    """Order the moves of guests (ids) to the hosts of ``targets``; ``why`` is each one's reason, for people.

    A guest occupies memory and CPU on both hosts while it moves. No host is ever sent more memory than
    ``goal.most_percent`` of what it has less its reserve; one that has more already is sent nothing until enough has
    left. Places of ``apart`` rules are held on both hosts, too. ``together`` and ``among`` rules hold before and after;
    in between such a group is split while it moves, and its guests are never parked on hosts outside of it. A move that
    would leave a group split for good is not made, nor are the others of its group.

    ``after`` names the earlier steps that made the room, the place, or the first leg that a step needs, and no others:
    whoever keeps to it is safe however long each migration takes. How many run at once is for the admission.
    """
    layout = Layout(problem)
    stuck: dict[int, Left] = {}
    moves: dict[int, Move] = {}
    for guest_id in sorted(targets, key=lambda guest: layout.guests.get(guest, -1)):
        guest = layout.guests[guest_id]
        if targets[guest_id] == problem.guests[guest].host:
            continue
        if (left := _never(layout, guest, targets[guest_id])) is not None:
            stuck[guest] = left
        else:
            moves[guest] = layout.move(guest, layout.place[guest], layout.index[targets[guest_id]])
    while True:
        _drop_split(layout, moves, stuck)
        layout.allow_cpu(moves.values())
        found = sequence(layout, moves.values())
        for move in found.left:
            stuck[move.guest] = _stuck(layout, move, moves)
        for move in found.left:
            del moves[move.guest]
        if not found.left or not (_drop_split(layout, moves, stuck) or layout.allow_cpu(moves.values())):
            break
    bound = least_seconds(layout, moves.values())
    return _written(layout, found.moves, shortest(layout, found.moves, bound), stuck, why, bound)


def _never(layout: Layout, guest: int, target: str) -> Left | None:
    """Why a guest cannot be sent there at all, whatever the order."""
    problem = layout.problem
    spec = problem.guests[guest]
    here = problem.hosts[layout.place[guest]]
    if spec.pinned:
        return _left(layout, guest, "pinned", f"pinned: {spec.pinned}")
    if not here.gives:
        return _left(layout, guest, "host-away", f"{here.name} does not give: {here.why}", f"{here.name} gives guests")
    if target not in layout.index:
        return _left(layout, guest, "no-host", f"there is no host {target}")
    there = problem.hosts[layout.index[target]]
    if not layout.takes[layout.index[target]]:
        text = f"does not take: {there.why}" if not there.takes else "is to be emptied"
        return _left(layout, guest, "no-host", f"{target} {text}", f"{target} takes guests")
    if not layout.may_hold(guest, layout.index[target]):
        return _left(layout, guest, "no-host", f"{target} is of another kind, or lacks labels that the guest requires")
    if here.max_outgoing == 0:
        return _left(layout, guest, "limit", f"{here.name} may send 0 at once", f"max_outgoing of {here.name} above 0")
    if there.max_incoming == 0:
        return _left(layout, guest, "limit", f"{target} may receive 0 at once", f"max_incoming of {target} above 0")
    if problem.max_migrations == 0:
        return _left(layout, guest, "limit", "0 migrations may run at once", "max_migrations above 0")
    for name in sorted({here.network, there.network}):
        if problem.networks.get(name) == 0:
            return _left(layout, guest, "limit", f"network {name} carries 0 at once", f"network {name} above 0")
    return None


def _left(layout: Layout, guest: int, code: str, why: str, unblock: str = "") -> Left:
    spec = layout.problem.guests[guest]
    return Left(guest=spec.id, domain=spec.name, host=spec.host, code=code, why=why[:500], unblock=unblock[:500])


def _drop_split(layout: Layout, moves: dict[int, Move], stuck: dict[int, Left]) -> bool:
    """Give up the moves of groups that would end split; whether there were any."""
    guests, hosts = layout.problem.guests, layout.problem.hosts
    any_dropped = False
    again = True
    while again:
        again = False
        touched = sorted({rule for guest in moves for rule in layout.groups.get(guest, ())})
        for at in touched:
            rule = layout.problem.rules[at]
            members = {guest_id: layout.guests[guest_id] for guest_id in rule.guests if guest_id in layout.guests}
            before = {guest_id: guests[g].host for guest_id, g in members.items()}
            after = {i: hosts[moves[g].target].name if g in moves else before[i] for i, g in members.items()}
            if not worse(rule, before, after, members):
                continue
            for guest in sorted(set(members.values()) & moves.keys()):
                del moves[guest]
                text = f"rule {rule.name} would be broken: not all of its guests can get to where it holds"
                stuck[guest] = _left(layout, guest, "rule", text)
                any_dropped = again = True
    return any_dropped


def _stuck(layout: Layout, move: Move, moves: Mapping[int, Move]) -> Left:
    """Why a move fits in no order, and what would let it."""
    problem = layout.problem
    there = problem.hosts[move.target].name
    arriving = [other for other in moves.values() if other.target == move.target]
    leaving = [other for other in moves.values() if other.source == move.target]
    names = ", ".join(problem.guests[other.guest].name for other in leaving[:3])
    lacks = sum(m.memory for m in arriving) - sum(m.memory for m in leaving) - layout.memory[move.target]
    if lacks > 0:
        text = f"all that is to go to {there} takes {lacks} MiB more than it may have"
        return _left(layout, move.guest, "no-room", text, f"{_gib(lacks)} more free on {there}")
    for key in layout.keys(move.guest, move.target):
        final = [g for g in _after(layout, moves, key[0]) if key in layout.keys(g, _host_after(layout, moves, g))]
        if len(final) > 1:
            rule = problem.rules[key[0]].name
            others = ", ".join(problem.guests[g].name for g in final if g != move.guest)
            return _left(layout, move.guest, "rule", f"rule {rule} keeps it apart from {others} on {there}")
    text = (
        f"{there} has no room until {names or 'others'} left, which cannot go first either, and no host in between fits"
    )
    largest = max((other.memory for other in leaving), default=move.memory)
    return _left(layout, move.guest, "stuck", text, f"{_gib(min(largest, move.memory))} free on one more host")


def _after(layout: Layout, moves: Mapping[int, Move], rule: int) -> list[int]:
    return [layout.guests[i] for i in layout.problem.rules[rule].guests if i in layout.guests]


def _host_after(layout: Layout, moves: Mapping[int, Move], guest: int) -> int:
    return moves[guest].target if guest in moves else layout.place[guest]


def _gib(mib: int) -> str:
    return f"{mib / 1024:.4g} GiB"


def _written(
    layout: Layout,
    moves: Many[Move],
    found: Timetable,
    stuck: Mapping[int, Left],
    why: Mapping[str, str],
    bound: float,
) -> Order:
    problem = layout.problem
    number = {at: n for n, at in enumerate(found.started, 1)}
    steps: list[Step] = []
    after: dict[int, tuple[int, ...]] = {}
    for at in found.started:
        move, n = moves[at], number[at]
        guest = problem.guests[move.guest]
        after[n] = _needed({number[before] for before in found.after[at]}, after)
        reason = why.get(guest.id, "")
        if move.bounce:
            reason = f"bounce {move.bounce} of 2" + (f"; {reason}" if reason else "")
        steps.append(
            Step(
                n=n,
                guest=guest.id,
                domain=guest.name,
                source=problem.hosts[move.source].name,
                destination=problem.hosts[move.target].name,
                memory_mib=move.memory,
                cpu_cores=guest.cpu_cores,
                seconds=round(move.seconds, 3),
                start=round(found.start[at], 3),
                after=after[n],
                why=reason[:500],
                bounce=move.bounce,
            )
        )
    peaks = {}
    for at, host in enumerate(problem.hosts):
        room = host.memory_mib - host.reserve_memory_mib
        used = room * problem.goal.most_percent / 100 - found.memory[at]
        peaks[host.name] = max(0.0, used / room) if room > 0 else 0.0
    return Order(
        steps=tuple(steps),
        stuck=tuple(stuck[guest] for guest in sorted(stuck)),
        seconds=round(found.seconds, 3),
        serial_seconds=round(sum(move.seconds for move in moves), 3),
        bound_seconds=round(bound, 3),
        peak_concurrent=found.peak,
        peaks=peaks,
    )


def _needed(named: set[int], after: Mapping[int, tuple[int, ...]]) -> tuple[int, ...]:
    """``named`` without those that others of it wait for anyway."""
    if len(named) < 2:
        return tuple(named)
    least, seen = min(named), set()
    todo = list(named)
    while todo:
        for before in after[todo.pop()]:
            if before >= least and before not in seen:
                seen.add(before)
                todo.append(before)
    return tuple(sorted(named - seen))
