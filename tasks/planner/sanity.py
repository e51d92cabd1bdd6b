"""What makes a problem no problem: things that are not there, or there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from tasks.planner.fleet import fits_pattern
from tasks.planner.parts import Parts
from worker.contract.plans import Problem
from worker.errors import RelayError

MOST = 20
"""So many faults are told."""


class BadProblem(RelayError):
    """A problem that makes no sense: a guest on a host that is not there, two guests with one id, …"""

    code = "bad-problem"


def check_sanity(problem: Problem) -> None:
    """Raises ``BadProblem`` that names all that is wrong."""
    faults = list(_faults(problem))
    if faults:
        more = f"; and {len(faults) - MOST} more" if len(faults) > MOST else ""
        raise BadProblem("; ".join(faults[:MOST]) + more)


def _faults(problem: Problem) -> Iterator[str]:
    hosts = {host.name for host in problem.hosts}
    guests = {guest.id for guest in problem.guests}
    if not problem.hosts:
        yield "there are no hosts; name some in the inventory"
    for name in _twice(host.name for host in problem.hosts):
        yield f"host {name} is there twice; name each once"
    for name in _twice(guest.id for guest in problem.guests):
        yield f"guest {name} is there twice; does it run on two hosts?"
    for guest in problem.guests:
        if guest.host not in hosts:
            yield f"guest {guest.name} is on {guest.host}, which is not among the hosts"
    yield from _rules(problem, hosts, guests)
    yield from _goal(problem, hosts, guests)


def _rules(problem: Problem, hosts: set[str], guests: set[str]) -> Iterator[str]:
    for name in _twice(rule.name for rule in problem.rules):
        yield f"rule {name} is there twice; give each its own name"
    seen: set[Parts] = set()
    for rule in problem.rules:
        for guest in rule.guests:
            if guest not in guests:
                yield f"rule {rule.name} names guest {guest}, which is not there"
        for guest in _twice(rule.guests):
            yield f"rule {rule.name} names guest {guest} twice"
        if rule.kind == "among" and not rule.parts:
            yield f"rule {rule.name} keeps its guests among no hosts; give it parts, or a label that hosts have"
        if rule.parts not in seen:
            seen.add(rule.parts)
            for host in sorted({host for part in rule.parts for host in part} - hosts):
                yield f"rule {rule.name} names host {host}, which is not there"


def _goal(problem: Problem, hosts: set[str], guests: set[str]) -> Iterator[str]:
    goal = problem.goal
    if goal.kind == "drain" and not goal.hosts:
        yield "a drain of no hosts; name some"
    for host in dict.fromkeys(goal.hosts):
        if host not in hosts:
            yield f"the goal names host {host}, which is not there"
    if goal.kind == "place" and not goal.targets:
        yield "guests are to be placed, and none is named; give targets"
    for guest, host in goal.targets.items():
        if guest not in guests:
            yield f"a target is given for guest {guest}, which is not there"
        if host not in hosts:
            yield f"guest {guest} is to go to {host}, which is not there"
    for word, patterns in (("select", goal.select), ("exclude", goal.exclude)):
        for pattern in patterns:
            if not any(fits_pattern(guest, (pattern,)) for guest in problem.guests):
                yield f"{word}: no guest is called {pattern}"


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
