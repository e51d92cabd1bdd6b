"""A finish that may last: after the switch to post-copy it blocks until all of the guest's memory is there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import libvirt

from worker.hypervisors.base import Progress, Watch
from worker.hypervisors.libvirt.states import postcopy

TELL_SECONDS = 1.0
"""Half of what ``Watch`` wants: looking at the domain may take its time as well."""


def fetched(call: Callable[[], bytes], connection: libvirt.virConnect, uuid: str, host: str, watch: Watch) -> bytes:
    """Make the call in a thread of its own, and tell the watch as long as it lasts; returns what it returns.

    Whatever ``watch`` raises is raised after the call has ended: it is never left behind.
    """
    with ThreadPoolExecutor(1, "libvirt-finish") as pool:
        finishing = pool.submit(call)
        while not wait([finishing], TELL_SECONDS).done:
            watch.progress(_progress(connection, uuid, host))
    return finishing.result()


def _progress(connection: libvirt.virConnect, uuid: str, host: str) -> Progress:
    """Where the guest is. How much is missing only the source knows, which nobody asks here."""
    try:
        runs = postcopy(connection.lookupByUUIDString(uuid))
    except libvirt.libvirtError:
        runs = False  # the call itself tells what happened
    if runs:
        return Progress(postcopy=True, description=f"the guest runs on {host}; fetching the rest of its memory")
    return Progress(description=f"finish on {host} lasts; the guest is not seen to run there yet")
