"""How long a migration may take: the model of iterative pre-copy.

Each round sends what the guest wrote during the one before: with memory M, a link that carries R for this migration and
a guest that writes D, round i sends M (D/R)^i, until the rest fits into the allowed pause (C. Clark et al., "Live
Migration of Virtual Machines", NSDI 2005, section 3; the closed form: H. Liu et al., "Performance and Energy Modeling
for Live Migration of Virtual Machines", HPDC 2011, section 3.1).
"""

from __future__ import annotations

from worker.contract.plans import GuestSpec, HostSpec

SETUP_SECONDS = 5.0
"""Begin, prepare, the switch, finish and confirm."""
PAUSE_SECONDS = 0.3
"""What is left is sent with the guest stopped as soon as that takes no longer (libvirt's default downtime)."""
MOST_DIRTY = 0.9
"""A guest that writes as fast as the link carries is slowed down (auto-converge): it counts as writing so much."""


def seconds(memory_mib: float, dirty_mib_per_second: float, link_mib_per_second: float) -> float:
    """Expected seconds of one migration that has ``link_mib_per_second`` for itself.

    Never falls with more memory or a higher dirty rate, never rises with a faster link, and is at most
    ``SETUP_SECONDS`` and ten times what the memory alone takes to send.
    """
    ratio = min(dirty_mib_per_second / link_mib_per_second, MOST_DIRTY)
    rest = min(memory_mib, link_mib_per_second * PAUSE_SECONDS)
    return SETUP_SECONDS + ((memory_mib - rest) / (1 - ratio) + rest) / link_mib_per_second


def link_share(source: HostSpec, destination: HostSpec) -> float:
    """MiB/s that one migration gets between two hosts while each of them sends or receives all that it may at once."""

    def share(host: HostSpec) -> float:
        return host.mib_per_second / max(host.max_outgoing, host.max_incoming, 1)

    return min(share(source), share(destination))


def expected(guest: GuestSpec, source: HostSpec, destination: HostSpec) -> float:
    """Expected seconds of moving ``guest`` between two hosts that are busy with other migrations, too."""
    return seconds(guest.memory_mib, guest.dirty_mib_per_second, link_share(source, destination))
