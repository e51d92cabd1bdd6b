"""The faults on real hosts: processes that are killed, and cables that are cut for a while."""

from __future__ import annotations

import time

from chaos.cells import Cell
from chaos.faults import kill
from chaos.libvirt_cells import Trouble
from chaos.libvirt_lab import command
from chaos.libvirt_stage import LibvirtStage
from chaos.moments import Walk
from chaos.stage import LEASE_SECONDS, Guest, NotReached, until

LINK_SECONDS = 3.0
REDIS_LINK_SECONDS = 2 * LEASE_SECONDS + 1
"""So long that the lease lapses and the scheduler believes it: the attempt is taken from an agent that lives."""


def killed(stage: LibvirtStage, trouble: str) -> tuple[str, ...]:
    """The processes, by the keeper's names, that a trouble kills; none for those that kill no such process."""
    source, destination = stage.hosts
    return {
        Trouble.SOURCE_AGENT: (stage.process(source),),
        Trouble.DESTINATION_AGENT: (stage.process(destination),),
        Trouble.BOTH_AGENTS: (stage.process(source), stage.process(destination)),
        Trouble.SOURCE_LIBVIRTD: (stage.host_process(source),),
        Trouble.DESTINATION_LIBVIRTD: (stage.host_process(destination),),
        Trouble.SCHEDULER: ("scheduler",),
        Trouble.REDIS: ("redis",),
    }.get(Trouble(trouble), ())


def strike(stage: LibvirtStage, guest: Guest, cell: Cell, walk: Walk) -> float:
    """Let the cell's fault happen where the walk stands, and everything else go on.

    Returns the fault's end (monotonic clock): when the last killed process was started again, QEMU was killed,
    or the cable was whole again.
    """
    if names := killed(stage, cell.fault):
        return kill(stage, names, walk.go_on)
    source, destination = stage.hosts
    match cell.fault:
        case Trouble.SOURCE_QEMU:
            return _kill_guest(stage, guest, source, walk)
        case Trouble.DESTINATION_QEMU:
            return _kill_guest(stage, guest, destination, walk)
        case Trouble.LINK:
            return _cut_link(stage, destination, walk)
        case Trouble.SOURCE_REDIS_LINK:
            return _cut_wire(stage, source, walk)
        case Trouble.DESTINATION_REDIS_LINK:
            return _cut_wire(stage, destination, walk)
    raise NotReached(f"nobody knows how to do {cell.fault}")


def _kill_guest(stage: LibvirtStage, guest: Guest, host: str, walk: Walk) -> float:
    found = stage.machines[host].guests(guest.name)
    if not found:
        raise NotReached(f"{host} has no process of {guest.name} to kill")
    for process in found:
        process.kill()
    until(lambda: not stage.machines[host].guests(guest.name), "the guest's process has ended")
    ended = time.monotonic()
    walk.go_on()
    return ended


def _cut_link(stage: LibvirtStage, host: str, walk: Walk) -> float:
    command("link", stage.lab, host, "cut")
    try:
        walk.go_on()
        time.sleep(LINK_SECONDS)
    finally:
        command("link", stage.lab, host, "heal")
    return time.monotonic()


def _cut_wire(stage: LibvirtStage, host: str, walk: Walk) -> float:
    wire = stage.wires[host]
    wire.cut()
    try:
        walk.go_on()
        time.sleep(REDIS_LINK_SECONDS)
    finally:
        wire.heal()
    return time.monotonic()
