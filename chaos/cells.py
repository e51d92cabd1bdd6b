"""The matrix as data: what is done, at which moment of which hop, to which guest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

ENTRY = "entry"
PHASES = ("begin", "prepare", "perform", "finish", "confirm")
HOPS = (ENTRY, *PHASES)
"""Every message of a migration: to the scheduler, then one for each phase."""


class When(StrEnum):
    """A moment of a phase."""

    BEFORE = "before"
    """Its message is in the queue, and nobody has claimed it."""
    DURING = "during"
    """It is claimed, and the hypervisor is at it."""
    AFTER = "after"
    """Its result is journaled; the next phase's message is in the hands of an agent that has not claimed it."""


class Fault(StrEnum):
    """What goes wrong. The libvirt matrix has others as well."""

    SOURCE_AGENT = "source-agent"
    DESTINATION_AGENT = "destination-agent"
    BOTH_AGENTS = "both-agents"
    SCHEDULER = "scheduler"
    REDIS = "redis"
    SOURCE_HOST = "source-host"
    DESTINATION_HOST = "destination-host"
    REDIS_LOST_SECOND = "redis-lost-second"
    """Redis is killed, and what it wrote since the transition before is gone."""
    REDIS_LOST_ALL = "redis-lost-all"
    """The same, and all that Redis wrote since the request lay in the scheduler's queue is gone."""
    DUPLICATE = "duplicate"
    """A hop's message is delivered twice: at once, while the phase runs, after the migration's end."""
    LOSS = "loss"
    """A hop's message is gone from the queue."""


KILLS = (
    Fault.SOURCE_AGENT,
    Fault.DESTINATION_AGENT,
    Fault.BOTH_AGENTS,
    Fault.SCHEDULER,
    Fault.REDIS,
    Fault.SOURCE_HOST,
    Fault.DESTINATION_HOST,
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One case."""

    fault: str
    hop: str
    when: str
    extra: str = ""
    """``cancel``: somebody cancels just before; ``paused``: its user had paused the guest."""
    then: str = ""
    """A second fault, which strikes when the recovery from the first one begins."""

    @property
    def name(self) -> str:
        """As ``--only`` takes it: ``source-agent/perform/during``, ``redis/finish/before+cancel``, ``…+then-redis``."""
        more = "".join(f"+{word}" for word in (self.extra, self.then and f"then-{self.then}") if word)
        return f"{self.fault}/{self.hop}/{self.when}{more}"


def grid(faults: Sequence[str], extra: str = "") -> Iterator[Cell]:
    """Each fault before, during and after each phase."""
    for fault in faults:
        for phase in PHASES:
            for when in When:
                yield Cell(fault, phase, when, extra)


def simulated() -> list[Cell]:
    """The matrix on simulated hosts."""
    cells = list(grid((*KILLS, Fault.REDIS_LOST_SECOND)))
    cells += [Cell(Fault.REDIS_LOST_ALL, phase, when) for phase in PHASES[2:] for when in When]
    cells += [Cell(Fault.DUPLICATE, hop, when) for hop in HOPS for when in When]
    cells += [Cell(Fault.LOSS, hop, When.BEFORE) for hop in HOPS]
    cells += [Cell(Fault.SCHEDULER, ENTRY, when) for when in (When.BEFORE, When.AFTER)]
    cells += [Cell(fault, "perform", When.DURING, "cancel") for fault in KILLS]
    cells += [Cell(fault, "perform", When.DURING, "paused") for fault in KILLS]
    cells += [Cell(fault, "finish", When.BEFORE, "paused") for fault in KILLS[:3]]
    cells += [Cell(Fault.SOURCE_AGENT, "perform", When.DURING, then=then) for then in (*KILLS, "duplicate", "loss")]
    cells += [Cell(Fault.BOTH_AGENTS, "finish", When.DURING, then=then) for then in (*KILLS, "duplicate", "loss")]
    cells += [Cell(Fault.SOURCE_HOST, "perform", When.DURING, then=then) for then in KILLS[:3]]
    return cells


SLICE = (
    "source-agent/perform/during",
    "destination-agent/prepare/during",
    "both-agents/finish/before",
    "scheduler/prepare/before",
    "redis/perform/during",
    "redis/confirm/after",
    "source-host/perform/during",
    "destination-host/finish/during",
    "redis-lost-second/perform/after",
    "duplicate/perform/during",
    "loss/finish/before",
    "source-agent/perform/during+cancel",
)
"""A dozen for a first look; the tests run some of them."""


def chosen(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells whose names match one of the patterns (``*`` and ``?`` as in a shell); all where none is given."""
    if not patterns:
        return list(cells)
    return [cell for cell in cells if any(fnmatchcase(cell.name, pattern) for pattern in patterns)]
