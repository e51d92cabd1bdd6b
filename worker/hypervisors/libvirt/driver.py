"""The driver of one libvirt host: any URI that libvirt knows."""

from __future__ import annotations

from worker.errors import Rejected
from worker.hypervisors import profile_for
from worker.hypervisors.base import (
    Begun,
    Domain,
    DomainState,
    Finished,
    HostConfig,
    Measured,
    Move,
    Performed,
    Prepared,
    Watch,
)
from worker.hypervisors.checks import check_migration
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.libvirt import usage
from worker.hypervisors.libvirt.attempts import Attempts
from worker.hypervisors.libvirt.errors import calling
from worker.hypervisors.libvirt.following import follow
from worker.hypervisors.libvirt.host import Host
from worker.hypervisors.libvirt.managed import Managed
from worker.hypervisors.libvirt.peer import PeerToPeer
from worker.hypervisors.libvirt.states import look
from worker.hypervisors.retry import with_retries
from worker.hypervisors.usage import Usage


class LibvirtHypervisor:
    """``base.Hypervisor`` over one libvirt connection.

    A migration is either driven from here (``managed``) or by the source's daemon (``peer``), as its
    flags say. ``perform`` is made at most once after a ``begin`` in both.
    """

    def __init__(self, host: HostConfig) -> None:
        self._host = Host(host)
        self.profile = profile_for(host.uri)
        attempts = Attempts()
        self._managed = Managed(self._host, attempts)
        self._peer_to_peer = PeerToPeer(self._host, attempts)

    def open(self) -> None:
        """Connect (``virConnectOpenAuth``), and see what kind of hypervisor it is."""
        self._host.connection.get()
        self.profile = self._host.profile

    def close(self) -> None:
        """Disconnect. Never raises."""
        self._host.connection.close()

    def domains(self) -> list[Domain]:
        """All domains of this host (``virConnectListAllDomains``)."""
        return self._host.domains()

    def inspect(self, uuid: str) -> Domain:
        """A fresh look at one domain; state ``ABSENT`` where there is none."""
        return self._host.inspect(uuid)

    def usage(self) -> Usage:
        """What the host has for guests, and what its active ones use (``virConnectGetAllDomainStats``)."""
        return usage.look(self._host.connection.get()[0])

    def begin(self, move: Move, watch: Watch) -> Begun:
        """Source: check flags, parameters and state, and take the domain's definition.

        Raises ``Rejected`` where the flags, the parameters or the domain's state forbid it.
        """
        domain, generation = with_retries(self._host.config.retry, watch, lambda: self._host.get(move.uuid))
        seen = calling(lambda: look(domain), effect=False)
        self._host.connection.features.check(move, self._host.name)
        check_migration(self.profile, move.flags, move.params, seen.state, domain=move.domain, uuid=move.uuid)
        _check_offline(move, seen)
        self._host.completed.forget(move.uuid)
        return self._way(move).begin(move, domain, generation, seen)

    def prepare(self, move: Move, xml: str, cookie: bytes, watch: Watch) -> Prepared:
        """Destination: get ready to receive."""
        self._host.connected(watch)
        self._host.connection.features.check(move, self._host.name)
        return self._way(move).prepare(move, xml, cookie, watch)

    def perform(self, move: Move, xml: str, uri: str, cookie: bytes, watch: Watch) -> Performed:
        """Source: move the guest."""
        return self._way(move).perform(move, xml, uri, cookie, watch)

    def finish(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Finished:
        """Destination: let the guest run here, or (``cancelled``) drop what was received."""
        return self._way(move).finish(move, cookie, cancelled, watch)

    def confirm(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Domain:
        """Source: let go of the domain, or (``cancelled``) let it run on here. Harmless when repeated."""
        return self._way(move).confirm(move, cookie, cancelled, watch)

    def follow(self, move: Move, watch: Watch) -> Domain:
        """Source: watch over a move that goes on without the call that started it, until it has ended."""
        if not move.flags & MigrateFlag.PEER2PEER:
            self._managed.free_unmoved(move)
        return follow(self._host, move, watch)

    def release(self, move: Move) -> Domain:
        """Source: end this host's copy of a guest that was just seen on the destination."""
        return self._way(move).release(move)

    def measured(self, move: Move) -> Measured:
        """Source, after confirm: what its daemon told of the job (``VIR_DOMAIN_EVENT_ID_JOB_COMPLETED``)."""
        return Measured() if move.flags & MigrateFlag.OFFLINE else self._host.completed.of(move.uuid)

    def abort(self, uuid: str) -> None:
        """Source: abort a running perform (``virDomainAbortJob``). Harmless when there is none."""
        self._host.abort(uuid)

    def resume(self, uuid: str) -> Domain:
        """Let a paused domain run here (``virDomainResume``). The caller has looked at the other side."""
        return self._host.resume(uuid)

    def remove(self, uuid: str) -> None:
        """Destroy and forget this host's copy; its NVRAM and TPM state stay, the other side may use them."""
        self._host.remove(uuid)

    def _way(self, move: Move) -> Managed | PeerToPeer:
        return self._peer_to_peer if move.flags & MigrateFlag.PEER2PEER else self._managed


def _check_offline(move: Move, seen: Domain) -> None:
    """libvirt would copy an active domain's definition and leave the guest where it is: that moves nothing."""
    if move.flags & MigrateFlag.OFFLINE and seen.state is not DomainState.SHUTOFF:
        raise Rejected(
            f"OFFLINE moves the definition of a domain that is shut off, and {move.domain} is {seen.state}; "
            "shut it down, or move it live",
            code="VIR_ERR_OPERATION_INVALID",
        )
