"""Pairs of hosts for the contract suite: each kind of hypervisor gives one.

The simulator's processes come from the unit tests' lab.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract_pairs import Pair

from worker.hypervisors.base import HostConfig, RetryPolicy
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.simulator.client import connect
from worker.hypervisors.vz.driver import VzHypervisor

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from simulator_lab import ENDLESS, Lab, create, three_hosts, uuid_of, without_faults


@pytest.fixture(scope="session")
def simulator() -> Iterator[Lab]:
    """Three simulated hosts for the whole suite."""
    yield from three_hosts()


@pytest.fixture
def simulated(simulator: Lab) -> Iterator[Pair]:
    """Two of them, driven."""
    without_faults(simulator)
    drivers = [driver(simulator, host) for host in ("alpha", "beta")]

    def guest(*, endless: bool = False) -> str:
        return uuid_of(create(simulator, memory_mib=ENDLESS if endless else 600))

    flags = MigrateFlag.LIVE | MigrateFlag.COMPRESSED | MigrateFlag.PERSIST_DEST
    yield Pair(*drivers, guest, flags)
    for one in drivers:
        one.close()


def driver(lab: Lab, host: str) -> VzHypervisor:
    """The driver of a simulated host, opened."""
    path = lab.directory / f"{host}.sock"
    config = HostConfig(host, f"vzsim://{path}", host, RetryPolicy(initial=0.01, maximum=0.05), poll_seconds=0.01)
    made = VzHypervisor(config, lambda: connect(str(path)))
    made.open()
    return made


@pytest.fixture(params=["simulated"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Every kind of hypervisor in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Pair)
    return found
