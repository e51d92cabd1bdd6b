"""The matrix on real libvirt and QEMU as data: what is killed or cut, at which moment, and what must come of it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from chaos.cells import Cell, When


class Trouble(StrEnum):
    """What goes wrong."""

    SOURCE_AGENT = "source-agent"
    DESTINATION_AGENT = "destination-agent"
    BOTH_AGENTS = "both-agents"
    SOURCE_LIBVIRTD = "source-libvirtd"
    DESTINATION_LIBVIRTD = "destination-libvirtd"
    SOURCE_QEMU = "source-qemu"
    """The guest's own process on its source."""
    DESTINATION_QEMU = "destination-qemu"
    """The process on the destination that receives the guest, or runs it already."""
    LINK = "link"
    """Nothing passes between the two hosts for a while."""
    SOURCE_REDIS_LINK = "source-redis-link"
    """Nothing passes between the source's agent and Redis, for longer than its lease lasts."""
    DESTINATION_REDIS_LINK = "destination-redis-link"
    SCHEDULER = "scheduler"
    REDIS = "redis"


class End(StrEnum):
    """Where the guest may be when all is over."""

    ONE_PLACE = "one-place"
    """It runs on one host, the same run as before: on the destination where the migration succeeded."""
    DIED = "died"
    """It was killed before its destination had all of it: it runs nowhere, its definition is on the source."""
    DIED_THERE = "died-there"
    """It had moved, and was killed where it ran: its definition is on the destination."""


AGENTS = (Trouble.SOURCE_AGENT, Trouble.DESTINATION_AGENT, Trouble.BOTH_AGENTS)
DAEMONS = (Trouble.SOURCE_LIBVIRTD, Trouble.DESTINATION_LIBVIRTD)
GUESTS = (Trouble.SOURCE_QEMU, Trouble.DESTINATION_QEMU)
REDIS_LINKS = (Trouble.SOURCE_REDIS_LINK, Trouble.DESTINATION_REDIS_LINK)
BEFORE, DURING, AFTER = When
PEER_TO_PEER = "p2p"
"""Added to a cell's name: the source's daemon moves the guest by itself, all of it within perform."""

MOMENTS: dict[tuple[Trouble, ...], tuple[tuple[str, When], ...]] = {
    AGENTS: (
        ("begin", DURING),
        ("prepare", DURING),
        ("perform", BEFORE),
        ("perform", DURING),
        ("perform", AFTER),
        ("finish", DURING),
        ("finish", AFTER),
        ("confirm", DURING),
    ),
    DAEMONS: (
        ("begin", DURING),
        ("prepare", DURING),
        ("perform", BEFORE),
        ("perform", DURING),
        ("perform", AFTER),
        ("finish", DURING),
        ("finish", AFTER),
        ("confirm", DURING),
    ),
    (Trouble.SOURCE_QEMU,): (
        ("prepare", AFTER),
        ("perform", DURING),
        ("perform", AFTER),
        ("finish", DURING),
        ("finish", AFTER),
    ),
    (Trouble.DESTINATION_QEMU,): (
        ("prepare", AFTER),
        ("perform", DURING),
        ("perform", AFTER),
        ("finish", DURING),
        ("finish", AFTER),
    ),
    (Trouble.LINK,): (("perform", BEFORE), ("perform", DURING)),
    REDIS_LINKS: (("perform", DURING), ("perform", AFTER), ("finish", DURING), ("confirm", DURING)),
    (Trouble.SCHEDULER,): (("perform", DURING), ("perform", AFTER), ("finish", DURING)),
    (Trouble.REDIS,): (("perform", DURING), ("perform", AFTER), ("finish", DURING), ("confirm", DURING)),
}
"""When each trouble strikes: where the hypervisors are at it, or a guest stands still and waits for the next phase."""


def libvirt() -> list[Cell]:
    """The matrix."""
    cells = list(_grid())
    cells += [Cell(trouble, "perform", DURING, "cancel") for trouble in (*AGENTS, *DAEMONS)]
    cells += [Cell(trouble, "perform", DURING, PEER_TO_PEER) for trouble in (*AGENTS, *DAEMONS, *GUESTS, Trouble.LINK)]
    cells += [Cell(Trouble.SOURCE_AGENT, "perform", DURING, then=then) for then in DAEMONS]
    cells += [Cell(Trouble.BOTH_AGENTS, "finish", DURING, then=then) for then in DAEMONS]
    return cells


def _grid() -> Iterator[Cell]:
    for troubles, moments in MOMENTS.items():
        for trouble in troubles:
            yield from (Cell(trouble, phase, when) for phase, when in moments)


SLICE = (
    "both-agents/perform/after",
    "destination-agent/finish/during",
    "source-libvirtd/perform/during",
    "source-redis-link/perform/after",
)
"""A few for a first look; the tests run some of them."""


def end_of(cell: Cell) -> End:
    """What must come of a cell."""
    performed = cell.hop in ("finish", "confirm") or (cell.hop, cell.when) == ("perform", AFTER)
    if cell.fault == Trouble.SOURCE_QEMU and not performed:
        return End.DIED
    moved = cell.hop == "confirm" or (cell.hop, cell.when) == ("finish", AFTER)
    return End.DIED_THERE if cell.fault == Trouble.DESTINATION_QEMU and moved else End.ONE_PLACE
