"""One relay of real processes for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from drain_lab import DrainRelay
from recovery_lab import QuickRelay
from relay_lab import HOSTS, running_relay
from warm_command import warm


@pytest.fixture(scope="session")
def warm_command() -> Iterator[Path]:
    """The command, without the time that it takes to start."""
    with warm() as command:
        yield command


@pytest.fixture(scope="session")
def whole_relay(warm_command: Path) -> Iterator[DrainRelay]:
    """Redis, three simulated hosts, three agents, a scheduler."""
    # Not below pytest's own directory: a socket's path may not be longer than 107 bytes.
    with TemporaryDirectory(prefix="vmrelay-") as directory, running_relay(Path(directory), DrainRelay) as relay:
        relay.command = warm_command
        yield relay


@pytest.fixture
def relay(whole_relay: DrainRelay) -> Iterator[DrainRelay]:
    """The relay, whole and with no fault armed; a test that breaks it must mend it."""
    yield whole_relay
    dead = whole_relay.dead()
    whole_relay.mend()
    for host in HOSTS:
        whole_relay.ask(host, "clear")
    assert not dead, f"left dead: {dead}"


@pytest.fixture(scope="session")
def whole_quick_relay(warm_command: Path) -> Iterator[QuickRelay]:
    """The same with leases of two seconds, for what agents leave that are killed."""
    with TemporaryDirectory(prefix="vmrelay-") as directory, running_relay(Path(directory), QuickRelay) as relay:
        relay.command = warm_command
        yield relay


@pytest.fixture
def quick_relay(whole_quick_relay: QuickRelay) -> Iterator[QuickRelay]:
    """That relay, whole and with no fault armed; what a test killed is started again."""
    yield whole_quick_relay
    whole_quick_relay.mend()
    for host in HOSTS:
        whole_quick_relay.ask(host, "clear")
