"""A migration that the relay drives itself, phase by phase, as ``virDomainMigrateVersion3Full`` does."""

from __future__ import annotations

import logging

import libvirt

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import Begun, Domain, DomainState, Finished, Move, Performed, Prepared, Watch
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.libvirt import phases
from worker.hypervisors.libvirt.attempts import Attempts
from worker.hypervisors.libvirt.errors import calling, classed, refused, tells_why
from worker.hypervisors.libvirt.fetching import fetched
from worker.hypervisors.libvirt.foreign import gone, wait_for_others
from worker.hypervisors.libvirt.host import Host, has_arrived, typed
from worker.hypervisors.libvirt.performing import watched
from worker.hypervisors.retry import with_retries

log = logging.getLogger(__name__)

NOT_FOR_DESTINATION = MigrateFlag.ABORT_ON_ERROR | MigrateFlag.AUTO_CONVERGE


class Managed:
    """The five phases over the connections of both hosts' agents.

    ``perform`` is made at most once after a ``begin``, and only over the connection that made it. OFFLINE
    has no perform: only the definition moves.
    """

    def __init__(self, host: Host, attempts: Attempts) -> None:
        self._host, self._attempts = host, attempts

    def begin(self, move: Move, domain: libvirt.virDomain, generation: int, seen: Domain) -> Begun:
        """Source: take the definition and, for qemu, the job that keeps everyone else away."""
        paused = seen.state is DomainState.PAUSED
        flags = self._source_flags(move) | (MigrateFlag.PAUSED if paused else 0)
        xml, cookie = calling(lambda: phases.begin(domain, typed(move), flags), effect=False)
        self._attempts.begun(move.uuid, generation)
        return Begun(xml=xml, cookie=cookie, paused=paused)

    def prepare(self, move: Move, xml: str, cookie: bytes, watch: Watch) -> Prepared:
        """Destination: a domain that waits for the guest. It lives as long as this connection."""
        if not cookie:
            # libvirtd 9.0.0 dies of it
            raise refused("prepare needs the cookie that begin returned", code="VIR_ERR_INVALID_ARG")
        connection, generation = self._host.connection.get()
        params, flags = typed(move, destination_xml=xml), move.flags & ~NOT_FOR_DESTINATION
        uri, out = calling(lambda: phases.prepare(connection, params, cookie, flags), effect=True)
        self._attempts.prepared(move.uuid, generation)
        return Prepared(uri=uri or str(move.params.get("migrate_uri") or ""), cookie=out)

    def perform(self, move: Move, xml: str, uri: str, cookie: bytes, watch: Watch) -> Performed:
        """Source: copy the guest. Where libvirt refuses or aborts it, the guest's job is freed here."""
        if move.flags & MigrateFlag.OFFLINE:
            return Performed()
        if not uri:
            # libvirtd 9.0.0 dies of it
            raise refused("perform needs the migration URI that prepare returned", code="VIR_ERR_INVALID_ARG")
        domain, generation = self._host.get(move.uuid)
        self._attempts.claim_perform(move.uuid, generation)
        params, flags = typed(move, destination_xml=xml, migrate_uri=uri), self._source_flags(move)
        out = watched(
            self._host,
            domain,
            move,
            watch,
            lambda: phases.perform(domain, params, cookie, flags),
            after_failure=lambda: self._free(domain, move),
        )
        return Performed(cookie=out)

    def finish(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Finished:
        """Destination: let the guest run here, or (``cancelled``) drop what was received.

        A finish whose answer was lost may be repeated: where the guest is here already, that is success. It needs
        no cookie. Of what another connection prepared only the end is waited for, see ``foreign``.
        """
        with self._attempts.finishing(move.uuid):
            finished = self._finish(move, cookie, cancelled, watch)
        self._attempts.received(move.uuid)
        return finished

    def _finish(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Finished:
        connection, generation = with_retries(
            self._host.config.retry, watch, self._host.connection.get, stoppable=False
        )
        if self._is_foreign(move, generation):
            wait_for_others(self._host, move, watch)
        params = typed(move, destination_name=move.destination_name)
        flags = move.flags & ~NOT_FOR_DESTINATION
        # Without perform libvirt sends no cookie: prepare's would be taken for one of the same host.
        sent = b"" if move.flags & MigrateFlag.OFFLINE else cookie

        def call() -> bytes:
            return phases.finish(connection, params, sent, flags, cancelled)

        try:
            # Elsewhere a guest stands still until this returns, and it does at once.
            lasts = move.flags & MigrateFlag.POSTCOPY and not cancelled
            out = fetched(call, connection, move.uuid, self._host.name, watch) if lasts else call()
        except libvirt.libvirtError as error:
            failure, telling = classed(error, effect=True), tells_why(error)
        else:
            return self._host.arrived(move, out)
        if cancelled:
            return self._dropped(move, failure, telling=telling)
        seen = self._host.inspect(move.uuid)
        if failure.retry is Retry.DONE and has_arrived(seen, move):
            return self._host.arrived(move)
        raise gone(self._host, move, failure) if seen.state is DomainState.ABSENT else failure

    def confirm(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Domain:
        """Source: let go of the domain, or (``cancelled``) let it run on here.

        Harmless when repeated. With ``cancelled``, a domain whose job was lost with its connection is
        resumed: the caller has seen that the destination does not run it.
        """
        retry = self._host.config.retry
        domain, generation = with_retries(retry, watch, lambda: self._host.find(move.uuid), stoppable=False)
        if domain is not None and self._job_is_here(move.uuid, generation):
            found, flags, params = domain, self._source_flags(move), typed(move)
            try:
                calling(lambda: phases.confirm(found, params, cookie, flags, cancelled), effect=True)
            except HypervisorError as failure:
                state = self._host.inspect(move.uuid).state
                if not (_let_run(failure, state) if cancelled else state in _GONE):
                    raise
        self._attempts.over(move.uuid)
        return self._host.let_run(move) if cancelled else self._host.let_go(move)

    def free_unmoved(self, move: Move) -> None:
        """Source: let go of the job that begin took where perform was never made: it would last, and nothing moves."""
        domain, generation = self._host.find(move.uuid)
        if domain is not None and self._attempts.unmoved(move.uuid, generation):
            self._free(domain, move)
            self._attempts.over(move.uuid)

    def release(self, move: Move) -> Domain:
        """Source: let go of a guest that was seen on its destination, by libvirt's own confirm where it still can."""
        self._host.require_still(move)
        domain, generation = self._host.find(move.uuid)
        if domain is not None and self._job_is_here(move.uuid, generation):
            try:
                phases.confirm(domain, typed(move), b"", self._source_flags(move), cancelled=False)
            except libvirt.libvirtError as error:
                failure = classed(error, effect=True)
                log.info("host %s: confirm did not let go of %s: %s", self._host.name, move.domain, failure)
        self._attempts.over(move.uuid)
        return self._host.release(move)

    def _dropped(self, move: Move, failure: HypervisorError, *, telling: bool) -> Finished:
        """What a cancelled finish left; libvirt ends one in an error also where it went well."""
        seen = self._host.inspect(move.uuid)
        if seen.state is DomainState.SHUTOFF and (not seen.persistent or self._host.was_killed(move.uuid)):
            # What libvirt 9.0.0 leaves of an offline migration (neither running nor defined), and a daemon that died
            # in finish between storing the definition and letting the guest run: it kills the guest at its start.
            self._host.remove(move.uuid)
            seen = self._host.inspect(move.uuid)
        if seen.state is DomainState.PAUSED_IN:
            raise failure
        return Finished(domain=seen, failure=failure if telling else None)

    def _is_foreign(self, move: Move, generation: int) -> bool:
        """Whether what arrives here is not this connection's to finish. An offline one is anybody's."""
        if self._host.profile != "qemu" or move.flags & MigrateFlag.OFFLINE:
            return False
        return not self._attempts.waits(move.uuid, generation)

    def _source_flags(self, move: Move) -> int:
        return move.flags | (MigrateFlag.CHANGE_PROTECTION if self._host.profile == "qemu" else 0)

    def _job_is_here(self, uuid: str, generation: int) -> bool:
        """Whether libvirt's confirm can have an effect: qemu's job lives as long as the connection that began it.

        It is not called otherwise: a daemon that was restarted and is still connecting to its guests
        loses the guest when a confirm comes in between (seen with 9.0.0).
        """
        return self._host.profile != "qemu" or self._attempts.live(uuid, generation)

    def _free(self, domain: libvirt.virDomain, move: Move) -> None:
        """Free the job that stays behind where perform was not made, or refused before it took the job over."""
        try:
            phases.confirm(domain, typed(move), b"", self._source_flags(move), cancelled=True)
        except libvirt.libvirtError as error:
            log.debug("host %s: nothing to free: %s", self._host.name, classed(error, effect=False))


_GONE = (DomainState.ABSENT, DomainState.SHUTOFF)


def _let_run(failure: HypervisorError, state: DomainState) -> bool:
    """Whether a failed cancelled confirm left nothing to undo, or nothing but to resume."""
    settled = state in (DomainState.RUNNING, DomainState.PAUSED, *_GONE, DomainState.CRASHED)
    return settled or (failure.retry is Retry.DONE and state is DomainState.PAUSED_OUT)
