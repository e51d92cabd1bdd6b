"""From a request to a dispatched attempt: resolve, validate, journal, take slots, send."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import structlog

from tasks import cordons, costs, dispatch
from tasks.convergence import convergence
from worker import metrics, trace
from worker.contract import MigrateRequest
from worker.contract.idempotency import fingerprint
from worker.errors import Rejected, SettingsError
from worker.hypervisors.base import DomainState, ParamValue
from worker.hypervisors.checks import check_migration
from worker.hypervisors.flags import MigrateFlag, flag_label, parse_flags, resolve
from worker.inventory import Host
from worker.journal import Record
from worker.runtime import Runtime
from worker.scheduler import on_round, seldom
from worker.seal import DOCUMENTS, load_key, seal_documents

logger = structlog.get_logger(__name__)

STOPPED = (DomainState.SHUTOFF, DomainState.CRASHED)


def resolved(parts: Runtime, ident: str, request: MigrateRequest) -> Record:
    """The record that a request asks for; nothing is written and no host is touched.

    Flags come before hosts' names are compared, so that a refused flag is told first.
    Raises ``Rejected``.
    """
    inventory = parts.inventory
    destination = inventory.host(request.destination)
    if request.source is not None:
        inventory.host(request.source)
    source, domain = _located(parts, request)
    settings, profile, flags = parts.settings, inventory[source].profile, 0
    try:
        flags = _flags(profile, request)
        _check(parts, request, domain, flags, inventory[source], destination)
        steering = convergence(request, profile, flags, settings.stall.action)
    except Rejected as refusal:
        refusal.driver, refusal.flags = profile, flag_label(flags)
        raise
    return Record(
        id=ident,
        state="pending",
        domain=domain["name"],
        uuid=domain["uuid"],
        source=source,
        destination=request.destination,
        destination_name=_name_there(request, domain),
        driver=profile,
        flags=flags,
        flags_label=flag_label(flags),
        params=_sealed(parts, ident, request),
        deadline_seconds=request.deadline_seconds or settings.perform_deadline_seconds,
        attempts_allowed=request.attempts or settings.attempts.maximum,
        convergence=steering,
        requested_by=request.requested_by,
        request_reason=request.reason,
        priority=request.priority,
        cost=costs.cost_at(parts, domain, source),
        traceparent=request.traceparent or "",
        fingerprint=fingerprint(request),
    )


def _sealed(parts: Runtime, ident: str, request: MigrateRequest) -> dict[str, ParamValue]:
    """The parameters as the journal keeps them: definitions sealed, as what hypervisors produce is."""
    if not any(name in request.params for name in DOCUMENTS):
        return dict(request.params)
    try:
        return seal_documents(load_key(parts.settings.key_file), request.params, ident)
    except SettingsError as missing:
        logger.warning("definition not sealed", error=str(missing))
        raise Rejected(
            f"{' and '.join(DOCUMENTS)} are kept sealed, and the scheduler has no seal key; "
            "give it the agents' seal_key_file",
            code="no-seal-key",
        ) from None


def _located(parts: Runtime, request: MigrateRequest) -> tuple[str, dict[str, Any]]:
    find, named = parts.journal.find_domain, [request.source] if request.source is not None else []
    # A fleet is large, and the moves of a plan say where the domain is: elsewhere it is only looked for if it is not.
    found = find(request.domain, named) or find(request.domain, parts.inventory)
    if not found:
        raise Rejected(
            f"unknown domain '{request.domain[:80]}': no host of the inventory has published it; see 'vmrelay hosts'",
            code="unknown-domain",
        )
    if request.source is not None:
        if request.source not in found:
            raise Rejected(
                f"{request.domain} is on {', '.join(found)}, not on {request.source}", code="domain-elsewhere"
            )
        return request.source, found[request.source]
    if len(found) > 1:
        for domain in found.values():
            _refuse_busy(parts, domain)
        raise Rejected(f"{request.domain} is on {' and '.join(found)}; name the source host", code="ambiguous-domain")
    return next(iter(found.items()))


def _flags(profile: str, request: MigrateRequest) -> int:
    match request.flags:
        case None:
            return resolve(profile, request.options)
        case int(mask):
            return mask
        case str(names):
            return parse_flags(names)
        case names:
            return parse_flags(",".join(names))


def _check(
    parts: Runtime, request: MigrateRequest, domain: dict[str, Any], flags: int, source: Host, destination: Host
) -> None:
    state, name = DomainState(domain["state"]), domain["name"]
    # Of a stopped domain libvirt says no more than that it does not run; what to do about it is told below.
    judged = DomainState.RUNNING if state in STOPPED and not flags & MigrateFlag.OFFLINE else state
    check_migration(source.profile, flags, request.params, judged, domain=name, uuid=domain["uuid"])
    _moves_at_all(name, state, flags, source.profile)
    if source.name == destination.name:
        raise Rejected(f"{name} is on {source.name} already", code="same-host")
    _takes_it(parts, destination, source)
    _is_reached(destination, flags)
    _goes_there(request, destination)
    _name_is_free(parts, _name_there(request, domain), domain["uuid"], destination.name)


def _name_there(request: MigrateRequest, domain: dict[str, Any]) -> str:
    return str(request.params.get("destination_name") or domain["name"])


def _moves_at_all(name: str, state: DomainState, flags: int, profile: str) -> None:
    """OFFLINE moves the definition of a stopped domain; everything else moves a guest.

    libvirt would copy the definition of a running guest too, and leave one that can be started a second time.
    """
    if flags & MigrateFlag.OFFLINE:
        if state is not DomainState.SHUTOFF:
            raise Rejected(
                f"{name} is {state}, and OFFLINE moves the definition of a stopped domain: leave OFFLINE out to move "
                "the guest as it is, or shut it down first",
                code="not-offline",
            )
    elif state in STOPPED:
        way_out = "start it first, or move its definition with --offline" if profile == "qemu" else "start it first"
        raise Rejected(f"{name} is {state}; {way_out}, or leave it where it is", code="not-running")


def _takes_it(parts: Runtime, destination: Host, source: Host) -> None:
    if destination.profile != source.profile:
        raise Rejected(
            f"{source.name} is driven as {source.profile} and {destination.name} as {destination.profile}; "
            "a domain moves between hosts of one kind",
            code="other-hypervisor",
        )
    cordons.refuse_cordoned(destination.name, cordons.cordon_of(parts, destination))


def _is_reached(destination: Host, flags: int) -> None:
    """Peer-to-peer the source's daemon opens the connection to the destination, not vmrelay."""
    if flags & (MigrateFlag.PEER2PEER | MigrateFlag.TUNNELLED) and not destination.peer_uri:
        name = destination.name
        raise Rejected(
            f"PEER2PEER: the inventory has no URI at which another host's daemon reaches {name}; "
            f"set peer_uri of [hosts.{name}], or leave --p2p out",
            code="no-peer-uri",
        )


