"""What libvirt shows of a domain and of a job, in the words of ``worker.hypervisors.base``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import libvirt

from worker.hypervisors.base import Domain, DomainState, Measured, Progress


class Job(Enum):
    """The migration job of a domain, as ``virDomainGetJobStats`` tells it."""

    NONE = "none"
    OUT = "out"
    COPYING = "copying"
    """An outgoing one that has something left to copy."""
    IN = "in"


_PLAIN = {
    libvirt.VIR_DOMAIN_RUNNING: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: DomainState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: DomainState.RUNNING,  # on its way down, still executing
    libvirt.VIR_DOMAIN_SHUTOFF: DomainState.SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: DomainState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.PAUSED,
}
_PAUSED = libvirt.VIR_DOMAIN_PAUSED
_POSTCOPY = (
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY),
)
_POSTCOPY_FAILED = (
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED),
)
_NO_STATISTICS = (
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    libvirt.VIR_ERR_NO_SUPPORT,
)


def domain_state(state: int, reason: int, job: Job) -> DomainState:
    """The state of a domain from libvirt's state, its reason, and the migration job.

    A domain that is paused while it is copied, by its user or so that it converges, is ``MIGRATING`` all the same.
    A domain paused by a migration without any job is an outgoing one whose job went away with its
    connection: an incoming domain does not outlive its job. After the switch to post-copy the source's
    copy is never to run again, and the destination's lacks memory until the end: both are ``MIGRATING``.
    Post-copy that failed, or whose job is gone, is ``UNKNOWN``: each side holds a part of the guest, and
    nothing may be done to either. A shut-off domain with a job waits for the end of an offline migration.
    """
    plain = _PLAIN.get(state, DomainState.UNKNOWN)
    if (state, reason) in _POSTCOPY_FAILED:
        return DomainState.UNKNOWN
    if (state, reason) in _POSTCOPY:
        return DomainState.UNKNOWN if job is Job.NONE else DomainState.MIGRATING
    if job is Job.IN and state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_SHUTOFF):
        return DomainState.PAUSED_IN
    if job is Job.COPYING and plain in (DomainState.RUNNING, DomainState.PAUSED):
        return DomainState.MIGRATING
    if (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION):
        return DomainState.PAUSED_OUT
    if plain is DomainState.RUNNING and job is not Job.NONE:
        return DomainState.MIGRATING
    return plain


def job_of(domain: libvirt.virDomain) -> Job:
    """Whether a migration job runs on the domain, and in which direction.

    libvirt tells no statistics of an incoming migration, and that refusal is how it is known.
    """
    try:
        stats = domain.jobStats()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _NO_STATISTICS:
            raise
        return Job.IN if "only on the source host" in str(error) else Job.NONE
    if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE:
        return Job.NONE
    operation = stats.get(libvirt.VIR_DOMAIN_JOB_OPERATION)
    return {
        libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: Job.COPYING if stats.get("data_remaining", 0) else Job.OUT,
        libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: Job.IN,
    }.get(operation, Job.NONE)


def occupied(domain: libvirt.virDomain) -> bool:
    """Whether the daemon is in the midst of something with the domain, that is not a migration of its own.

    A daemon that was restarted is, as long as it connects to the guest again: it then shows what it knew when it
    died, without the job. Raises ``libvirt.libvirtError``.
    """
    try:
        return domain.controlInfo()[0] not in (libvirt.VIR_DOMAIN_CONTROL_OK, libvirt.VIR_DOMAIN_CONTROL_JOB)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _NO_STATISTICS:
            raise
    return False  # it is shut off, or nothing that libvirt connects to


def postcopy(domain: libvirt.virDomain) -> bool:
    """Whether the guest is in the midst of post-copy, on either side. Raises ``libvirt.libvirtError``."""
    return tuple(domain.state()) in _POSTCOPY


def emptied(domain: libvirt.virDomain) -> bool:
    """Whether post-copy has taken all memory from this copy, which will not run again. Raises ``libvirt.libvirtError``.

    It is shown as failed where the connection that began it was closed, also when it has come to a good end.
    """
    postcopied = ((state, reason) for state, reason in (*_POSTCOPY, *_POSTCOPY_FAILED) if state == _PAUSED)
    return tuple(domain.state()) in postcopied and job_of(domain) is not Job.COPYING


def look(domain: libvirt.virDomain) -> Domain:
    """One look at a domain. Raises ``libvirt.libvirtError``.

    libvirt tells state and job in answers of their own, between which a migration may end: "paused", asked before
    it, and "no job", asked after it, would make a copy that runs look like one that was left paused. So a look
    during which the state changed is taken again.
    """
    shown = domain.state()
    while True:
        seen = _look(domain, *shown)
        before, shown = shown, domain.state()
        if shown == before:
            return seen


def _look(domain: libvirt.virDomain, state: int, reason: int) -> Domain:
    persistent = bool(domain.isPersistent())
    job = Job.NONE if state == libvirt.VIR_DOMAIN_SHUTOFF and persistent else job_of(domain)
    return Domain(
        name=domain.name(),
        uuid=domain.UUIDString(),
        state=domain_state(state, reason, job),
        persistent=persistent,
        memory_bytes=domain.info()[1] * 1024,
    )


def progress_of(stats: Mapping[str, int]) -> Progress:
    """How far a migration is, from ``virDomainGetJobStats``.

    The share is of what is known to be left: it falls back when the guest dirties memory faster than
    it is copied, which is the truth. QEMU measures neither dirty rate nor expected downtime in the first
    round (it tells 0, and the downtime that is allowed).
    """
    total, left = stats.get("data_total", 0), stats.get("data_remaining", 0)
    iteration = stats.get("memory_iteration", 0)
    dirty = stats.get("memory_dirty_rate", 0) * stats.get("memory_page_size", 0)
    return Progress(
        percent=min(99, 100 * (total - left) // total) if total > 0 and left <= total else 0,
        total_bytes=total,
        remaining_bytes=left,
        dirty_bytes_per_second=dirty,
        bandwidth_bytes_per_second=stats.get("memory_bps", 0),
        iteration=iteration,
        expected_downtime_seconds=stats["downtime"] / 1000 if dirty and "downtime" in stats else None,
        description=_doing(stats, iteration),
        transferred_bytes=stats.get("data_processed", 0),
        throttle_percent=stats.get("auto_converge_throttle", 0),
        elapsed_seconds=stats.get("time_elapsed", 0) / 1000,
        postcopy=stats.get("memory_postcopy_requests", 0) > 0,
    )


def _doing(stats: Mapping[str, int], iteration: int) -> str:
    if iteration:
        return f"copying memory, round {iteration}"
    return "copying disks" if stats.get("disk_total", 0) else "setting up"


def measured(stats: Mapping[str, int]) -> Measured:
    """The measurements in the statistics of a completed job (``virDomainGetJobStats``, times in ms)."""
    return Measured(
        downtime_seconds=_seconds(stats.get("downtime")),
        transferred_bytes=stats.get("data_processed"),
        total_seconds=_seconds(stats.get("time_elapsed")),
        iterations=stats.get("memory_iteration"),
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
