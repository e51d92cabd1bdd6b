"""A migration that the source's daemon drives by itself over a connection of its own (peer-to-peer, tunnelled).

Everything happens in perform, which is one call of ``virDomainMigrateToURI3``; the other phases prepare it,
and look at what it did. The destination's prepare hands out where its daemon is reached; that address travels
as the cookie, sealed, because no message carries a URI.
"""

from __future__ import annotations

import time

import libvirt

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import Begun, Domain, DomainState, Finished, Move, Performed, Prepared, Watch
from worker.hypervisors.libvirt.attempts import Attempts
from worker.hypervisors.libvirt.errors import refused
from worker.hypervisors.libvirt.host import Host, has_arrived
from worker.hypervisors.libvirt.performing import watched
from worker.hypervisors.retry import with_retries

SETTLING_SECONDS = 5.0
"""The destination's daemon ends an incoming migration this soon after the source's has let go of it."""


class PeerToPeer:
    """The five phases of which only perform changes anything. It is made at most once after a ``begin``."""

    def __init__(self, host: Host, attempts: Attempts) -> None:
        self._host, self._attempts = host, attempts

    def begin(self, move: Move, domain: libvirt.virDomain, generation: int, seen: Domain) -> Begun:
        """Source: nothing but the look that was just taken."""
        self._attempts.begun(move.uuid, generation)
        return Begun(xml="", paused=seen.state is DomainState.PAUSED)

    def prepare(self, move: Move, xml: str, cookie: bytes, watch: Watch) -> Prepared:
        """Destination: where other hosts' daemons reach this one's, as the cookie."""
        if not self._host.config.peer_uri:
            raise refused(
                f"other daemons cannot reach host {self._host.name}, so no guest gets there peer-to-peer; set "
                "peer_uri of this host in vmrelay.toml to the libvirt URI at which they do, or leave out PEER2PEER",
                code="no-peer-uri",
            )
        return Prepared(uri="", cookie=self._host.config.peer_uri.encode())

    def perform(self, move: Move, xml: str, uri: str, cookie: bytes, watch: Watch) -> Performed:
        """Source: the whole migration (``virDomainMigrateToURI3``)."""
        if not cookie:
            raise refused("perform needs the cookie that prepare returned", code="VIR_ERR_INVALID_ARG")
        domain, generation = self._host.get(move.uuid)
        self._attempts.claim_perform(move.uuid, generation)
        peer, params = cookie.decode(), dict(move.params)

        def migrate() -> bytes:
            domain.migrateToURI3(peer, params, move.flags)
            return b""

        try:
            watched(self._host, domain, move, watch, migrate)
        except HypervisorError as failure:
            failure.message = failure.message.replace(peer, "of the destination")  # messages name no URI
            failure.args = (failure.message,)
            raise
        return Performed()

    def finish(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Finished:
        """Destination: look at what the source's daemon did, and at what was measured. Changes nothing."""
        self._host.connected(watch, stoppable=False)
        seen = self._settled(move.uuid)
        if cancelled:
            return Finished(domain=seen)
        if has_arrived(seen, move):
            return self._host.arrived(move)
        raise HypervisorError(
            f"the source's daemon says that {move.domain} has moved, but host {self._host.name} shows it as "
            f"{seen.state}; look at both hosts",
            code="VIR_ERR_OPERATION_FAILED",
            retry=Retry.VERIFY,
            after=Retry.OPERATOR,
        )

    def confirm(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Domain:
        """Source: look at what its daemon did; with ``cancelled`` resume what it left paused."""
        with_retries(self._host.config.retry, watch, lambda: self._host.find(move.uuid), stoppable=False)
        self._attempts.over(move.uuid)
        return self._host.let_run(move) if cancelled else self._host.let_go(move)

    def release(self, move: Move) -> Domain:
        """Source: take away what its daemon left of a guest that was seen on its destination."""
        seen = self._host.release(move)
        self._attempts.over(move.uuid)
        return seen

    def _settled(self, uuid: str) -> Domain:
        """What is here once an incoming migration has ended, or after a while anyway."""
        deadline = time.monotonic() + SETTLING_SECONDS
        while True:
            seen = self._host.inspect(uuid)
            if seen.state is not DomainState.PAUSED_IN or time.monotonic() > deadline:
                return seen
            time.sleep(min(0.1, self._host.config.poll_seconds))
