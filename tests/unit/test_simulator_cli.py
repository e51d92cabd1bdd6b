"""The simulator's command and process: show, fault, vm, one process for each host, instant mode."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from simulator_lab import BODY, ROOT, Lab, code, create, lab, three_hosts, until, without_faults

from worker.cli.simulator import simulator
from worker.hypervisors.vz.sdk import VmState

running = pytest.fixture(scope="module")(three_hosts)
sim = pytest.fixture(without_faults)


def call(sim: Lab, *arguments: str) -> Result:
    """Run `vmrelay simulator …` on this lab."""
    command, host, *rest = arguments
    places = ["--config", str(sim.config), "--state-dir", str(sim.directory)]
    return CliRunner().invoke(simulator, [command, host, *rest, *places])


def test_vm_is_created_changed_shown_and_deleted(sim: Lab) -> None:
    """All of it through the command line."""
    assert (
        call(
            sim, "vm", "alpha", "made", "--create", "--memory", "512", "--cpu-percent", "40", "--state", "paused"
        ).exit_code
        == 0
    )
    shown = json.loads(call(sim, "show", "alpha", "-o", "json").output)
    made = next(vm for vm in shown["vms"] if vm["name"] == "made")
    assert (made["state"], made["memory_mib"], made["cpu_percent"], made["boots"]) == ("paused", 512, 40, 1)
    assert call(sim, "vm", "alpha", "made", "--state", "running").exit_code == 0
    assert "made" in call(sim, "show", "alpha").output
    again = call(sim, "vm", "alpha", "made", "--create")
    assert again.exit_code == 2
    assert "already" in again.output
    assert call(sim, "vm", "alpha", "made", "--delete").exit_code == 0
    assert sim.guest("alpha", "made") is None
    assert call(sim, "vm", "alpha", "made", "--state", "running").exit_code == 2
    assert call(sim, "vm", "alpha", "made").exit_code == 2


def test_faults_are_armed_listed_and_cleared(sim: Lab) -> None:
    """Each option is one fault; what is armed is printed as JSON."""
    options = ["--fail-next", "2", "--code", "0x80000404", "--nested", "0x80000016", "--text", "busy"]
    armed = json.loads(call(sim, "fault", "alpha", *options).output)
    assert len(armed) == 1
    assert armed[0]["code"] == "0x80000404"
    assert (armed[0]["step"], armed[0]["count"], armed[0]["nested"]) == (1, 2, ["0x80000016"])
    more = ["--cut-link", "--crash-at", "8", "--hang", "9", "--noise", "--side", "destination"]
    assert len(json.loads(call(sim, "fault", "alpha", *more).output)) == 5
    dropped = json.loads(call(sim, "fault", "alpha", "--drop-session", "destination").output)[-1]
    assert (dropped["side"], dropped["step"]) == ("destination", 4)
    delayed = json.loads(call(sim, "fault", "alpha", "--clear", "--delay", "10:30").output)
    assert [(fault["kind"], fault["step"], fault["seconds"]) for fault in delayed] == [("delay", 10, 30.0)]
    assert json.loads(call(sim, "fault", "alpha", "--list").output) == delayed
    assert json.loads(call(sim, "fault", "alpha", "--clear").output) == []
    for wrong in ([], ["--fail-next", "1"], ["--delay", "soon"], ["--fail-next", "1", "--code", "x"]):
        assert call(sim, "fault", "alpha", *wrong).exit_code == 2


def test_all_sessions_are_dropped_now(sim: Lab) -> None:
    """--drop-all-sessions does not wait for a migration."""
    client = sim.client("alpha")
    assert call(sim, "fault", "alpha", "--drop-all-sessions").exit_code == 0
    assert client.closed.wait(10)


def test_armed_fault_strikes(sim: Lab) -> None:
    """The command's fault is met by the next job, once."""
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    assert call(sim, "fault", "alpha", "--fail-next", "1", "--code", "0x80000521").exit_code == 0
    assert code(source.migrate(name, target)) == 0x80000521
    assert code(source.migrate(name, target)) == 0


