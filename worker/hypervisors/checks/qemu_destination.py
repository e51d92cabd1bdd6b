"""The QEMU driver's prepare: what the destination checks before and while it starts the incoming domain.

Sources: ``qemuDomainMigratePrepare3Params``, ``qemuMigrationDstPrepareAny`` of libvirt 9.0.0.
"""

from __future__ import annotations

from worker.errors import Rejected
from worker.hypervisors.checks import cookies, qemu_domain, qemu_tuning
from worker.hypervisors.checks.domain_xml import read_domain
from worker.hypervisors.checks.qemu_rules import (
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
from worker.hypervisors.checks.refusals import internal, invalid_operation, unsupported_arg
from worker.hypervisors.checks.request import CheckRequest
from worker.hypervisors.checks.uris import check_disks_uri, check_qemu_uri
from worker.hypervisors.flags import MigrateFlag


def prepare(request: CheckRequest) -> None:
    """``qemuDomainMigratePrepare3Params`` after flags and types."""
    qemu_tuning.check_values(request, source=False)
    check_disk_transport(request)
    check_one_disks_port(request)
    check_listen_address(request)
    if request.flags & MigrateFlag.TUNNELLED:
        raise internal("Tunnelled migration requested but invalid RPC method called")
    _prepare_definition(request)
    uri = request.text("migrate_uri")
    if uri is None and request.dst_hostname.startswith("localhost"):
        raise internal("hostname on destination resolved to localhost, but migration requires an FQDN")
    protocol = "tcp" if uri is None else check_qemu_uri(uri)
    prepare_step(request, protocol)


def _prepare_definition(request: CheckRequest) -> None:
    xml = request.text("destination_xml")
    if xml is None:
        raise internal("no domain XML passed")
    read_domain(xml)


def prepare_step(request: CheckRequest, protocol: str) -> None:
    """``qemuMigrationDstPrepareAny``."""
    flags = request.flags
    if flags & MigrateFlag.OFFLINE:
        check_offline(flags)
    check_postcopy(flags)
    check_tls_forced(request)
    if flags & MigrateFlag.POSTCOPY_RESUME:
        _refuse_resume_on_destination(request)
    announced = _check_prepare_cookie(request)
    _check_name_free(request)
    if flags & MigrateFlag.OFFLINE:
        return
    check_memory_limit(request, protocol)
    for disk in announced:
        if disk not in qemu_domain.disks(request):
            raise internal(f"unable to find disk by target: {disk}")
    check_tls(request)
    qemu_tuning.check_qemu(request, source=False)
    if qemu_domain.copied_disks(request):
        check_disks_uri(request.text("disks_uri"), request.number("disks_port") or 0)


def _refuse_resume_on_destination(request: CheckRequest) -> None:
    name = request.text("destination_name") or request.domain
    if not request.dst_setup.startswith("same"):
        raise Rejected(f"no domain with matching name '{name}'", code="VIR_ERR_NO_DOMAIN")
    if not request.flags & MigrateFlag.POSTCOPY:
        raise unsupported_arg("resuming failed post-copy migration requires post-copy to be enabled")
    raise invalid_operation(f"domain '{name}' is not processing incoming migration")


def _check_prepare_cookie(request: CheckRequest) -> list[str]:
    """Returns the targets of the disks that the source wants created here."""
    if cookies.stands_for_valid(request.cookie):
        return []
    if request.cookie is None:
        if not request.flags & MigrateFlag.OFFLINE:
            raise daemon_dies("prepare needs begin's cookie")
        return []
    root = cookies.check_qemu_cookie(
        request.cookie,
        name=request.domain,
        uuid=request.uuid,
        own_host=request.dst_hostuuid,
        features=cookies.PREPARE_FEATURES,
    )
    return [disk.get("target", "") for disk in root.findall("nbd[1]/disk")]


_OTHER_UUID = "99999999-2222-4333-8444-555555555555"
_OTHER_NAME = "t2"


def _check_name_free(request: CheckRequest) -> None:
    """``virDomainObjListAdd`` with what the destination already has."""
    name = request.text("destination_name") or request.domain
    have = request.dst_setup.lower().replace("_", "-")
    if not have or have in ("absent", "none"):
        return
    if have.startswith("same-") and have not in ("same-name", "same-uuid"):
        if name != request.domain:
            raise _taken(f"domain '{request.domain}' is already defined with uuid {request.uuid}")
        if have.endswith(("running", "active", "paused")):
            raise invalid_operation(f"domain '{name}' is already active")
    elif name != request.domain:
        raise _taken(f"domain '{name}' already exists with uuid {_OTHER_UUID}")
    elif "other-name" in have or have.startswith(("same-uuid", "uuid")):
        raise _taken(f"domain '{_OTHER_NAME}' is already defined with uuid {request.uuid}")
    else:
        raise _taken(f"domain '{name}' already exists with uuid {_OTHER_UUID}")


def _taken(message: str) -> Rejected:
    return Rejected(message, code="VIR_ERR_OPERATION_FAILED")
