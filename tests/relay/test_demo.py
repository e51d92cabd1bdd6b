"""``vmrelay demo``, run as a user runs it; and what it would find wrong."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from up_lab import ROOT, Command, folder, processes, until

from worker.cli.demo_moves import STORIES, Guest, Move, plan, problems
from worker.cli.demo_report import Counters, unequal
from worker.cli.up_lock import holder
from worker.embedded import free_port
from worker.errors import Unavailable
from worker.hypervisors.base import Phase
from worker.hypervisors.simulator.config import load
from worker.journal.record import PhaseRun, Record

pytestmark = pytest.mark.timeout(300)

VMS = [vm.name for vm in load(ROOT / "deploy/demo/simulator.toml").vms]


def environment(directory: Path) -> dict[str, str]:
    """Temporary files of the demo go to this folder; its inventory is the checkout's."""
    return {"TMPDIR": str(directory), "VMRELAY_CONFIG": str(ROOT / "vmrelay.toml"), "NO_COLOR": "1"}


def private(directory: Path) -> set[str]:
    """What lies in the folder besides the output of the commands."""
    return {item.name for item in directory.iterdir() if not item.name.startswith("out-")}


def test_the_demo_as_it_is_committed_leaves_nothing() -> None:
    """As ``make demo`` runs it: exit 0, all that it shows; no process, no file."""
    with folder() as directory, Command(directory, "demo", environment=environment(directory)) as command:
        assert command.ends() == 0, command.output
        assert private(directory) == set()
        assert processes(directory) == {}
        shows_everything(command.output)


def test_ctrl_c_stops_everything() -> None:
    """An interrupt in mid-migration drains, removes, and says 130."""
    with folder() as directory, Command(directory, "demo", environment=environment(directory)) as command:
        command.says("perform on alpha")
        command.process.send_signal(signal.SIGINT)
        assert command.ends() == 130
        assert private(directory) == set()
        assert processes(directory) == {}


def shows_everything(said: str) -> None:
    """Every machine, every phase, retries, counters by flag set and outcome."""
    for name in VMS:
        assert f"  {name}" in said
    header = next(line for line in said.splitlines() if "from → to" in line)
    assert all(phase in header for phase in Phase)
    counted = [tuple(line.split()) for line in said.splitlines()]
    assert ("vz", "compressed,live,persist_dest", "cancelled", "cancelled", "1") in counted
    assert ("vz", "compressed,live,paused,persist_dest", "succeeded", "-", "1") in counted
    assert ("vz", "-", "rejected", "flag-refused", "1") in counted
    assert 'vmrelay_retries_total{phase="perform",class="transient"} 2' in said
    assert said.count(": ok, never restarted") == len(STORIES)
    assert "web-two   running on gamma" in said
    assert "\x1b[" not in said


def test_a_demo_shows_everything_and_a_kept_one_says_how_to_use_and_stop_it() -> None:
    """Exit 0; all that it shows; it runs on in the background, a second one uses it, the printed command stops it."""
    with folder() as directory:
        settings = (ROOT / "vmrelay.toml").read_text().replace("6390", str(free_port()))
        (directory / "vmrelay.toml").write_text(settings.replace("deploy/demo/", ""))
        simulated = (ROOT / "deploy/demo/simulator.toml").read_text().replace("clock_scale = 10 ", "clock_scale = 40")
        # Ten times the memory at four times the speed: there is a middle of perform to cancel in.
        simulated = simulated.replace("8192", "81920").replace('state_dir = "../../.vmrelay/simulator"', "")
        (directory / "simulator.toml").write_text(simulated)
        page = free_port()
        config = {"VMRELAY_CONFIG": str(directory / "vmrelay.toml"), "VMRELAY_WEB__PORT": str(page), "NO_COLOR": "1"}
        try:
            with Command(directory, "demo", "--keep", environment=config) as first:
                assert first.ends() == 0, first.output
            shows_everything(first.output)
            found = holder(directory / ".vmrelay")
            assert found is not None
            assert found.ready
            for text in (
                f"kill {found.pid}",
                "migrate web-1 beta",
                "simulator fault alpha",
                "/metrics",
                f"http://127.0.0.1:{page}/ ",
            ):
                assert text in first.output
            with Command(directory, "demo", "--keep", environment=config) as second:
                assert second.ends() == 0, second.output
            assert f"vmrelay is up already (pid {found.pid}" in second.output
        finally:
            kept = holder(directory / ".vmrelay")
            if kept:
                os.kill(kept.pid, signal.SIGTERM)
        until(lambda: holder(directory / ".vmrelay") is None, "the stop")


