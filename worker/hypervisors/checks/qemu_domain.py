"""What keeps a QEMU domain from leaving its host: devices, jobs, storage.

Sources: ``qemuMigrationSrcIsAllowed``, ``qemuMigrationSrcIsSafe`` of libvirt 9.0.0.
"""

from __future__ import annotations

from worker.errors import Rejected
from worker.hypervisors.checks.refusals import invalid_operation, unsupported_operation
from worker.hypervisors.checks.request import CheckRequest, State
from worker.hypervisors.flags import MigrateFlag

_NON_SHARED = MigrateFlag.NON_SHARED_DISK | MigrateFlag.NON_SHARED_INC

_HOSTDEVS = {
    "hostdev-capabilities": "<hostdev mode='capabilities'>",
    "hostdev-caps": "<hostdev mode='capabilities'>",
    "hostdev-scsi": "<hostdev mode='subsystem' type='scsi'>",
    "hostdev-scsi-host": "<hostdev mode='subsystem' type='scsi_host'>",
    "hostdev-mdev": "<hostdev mode='subsystem' type='mdev'>",
    "hostdev-pci": "<hostdev mode='subsystem' type='pci'>",
    "interface-hostdev": "<interface type='hostdev'>",
    "hostdev-interface": "<interface type='hostdev'>",
    "hostdev-net": "<interface type='hostdev'>",
}

# in the order in which libvirt looks at them
_DEVICES = (
    ("blockjob", "domain has active block job"),
    ("invtsc", "domain has 'invtsc' CPU feature but TSC frequency is not specified"),
    ("dimm", "domain's dimm info lacks slot ID or base address"),
    ("shmem", "migration with legacy shmem device is not supported"),
    ("ivshmem", "migration with legacy shmem device is not supported"),
    ("shmem-legacy", "migration with legacy shmem device is not supported"),
    ("shmem-ivshmem", "migration with legacy shmem device is not supported"),
    ("shmem-role", "shmem device 'shmem0' cannot be migrated, only shmem with role='master' can be migrated"),
    ("shmem-peer", "shmem device 'shmem0' cannot be migrated, only shmem with role='master' can be migrated"),
    ("vdpa", "vDPA devices cannot be migrated"),
    ("slirp", "a slirp-helper cannot be migrated"),
    ("virtiofs", "migration with virtiofs device is not supported"),
    ("dbus-vmstate", "cannot migrate this domain without dbus-vmstate support"),
    ("dbus", "cannot migrate this domain without dbus-vmstate support"),
    ("transient-disk", "migration with transient disk is not supported"),
    ("disk-transient", "migration with transient disk is not supported"),
)


def check_allowed(request: CheckRequest) -> None:
    """Snapshots always count; devices and jobs only when the guest itself moves."""
    if snapshots := request.cfg & {"snapshot", "snapshots"}:
        raise invalid_operation(f"cannot migrate domain with {len(snapshots)} snapshots")
    if request.flags & MigrateFlag.OFFLINE:
        return
    for word, device in _HOSTDEVS.items():
        if word in request.cfg:
            raise unsupported_operation(f"cannot migrate a domain with {device}")
    paused = request.state is State.PAUSED
    if request.flags & MigrateFlag.ABORT_ON_ERROR and paused and request.cfg & {"ioerror", "io-error"}:
        raise invalid_operation("cannot migrate domain with I/O error")
    if "autodestroy" in request.cfg:
        raise invalid_operation("domain is marked for auto destroy")
    for word, text in _DEVICES:
        if word in request.cfg:
            raise invalid_operation(text)
    if "swtpm-shared" in request.cfg:
        raise Rejected("the running swtpm does not support migration with shared storage", code="VIR_ERR_NO_SUPPORT")


def disks(request: CheckRequest) -> list[str]:
    """The targets of the domain's local disks."""
    return ["vda"] if request.cfg & {"disk", "nvme"} else []


def copied_disks(request: CheckRequest) -> list[str]:
    """The disks that QEMU would copy; an explicit list replaces the default of all."""
    if not request.flags & _NON_SHARED:
        return []
    listed = request.texts("migrate_disks")
    return [disk for disk in disks(request) if not listed or disk in listed]


def check_safe(request: CheckRequest) -> None:
    """A local disk that is not copied makes the move unsafe."""
    if request.flags & (MigrateFlag.UNSAFE | MigrateFlag.OFFLINE):
        return
    if set(disks(request)) - set(copied_disks(request)):
        raise Rejected("Migration without shared storage is unsafe", code="VIR_ERR_MIGRATE_UNSAFE")
