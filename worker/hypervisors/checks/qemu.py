"""The checks of the QEMU driver of libvirt 9.0.0, phase by phase, in its order.

Sources: ``src/qemu/qemu_driver.c``, ``src/qemu/qemu_migration.c``. A phase that is called alone, without
the phases before it, meets a domain that has no migration job: that is checked too.
"""

from __future__ import annotations

from dataclasses import replace

from worker.errors import Rejected
from worker.hypervisors.base import Phase
from worker.hypervisors.checks import cookies, qemu_domain, qemu_tuning
from worker.hypervisors.checks.domain_xml import check_same_abi, read_domain
from worker.hypervisors.checks.qemu_destination import prepare, prepare_step
from worker.hypervisors.checks.qemu_rules import (
    NON_SHARED,
    check_disk_transport,
    check_listen_address,
    check_memory_limit,
    check_offline,
    check_one_disks_port,
    check_postcopy,
    check_tls,
    check_tls_forced,
    daemon_dies,
)
from worker.hypervisors.checks.refusals import (
    check_mask,
    internal,
    invalid_arg,
    invalid_operation,
    unsupported_arg,
    unsupported_operation,
)
from worker.hypervisors.checks.request import UNSAID, VALID, CheckRequest, State
from worker.hypervisors.checks.uris import check_connectable, check_qemu_uri, check_reachable
from worker.hypervisors.flags import PROFILES, MigrateFlag, without
from worker.hypervisors.params import TypedParam, check_count, validate_params

_PEER = MigrateFlag.PEER2PEER | MigrateFlag.TUNNELLED
_SOURCE_ONLY = MigrateFlag.ABORT_ON_ERROR | MigrateFlag.AUTO_CONVERGE | MigrateFlag.CHANGE_PROTECTION
"""What the destination is not told."""


def check_phase(request: CheckRequest, phase: Phase, *, alone: bool = True, params: bool = True) -> None:
    """What the driver checks in one phase; raises ``Rejected``.

    ``alone`` means that no phase went before; ``params`` is false for the entry points that take no
    typed parameters (``virDomainMigrate``, ``virDomainMigrate2``).
    """
    check_count(request.params)
    suffix = "3Params" if params else "3"
    check_mask(request.flags, PROFILES["qemu"].accepted, f"qemuDomainMigrate{phase.capitalize()}{suffix}")
    validate_params("qemu", phase, request.params)
    match phase:
        case Phase.BEGIN:
            _begin(request)
        case Phase.PREPARE:
            prepare(request)
        case Phase.PERFORM:
            _perform(request, alone=alone)
        case Phase.FINISH:
            _finish(request, alone=alone)
        case Phase.CONFIRM:
            _lookup(request)
            if alone:
                _check_resumable(request, begun=True)
                raise _not_migrating(request)


def check_all_phases(request: CheckRequest, *, params: bool = True) -> None:
    """``virDomainMigrateVersion3Full``: begin, prepare and perform with what each hands to the next."""
    source = replace(request, flags=request.flags | int(MigrateFlag.CHANGE_PROTECTION))
    check_phase(source, Phase.BEGIN, params=params)
    source = _carry_pause(source)
    destination = without(source.flags, _SOURCE_ONLY)
    check_phase(_with_xml(replace(source, flags=destination)), Phase.PREPARE, params=params)
    if not request.flags & MigrateFlag.OFFLINE:
        check_phase(_with_uri(source), Phase.PERFORM, alone=False, params=params)


def _carry_pause(request: CheckRequest) -> CheckRequest:
    resuming = request.flags & MigrateFlag.POSTCOPY_RESUME
    if request.state is State.PAUSED and not resuming:
        return replace(request, flags=request.flags | int(MigrateFlag.PAUSED))
    return request


def _replaced(request: CheckRequest, name: str, value: str) -> CheckRequest:
    others = tuple(entry for entry in request.params if entry.name != name)
    return replace(request, params=(*others, TypedParam.string(name, value)))


