"""The driver of one libvirt host: any URI that libvirt knows."""

from __future__ import annotations

import logging

import libvirt

from worker.errors import HypervisorError, Retry
from worker.hypervisors import profile_for
from worker.hypervisors.base import (
    Begun,
    Domain,
    DomainState,
    Finished,
    HostConfig,
    Move,
    Performed,
    Prepared,
    Stop,
    Watch,
)
from worker.hypervisors.checks import check_migration
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.libvirt import phases
from worker.hypervisors.libvirt.attempts import Attempts
from worker.hypervisors.libvirt.connection import Connection
from worker.hypervisors.libvirt.errors import calling, classed, refused
from worker.hypervisors.libvirt.running import Running
from worker.hypervisors.libvirt.states import look, measured
from worker.hypervisors.params import TypedParam, typed_params
from worker.hypervisors.retry import stopped, with_retries

log = logging.getLogger(__name__)

NOT_FOR_DESTINATION = MigrateFlag.ABORT_ON_ERROR | MigrateFlag.AUTO_CONVERGE
_EXECUTING = (DomainState.RUNNING, DomainState.MIGRATING)
_GONE = (DomainState.ABSENT, DomainState.SHUTOFF)
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


class LibvirtHypervisor:
    """``base.Hypervisor`` over one libvirt connection.

    Follows ``virDomainMigrateVersion3Full``. ``perform`` is made at most once after a ``begin``, and only
    over the connection that made it.
    """

    def __init__(self, host: HostConfig) -> None:
        self._host = host
        self.profile = profile_for(host.uri)
        self._connection = Connection(host.name, host.uri)
        self._attempts = Attempts()

    def open(self) -> None:
        """Connect (``virConnectOpen``), and see what kind of hypervisor it is."""
        connection, _ = self._connection.get()
        kind = calling(connection.getType, effect=False)
        self.profile = "vz-libvirt" if kind.lower() in ("vz", "parallels") else "qemu"

    def close(self) -> None:
        """Disconnect. Never raises."""
        self._connection.close()

    def domains(self) -> list[Domain]:
        """All domains of this host (``virConnectListAllDomains``)."""
        connection, _ = self._connection.get()
        seen = (self._look(domain) for domain in calling(connection.listAllDomains, effect=False))
        return [domain for domain in seen if domain is not None]

    def inspect(self, uuid: str) -> Domain:
        """A fresh look at one domain; state ``ABSENT`` where there is none."""
        domain, _ = self._find(uuid)
        seen = self._look(domain) if domain is not None else None
        return seen or Domain(name="", uuid=uuid, state=DomainState.ABSENT, persistent=False)

    def begin(self, move: Move, watch: Watch) -> Begun:
        """Source: take the definition and, for qemu, the job that keeps everyone else away.

        Raises ``Rejected`` where the flags, the parameters or the domain's state forbid it.
        """
        domain, generation = with_retries(self._host.retry, watch, lambda: self._get(move.uuid))
        state = calling(lambda: look(domain), effect=False).state
        check_migration(self.profile, move.flags, move.params, state)
        paused = state is DomainState.PAUSED
        flags = self._source_flags(move) | (MigrateFlag.PAUSED if paused else 0)
        xml, cookie = calling(lambda: phases.begin(domain, _typed(move), flags), effect=False)
        self._attempts.begun(move.uuid, generation)
        return Begun(xml=xml, cookie=cookie, paused=paused)

    def prepare(self, move: Move, xml: str, cookie: bytes, watch: Watch) -> Prepared:
        """Destination: a domain that waits for the guest. It lives as long as this connection."""
        if not cookie:
            # libvirtd 9.0.0 dies of it
            raise refused("prepare needs the cookie that begin returned", code="VIR_ERR_INVALID_ARG")
        connection, _ = with_retries(self._host.retry, watch, self._connection.get)
        params, flags = _typed(move, destination_xml=xml), move.flags & ~NOT_FOR_DESTINATION
        uri, out = calling(lambda: phases.prepare(connection, params, cookie, flags), effect=True)
        return Prepared(uri=uri or str(move.params.get("migrate_uri") or ""), cookie=out)

    def perform(self, move: Move, xml: str, uri: str, cookie: bytes, watch: Watch) -> Performed:
        """Source: copy the guest. Where libvirt refuses or aborts it, the guest's job is freed here."""
        if not uri:
            # libvirtd 9.0.0 dies of it
            raise refused("perform needs the migration URI that prepare returned", code="VIR_ERR_INVALID_ARG")
        domain, generation = self._get(move.uuid)
        self._attempts.claim_perform(move.uuid, generation)
        params, flags = _typed(move, destination_xml=xml, migrate_uri=uri), self._source_flags(move)
        running = Running(domain, lambda: phases.perform(domain, params, cookie, flags))
        stop = running.watch_over(watch, self._host, move)
        try:
            return Performed(cookie=running.result())
        except libvirt.libvirtError as error:
            failure = classed(error, effect=True)
        self._free(domain, move)
        if stop is not None and running.aborted:
            self._raise_cancelled(move, stop, running.why)
        raise failure

    def finish(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Finished:
        """Destination: let the guest run here, or (``cancelled``) drop what was received.

        A finish whose answer was lost may be repeated: where the guest runs here already, that is success.
        """
        connection, _ = with_retries(self._host.retry, watch, self._connection.get, stoppable=False)
        params = _typed(move, destination_name=move.destination_name)
        flags = move.flags & ~NOT_FOR_DESTINATION
        try:
            out = calling(lambda: phases.finish(connection, params, cookie, flags, cancelled), effect=True)
        except HypervisorError as failure:
            seen = self.inspect(move.uuid)
            if not (_dropped(seen) if cancelled else _finished_before(failure, seen, move)):
                raise
            return Finished(domain=seen)
        return self._finished(move, out)

    def confirm(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Domain:
        """Source: let go of the domain, or (``cancelled``) let it run on here.

        Harmless when repeated. With ``cancelled``, a domain whose job was lost with its connection is
        resumed: the caller has seen that the destination does not run it.
        """
        domain, generation = with_retries(self._host.retry, watch, lambda: self._find(move.uuid), stoppable=False)
        if domain is not None and self._job_is_here(move.uuid, generation):
            found, flags, params = domain, self._source_flags(move), _typed(move)
            try:
                calling(lambda: phases.confirm(found, params, cookie, flags, cancelled), effect=True)
            except HypervisorError as failure:
                state = self.inspect(move.uuid).state
                if not (_let_run(failure, state) if cancelled else state in _GONE):
                    raise
        self._attempts.over(move.uuid)
        seen = self.inspect(move.uuid)
        if cancelled:
            return self.resume(move.uuid) if seen.state is DomainState.PAUSED_OUT else seen
        if seen.state not in _GONE:
            raise HypervisorError(
                f"{move.domain} is still on {self._host.name}, and the job that would take it away is gone; "
                "remove it once it is seen to run on its destination",
                code="VIR_ERR_OPERATION_INVALID",
                retry=Retry.VERIFY,
                after=Retry.OPERATOR,
            )
        return seen

    def abort(self, uuid: str) -> None:
        """Source: abort a running perform (``virDomainAbortJob``). Harmless when there is none."""
        domain, _ = self._find(uuid)
        if domain is None:
            return
        seen = self._look(domain)
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
        domain, _ = self._get(uuid)
        if calling(lambda: look(domain), effect=False).state not in _EXECUTING:
            calling(domain.resume, effect=True)
        return self.inspect(uuid)

    def remove(self, uuid: str) -> None:
        """Destroy and forget this host's copy; its NVRAM and TPM state stay, the other side may use them."""
        domain, _ = self._find(uuid)
        if domain is None:
            return
        try:
            persistent = calling(domain.isPersistent, effect=False)
            if calling(domain.isActive, effect=False):
                calling(domain.destroy, effect=True)
            if persistent:
                forget = _FORGET.get(self.profile, 0)
                calling(lambda: domain.undefineFlags(forget), effect=True)
        except HypervisorError as failure:
            if failure.code != "VIR_ERR_NO_DOMAIN":
                raise

    def _find(self, uuid: str) -> tuple[libvirt.virDomain | None, int]:
        """The domain, if it is here, and the generation of the connection that found it."""
        connection, generation = self._connection.get()
        try:
            return calling(lambda: connection.lookupByUUIDString(uuid), effect=False), generation
        except HypervisorError as failure:
            if failure.code != "VIR_ERR_NO_DOMAIN":
                raise
        return None, generation

    def _get(self, uuid: str) -> tuple[libvirt.virDomain, int]:
        """``_find``, for a domain that must be here."""
        domain, generation = self._find(uuid)
        if domain is None:
            raise refused(f"no domain with uuid {uuid} on host {self._host.name}", code="VIR_ERR_NO_DOMAIN")
        return domain, generation

    def _look(self, domain: libvirt.virDomain) -> Domain | None:
        """One look at a domain, or ``None`` where it has gone meanwhile."""
        try:
            return calling(lambda: look(domain), effect=False)
        except HypervisorError as failure:
            if failure.code != "VIR_ERR_NO_DOMAIN":
                raise
        return None

    def _source_flags(self, move: Move) -> int:
        return move.flags | (MigrateFlag.CHANGE_PROTECTION if self.profile == "qemu" else 0)

    def _job_is_here(self, uuid: str, generation: int) -> bool:
        """Whether libvirt's confirm can have an effect: qemu's job lives as long as the connection that began it.

        It is not called otherwise: a daemon that was restarted and is still connecting to its guests
        loses the guest when a confirm comes in between (seen with 9.0.0).
        """
        return self.profile != "qemu" or self._attempts.live(uuid, generation)

    def _free(self, domain: libvirt.virDomain, move: Move) -> None:
        """Free the job that stays behind where perform was refused before it took the job over."""
        try:
            phases.confirm(domain, _typed(move), b"", self._source_flags(move), cancelled=True)
        except libvirt.libvirtError as error:
            log.debug("host %s: nothing to free after perform: %s", self._host.name, classed(error, effect=False))

    def _raise_cancelled(self, move: Move, stop: Stop, why: str) -> None:
        """Raise ``Cancelled`` where the aborted domain is seen to live on here; else return."""
        if self.inspect(move.uuid).state in (*_EXECUTING, DomainState.PAUSED):
            raise stopped(stop, why)

    def _finished(self, move: Move, cookie: bytes) -> Finished:
        """What a finish that went well found. A connection lost since cannot turn it into a failure."""
        state = DomainState.PAUSED if move.flags & MigrateFlag.PAUSED else DomainState.RUNNING
        try:
            domain, _ = self._get(move.uuid)
            seen = self._look(domain)
            completed = domain.jobStats(_COMPLETED)
        except (HypervisorError, libvirt.libvirtError):
            log.info("host %s: %s arrived; nothing more could be read", self._host.name, move.destination_name)
            return Finished(Domain(move.destination_name, move.uuid, state), cookie)
        return Finished(seen or Domain(move.destination_name, move.uuid, state), cookie, **measured(completed))


def _typed(move: Move, **more: str) -> list[TypedParam]:
    return typed_params({**move.params, **more})


def _dropped(seen: Domain) -> bool:
    """Whether nothing waits any more for the end of a cancelled migration."""
    return seen.state not in (DomainState.PAUSED_IN, DomainState.UNKNOWN)


def _let_run(failure: HypervisorError, state: DomainState) -> bool:
    """Whether a failed cancelled confirm left nothing to undo, or nothing but to resume."""
    settled = state in (DomainState.RUNNING, DomainState.PAUSED, *_GONE, DomainState.CRASHED)
    return settled or (failure.retry is Retry.DONE and state is DomainState.PAUSED_OUT)


def _finished_before(failure: HypervisorError, seen: Domain, move: Move) -> bool:
    """Whether a failed finish failed because an earlier one went well."""
    arrived = seen.state in _EXECUTING or (seen.state is DomainState.PAUSED and bool(move.flags & MigrateFlag.PAUSED))
    return failure.retry is Retry.DONE and arrived
