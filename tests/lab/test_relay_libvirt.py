"""The whole relay, Redis to Celery to agents, over two real libvirt hosts."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import Lab, command
from libvirt_relay import LibvirtRelay
from relay_lab import running_relay, until

if TYPE_CHECKING:
    from worker.journal import Record

pytestmark = pytest.mark.lab

CRAWL = {"bandwidth": 1}  # MiB/s: a guest that dirties more than that is copied for ever
WALK = {"bandwidth": 8}


@pytest.fixture(scope="module")
def whole_relay(lab: Lab, heartbeat: ModuleType) -> Iterator[LibvirtRelay]:
    """Redis, a scheduler, and agents for both hosts of the lab."""
    make = functools.partial(LibvirtRelay, lab=lab, heartbeat=heartbeat)
    with TemporaryDirectory(prefix="vmrelay-") as directory, running_relay(Path(directory), make) as relay:
        yield relay


@pytest.fixture
def relay(whole_relay: LibvirtRelay) -> Iterator[LibvirtRelay]:
    """The relay; the test's guests are removed afterwards."""
    yield whole_relay
    whole_relay.remove_guests()
    assert not whole_relay.dead()


def copying(relay: LibvirtRelay, ident: str) -> Record:
    """Wait until memory is being copied; the record then."""
    until(lambda: any(told["percent"] for told in relay.events(ident, "progress")), f"{ident} copies")
    record = relay.record(ident)
    assert record is not None
    assert (record.state, record.phase) == ("active", "perform")
    return record


def test_a_guest_moves_and_everybody_sees_how_far_it_is(relay: LibvirtRelay) -> None:
    """Rates and rounds in the event stream, PROGRESS in AsyncResult, then one copy, on the destination."""
    guest = relay.guest("walker", memory=48, rate=4)
    ident = relay.migrate("walker", params=WALK)
    seen = until(lambda: (found := relay.result(ident))["status"] == "PROGRESS" and found, "PROGRESS")
    assert set(seen["result"]) >= {"percent", "description"}
    copying(relay, ident)
    record = relay.wait(ident)
    assert (record.outcome, len(record.phases)) == ("succeeded", 5)
    assert record.downtime_seconds is not None
    assert record.transferred_bytes
    told = relay.events(ident, "progress")
    assert min(each["remaining_bytes"] for each in told) < max(each["remaining_bytes"] for each in told)
    assert any(each["bandwidth_bytes_per_second"] for each in told)
    assert all(each["iteration"] >= 1 for each in told)
    assert relay.result(ident)["status"] == "SUCCESS"
    relay.lives(guest, "beta")


def test_a_cancelled_guest_runs_on_and_may_move_later(relay: LibvirtRelay) -> None:
    """A cancel in mid-perform ends it as cancelled; the guest is on its source alone, and moves when asked again."""
    guest = relay.guest("stayer", rate=8)
    ident = relay.migrate("stayer", params=CRAWL)
    copying(relay, ident)
    relay.send("vmrelay.v1.cancel", migration=ident, requested_by="test")
    record = relay.wait(ident)
    assert (record.outcome, record.reason) == ("cancelled", "cancelled")
    relay.lives(guest, "alpha")
    relay.moved("stayer")
    relay.lives(guest, "beta")


def test_a_destination_that_dies_in_mid_perform(relay: LibvirtRelay) -> None:
    """Its daemon is killed and started again: the migration fails, the guest runs on where it was, and moves later."""
    guest = relay.guest("survivor", rate=8)
    ident = relay.migrate("survivor", params=CRAWL, attempts=1)
    copying(relay, ident)
    for order in ("kill", "start"):
        command("host", relay.lab.folder, "beta", order)
    record = relay.wait(ident)
    assert record.outcome == "failed", record
    assert re.match(r"VIR_ERR_|connection-lost", record.reason)
    relay.lives(guest, "alpha")
    relay.moved("survivor")
    relay.lives(guest, "beta")
