"""What libvirt's client library checks before any driver is asked (``src/libvirt-domain.c``)."""

from __future__ import annotations

from worker.errors import Rejected
from worker.hypervisors.checks.refusals import (
    check_exclusive,
    check_required,
    invalid_arg,
    unsupported_arg,
)
from worker.hypervisors.checks.request import CheckRequest
from worker.hypervisors.flags import MigrateFlag

_NON_SHARED = MigrateFlag.NON_SHARED_DISK | MigrateFlag.NON_SHARED_INC


def check_migrate3(request: CheckRequest) -> None:
    """``virDomainMigrate3``, up to the first phase."""
    flags = request.flags
    _check_writable(request, "virDomainMigrate3")
    check_exclusive(flags, MigrateFlag.NON_SHARED_DISK, MigrateFlag.NON_SHARED_INC)
    check_required(flags, MigrateFlag.NON_SHARED_SYNCHRONOUS_WRITES, _NON_SHARED)
    if flags & MigrateFlag.PEER2PEER:
        raise invalid_arg("use virDomainMigrateToURI3 for peer-to-peer migration")
    if flags & MigrateFlag.TUNNELLED:
        raise invalid_arg("cannot perform tunnelled migration without using peer2peer flag")
    if flags & MigrateFlag.OFFLINE and request.hypervisor != "qemu":
        raise unsupported_arg("offline migration is not supported by the source host")
    if flags & MigrateFlag.CHANGE_PROTECTION and request.hypervisor != "qemu":
        raise unsupported_arg("cannot enforce change protection")


def _check_writable(request: CheckRequest, function: str) -> None:
    if request.ro:
        raise Rejected(f"read only access prevents {function}", code="VIR_ERR_OPERATION_DENIED")
