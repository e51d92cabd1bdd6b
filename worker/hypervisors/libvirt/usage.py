"""What a libvirt host's guests use: one bulk call (``virConnectGetAllDomainStats``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import libvirt

from worker.errors import HypervisorError
from worker.hypervisors.libvirt.errors import calling
from worker.hypervisors.usage import GuestUsage, Usage, occupied

log = logging.getLogger(__name__)

KIB, MIB = 2**10, 2**20
TRIES = 3
_GROUPS = libvirt.VIR_DOMAIN_STATS_CPU_TOTAL | libvirt.VIR_DOMAIN_STATS_BALLOON
_MEASURED = libvirt.VIR_DOMAIN_STATS_DIRTYRATE
"""Told where somebody has had it measured (``virDomainStartDirtyRateCalc``); it is never measured for this."""
# A guest that is occupied tells what needs no wait: a finish or a confirm is not to stand behind a statistic.
_FLAGS = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
_REFUSED = (
    "VIR_ERR_NO_SUPPORT",
    "VIR_ERR_INVALID_ARG",
    "VIR_ERR_OPERATION_UNSUPPORTED",
    "VIR_ERR_ARGUMENT_UNSUPPORTED",
)


def look(connection: libvirt.virConnect) -> Usage:
    """One look. Raises ``HypervisorError``."""
    memory_bytes, cpus = _host(connection)
    at = time.monotonic()
    return Usage(at, cpus, memory_bytes, _guests(connection))


def _host(connection: libvirt.virConnect) -> tuple[int, int]:
    """Memory in bytes, and CPUs.

    ``virNodeGetInfo`` adds up what NUMA nodes say, which leaves out memory that was plugged in later
    (``/proc/meminfo`` has it: 24 GiB where the nodes had 9, seen with libvirt 9.0.0).
    """
    told = calling(connection.getInfo, effect=False)
    try:
        every = calling(partial(connection.getMemoryStats, libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS), effect=False)
    except HypervisorError as failure:
        if failure.code not in _REFUSED:
            raise
        every = {}
    return max(int(told[1]) * MIB, int(every.get("total", 0)) * KIB), int(told[2])


def _guests(connection: libvirt.virConnect) -> tuple[GuestUsage, ...]:
    for groups in (_GROUPS | _MEASURED, _GROUPS):
        try:
            rows = _all(connection, groups)
        except HypervisorError as failure:
            if failure.code not in _REFUSED:
                raise
        else:
            return tuple(_guest(domain, told) for domain, told in rows)
    return _one_by_one(connection)


def _all(connection: libvirt.virConnect, groups: int) -> list[tuple[libvirt.virDomain, dict[str, Any]]]:
    """The bulk call. A guest whose QEMU ends under it makes it fail for all of them: it is made again."""
    for more in reversed(range(TRIES)):
        try:
            return calling(partial(connection.getAllDomainStats, groups, _FLAGS), effect=False)
        except HypervisorError as failure:
            if not more or failure.code in _REFUSED or not connection.isAlive():
                raise
            log.debug("asked for statistics once more: %s", failure)
    raise AssertionError("the last try returns or raises")


def _guest(domain: libvirt.virDomain, told: Mapping[str, Any]) -> GuestUsage:
    """One guest of the bulk answer; what a group could not tell is missing from it."""
    memory = int(told.get("balloon.current") or told.get("balloon.maximum") or 0) * KIB
    resident = int(told.get("balloon.rss") or 0) * KIB
    nanoseconds = told.get("cpu.time")
    measured = told.get("dirtyrate.calc_status") == libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED
    return GuestUsage(
        domain.UUIDString(),
        None if nanoseconds is None else int(nanoseconds) / 1e9,
        max(occupied(memory), resident),
        float(told.get("dirtyrate.megabytes_per_second") or 0) * MIB if measured else 0.0,
    )


def _one_by_one(connection: libvirt.virConnect) -> tuple[GuestUsage, ...]:
    """For a driver of libvirt's without bulk statistics."""
    active = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
    found = []
    for domain in calling(lambda: connection.listAllDomains(active), effect=False):
        try:
            _, _, kib, _, nanoseconds = calling(domain.info, effect=False)
        except HypervisorError as failure:
            if failure.code != "VIR_ERR_NO_DOMAIN":
                raise
            continue
        found.append(GuestUsage(domain.UUIDString(), nanoseconds / 1e9, occupied(kib * KIB)))
    return tuple(found)
