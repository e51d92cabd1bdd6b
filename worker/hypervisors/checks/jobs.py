"""The helper calls around a migration, of the QEMU driver: abort, limits, switch to post-copy.

Source: ``src/qemu/qemu_driver.c`` of libvirt 9.0.0; no job runs on the domain.
"""

from __future__ import annotations

from worker.errors import Rejected
from worker.hypervisors.checks.refusals import internal, invalid_operation
from worker.hypervisors.checks.request import CheckRequest, State

_MAX_SPEED = (2**63 - 1) // 2**20
_MAX_POSTCOPY_SPEED = (2**64 - 1) // 2**20
_MAX_DOWNTIME_MS = 2_000_000


def check_active(request: CheckRequest) -> None:
    """``virDomainObjCheckActive`` after the look-up."""
    check_exists(request)
    if not request.state.active:
        raise invalid_operation("domain is not running")


def check_exists(request: CheckRequest) -> None:
    """The look-up of the domain by its uuid."""
    if request.state is State.ABSENT:
        raise Rejected(f"no domain with matching uuid '{request.uuid}' ({request.domain})", code="VIR_ERR_NO_DOMAIN")


def check_abort(request: CheckRequest, *, postcopy: bool = False) -> None:
    """``virDomainAbortJob``; the vz driver only looks for a job."""
    if request.hypervisor == "qemu":
        check_active(request)
    else:
        check_exists(request)
    if postcopy:
        raise invalid_operation("current job is not outgoing migration in post-copy mode")
    raise invalid_operation("no job is active on the domain")


def check_abort_incoming(request: CheckRequest) -> None:
    """``virDomainAbortJob`` on the destination: an incoming job admits no other, the wait times out."""
    check_active(request)
    raise Rejected(
        "cannot acquire state change lock (held by monitor=remoteDispatchDomainMigratePrepare3Params)",
        code="VIR_ERR_OPERATION_TIMEOUT",
    )


def check_start_postcopy(request: CheckRequest) -> None:
    """``virDomainMigrateStartPostCopy``."""
    check_active(request)
    raise invalid_operation("post-copy can only be started while outgoing migration is in progress")


def check_set_speed(request: CheckRequest, mib_per_second: int, *, postcopy: bool) -> None:
    """``virDomainMigrateSetMaxSpeed``: a domain that does not run remembers the plain limit."""
    check_exists(request)
    limit = _MAX_POSTCOPY_SPEED if postcopy else _MAX_SPEED
    if mib_per_second > limit:
        raise Rejected(f"bandwidth must be less than {limit + 1}", code="VIR_ERR_OVERFLOW")
    if postcopy:
        check_active(request)


def check_get_speed(request: CheckRequest, *, postcopy: bool) -> None:
    """``virDomainMigrateGetMaxSpeed``."""
    if postcopy:
        check_active(request)
    else:
        check_exists(request)


def check_set_downtime(request: CheckRequest, milliseconds: int) -> None:
    """``virDomainMigrateSetMaxDowntime``."""
    check_active(request)
    if milliseconds > _MAX_DOWNTIME_MS:
        raise internal(
            "unable to execute QEMU command 'migrate-set-parameters': "
            "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms"
        )


def check_set_cache(request: CheckRequest, size: int) -> None:
    """``virDomainMigrateSetCompressionCache``, in bytes."""
    check_active(request)
    if size < 4096 or size & (size - 1):
        raise internal(
            "unable to execute QEMU command 'migrate-set-parameters': "
            "Parameter 'xbzrle_cache_size' expects a power of two no less than the target page size"
        )
