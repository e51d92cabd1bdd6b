"""What waits on the destination and was prepared over another connection: its end is waited for, nothing else.

libvirtd carries the calls of a process that died to their end, and destroys then what that one had prepared: a
quarter of a second later (libvirt 9.0.0). Until then a second finish may come beside the first one, and the
daemon dies of that (seen with 9.0.0).
"""

from __future__ import annotations

import time

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import DomainState, Move, Progress, Watch
from worker.hypervisors.libvirt.host import Host
from worker.hypervisors.libvirt.states import Job

FOREIGN_SECONDS = 10.0
"""Whoever still holds it then lives."""


def wait_for_others(host: Host, move: Move, watch: Watch) -> None:
    """Return when no incoming migration of this guest is under way here any more.

    A guest that runs already and fetches its memory (post-copy) is waited for as long as it takes, one that cannot
    any more is not. Raises VERIFY where one that stands still is held on to.
    """
    deadline = time.monotonic() + FOREIGN_SECONDS
    while host.job(move.uuid) is Job.IN:
        state = host.inspect(move.uuid).state
        if state is DomainState.UNKNOWN:  # post-copy that failed: nothing comes to an end there
            return
        fetching = state is DomainState.MIGRATING
        if fetching:
            deadline = time.monotonic() + FOREIGN_SECONDS
        if time.monotonic() > deadline:
            raise HypervisorError(
                f"{move.domain} waits on {host.name} for another process that prepared it there, and only that one "
                "may finish it; end that process, then look at both hosts",
                code="VIR_ERR_OPERATION_INVALID",
                retry=Retry.VERIFY,
                after=Retry.OPERATOR,
            )
        watch.progress(Progress(postcopy=fetching, description=f"waiting for what another process left on {host.name}"))
        time.sleep(host.config.poll_seconds)


def gone(host: Host, move: Move, failure: HypervisorError) -> HypervisorError:
    """The error of a finish that found nothing: another attempt may go well, once the source was looked at."""
    return HypervisorError(
        f"nothing of {move.destination_name} is left on {host.name} that could be finished: what waits for a guest "
        f"goes with the connection of the agent that prepared it, with its QEMU or its daemon ({failure.message})",
        code=failure.code,
        retry=Retry.VERIFY,
        after=Retry.TRANSIENT,
        tries=failure.tries,
    )
