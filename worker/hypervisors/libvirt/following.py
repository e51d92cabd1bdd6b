"""A move that goes on although the call that started it was lost with its process.

libvirt's daemon carries a perform to its end whoever waits for the answer, and the whole of a peer-to-peer
migration. Its end can be seen: the job of a connection that was closed goes away with the daemon's last work.
"""

from __future__ import annotations

import time

from worker.hypervisors.base import Domain, DomainState, Move, Watch
from worker.hypervisors.libvirt.host import Host
from worker.hypervisors.libvirt.running import Running
from worker.hypervisors.libvirt.states import Job

QUIET_SECONDS = 2.0
"""A paused guest with a job that copies nothing for so long has been copied, and whoever holds the job lives."""


def follow(host: Host, move: Move, watch: Watch) -> Domain:
    """Watch over the move, as over a perform, until the host shows how it ended."""
    domain, _ = host.find(move.uuid)
    if domain is None:
        return host.inspect(move.uuid)
    running = Running(domain, lambda: _ended(host, move.uuid))
    running.watch_over(watch, host.config, move)
    seen = running.result()
    if seen.state is DomainState.PAUSED:
        running.undo()
        seen = host.inspect(move.uuid)
    return seen


def _ended(host: Host, uuid: str) -> Domain:
    """Wait for the end of the move; what the host shows then."""
    quiet = time.monotonic()
    while True:
        seen = host.inspect(uuid)
        if seen.state is DomainState.MIGRATING:
            quiet = time.monotonic()
        elif not _has_job(host, seen) or time.monotonic() - quiet > QUIET_SECONDS:
            return seen
        time.sleep(host.config.poll_seconds)


def _has_job(host: Host, seen: Domain) -> bool:
    """Whether a guest that stands still has an outgoing job: one about to copy, or not quite at its end."""
    paused = seen.state in (DomainState.PAUSED, DomainState.PAUSED_OUT)
    return paused and host.job(seen.uuid) in (Job.OUT, Job.COPYING)
