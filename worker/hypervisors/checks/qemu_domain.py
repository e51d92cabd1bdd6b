"""What keeps a QEMU domain from leaving its host: devices, jobs, storage.

Sources: ``qemuMigrationSrcIsAllowed``, ``qemuMigrationSrcIsSafe`` of libvirt 9.0.0.
"""

from __future__ import annotations

from worker.errors import Rejected
from worker.hypervisors.checks.refusals import invalid_operation, unsupported_operation
from worker.hypervisors.checks.request import CheckRequest, State
from worker.hypervisors.flags import MigrateFlag

DISKS_UNKNOWN = "disks-unknown"
"""In ``cfg``: nobody has looked at the domain, so that its own libvirt has to judge its disks."""

_NON_SHARED = MigrateFlag.NON_SHARED_DISK | MigrateFlag.NON_SHARED_INC

# USB devices and those with <teaming type='transient'> may go
_HOSTDEVS = (
    ("caps", "<hostdev mode='capabilities'>"),
    ("capabilities", "<hostdev mode='capabilities'>"),
    ("scsi-host", "<hostdev mode='subsystem' type='scsi_host'>"),
    ("scsi", "<hostdev mode='subsystem' type='scsi'>"),
    ("mdev", "<hostdev mode='subsystem' type='mdev'>"),
    ("pci", "<hostdev mode='subsystem' type='pci'>"),
    ("interface", "<interface type='hostdev'>"),
    ("net", "<interface type='hostdev'>"),
)

# words in a configuration's name, in the order in which libvirt looks at the devices
_SHMEM_ROLE = "shmem device 'shmem0' cannot be migrated, only shmem with role='master' can be migrated"
_DEVICES = (
    ("blockjob", "domain has active block job"),
    ("invtsc", "domain has 'invtsc' CPU feature but TSC frequency is not specified"),
    ("dimm", "domain's dimm info lacks slot ID or base address"),
    ("shmem-role", _SHMEM_ROLE),
    ("shmem-peer", _SHMEM_ROLE),
    ("shmem", "migration with legacy shmem device is not supported"),
    ("vdpa", "vDPA devices cannot be migrated"),
    ("slirp", "a slirp-helper cannot be migrated"),
    ("virtiofs", "migration with virtiofs device is not supported"),
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
    _check_hostdevs(request)
    paused = request.state is State.PAUSED
    if request.flags & MigrateFlag.ABORT_ON_ERROR and paused and request.cfg & {"ioerror", "io-error"}:
        raise invalid_operation("cannot migrate domain with I/O error")
    if "autodestroy" in request.cfg:
        raise invalid_operation("domain is marked for auto destroy")
    for word, text in _DEVICES:
        if any(word in name for name in request.cfg):
            raise invalid_operation(text)
    if "swtpm-shared" in request.cfg:
        raise Rejected("the running swtpm does not support migration with shared storage", code="VIR_ERR_NO_SUPPORT")


def _check_hostdevs(request: CheckRequest) -> None:
    """``qemuMigrationSrcIsAllowedHostdev``."""
    names = [name for name in request.cfg if "hostdev" in name and "teaming" not in name]
    for word, device in _HOSTDEVS:
        if any(word in name for name in names):
            raise unsupported_operation(f"cannot migrate a domain with {device}")


def disks(request: CheckRequest) -> list[str]:
    """The targets of the domain's local disks."""
    return ["vda"] if request.cfg & {"disk", "nvme"} else []


def has_disk(request: CheckRequest, target: str) -> bool:
    """Whether the domain has that disk, for all that is known of it."""
    return DISKS_UNKNOWN in request.cfg or target in disks(request)


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
