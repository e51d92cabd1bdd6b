"""The rules that both sides of a QEMU migration check.

Sources: ``src/qemu/qemu_driver.c``, ``src/qemu/qemu_migration.c`` of libvirt 9.0.0.
"""

from __future__ import annotations

from worker.errors import Rejected
from worker.hypervisors.checks.refusals import invalid_arg, invalid_operation, unsupported_arg
from worker.hypervisors.checks.request import CheckRequest
from worker.hypervisors.flags import MigrateFlag

NON_SHARED = MigrateFlag.NON_SHARED_DISK | MigrateFlag.NON_SHARED_INC


def check_memory_limit(request: CheckRequest, protocol: str) -> None:
    """RDMA locks the guest's memory, so the domain needs a hard limit."""
    if protocol == "rdma" and not request.cfg & {"hard-limit", "memory-hard-limit"}:
        raise invalid_operation("cannot start RDMA migration with no memory hard limit set")


def daemon_dies(why: str) -> Rejected:
    """Calls that kill libvirtd 9.0.0: the client sees its connection drop."""
    return Rejected(
        f"End of file while reading data: Input/output error (kills libvirtd 9.0.0: {why})",
        code="VIR_ERR_SYSTEM_ERROR",
    )


def check_tls_forced(request: CheckRequest) -> None:
    """``migrate_tls_force`` of qemu.conf: nothing but TLS."""
    exempt = request.flags & (MigrateFlag.TUNNELLED | MigrateFlag.TLS)
    if request.cfg & {"tls-force", "migrate-tls-force"} and not exempt:
        raise invalid_operation("this libvirtd instance allows migration only with VIR_MIGRATE_TLS flag")


def check_tls(request: CheckRequest) -> None:
    """``qemuMigrationParamsEnableTLS`` on a host without a TLS directory."""
    if request.flags & MigrateFlag.TLS and request.cfg & {"no-tls", "tls-unconfigured"}:
        raise invalid_operation("host migration TLS directory not configured")


def check_postcopy(flags: int) -> None:
    """Post-copy needs a live, running guest and no tunnel; both sides check it."""
    if not flags & MigrateFlag.POSTCOPY:
        return
    if not flags & MigrateFlag.LIVE or flags & MigrateFlag.PAUSED:
        raise unsupported_arg("post-copy migration is not supported with non-live or paused migration")
    if flags & MigrateFlag.TUNNELLED:
        raise unsupported_arg("post-copy is not supported with tunnelled migration")


def check_offline(flags: int) -> None:
    """What offline migration cannot carry; both sides check it."""
    if flags & NON_SHARED:
        raise invalid_operation("offline migration cannot handle non-shared storage")
    if not flags & MigrateFlag.PERSIST_DEST:
        raise invalid_operation("offline migration must be specified with the persistent flag set")
    if flags & MigrateFlag.TUNNELLED:
        raise invalid_operation("tunnelled offline migration does not make sense")


def check_disk_transport(request: CheckRequest) -> None:
    """Disks that are copied need a URI of their own where memory goes through a UNIX socket."""
    wanted = request.flags & NON_SHARED or request.texts("migrate_disks")
    if wanted and _over_unix(request) and request.text("disks_uri") is None:
        raise invalid_arg("NBD URI must be supplied when migration URI uses UNIX transport method")


def check_one_disks_port(request: CheckRequest) -> None:
    """A port or a URI for disk data, not both."""
    if request.text("disks_uri") is not None and request.number("disks_port"):
        raise invalid_arg("Both port and URI requested for disk migration while being mutually exclusive")


def check_listen_address(request: CheckRequest) -> None:
    """A UNIX socket has no address to listen on."""
    if request.text("listen_address") is not None and _over_unix(request):
        raise invalid_arg("Usage of listen-address is forbidden when migration URI uses UNIX transport method")


def _over_unix(request: CheckRequest) -> bool:
    return (request.text("migrate_uri") or "").startswith("unix:")
