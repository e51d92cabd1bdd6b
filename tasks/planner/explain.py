"""Why guests stay where they are although the goal wanted them elsewhere, and what would let them move."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np

from tasks.planner.fleet import CPU, MEMORY, MIB, SLIP, Fleet, Ints
from tasks.planner.place import Placement
from worker.contract.plans import HostSpec, Left

SHOWN = 3
"""So many hosts are named at most."""
LONGEST = 500
"""Characters of a text in a plan."""


def amount(cpu: float, mib: float) -> str:
    """``96 GiB``, ``2.5 cores``, or both."""
    parts = []
    if mib > SLIP:
        parts.append(f"{ceil(mib / MIB * 10) / 10:g} GiB")
    if cpu > SLIP:
        parts.append(f"{ceil(cpu * 10) / 10:g} cores")
    return " and ".join(parts) or "0 GiB"


def listed(names: list[str], most: int = SHOWN) -> str:
    """``h3, h9 and 4 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def lefts(fleet: Fleet, unit: int, code: str, why: str, unblock: str = "") -> Iterator[Left]:
    """A unit that stays, guest by guest."""
    for guest in (fleet.guests[n] for n in fleet.members[unit]):
        yield Left(
            guest=guest.id, domain=guest.name, host=guest.host, code=code, why=why[:LONGEST], unblock=unblock[:LONGEST]
        )


def stays(place: Placement, unit: int) -> Iterator[Left]:
    """Why a unit stays, seen from where everything else is in the end."""
    fleet = place.fleet
    if unit in fleet.barred:
        code, why = fleet.barred[unit]
        yield from lefts(fleet, unit, code, why, _unbar(code))
        return
    allowed = fleet.allowed[fleet.look[unit]].copy()
    allowed[place.at[unit]] = False
    if not allowed.any():
        yield from lefts(fleet, unit, "no-host", *no_host(fleet, unit))
        return
    free = place.open_to(unit) | (place.closed & allowed)
    free &= _clear(place, unit, allowed)
    if not free.any():
        names = [fleet.aparts[rule].name for rule in fleet.rules_of.get(unit, ())]
        why = f"rule {listed(names)} keeps it off every host that it could be on"
        yield from lefts(fleet, unit, "rule", why, "a host more that it may be on")
        return
    hosts = np.flatnonzero(free)
    why = f"none of the {len(hosts)} hosts that may take it has {amount(*fleet.need[:, unit])} free under its ceiling"
    yield from lefts(fleet, unit, "no-room", why, _more(place, unit, hosts))


def _clear(place: Placement, unit: int, allowed: Ints) -> Ints:
    mask = np.zeros(len(place.fleet.hosts), dtype=bool)
    if unit not in place.fleet.rules_of:
        return allowed
    for host in np.flatnonzero(allowed).tolist():
        mask[host] = place.clear_of_rules(unit, host)
    return mask


def _unbar(code: str) -> str:
    return {
        "pinned": "take the pin away",
        "excluded": "let it be moved",
        "host-away": "wait until its host gives guests again",
    }[code]


def _more(place: Placement, unit: int, hosts: Ints) -> str:
    """The least that is missing on a host, and where."""
    fleet = place.fleet
    short = np.maximum(0, fleet.need[:, [unit]] - place.slack[:, hosts])
    scale = np.where(fleet.known[:, hosts], fleet.room[:, hosts], 1)
    weight = (short / scale).sum(axis=0)
    best = int(np.argmin(weight))
    same = hosts[weight <= weight[best] * 1.05 + SLIP]
    cpu, mib = (float(short[r][np.isin(hosts, same)].max()) for r in (CPU, MEMORY))
    names = [fleet.hosts[host].name for host in same.tolist()]
    return f"{amount(cpu, mib)} more on {'any of ' if len(names) > 1 else ''}{', '.join(names[:SHOWN])}"


def no_host(fleet: Fleet, unit: int) -> tuple[str, str]:
    """Why not even an empty host may take a unit, and what would help: the first demand that leaves none."""
    here = int(fleet.start[unit])
    kind = fleet.hosts[here].kind
    guests = [fleet.guests[n] for n in fleet.members[unit]]
    wants = {label: value for guest in guests for label, value in guest.requires.items()}

    def others(*demands: str) -> list[HostSpec]:
        return [
            host
            for n, host in enumerate(fleet.hosts)
            if n != here
            and not fleet.drained[n]
            and ("kind" not in demands or host.kind == kind)
            and ("labels" not in demands or all(host.labels.get(label) == value for label, value in wants.items()))
            and ("takes" not in demands or fleet.takes[n])
        ]

    text = ", ".join(f"{label}={value}" for label, value in sorted(wants.items()))
    if not others("kind"):
        return f"there is no other host of kind {kind or 'unknown'}", "add one"
    if not others("kind", "labels"):
        return f"no other host has {text}", f"give a host {text}"
    closed = [host for host in others("kind", "labels") if host not in others("kind", "labels", "takes")]
    if not others("kind", "labels", "takes"):
        names = [f"{host.name} ({host.why})" if host.why else host.name for host in closed]
        return f"no host that could have it takes guests: {listed(names)}", f"let {closed[0].name} take guests"
    return "an among rule leaves it no host that takes guests", "widen the rule's parts"
