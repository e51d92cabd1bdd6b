"""Pairs of hosts for the contract suite: each kind of hypervisor gives one.

The simulator's processes come from the unit tests' lab, libvirt's daemons from ``deploy/lab``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from contract_pairs import Kind, Pair
from libvirt_lab import Stage

from worker.errors import Cancelled, HypervisorError
from worker.hypervisors.base import DomainState, HostConfig, Phase, RetryPolicy
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.simulator.client import connect
from worker.hypervisors.vz.driver import VzHypervisor

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from simulator_lab import ENDLESS, Lab, create, three_hosts, uuid_of, without_faults

ABSENT, RUNNING, PAUSED, SHUTOFF = DomainState.ABSENT, DomainState.RUNNING, DomainState.PAUSED, DomainState.SHUTOFF
MIGRATING, PAUSED_IN, PAUSED_OUT = DomainState.MIGRATING, DomainState.PAUSED_IN, DomainState.PAUSED_OUT

SIMULATED = Kind(
    flags=MigrateFlag.LIVE | MigrateFlag.COMPRESSED | MigrateFlag.PERSIST_DEST,
    # the whole move happens inside perform; what comes before and after only looks
    shows={
        Phase.BEGIN: (RUNNING, ABSENT),
        Phase.PREPARE: (RUNNING, ABSENT),
        Phase.PERFORM: (ABSENT, RUNNING),
        Phase.FINISH: (ABSENT, RUNNING),
        Phase.CONFIRM: (ABSENT, RUNNING),
    },
    copying=(MIGRATING, MIGRATING),
    aborted=Cancelled,
)
LIBVIRT = Kind(
    flags=MigrateFlag.LIVE | MigrateFlag.PERSIST_DEST | MigrateFlag.UNDEFINE_SOURCE,
    shows={
        Phase.BEGIN: (MIGRATING, ABSENT),
        Phase.PREPARE: (MIGRATING, PAUSED_IN),
        Phase.PERFORM: (PAUSED_OUT, PAUSED_IN),
        Phase.FINISH: (PAUSED_OUT, RUNNING),
        Phase.CONFIRM: (ABSENT, RUNNING),
    },
    copying=(MIGRATING, PAUSED_IN),
    aborted=HypervisorError,
    endless={"bandwidth": 1},  # MiB/s, less than it dirties
)


@pytest.fixture(scope="session")
def simulator() -> Iterator[Lab]:
    """Three simulated hosts for the whole suite."""
    yield from three_hosts()


@dataclass
class SimulatedGuests:
    """Guests on the first simulated host."""

    lab: Lab

    def start(self, *, endless: bool = False) -> str:
        """See ``Guests``."""
        return uuid_of(create(self.lab, memory_mib=ENDLESS if endless else 600))

    def enter(self, uuid: str, state: DomainState) -> None:
        """See ``Guests``."""
        name = next(vm["name"] for vm in self.lab.ask("alpha", "show")["vms"] if uuid in vm["uuid"])
        self.lab.ask("alpha", "vm-state", name=name, state={PAUSED: "paused", SHUTOFF: "stopped"}[state])


@pytest.fixture
def simulated(simulator: Lab) -> Iterator[Pair]:
    """Two simulated Virtuozzo hosts, driven."""
    without_faults(simulator)
    drivers = [driver(simulator, host) for host in ("alpha", "beta")]
    yield Pair(*drivers, SimulatedGuests(simulator), SIMULATED)
    for one in drivers:
        one.close()


def driver(lab: Lab, host: str) -> VzHypervisor:
    """The driver of a simulated host, opened."""
    path = lab.directory / f"{host}.sock"
    config = HostConfig(host, f"vzsim://{path}", host, RetryPolicy(initial=0.01, maximum=0.05), poll_seconds=0.01)
    made = VzHypervisor(config, lambda: connect(str(path)))
    made.open()
    return made


_numbers = count()


@dataclass
class LibvirtGuests:
    """Real guests on the lab's first host."""

    stage: Stage

    def start(self, *, endless: bool = False) -> str:
        """See ``Guests``."""
        return self.stage.guest(f"contract-{next(_numbers)}", rate=16 if endless else 2).uuid

    def enter(self, uuid: str, state: DomainState) -> None:
        """See ``Guests``."""
        with self.stage.by_hand("alpha", uuid) as domain:
            {PAUSED: domain.suspend, SHUTOFF: domain.destroy}[state]()


@pytest.fixture
def libvirt(stage: Stage) -> Pair:
    """Two real libvirt hosts, driven."""
    return Pair(stage.source, stage.destination, LibvirtGuests(stage), LIBVIRT)


@pytest.fixture(params=["simulated", pytest.param("libvirt", marks=pytest.mark.lab)])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Every kind of hypervisor in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Pair)
    return found
