"""What to do about errors whose words come from a hypervisor: a table. Pure.

A message is stable and is libvirt's or QEMU's own; what follows from it for whoever uses ``vmrelay`` is said
beside it, by the command and the web API. Sources: ``worker/hypervisors/checks/`` and ``libvirt/errors.py``.
"""

from __future__ import annotations

from typing import NamedTuple

from worker.journal.record import Record


class Hint(NamedTuple):
    """A way out, and the errors that it is for: those with this code (any where empty) and this in the message."""

    code: str
    contains: str
    text: str


HINTS = (
    Hint(
        "VIR_ERR_MIGRATE_UNSAFE",
        "without shared storage",
        "copy the disks with --copy-storage-all, or say --unsafe if the storage is shared",
    ),
    Hint(
        "VIR_ERR_MIGRATE_UNSAFE",
        "",
        "give the disks cache='none' in the domain's definition, or say --unsafe if both hosts see the same data",
    ),
    Hint(
        "",
        "Postcopy is not supported",
        "QEMU needs userfaultfd on both hosts: run it as root or set vm.unprivileged_userfaultfd=1 (sysctl)",
    ),
    Hint("", "Turn xbzrle compression on to tune it", "say --comp-methods xbzrle as well"),
    Hint("", "Turn multithread compression on to tune it", "say --comp-methods mt as well"),
    Hint("", "Turn auto convergence on to tune it", "say --auto-converge as well"),
    Hint("", "Turn parallel migration on to tune it", "say --parallel as well"),
    Hint("", "already exists with uuid", "give it another name there with --dname, or remove the other one"),
    Hint("name-taken", "", "give it another name there with --dname"),
    Hint(
        "",
        "Cannot access storage file",
        "let the destination reach the disk under the same path, or copy it with --copy-storage-all",
    ),
    Hint(
        "VIR_ERR_CPU_INCOMPATIBLE",
        "",
        "give the domain a CPU model that both hosts have ('virsh hypervisor-cpu-baseline')",
    ),
    Hint("VIR_ERR_NO_NETWORK", "", "define and start that network on the destination, or name another one with --xml"),
    Hint("VIR_ERR_NO_STORAGE_POOL", "", "define and start that pool on the destination"),
    Hint(
        "",
        "Unable to find an unused port",
        "widen migration_port_min and migration_port_max of the destination's qemu.conf",
    ),
    Hint(
        "",
        "Unknown savevm section",
        "give both hosts the same definition and machine type: compare --xml with the source's",
    ),
    Hint("plan-outdated", "", "plan again, or say --on-change replan"),
    Hint("batch-exists", "", "choose another --id, or leave it out; 'vmrelay batch list' shows those that there are"),
    Hint("not-over", "", "follow it with 'vmrelay batch watch', or end it first with 'vmrelay batch cancel'"),
    Hint("planner-failed", "", "see planning.process_mib and plan_seconds, or plan for some hosts with --host"),
    Hint("nowhere-to-go", "", "uncordon another host ('vmrelay hosts'), or bring its agent back"),
)
"""Looked at from top to bottom; the first that fits is said."""


def hint(code: str, message: str) -> str:
    """What to do about an error; empty where its message says it, or nobody knows."""
    return next(
        (way.text for way in HINTS if way.code in ("", code) and way.contains in message),
        "",
    )


def way_on(record: Record) -> str:
    """What an operator does about a migration that does not go on by itself; empty where it does, or is over."""
    if record.state == "in-doubt":
        return (
            f"look for {record.domain} on {record.source} and {record.destination}, put right what is wrong, and close "
            f"it: vmrelay resolve {record.id}"
        )
    if record.state == "active" and record.waiting:
        host = record.waiting["host"]
        return (
            f"bring {host} and its agent back, and it goes on by itself; if {host} is off for good: "
            f"vmrelay resolve {record.id} --assume-dead {host}"
        )
    return ""
