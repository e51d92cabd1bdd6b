"""The whole relay, Redis to Celery to agents, over two real libvirt hosts."""

from __future__ import annotations

import functools
import json
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

from worker.hypervisors.base import Phase

if TYPE_CHECKING:
    from worker.journal import Record

pytestmark = pytest.mark.lab

CRAWL = {"bandwidth": 1}  # MiB/s: a guest that dirties more than that is copied for ever
BUSY = {"bandwidth": 16}  # less than a guest of 16 MiB dirties at 64 MiB/s, and a round takes a second


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
    guest = relay.guest("walker", memory=48, rate=8)
    ident = relay.migrate("walker", params=CRAWL)
    seen = until(lambda: (found := relay.result(ident))["status"] == "PROGRESS" and found, "PROGRESS")
    assert set(seen["result"]) >= {"percent", "description"}
    copying(relay, ident)

    def rates() -> bool:
        shown = relay.record(ident).progress  # type: ignore[union-attr]
        return bool(shown["bandwidth_bytes_per_second"]) and 0 < shown["remaining_bytes"] < shown["total_bytes"]

    until(rates, "the record tells how fast it goes")
    relay.send("vmrelay.v1.tune", migration=ident, kind="set-speed", value=1000)
    record = relay.wait(ident)
    assert (record.outcome, len(record.phases)) == ("succeeded", 5)
    assert record.downtime_seconds is not None
    assert record.transferred_bytes
    assert all(each["iteration"] >= 1 for each in relay.events(ident, "progress"))
    until(lambda: relay.result(ident)["status"] == "SUCCESS", "SUCCESS")
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


def test_a_guest_that_cannot_be_moved_is_given_up(relay: LibvirtRelay) -> None:
    """With on_stall=abort a perform that does not converge fails as stalled, with its numbers, and is counted."""
    guest = relay.guest("restless", memory=16, rate=64)
    record = relay.wait(relay.migrate("restless", params=BUSY, on_stall="abort"))
    assert (record.outcome, record.reason, record.attempt) == ("failed", "stalled", 1)
    assert re.search(r"the guest dirties [\d.]+ MiB/s, [\d.]+ MiB/s are copied", record.error)
    [told] = relay.events(record.id, "stalled")
    assert (told["kind"], told["action"]) == ("not-converging", "abort")
    assert told["dirty_bytes_per_second"] > 0
    labels = {"driver": "qemu", "kind": "not-converging", "action": "abort"}
    assert relay.metrics("alpha", "vmrelay_stalls_total", **labels) == 1
    relay.counted(1, outcome="failed", reason="stalled")
    relay.lives(guest, "alpha")


def counted_tunings(relay: LibvirtRelay, kind: str) -> float:
    """So many wishes of this kind were done on alpha; other tests have some too."""
    return relay.metrics("alpha", "vmrelay_tunings_total", driver="qemu", kind=kind, result="done")


def test_a_running_perform_is_tuned(relay: LibvirtRelay) -> None:
    """Wishes for downtime and speed reach the job that runs, are told and counted; too late they are refused."""
    guest = relay.guest("tuned", rate=8)
    kinds = ("set-downtime", "set-speed")
    counted = [counted_tunings(relay, kind) for kind in kinds]
    ident = relay.migrate("tuned", params=CRAWL)
    copying(relay, ident)
    done = relay.cli("set-downtime", ident, "450")
    assert done.returncode == 0, done.stderr
    with relay.domain("tuned", "alpha") as domain:
        assert domain.migrateGetMaxDowntime() == 450
    relay.send("vmrelay.v1.tune", migration=ident, kind="set-speed", value=1000)
    assert relay.wait(ident).outcome == "succeeded"
    tuned = [(told["kind"], told["value"], told.get("error")) for told in relay.events(ident, "tuned")]
    assert tuned == [("set-downtime", 450, None), ("set-speed", 1000, None)]
    assert [counted_tunings(relay, kind) for kind in kinds] == [before + 1 for before in counted]
    late = relay.send("vmrelay.v1.tune", migration=ident, kind="set-speed", value=1)
    until(lambda: relay.result(late)["status"] == "FAILURE", "the refusal")
    assert "is over: succeeded" in str(relay.result(late)["result"])
    relay.lives(guest, "beta")


def test_a_definition_moves_offline(relay: LibvirtRelay) -> None:
    """A shut-off guest moves with --offline alone, and is then defined on the destination and nowhere else."""
    guest = relay.guest("sleeper")
    relay.shut_off(guest)
    refused = relay.wait(relay.migrate("sleeper"))
    assert (refused.reason, "--offline" in refused.error) == ("not-running", True), refused
    done = relay.cli("migrate", "sleeper", "beta", "--offline", "--wait", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert [run["name"] for run in json.loads(done.stdout)["phases"]] == list(Phase)
    assert relay.where("sleeper") == {"beta": "shutoff"}


def test_a_guest_moves_peer_to_peer(relay: LibvirtRelay) -> None:
    """Peer-to-peer the source's daemon does all; phases, figures and the guest are as with any other move."""
    guest = relay.guest("peer")
    record = relay.moved("peer", options={"peer2peer": True})
    assert "peer2peer" in record.flags_label
    assert [run.name for run in record.phases] == list(Phase)
    assert record.downtime_seconds is not None
    assert record.transferred_bytes
    relay.lives(guest, "beta")
