"""What libvirt's client library checks before any driver is asked, and which phases it then calls.

Source: ``src/libvirt-domain.c`` of libvirt 9.0.0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.errors import Rejected
from worker.hypervisors.base import Phase
from worker.hypervisors.checks import qemu, vz
from worker.hypervisors.checks.refusals import (
    check_exclusive,
    check_required,
    invalid_arg,
    invalid_operation,
    unsupported_arg,
)
from worker.hypervisors.checks.request import DESTINATION, UNSAID, CheckRequest
from worker.hypervisors.checks.uris import check_not_local
from worker.hypervisors.flags import MigrateFlag, without

_NON_SHARED = MigrateFlag.NON_SHARED_DISK | MigrateFlag.NON_SHARED_INC


@dataclass(frozen=True, slots=True)
class Features:
    """``VIR_DRV_FEATURE_MIGRATION_*`` of a driver."""

    offline: bool
    p2p: bool
    change_protection: bool
    version3: bool
    """The entry points without typed parameters."""


_FEATURES = {
    "vz-seed": Features(offline=False, p2p=False, change_protection=False, version3=False),
    "vz": Features(offline=False, p2p=True, change_protection=False, version3=False),
    "qemu": Features(offline=True, p2p=True, change_protection=True, version3=True),
}


def check_call(request: CheckRequest, phase: Phase) -> None:
    """One phase called by itself (``virDomainMigrateBegin3Params`` and its siblings)."""
    _check_writable(request, f"virDomainMigrate{phase.capitalize()}3Params", (_side(phase),))
    _check_phase(request, phase)


def _side(phase: Phase) -> str:
    return "source" if phase.on_source else "dest"


def _check_phase(request: CheckRequest, phase: Phase) -> None:
    if request.hypervisor == "qemu":
        qemu.check_phase(request, phase)
    else:
        vz.check_phase(request, phase)


def _check_writable(request: CheckRequest, function: str, sides: tuple[str, ...]) -> None:
    asked = "dest" if request.ro in ("dst", "destination") else request.ro
    if asked in sides:
        raise Rejected(f"read only access prevents {function}", code="VIR_ERR_OPERATION_DENIED")


def check_migrate3(request: CheckRequest) -> None:
    """``virDomainMigrate3``: the front end, then every phase of a managed migration."""
    flags, features = request.flags, _FEATURES[request.hypervisor]
    _check_writable(request, "virDomainMigrate3", ("source", "dest"))
    check_exclusive(flags, MigrateFlag.NON_SHARED_DISK, MigrateFlag.NON_SHARED_INC)
    check_required(flags, MigrateFlag.NON_SHARED_SYNCHRONOUS_WRITES, _NON_SHARED)
    if flags & MigrateFlag.PEER2PEER:
        raise invalid_arg("use virDomainMigrateToURI3 for peer-to-peer migration")
    if flags & MigrateFlag.TUNNELLED:
        raise invalid_arg("cannot perform tunnelled migration without using peer2peer flag")
    _check_offline_feature(flags, features)
    _check_protection_feature(flags, features)
    _check_all_phases(replace(request, flags=without(flags, MigrateFlag.CHANGE_PROTECTION)))


def _check_offline_feature(flags: int, features: Features) -> None:
    if flags & MigrateFlag.OFFLINE and not features.offline:
        raise unsupported_arg("offline migration is not supported by the source host")


def _check_protection_feature(flags: int, features: Features) -> None:
    if flags & MigrateFlag.CHANGE_PROTECTION and not features.change_protection:
        raise unsupported_arg("cannot enforce change protection")


def _check_all_phases(request: CheckRequest, *, params: bool = True) -> None:
    if request.hypervisor == "qemu":
        qemu.check_all_phases(request, params=params)
    else:
        vz.check_all_phases(request)


def check_migrate(request: CheckRequest, function: str) -> None:
    """``virDomainMigrate`` and ``virDomainMigrate2``: without typed parameters."""
    flags, features = request.flags, _FEATURES[request.hypervisor]
    _check_writable(request, function, ("source", "dest"))
    check_exclusive(flags, MigrateFlag.NON_SHARED_DISK, MigrateFlag.NON_SHARED_INC)
    check_exclusive(flags, MigrateFlag.TUNNELLED, MigrateFlag.PARALLEL)
    check_required(flags, MigrateFlag.NON_SHARED_SYNCHRONOUS_WRITES, _NON_SHARED)
    _check_offline_feature(flags, features)
    if flags & MigrateFlag.PEER2PEER:
        if not features.p2p:
            raise _no_support(function)
        _check_unmanaged(request)
        return
    _check_protection_feature(flags, features)
    if flags & MigrateFlag.TUNNELLED:
        raise invalid_operation("cannot perform tunnelled migration without using peer2peer flag")
    if not features.version3:
        raise _no_support(function)
    _check_all_phases(replace(request, flags=without(flags, MigrateFlag.CHANGE_PROTECTION)), params=False)


def _no_support(function: str) -> Rejected:
    return Rejected(function, code="VIR_ERR_NO_SUPPORT")


def check_to_uri(request: CheckRequest, function: str, argument: str) -> None:
    """``virDomainMigrateToURI``, ``ToURI2`` and ``ToURI3``; ``argument`` names their URI."""
    flags, features = request.flags, _FEATURES[request.hypervisor]
    _check_writable(request, function, ("source",))
    if function == "virDomainMigrateToURI" and request.dconnuri is None:
        raise invalid_arg(f"{argument} in {function} must not be NULL")
    check_exclusive(flags, MigrateFlag.TUNNELLED, MigrateFlag.PARALLEL)
    check_exclusive(flags, MigrateFlag.NON_SHARED_DISK, MigrateFlag.NON_SHARED_INC)
    check_required(flags, MigrateFlag.NON_SHARED_SYNCHRONOUS_WRITES, _NON_SHARED)
    _check_offline_feature(flags, features)
    if not flags & MigrateFlag.PEER2PEER:
        raise unsupported_arg("direct migration is not supported by the source host")
    if not features.p2p:
        raise unsupported_arg("p2p migration is not supported by the source host")
    if request.dconnuri is None:
        raise invalid_arg(f"{argument} in {function} must not be NULL")
    _check_unmanaged(request)


def _check_unmanaged(request: CheckRequest) -> None:
    """``virDomainMigrateUnmanagedParams`` with peer-to-peer: one call of perform, no cookie."""
    uri = DESTINATION if request.dconnuri in (None, UNSAID) else request.dconnuri
    check_not_local(str(uri))
    _check_phase(replace(request, dconnuri=uri, cookie=None), Phase.PERFORM)
