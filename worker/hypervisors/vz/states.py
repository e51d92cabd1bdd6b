"""What an SDK state says about a domain."""

from __future__ import annotations

from worker.hypervisors.base import DomainState
from worker.hypervisors.vz.sdk import VmState

STEADY = (VmState.RUNNING, VmState.PAUSED)
"""States from which a live migration can start."""
STOPPED = (VmState.STOPPED, VmState.SUSPENDED, VmState.MOUNTED, VmState.COMPACTING, VmState.DELETING)

_STATES = {
    VmState.UNKNOWN: DomainState.UNKNOWN,
    VmState.RECONNECTING: DomainState.UNKNOWN,
    VmState.PAUSED: DomainState.PAUSED,
    VmState.MIGRATING: DomainState.MIGRATING,
    **dict.fromkeys(STOPPED, DomainState.SHUTOFF),
}


def domain_state(state: VmState) -> DomainState:
    """The domain's state. A guest between two states still has a process: it counts as running."""
    return _STATES.get(state, DomainState.RUNNING)
