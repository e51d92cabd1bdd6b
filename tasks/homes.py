"""Who is to be brought home when a host is returned to, and who is not: somebody has moved it since."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.journal.batch import Batch
from worker.journal.cordons import Home
from worker.runtime import Runtime

MOVED = "moved-since"


@dataclass(frozen=True, slots=True)
class Homecoming:
    """What a return does about the guests that belong to its hosts."""

    targets: dict[str, str] = field(default_factory=dict)
    """The uuid of each guest that is where its drain sent it, and its home."""
    left: tuple[dict[str, Any], ...] = ()
    """``Left`` documents of those that are not."""
    over: tuple[str, ...] = ()
    """The uuids of those that have no home any more: moved since, at home already, or gone."""


def homecoming(homes: Iterable[Home], places: Mapping[str, Collection[str]]) -> Homecoming:
    """Judge each home by the hosts that show its guest now. Pure.

    A guest that is elsewhere was moved by somebody's own hand, who had a reason: it stays there.
    """
    targets: dict[str, str] = {}
    left: list[dict[str, Any]] = []
    over: list[str] = []
    for home in homes:
        there = places.get(home.uuid, ())
        if home.to in there:
            targets[home.uuid] = home.host
            continue
        over.append(home.uuid)
        if there and home.host not in there:
            left.append(
                {
                    "guest": home.uuid,
                    "domain": home.domain,
                    "host": min(there),
                    "code": MOVED,
                    "why": f"the drain sent it to {home.to}, and somebody has moved it since",
                    "unblock": f"vmrelay migrate {home.domain} {home.host}",
                }
            )
    return Homecoming(targets, tuple(left), tuple(over))


def coming_home(parts: Runtime, batch: Batch) -> Homecoming:
    """The same for a return, by what agents have published; who has no home any more is forgotten."""
    places: dict[str, set[str]] = {}
    for host, seen in parts.journal.seen(parts.inventory).items():
        for domain in seen["domains"]:
            places.setdefault(str(domain["uuid"]), set()).add(host)
    found = homecoming(parts.journal.homes(*batch.hosts), places)
    parts.journal.forget_homes(*found.over)
    before = tuple(left for left in batch.left if left["code"] == MOVED)
    return Homecoming(found.targets, (*before, *found.left), found.over)
