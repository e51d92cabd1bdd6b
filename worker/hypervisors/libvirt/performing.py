"""What the two ways of moving a guest have in common: the call that copies it, and how that one ends."""

from __future__ import annotations

from collections.abc import Callable

import libvirt

from worker.hypervisors.base import DomainState, Move, Stop, Watch
from worker.hypervisors.libvirt.errors import classed
from worker.hypervisors.libvirt.host import EXECUTING, Host
from worker.hypervisors.libvirt.running import Running
from worker.hypervisors.retry import stopped


def watched(
    host: Host,
    domain: libvirt.virDomain,
    move: Move,
    watch: Watch,
    call: Callable[[], bytes],
    after_failure: Callable[[], None] = lambda: None,
) -> bytes:
    """Make the one call that copies the guest; returns what it returns.

    ``after_failure`` frees what a failed call leaves behind. Raises ``Cancelled`` where the call was aborted
    from here and the domain is seen to live on on its source, and ``HypervisorError`` otherwise.
    """
    running = Running(domain, call)
    stop = running.watch_over(watch, host.config, move)
    try:
        return running.result()
    except libvirt.libvirtError as error:
        failure = classed(error, effect=True)
    after_failure()
    if stop is not None and running.aborted:
        _raise_cancelled(host, move, stop, running.why)
    raise failure


def _raise_cancelled(host: Host, move: Move, stop: Stop, why: str) -> None:
    if host.inspect(move.uuid).state in (*EXECUTING, DomainState.PAUSED):
        raise stopped(stop, why)