def _with_xml(request: CheckRequest) -> CheckRequest:
    """Begin's XML goes to prepare in the place of the caller's."""
    return _replaced(request, "destination_xml", "<xml>")


def _with_uri(request: CheckRequest) -> CheckRequest:
    """Prepare's URI goes to perform where the caller has none."""
    if request.text("migrate_uri") is not None:
        return request
    return _replaced(request, "migrate_uri", "tcp:destination:49152")


def _lookup(request: CheckRequest) -> None:
    if request.state is State.ABSENT:
        raise Rejected(f"no domain with matching uuid '{request.uuid}' ({request.domain})", code="VIR_ERR_NO_DOMAIN")


def _not_migrating(request: CheckRequest) -> Rejected:
    return invalid_operation(f"domain '{request.domain}' is not being migrated")


def _check_active(request: CheckRequest) -> None:
    if not request.flags & MigrateFlag.OFFLINE and not request.state.active:
        raise invalid_operation("domain is not running")


def _check_resumable(request: CheckRequest, *, begun: bool = False) -> None:
    """``qemuMigrationAnyCanResume`` on the source, up to the job that must exist."""
    if not request.flags & MigrateFlag.POSTCOPY_RESUME:
        return
    if not request.flags & MigrateFlag.POSTCOPY:
        raise unsupported_arg("resuming failed post-copy migration requires post-copy to be enabled")
    protected = request.flags & (MigrateFlag.CHANGE_PROTECTION | MigrateFlag.PEER2PEER)
    if not begun and not protected:
        raise unsupported_arg("resuming failed post-copy migration requires change protection")
    raise _not_migrating(request)


def _begin(request: CheckRequest) -> None:
    _lookup(request)
    check_tls_forced(request)
    _check_resumable(request)
    _check_active(request)
    _begin_step(request)


def _begin_step(request: CheckRequest) -> None:
    """``qemuMigrationSrcBeginPhase``."""
    flags = request.flags
    qemu_domain.check_allowed(request)
    qemu_domain.check_safe(request)
    check_postcopy(flags)
    if flags & MigrateFlag.OFFLINE:
        check_offline(flags)
    if flags & MigrateFlag.ZEROCOPY and not flags & MigrateFlag.PARALLEL:
        raise invalid_operation("zero-copy is only available for parallel migration")
    if flags & NON_SHARED:
        for disk in request.texts("migrate_disks"):
            if not qemu_domain.has_disk(request, disk):
                raise invalid_arg(f"disk target {disk} not found")
    if (xml := request.text("destination_xml")) is not None:
        check_same_abi(xml, name=request.domain, uuid=request.uuid)


def _perform(request: CheckRequest, *, alone: bool) -> None:
    check_one_disks_port(request)
    check_listen_address(request)
    check_disk_transport(request)
    qemu_tuning.check_values(request, source=True)
    _lookup(request)
    check_tls_forced(request)
    if request.flags & _PEER:
        if request.cookie not in (None, UNSAID.encode()):
            raise invalid_operation("received unexpected cookie with P2P migration")
        _peer_to_peer(request)
        return
    if alone and request.dconnuri not in (None, UNSAID):
        raise internal("Unexpected dconnuri parameter with non-peer2peer migration")
    if alone:
        _check_resumable(request)
        if request.flags & MigrateFlag.CHANGE_PROTECTION:
            raise _not_migrating(request)
    _perform_native(request)


def _perform_native(request: CheckRequest) -> None:
    """``qemuMigrationSrcPerformNative`` and what ``qemuMigrationSrcRun`` checks before data flows."""
    uri = request.text("migrate_uri")
    if uri is None:
        raise daemon_dies("perform needs a migration URI")
    protocol = check_qemu_uri(uri)
    check_memory_limit(request, protocol)
    if protocol == "unix" and request.flags & MigrateFlag.TLS and not request.text("tls.destination"):
        raise unsupported_operation("Explicit destination hostname is required for TLS migration over UNIX socket")
    if request.flags & MigrateFlag.PERSIST_DEST and (xml := request.text("persistent_xml")) is not None:
        read_domain(xml)
    _check_perform_cookie(request)
    if not request.state.active:
        option = qemu_tuning.first_capability(request)
        raise unsupported_arg(f"Migration option '{option}' is not supported by QEMU binary")
    check_tls(request)
    qemu_tuning.check_qemu(request, source=True)
    _check_mirror_speed(request)
    check_reachable(uri, request.text("listen_address"))