def test_show_never_tells_a_session(sim: Lab) -> None:
    """Session uuids are credentials."""
    client = sim.client("alpha")
    assert client.session.strip("{}") not in call(sim, "show", "alpha", "-o", "json").output
    assert sim.ask("alpha", "show")["sessions"] >= 1


def test_host_that_is_down_and_host_that_is_unknown(tmp_path: Path) -> None:
    """Both are told plainly, exit code 2."""
    (tmp_path / "simulator.toml").write_text(BODY)
    places = ["--config", str(tmp_path / "simulator.toml"), "--state-dir", str(tmp_path)]
    down = CliRunner().invoke(simulator, ["show", "alpha", *places])
    assert (down.exit_code, "start it with" in down.output) == (2, True)
    unknown = CliRunner().invoke(simulator, ["delta", *places])
    assert (unknown.exit_code, "no host delta" in unknown.output) == (2, True)


def test_second_process_of_a_host_refuses_to_start(sim: Lab) -> None:
    """One process owns a host's state; the first one goes on."""
    command = [sys.executable, "-m", "worker.hypervisors.simulator", "alpha", "--config", str(sim.config)]
    second = subprocess.run(
        [*command, "--state-dir", str(sim.directory)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert second.returncode == 2
    assert "runs already" in second.stderr
    assert sim.ask("alpha", "show")["host"] == "alpha"


def test_ends_with_its_parent(tmp_path: Path) -> None:
    """With --exit-with-parent nobody is left when the parent is killed."""
    with lab(BODY) as sim:
        arguments = ["alpha", "--config", str(sim.config), "--state-dir", str(sim.directory)]
        parent = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import subprocess, sys; subprocess.run(sys.argv[1:], check=False)",
                *[sys.executable, "-m", "worker.hypervisors.simulator", *arguments, "--exit-with-parent"],
            ],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        until((sim.directory / "alpha.sock").exists)
        parent.kill()
        parent.wait()
        until(lambda: not (sim.directory / "alpha.sock").exists())


def test_garbage_on_the_socket_harms_nobody(sim: Lab) -> None:
    """No JSON, no object, no known request: the connection's own fault."""
    import socket

    for garbage in (b"nonsense\n", b"[1]\n", b'{"op":"migrate"}\n', b'{"op":"steps","id":1}\n', b'{"id":2}\n'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(sim.directory / "alpha.sock"))
            connection.settimeout(10)
            connection.sendall(garbage)
            answer = connection.recv(1000)
            assert answer == b"" or json.loads(answer)["code"]
    assert sim.ask("alpha", "show")["host"] == "alpha"


def test_instant_mode_moves_many_at_once() -> None:
    """Two hundred migrations by eight threads: with any delay each alone would outlast this test."""
    vms = "".join(f'[[vms]]\nname = "bulk-{n}"\nhost = "alpha"\nmemory_mib = 1000000\n' for n in range(200))
    with lab(f"instant = true\n[hosts.alpha]\n[hosts.beta]\n{vms}") as sim:
        sim.start("alpha", "beta")
        source, target = sim.client("alpha"), sim.client("beta")
        codes: list[int] = []

        def move(first: int) -> None:
            for number in range(first, 200, 8):
                codes.append(code(source.migrate(f"bulk-{number}", target)))
                assert target.state(f"bulk-{number}") == VmState.RUNNING

        threads = [threading.Thread(target=move, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes == [0] * 200
        assert sim.ask("alpha", "show")["vms"] == []
        name = "bulk-7"
        assert code(target.migrate(name, source, host="alpha", new_name="renamed")) == 0
        assert code(target.migrate("bulk-8", source, host="alpha", new_name="renamed")) == 0x80000115
        assert target.state("bulk-8") == VmState.RUNNING
        sim.kill("beta")
        sim.start("beta")
        assert (sim.guest("beta", "bulk-8") or {})["state"] == "running"
        assert code(source.migrate("renamed", target)) == 0x80030001
