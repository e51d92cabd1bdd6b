"""What a look at a libvirt host's guests makes of rare answers. Needs libvirt-python, no host."""

from __future__ import annotations

from typing import Any, cast

import pytest

from worker.errors import HypervisorError
from worker.hypervisors.usage import MIB, Usage, occupied

pytestmark = pytest.mark.lab


def look(connection: FakeConnection) -> Usage:
    """One look over a connection."""
    from worker.hypervisors.libvirt import usage

    return usage.look(cast(Any, connection))


def flag(name: str) -> int:
    """A constant of libvirt's."""
    import libvirt

    return int(getattr(libvirt, f"VIR_{name}"))


class FakeDomain:
    """A domain as libvirt's binding shows it."""

    def __init__(self, uuid: str, gone: bool = False) -> None:
        self.uuid, self.gone = uuid, gone

    def UUIDString(self) -> str:
        """Its uuid."""
        return self.uuid

    def info(self) -> list[int]:
        """State, maximum and current memory in KiB, CPUs, CPU time in nanoseconds."""
        if self.gone:
            raise refused(flag("ERR_NO_DOMAIN"))
        return [1, 2048, 1024, 2, 3_000_000_000]


class FakeConnection:
    """A connection that answers as it is told to."""

    def __init__(self, rows: list[tuple[FakeDomain, dict[str, Any]]], refuse: int = 0, code: int = 0) -> None:
        self.rows, self.refuse, self.code = rows, refuse, code
        self.asked: list[tuple[int, int]] = []
        self.total: int | None = None
        self.alive = True

    def isAlive(self) -> bool:
        """Whether anybody is at the other end."""
        return self.alive

    def getInfo(self) -> list[Any]:
        """Model, memory in MiB, CPUs."""
        return ["x86_64", 4096, 8, 2000, 1, 1, 4, 2]

    def getMemoryStats(self, _cell: int) -> dict[str, int]:
        """KiB."""
        if self.total is None:
            raise refused(flag("ERR_NO_SUPPORT"))
        return {"total": self.total, "free": 1}

    def getAllDomainStats(self, groups: int, flags: int) -> list[tuple[FakeDomain, dict[str, Any]]]:
        """The bulk call."""
        self.asked.append((groups, flags))
        if len(self.asked) <= self.refuse:
            raise refused(self.code)
        return self.rows

    def listAllDomains(self, _flags: int) -> list[FakeDomain]:
        """What is active."""
        return [domain for domain, _ in self.rows]


def refused(code: int) -> Exception:
    """An error of libvirt's with this code."""
    import libvirt

    error = libvirt.libvirtError("it does not")
    error.err = (code, 0, "it does not", 2, None, None, None, 0, 0)
    return cast(Exception, error)


def test_libvirt_reads_one_bulk_answer_without_waiting_for_a_guest() -> None:
    """One call for all guests; a guest that was occupied tells less, and is told all the same."""
    whole = {
        "cpu.time": 1_500_000_000, "balloon.current": 1024, "balloon.maximum": 2048, "balloon.rss": 400_000,
        "dirtyrate.calc_status": flag("DOMAIN_DIRTYRATE_MEASURED"), "dirtyrate.megabytes_per_second": 12,
    }  # fmt: skip
    connection = FakeConnection([(FakeDomain("a"), whole), (FakeDomain("b"), {"balloon.maximum": 2048})])
    seen = look(connection)
    assert (seen.cpus, seen.memory_bytes) == (8, 4096 * MIB)
    first, second = seen.guests
    assert (first.cpu_seconds, first.memory_bytes, first.dirty_bytes_per_second) == (1.5, 400_000 * 1024, 12 * MIB)
    assert (second.cpu_seconds, second.memory_bytes, second.dirty_bytes_per_second) == (None, occupied(2 * MIB), 0)
    assert [flags & flag("CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT") != 0 for _, flags in connection.asked] == [True]


def test_memory_that_no_numa_node_counts_is_the_hosts_all_the_same() -> None:
    """Where the nodes add up to less than the host has, what the host has counts."""
    connection = FakeConnection([])
    connection.total = 8 * 1024 * 1024
    assert look(connection).memory_bytes == 8192 * MIB


def test_a_rate_that_is_only_being_measured_is_none() -> None:
    """A dirty rate counts when its measurement is over."""
    told = {"dirtyrate.calc_status": flag("DOMAIN_DIRTYRATE_MEASURING"), "dirtyrate.megabytes_per_second": 12}
    assert look(FakeConnection([(FakeDomain("a"), told)])).guests[0].dirty_bytes_per_second == 0


@pytest.mark.parametrize("refuse", [1, 2])
def test_libvirt_that_knows_less_is_asked_for_less(refuse: int) -> None:
    """Without dirty rates, or without bulk statistics, the rest is told; a guest that has just gone is left out."""
    rows = [(FakeDomain("a"), {"cpu.time": 3_000_000_000, "balloon.current": 1024}), (FakeDomain("b", gone=True), {})]
    connection = FakeConnection(rows if refuse > 1 else rows[:1], refuse, flag("ERR_NO_SUPPORT"))
    (guest,) = look(connection).guests
    assert (guest.uuid, guest.cpu_seconds, guest.memory_bytes) == ("a", 3.0, occupied(MIB))


def test_a_guest_that_ends_in_the_midst_does_not_hide_the_others() -> None:
    """libvirt 9.0.0 fails for all guests where one's QEMU ends under the call: it is asked again, for the same."""
    connection = FakeConnection([(FakeDomain("a"), {"cpu.time": 1})], 2, flag("ERR_OPERATION_FAILED"))
    assert len(look(connection).guests) == 1
    assert len(set(connection.asked)) == 1


def test_libvirt_that_goes_on_failing_is_not_asked_for_ever() -> None:
    """An error that stays is told."""
    connection = FakeConnection([], 9, flag("ERR_INTERNAL_ERROR"))
    with pytest.raises(HypervisorError):
        look(connection)
    assert len(connection.asked) == 3


def test_a_lost_connection_is_told_at_once() -> None:
    """Nothing is asked again over a connection that is dead."""
    connection = FakeConnection([], 9, flag("ERR_INTERNAL_ERROR"))
    connection.alive = False
    with pytest.raises(HypervisorError):
        look(connection)
    assert len(connection.asked) == 1