_MIRROR_SPEED_LIMIT = (2**63 - 1) >> 20


def _check_mirror_speed(request: CheckRequest) -> None:
    if qemu_domain.copied_disks(request) and (request.number("bandwidth") or 0) > _MIRROR_SPEED_LIMIT:
        raise Rejected(f"bandwidth must be less than {_MIRROR_SPEED_LIMIT}", code="VIR_ERR_OVERFLOW")


def _check_perform_cookie(request: CheckRequest) -> None:
    if cookies.stands_for_valid(request.cookie):
        return
    if request.cookie is None:
        raise daemon_dies("perform needs prepare's cookie")
    copying = qemu_domain.copied_disks(request)
    cookies.check_qemu_cookie(
        request.cookie,
        name=request.domain,
        uuid=request.uuid,
        own_host=request.src_hostuuid,
        features=cookies.PERFORM_FEATURES | ({"nbd"} if copying else set()),
    )


def _peer_to_peer(request: CheckRequest) -> None:
    """``qemuMigrationSrcPerformJob``: the source drives all phases over its own connection."""
    _check_resumable(request)
    _check_active(request)
    qemu_domain.check_allowed(request)
    qemu_domain.check_safe(request)
    if request.flags & MigrateFlag.TUNNELLED:
        _check_tunnel(request)
    check_connectable(request.dconnuri)
    _begin_step(request)
    request = _carry_pause(replace(request, cookie=VALID.encode()))
    destination = _with_xml(replace(request, flags=without(request.flags, _SOURCE_ONLY)))
    if request.flags & MigrateFlag.TUNNELLED:
        destination = replace(
            destination, params=tuple(e for e in destination.params if not e.name.startswith("disks_"))
        )
        qemu_tuning.check_values(destination, source=False)
        prepare_step(destination, "stdio")
        if qemu_domain.copied_disks(request):
            # the disk server has no address to listen on, which libvirt 9.0.0 finds out only here
            raise internal("argument key 'host' must not have null value")
        _perform_tunnelled(request)
        return
    check_phase(destination, Phase.PREPARE)
    if not request.flags & MigrateFlag.OFFLINE:
        _perform_native(_with_uri(request))


def _check_tunnel(request: CheckRequest) -> None:
    if request.text("migrate_uri") is not None:
        raise unsupported_arg("migration URI is not supported by tunnelled migration")
    if request.text("listen_address") is not None:
        raise unsupported_arg("listen address is not supported by tunnelled migration")
    if request.number("disks_port"):
        raise unsupported_arg("disk port address is not supported by tunnelled migration")


def _perform_tunnelled(request: CheckRequest) -> None:
    check_tls(request)
    if request.flags & MigrateFlag.TLS and request.text("tls.destination") is None:
        # a tunnel has no host name to compare the certificate with, and libvirt 9.0.0 says it like this
        raise internal("failed to convert virJSONValue to yajl data")
    qemu_tuning.check_qemu(request, source=True)
    _check_mirror_speed(request)


def _finish(request: CheckRequest, *, alone: bool) -> None:
    name = request.text("destination_name")
    if name is None:
        raise Rejected("missing domain name", code="VIR_ERR_NO_DOMAIN")
    if not alone:
        return
    if name != request.domain or not request.dst_setup.startswith("same"):
        raise Rejected(f"no domain with matching name '{name}'", code="VIR_ERR_NO_DOMAIN")
    raise invalid_operation(f"domain '{name}' is not processing incoming migration")
