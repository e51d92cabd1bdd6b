"""One libvirt host: its connection, its domains, and what is done to a copy of a guest outside the phases."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict

import libvirt

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import Domain, DomainState, Finished, HostConfig, Move, Watch
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.libvirt.completed import Completed
from worker.hypervisors.libvirt.connection import Connection
from worker.hypervisors.libvirt.errors import calling, refused
from worker.hypervisors.libvirt.states import Job, emptied, job_of, look, measured, occupied
from worker.hypervisors.params import TypedParam, typed_params
from worker.hypervisors.retry import with_retries

log = logging.getLogger(__name__)

_OCCUPIED = "VIR_ERR_OPERATION_TIMEOUT"
SETTLING_SECONDS = 5.0
"""How long a look waits for a daemon that was restarted (some 20 ms for each guest, unless its QEMU hangs)."""
EXECUTING = (DomainState.RUNNING, DomainState.MIGRATING)
_STILL = (
    DomainState.PAUSED,
    DomainState.PAUSED_OUT,
    DomainState.SHUTOFF,
    DomainState.CRASHED,
)
# Kept, so that a finish that is repeated, or somebody else, can still read them.
_COMPLETED = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
_METADATA = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
# The other host's copy uses the same NVRAM and TPM state where storage is shared.
_FORGET = {
    "qemu": _METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
}


class Host:
    """A host as its domains and its connection. Every method raises ``HypervisorError``."""

    def __init__(self, config: HostConfig) -> None:
        self.config = config
        self.completed = Completed()
        self._settled: tuple[libvirt.virConnect | None, set[str]] = (None, set())
        """The connection, and the domains that were seen at rest over it."""
        self.connection = Connection(config.name, config.uri, self.completed.heard)

    @property
    def name(self) -> str:
        """The host's name in the inventory."""
        return self.config.name

    @property
    def profile(self) -> str:
        """The flag profile of what answers at the URI."""
        return self.connection.profile

    def connected(self, watch: Watch, *, stoppable: bool = True) -> libvirt.virConnect:
        """The living connection; waits through transient errors."""
        return with_retries(self.config.retry, watch, self.connection.get, stoppable=stoppable)[0]

    def find(self, uuid: str) -> tuple[libvirt.virDomain | None, int]:
        """The domain, if it is here, and the generation of the connection that found it."""
        connection, generation = self.connection.get()
        try:
            return calling(lambda: connection.lookupByUUIDString(uuid), effect=False), generation
        except HypervisorError as failure:
            if failure.code != "VIR_ERR_NO_DOMAIN":
                raise
        return None, generation

    def get(self, uuid: str) -> tuple[libvirt.virDomain, int]:
        """``find``, for a domain that must be here."""
        domain, generation = self.find(uuid)
        if domain is None:
            raise refused(f"no domain with uuid {uuid} on host {self.name}", code="VIR_ERR_NO_DOMAIN")
        self._settle(domain)
        return domain, generation

    def look(self, domain: libvirt.virDomain, patience: float = SETTLING_SECONDS) -> Domain | None:
        """One look at a domain, or ``None`` where it has gone meanwhile.

        Raises (TRANSIENT) where a daemon that was restarted does not know yet what has become of the domain.
        """
        try:
            self._settle(domain, patience)
            return calling(lambda: look(domain), effect=False)
        except HypervisorError as failure:
            if failure.code != "VIR_ERR_NO_DOMAIN":
                raise
        return None

    def _settle(self, domain: libvirt.virDomain, patience: float = SETTLING_SECONDS) -> None:
        """Wait until the daemon has connected to the guest: once for each connection, none outlives its daemon."""
        connection, uuid = domain.connect(), domain.UUIDString()
        if self._settled[0] is not connection:
            self._settled = connection, set()
        settled = self._settled[1]
        if uuid in settled:
            return
        deadline = time.monotonic() + patience
        while calling(lambda: occupied(domain), effect=False):
            if time.monotonic() >= deadline:
                raise HypervisorError(
                    f"the libvirt daemon of host {self.name} is still occupied with {domain.name()}, so what it "
                    "shows may be old; if it stays so, see whether the guest's QEMU hangs",
                    code=_OCCUPIED,
                    retry=Retry.TRANSIENT,
                    untouched=True,
                )
            time.sleep(0.01)
        settled.add(uuid)

    def inspect(self, uuid: str) -> Domain:
        """A fresh look at one domain; state ``ABSENT`` where there is none."""
        domain, _ = self.find(uuid)
        seen = self.look(domain) if domain is not None else None
        return seen or Domain(name="", uuid=uuid, state=DomainState.ABSENT, persistent=False)

    def job(self, uuid: str) -> Job:
        """The migration job of a domain; none where there is no domain."""
        domain, _ = self.find(uuid)
        try:
            return Job.NONE if domain is None else calling(lambda: job_of(domain), effect=False)
        except HypervisorError as failure:
            if failure.code != "VIR_ERR_NO_DOMAIN":
                raise
        return Job.NONE

    def was_killed(self, uuid: str) -> bool:
        """Whether the daemon itself ended a guest that it found unfit to run on when it was started."""
        domain, _ = self.find(uuid)
        killed = [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DAEMON]
        return domain is not None and calling(domain.state, effect=False) == killed

    def domains(self) -> list[Domain]:
        """All domains of this host (``virConnectListAllDomains``)."""
        connection, _ = self.connection.get()
        seen = (self._glance(domain) for domain in calling(connection.listAllDomains, effect=False))
        return [domain for domain in seen if domain is not None]

    def _glance(self, domain: libvirt.virDomain) -> Domain | None:
        """A look that waits for nothing, so that one guest does not hide the others."""
        try:
            return self.look(domain, patience=0)
        except HypervisorError as failure:
            if failure.code != _OCCUPIED:
                raise
        return Domain(domain.name(), domain.UUIDString(), DomainState.UNKNOWN)

    def abort(self, uuid: str) -> None:
        """Abort a running perform (``virDomainAbortJob``). Harmless when there is none."""
        domain, _ = self.find(uuid)
        if domain is None:
            return
        seen = self.look(domain)
        # On the destination libvirt would wait thirty seconds for a lock, in vain.
        if seen is None or seen.state is DomainState.PAUSED_IN:
            return
        try:
            calling(domain.abortJob, effect=False)
        except HypervisorError as failure:
            if failure.code not in ("VIR_ERR_OPERATION_INVALID", "VIR_ERR_NO_DOMAIN"):
                raise

    def resume(self, uuid: str) -> Domain:
        """Let a paused domain run here (``virDomainResume``). The caller has looked at the other side."""
        domain, _ = self.get(uuid)
        if calling(lambda: look(domain), effect=False).state not in EXECUTING:
            calling(domain.resume, effect=True)
        return self.inspect(uuid)

    def remove(self, uuid: str) -> None:
        """Destroy and forget this host's copy; its NVRAM and TPM state stay, the other side may use them."""
        domain, _ = self.find(uuid)
        if domain is None:
            return
        self._end(domain, forget=True)

    def release(self, move: Move) -> Domain:
        """End this host's copy of a guest that was seen on its destination, as confirm would have."""
        self.require_still(move)
        domain, _ = self.find(move.uuid)
        if domain is not None:
            self._end(domain, forget=bool(move.flags & MigrateFlag.UNDEFINE_SOURCE))
        return self.inspect(move.uuid)

    def require_still(self, move: Move) -> None:
        """Raise where this host's copy of the guest may execute, or is not known not to."""
        domain, _ = self.find(move.uuid)
        seen = self.look(domain) if domain is not None else None
        if domain is None or seen is None or seen.state in _STILL:
            return
        if not calling(lambda: emptied(domain), effect=False):
            raise HypervisorError(
                f"{move.domain} is {seen.state} on {self.name}: only a copy that stands still is taken away; "
                "look at both hosts",
                code="VIR_ERR_OPERATION_INVALID",
                retry=Retry.VERIFY,
                after=Retry.OPERATOR,
            )

    def _end(self, domain: libvirt.virDomain, *, forget: bool) -> None:
        """Destroy a domain and, to ``forget`` it, its definition too. Harmless where it has gone meanwhile."""
        try:
            persistent = calling(domain.isPersistent, effect=False)
            active = calling(domain.isActive, effect=False)
            if active:
                calling(domain.destroy, effect=True)
            if (persistent and forget) or not (persistent or active):
                self._forget(domain, persistent=bool(persistent))
        except HypervisorError as failure:
            if failure.code != "VIR_ERR_NO_DOMAIN":
                raise

    def _forget(self, domain: libvirt.virDomain, *, persistent: bool) -> None:
        """Undefine a domain that is shut off.

        A cancelled offline migration leaves one that is neither running nor defined (libvirt 9.0.0), which
        cannot be undefined before it has been defined.
        """
        if not persistent:
            secure = libvirt.VIR_DOMAIN_XML_SECURE
            connection, _ = self.connection.get()
            domain = calling(lambda: connection.defineXML(domain.XMLDesc(secure)), effect=True)
        calling(lambda: domain.undefineFlags(_FORGET.get(self.profile, 0)), effect=True)

    def let_go(self, move: Move) -> Domain:
        """The last look of a source whose guest has moved. Raises where it still has what it should not have."""
        seen = self.inspect(move.uuid)
        kept = seen.state is DomainState.SHUTOFF and not move.flags & MigrateFlag.UNDEFINE_SOURCE
        if not kept and seen.state is not DomainState.ABSENT:
            raise HypervisorError(
                f"{move.domain} is still on {self.name}, and the job that would take it away is gone; "
                "remove it once it is seen to run on its destination",
                code="VIR_ERR_OPERATION_INVALID",
                retry=Retry.VERIFY,
                after=Retry.OPERATOR,
            )
        return seen

    def let_run(self, move: Move) -> Domain:
        """The last look of a source that keeps its guest: what a migration paused is resumed."""
        seen = self.inspect(move.uuid)
        return self.resume(move.uuid) if seen.state is DomainState.PAUSED_OUT else seen

    def arrived(self, move: Move, cookie: bytes = b"") -> Finished:
        """What a finish that went well found. A connection lost since cannot turn it into a failure."""
        expected = Domain(move.destination_name, move.uuid, arriving_state(move))
        try:
            domain, _ = self.get(move.uuid)
            seen = self.look(domain) or expected
        except HypervisorError:
            log.info("host %s: %s arrived; nothing more could be read", self.name, move.destination_name)
            return Finished(expected, cookie)
        try:
            completed = domain.jobStats(_COMPLETED)
        except libvirt.libvirtError:
            completed = {}  # nothing ran that could be measured, or somebody cleared it
        return Finished(seen, cookie, **asdict(measured(completed)))


def arriving_state(move: Move) -> DomainState:
    """The state in which a domain is on its destination when it has moved."""
    if move.flags & MigrateFlag.OFFLINE:
        return DomainState.SHUTOFF
    return DomainState.PAUSED if move.flags & MigrateFlag.PAUSED else DomainState.RUNNING


def has_arrived(seen: Domain, move: Move) -> bool:
    """Whether a destination shows what it shows after a good finish."""
    expected = arriving_state(move)
    if expected is DomainState.SHUTOFF:
        return seen.state is expected and seen.persistent
    return seen.state in EXECUTING or seen.state is expected


def typed(move: Move, **more: str) -> list[TypedParam]:
    """The typed parameters of a call, with those that this call adds."""
    return typed_params({**move.params, **more})
