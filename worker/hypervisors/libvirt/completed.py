"""What the jobs that ended on a host measured, as its daemon told them at their end.

Of a migration that switched to post-copy the destination has no statistics: those travel in the cookie of
perform, which had ended before there were any. The source's daemon tells them in an event when confirm lets
go of the guest, also of one that it forgets then.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import libvirt

from worker.hypervisors.base import Measured
from worker.hypervisors.libvirt.states import measured

KEPT = 256
"""Of so many guests the last job is kept: more than leave a host at once."""
WAIT_SECONDS = 1.0
"""How long an event may come after the answer of the call that it is about."""


class Completed:
    """The last good outgoing migration of each guest that left this host, as long as anybody may ask for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: OrderedDict[str, Measured] = OrderedDict()

    def heard(
        self, _connection: libvirt.virConnect, domain: libvirt.virDomain, stats: Mapping[str, Any], _data: object
    ) -> None:
        """Take what ``VIR_DOMAIN_EVENT_ID_JOB_COMPLETED`` tells; called by libvirt's event loop."""
        outgoing = stats.get(libvirt.VIR_DOMAIN_JOB_OPERATION) == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
        if not outgoing or not stats.get(libvirt.VIR_DOMAIN_JOB_SUCCESS, True):
            return
        with self._changed:
            self._jobs[domain.UUIDString()] = measured(stats)
            if len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)
            self._changed.notify_all()

    def forget(self, uuid: str) -> None:
        """A new migration of this guest begins: what an earlier one measured says nothing of it."""
        with self._changed:
            self._jobs.pop(uuid, None)

    def of(self, uuid: str) -> Measured:
        """What the migration that has just ended measured; nothing where the event does not come in time."""
        with self._changed:
            self._changed.wait_for(lambda: uuid in self._jobs, WAIT_SECONDS)
            return self._jobs.get(uuid, Measured())