def _goes_there(request: MigrateRequest, destination: Host) -> None:
    """Nobody who can enqueue can send a domain's data to an address outside the inventory."""
    address = destination.settings.address or destination.name
    for param in ("migrate_uri", "disks_uri"):
        uri = str(request.params.get(param) or "")
        if not uri or uri.startswith("unix:"):
            continue
        # tcp:HOST:PORT is libvirt's old form of tcp://HOST:PORT.
        parts = urlsplit(uri if "://" in uri else uri.replace(":", "://", 1))
        if parts.hostname != urlsplit(f"//{address}").hostname:
            raise Rejected(
                f"{param} names another place than {destination.name}; leave it out, or name that host's address",
                code="uri-elsewhere",
            )


def _name_is_free(parts: Runtime, name: str, uuid: str, destination: str) -> None:
    """A stopped domain of the same name and uuid is the same domain; anything else is in the way."""
    by_name, by_uuid = parts.journal.domains_like(destination, name, uuid)
    taken = by_name if by_name and by_name["uuid"] != uuid else None
    active = by_uuid if by_uuid and by_uuid["state"] != DomainState.SHUTOFF else None
    if clash := taken or active:
        if clash is active:
            _refuse_busy(parts, clash)
        raise Rejected(
            f"{destination} has a domain '{clash['name']}' already (uuid {clash['uuid']}); "
            "rename with destination_name or remove that one",
            code="name-taken" if taken else "uuid-taken",
        )


def _refuse_busy(parts: Runtime, domain: dict[str, Any]) -> None:
    """A domain that is on two hosts is most likely on its way."""
    if holder := parts.journal.holder(domain["uuid"]):
        raise _busy(domain["name"], holder)


def _busy(name: str, holder: str) -> Rejected:
    return Rejected(f"{name} is held by migration {holder}; wait for it or cancel it", code="busy-domain")


def submit(parts: Runtime, record: Record) -> None:
    """Journal a resolved request and start it if there is room; it waits otherwise.

    A second request under the id changes nothing. Raises ``Rejected``: ``busy-domain`` where another migration holds
    the domain, ``id-taken`` where the id is that of a batch, or a batch's migration would have that of another one.
    """
    baton = dispatch.first_baton(record)
    told = {"domain": record.domain, "source": record.source, "destination": record.destination}
    terms = parts.inventory.terms.text(record.source, record.destination)
    created, admitted = parts.journal.submit(record.id, record.asked_fields, told, dispatch.text(baton), terms)
    if created[0] == "BUSY":
        raise _busy(record.domain, created[1])
    if created[0] == "TAKEN":
        raise Rejected(f"{record.id} is the id of another migration, or of a batch", code="id-taken")
    if created[0] == "OTHER":
        tell_apart(record.id, record.requested_by)
    if admitted[0] == "OK":
        metrics.admission_wait_seconds.labels(record.priority).observe(int(admitted[1]) / 1000)
        with trace.bound(record.traceparent):
            dispatch.send(parts.inventory, baton.document())


def tell_apart(ident: str, by: str) -> None:
    """Another request came under the id of a migration: it gets no answer, since ``AsyncResult`` is the first one's."""
    logger.warning("another request under a known id", migration=ident, by=by)
    metrics.conflicts.labels("migration").inc()


@on_round
def republish_overdue(parts: Runtime) -> None:
    """Send again what nobody claimed in time."""
    for ident, baton, phase, traceparent in parts.journal.overdue("host."):
        with trace.bound(traceparent):
            logger.info("republishing", migration=ident, phase=phase)
            metrics.republished.labels(phase).inc()
            dispatch.resend(parts.inventory, baton, phase)


@seldom
def watch_agents(parts: Runtime) -> None:
    """Which hosts have a live agent."""
    alive = parts.journal.agents(parts.inventory)
    for host in parts.inventory:
        metrics.agent_up.labels(host).set(host in alive)
