"""What one plan does otherwise than another. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from worker.cli import plan_words
from worker.cli.words import clean, many
from worker.contract.plans import Plan, Step

POINT = 0.01
"""A host whose load after the plans differs by less counts as the same."""


@dataclass(frozen=True, slots=True)
class Journey:
    """From where to where a plan takes a guest, by whatever way."""

    domain: str
    source: str
    destination: str
    gib: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Two plans side by side."""

    figures: tuple[tuple[str, str, str], ...]
    """What, in the old plan, in the new one; only what differs."""
    dropped: tuple[Journey, ...]
    added: tuple[Journey, ...]
    elsewhere: tuple[tuple[Journey, str], ...]
    """Guests that go somewhere else: as in the new plan, and where the old one took them."""
    same: int
    """Guests that both take to the same host."""
    hosts: tuple[tuple[str, str, str], ...]
    """Hosts that end otherwise: name, load in the old plan, load in the new one."""

    @property
    def none(self) -> bool:
        """Whether both do the same."""
        return not (self.dropped or self.added or self.elsewhere)

    def document(self) -> dict[str, Any]:
        """As programs read it."""

        def told(journeys: Iterable[Journey]) -> list[dict[str, Any]]:
            return [
                {"domain": each.domain, "source": each.source, "destination": each.destination, "gib": each.gib}
                for each in journeys
            ]

        return {
            "same": self.same,
            "added": told(self.added),
            "dropped": told(self.dropped),
            "elsewhere": [told([new])[0] | {"destination_before": old} for new, old in self.elsewhere],
            "figures": {name: {"old": old, "new": new} for name, old, new in self.figures},
            "hosts": {name: {"old": old, "new": new} for name, old, new in self.hosts},
        }


def journeys(steps: Iterable[Step]) -> dict[str, Journey]:
    """Where each guest ends that a plan moves, by its id; one that ends where it began is left out."""
    found: dict[str, Journey] = {}
    for step in steps:
        source = found[step.guest].source if step.guest in found else step.source
        found[step.guest] = Journey(step.domain, source, step.destination, step.memory_mib / 1024)
    return {guest: journey for guest, journey in found.items() if journey.source != journey.destination}


def difference(old: Plan, new: Plan) -> Difference:
    """What ``new`` does otherwise than ``old``."""
    was, will = journeys(old.steps), journeys(new.steps)
    both = [guest for guest in will if guest in was]
    moved = [guest for guest in both if will[guest].destination != was[guest].destination]
    return Difference(
        figures=_figures(old, new),
        dropped=tuple(journey for guest, journey in was.items() if guest not in will),
        added=tuple(journey for guest, journey in will.items() if guest not in was),
        elsewhere=tuple((will[guest], was[guest].destination) for guest in moved),
        same=len(both) - len(moved),
        hosts=_hosts(old, new),
    )


FIGURES: tuple[tuple[str, Callable[[Plan], str]], ...] = (
    ("plan", lambda plan: plan.id),
    ("goal", lambda plan: plan_words.wanted(plan.goal, plan.hosts)),
    ("limits", lambda plan: plan_words.limits(plan.goal)),
    ("status", plan_words.status),
    ("moves", lambda plan: str(plan.totals.moves)),
    ("GiB", lambda plan: f"{plan.totals.gib:.1f}"),
    ("time", lambda plan: plan_words.about(plan.totals.seconds)),
    ("hot hosts after", lambda plan: str(plan.totals.hot_after)),
    ("not moved", lambda plan: str(len(plan.left) + len(plan.stuck))),
)


def _figures(old: Plan, new: Plan) -> tuple[tuple[str, str, str], ...]:
    told = ((name, figure(old), figure(new)) for name, figure in FIGURES)
    return tuple(row for row in told if row[1] != row[2])


def _hosts(old: Plan, new: Plan) -> tuple[tuple[str, str, str], ...]:
    was = {host.name: host.after for host in old.hosts}
    rows = []
    for host in new.hosts:
        before = was.get(host.name)
        if before is None:
            rows.append((host.name, "-", _load(host.after.cpu, host.after.memory)))
        elif max(abs(before.cpu - host.after.cpu), abs(before.memory - host.after.memory)) >= POINT:
            rows.append((host.name, _load(before.cpu, before.memory), _load(host.after.cpu, host.after.memory)))
    names = {host.name for host in new.hosts}
    rows += [(name, _load(load.cpu, load.memory), "-") for name, load in was.items() if name not in names]
    return tuple(rows)


def _load(cpu: float, memory: float) -> str:
    return f"cpu {100 * cpu:.0f} %, memory {100 * memory:.0f} %"


def lines(found: Difference, arrow: str) -> list[str]:
    """The difference for people: ``-`` is only in the old plan, ``+`` only in the new one, ``~`` goes elsewhere."""
    told = [f"{name}: {old} {arrow} {new}" for name, old, new in found.figures]
    told += [f"- {_journey(each, arrow)}" for each in found.dropped]
    told += [f"+ {_journey(each, arrow)}" for each in found.added]
    told += [f"~ {_journey(each, arrow)} (before: {old})" for each, old in found.elsewhere]
    told += [f"host {name}: {old} {arrow} {new}" for name, old, new in found.hosts]
    return [*told, f"as before: {many(found.same, 'guest')}" if not found.none else "the moves are the same"]


def _journey(journey: Journey, arrow: str) -> str:
    return f"{clean(journey.domain)}: {journey.source} {arrow} {journey.destination}, {journey.gib:.1f} GiB"