def test_an_inventory_with_real_hosts_is_refused() -> None:
    """The demo moves simulated machines only, whatever the environment names."""
    with folder() as directory:
        (directory / "vmrelay.toml").write_text('[hosts.a]\nuri = "qemu:///system"\n')
        with Command(directory, "--config", "vmrelay.toml", "demo") as command:
            assert command.ends() == 2
        assert "no inventory for the demo" in command.output


# -- what it would find wrong -----------------------------------------------------------------------


def guests() -> list[Guest]:
    """The demo's machines before it begins."""
    vms = load(ROOT / "deploy/demo/simulator.toml").vms
    return [Guest(vm.plain_uuid, vm.name, vm.host, vm.state, f"boot-{vm.name}", 1, 7) for vm in vms]


def move_of(name: str) -> Move:
    """The move of one machine."""
    return next(move for move in plan(guests()) if move.story.vm == name)


def moved(move: Move) -> Guest:
    """The machine where it must be after a good move."""
    state = "paused" if move.story.paused else move.before.state
    return dataclasses.replace(move.before, host=move.destination, name=move.new_name, state=state, heartbeat=9)


def good(move: Move) -> Record:
    """The record of a good move."""
    runs = tuple(PhaseRun(1, name, "alpha", 0.1) for name in Phase)
    return Record(move.id, "ended", outcome="succeeded", retries=move.story.failures, phases=runs)


@pytest.mark.parametrize("name", [story.vm for story in STORIES if story.outcome == "succeeded"])
def test_a_good_move_is_found_good(name: str) -> None:
    """Nothing is wrong with a machine that is where it must be, as it must be."""
    move = move_of(name)
    assert problems(move, good(move), [moved(move)]) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"host": "alpha"}, "host is alpha"),
        ({"boot_id": "other"}, "boot_id"),
        ({"boots": 2}, "boots is 2"),
        ({"state": "stopped"}, "state is stopped"),
        ({"name": "web-2"}, "name is web-2"),
        ({"heartbeat": 1}, "heartbeat went back"),
    ],
)
def test_a_machine_that_is_not_as_it_must_be_is_found(change: dict[str, str], complaint: str) -> None:
    """Wrong host, a restart, a wrong state or name: each is named."""
    move = move_of("web-2")
    assert any(complaint in line for line in problems(move, good(move), [dataclasses.replace(moved(move), **change)]))  # type: ignore[arg-type]


def test_copies_outcomes_and_retries_are_checked() -> None:
    """None and two copies, another outcome, too few retries or phases, a refused request that touched a host."""
    move = move_of("cache-1")
    here = moved(move)
    assert "0 copies" in problems(move, good(move), [])[0]
    assert "2 copies" in problems(move, good(move), [here, here])[0]
    record = dataclasses.replace(good(move), outcome="failed", retries=0, phases=())
    assert len(problems(move, record, [here])) == 3
    assert problems(move, None, [here]) == ["there is no record of it"]
    refused = move_of("metrics-1")
    touched = dataclasses.replace(good(refused), outcome="rejected")
    assert problems(refused, touched, [refused.before]) == ["a refused request touched a host"]


def test_a_demo_that_is_run_again_moves_back() -> None:
    """The machines are known by uuid, whatever they are called and wherever they are."""
    first = plan(guests())
    after = [moved(move) if move.story.outcome == "succeeded" else move.before for move in first]
    second = plan(after)
    assert all(move.destination != move.before.host for move in second)
    assert next(move.new_name for move in second if move.story.vm == "web-2") == "web-2"
    with pytest.raises(Unavailable, match="web-1"):
        plan(guests()[1:])


def test_counters_are_held_against_the_journal() -> None:
    """A migration that was counted twice, or not at all, is found; a refusal may lack driver and flags."""
    record = Record("a", "ended", driver="vz", flags_label="live", outcome="succeeded")
    refusal = Record("b", "ended", driver="vz", flags_label="live", outcome="rejected", reason="flag-refused")
    key, refused = ("vz", "live", "succeeded", ""), ("", "", "rejected", "flag-refused")
    assert unequal(Counters(Counter({key: 1, refused: 1})), [record, refusal]) == []
    assert len(unequal(Counters(Counter({key: 2, refused: 1})), [record, refusal])) == 1
    assert len(unequal(Counters(), [record])) == 1
    assert Counters(Counter({key: 3})).since(Counters(Counter({key: 1}))).migrations == Counter({key: 2})
