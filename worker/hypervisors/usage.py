"""What a host has for guests, and what these use of it: one look, from which rates follow (``worker/loads.py``)."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
OVERHEAD_BYTES, OVERHEAD_SHARE = 96 * MIB, 1 / 512
"""What a hypervisor takes for a guest besides the guest's memory: its process, video memory and threads, and page
tables. KubeVirt's ``GetMemoryOverhead`` counts the same parts (30 + 16 MiB, 8 MiB for each thread, 1/512)."""


@dataclass(frozen=True, slots=True)
class GuestUsage:
    """One guest that runs or is paused."""

    uuid: str
    cpu_seconds: float | None
    """CPU time since it was started or arrived: it begins anew on each host. ``None`` where it is not told."""
    memory_bytes: int
    """What it occupies, overhead included."""
    dirty_bytes_per_second: float = 0.0
    """How fast it writes memory; 0 where nobody has measured it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One look at a host."""

    at: float
    """When, in seconds of this process's monotonic clock."""
    cpus: float
    """Logical CPUs."""
    memory_bytes: int
    """What the host has; what it needs itself is not taken off."""
    guests: tuple[GuestUsage, ...] = ()


def occupied(memory_bytes: int) -> int:
    """An estimate of what a guest with so much memory takes from its host."""
    return memory_bytes + OVERHEAD_BYTES + int(memory_bytes * OVERHEAD_SHARE)
