"""How full a host is shown to be follows from what its agent told and what the settings say of it."""

from __future__ import annotations

from typing import Any

import pytest

from worker.fleet import percent, used
from worker.inventory import Host
from worker.loads import GuestLoad, HostLoad
from worker.settings import HostSettings

LOAD = HostLoad(
    5_000,
    60.0,
    16.0,
    8192,
    {"a": GuestLoad(2.0, 1024), "b": GuestLoad(2.0, 1024), "gone": GuestLoad(9.0, 999, left=4_000)},
)


def host(**own: Any) -> Host:
    """A host with these settings."""
    return Host("alpha", HostSettings(uri="vzsim:///alpha", **own), "vz")


def test_shares_are_of_what_is_left_for_guests() -> None:
    """Guests that are there count, against the host's capacity less its reserve."""
    full = used(host(reserve_memory_mib=4096, reserve_cpu_cores=8), LOAD)
    assert full is not None
    assert (full.cpu, full.memory, full.at) == (0.5, 0.5, 5.0)
    assert full.document() == {
        "cpu": 0.5, "memory": 0.5, "at": 5.0, "seconds": 60.0, "cpu_cores": 4.0, "cpu_cores_usable": 8.0,
        "memory_mib": 2048, "memory_mib_usable": 4096,
    }  # fmt: skip


def test_settings_go_before_what_the_hypervisor_says() -> None:
    """A capacity that is set is the capacity."""
    full = used(host(cpu_cores=40, memory_mib=20480), LOAD)
    assert full is not None
    assert (full.cpu, full.memory) == (0.1, 0.1)


@pytest.mark.parametrize(("seconds", "cores"), [(0.0, 16.0), (60.0, 0.0)])
def test_what_is_not_known_is_not_zero(seconds: float, cores: float) -> None:
    """After one look, or without a number of CPUs, there is no share of CPU; without any load there is nothing."""
    full = used(host(), HostLoad(1, seconds, cores, 0, {}))
    assert full is not None
    assert (full.cpu, full.memory) == (None, None)
    assert used(host(), None) is None
    assert [percent(share) for share in (None, 0.0, 0.874)] == ["-", "0 %", "87 %"]
