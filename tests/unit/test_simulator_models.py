"""The simulator's parts without a process: pre-copy, durable directory, file, faults, client."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import SettingsError
from worker.hypervisors.simulator.client import SimulatedServer, connect
from worker.hypervisors.simulator.codes import LOCKED_FOR, Code, describe, natural_step
from worker.hypervisors.simulator.config import Fault, SimulatedVm, load
from worker.hypervisors.simulator.directory import Directory, guest_from
from worker.hypervisors.simulator.faults import Faults
from worker.hypervisors.simulator.precopy import DEVICE_STATE, MAX_DOWNTIME, PreCopy, percent
from worker.hypervisors.vz.sdk import Event, EventType, SdkError

DEMO = Path(__file__).resolve().parents[2] / "deploy/demo/simulator.toml"
MIB = 2.0**20


@given(
    memory=st.floats(1, 1e6),
    rate=st.floats(0, 1e4),
    bandwidth=st.floats(1, 1e4),
    ticks=st.lists(st.floats(0.001, 50), max_size=40),
)
def test_pre_copy_keeps_its_bounds(memory: float, rate: float, bandwidth: float, ticks: list[float]) -> None:
    """Nothing is sent twice as fast as the link, nothing exceeds the memory, percent is 0 to 99."""
    copy = PreCopy(memory * MIB, rate * MIB)
    for tick in ticks:
        copy.advance(tick, bandwidth * MIB)
        assert 0 <= copy.remaining <= copy.memory * 1.000001
        assert copy.sent <= sum(ticks) * bandwidth * MIB * 1.000001
        assert 0 <= copy.percent() <= 99
        if copy.converged:
            assert copy.downtime(bandwidth * MIB) <= MAX_DOWNTIME + DEVICE_STATE


@given(memory=st.floats(64, 1e5), share=st.floats(0, 0.9))
def test_pre_copy_converges_when_the_guest_dirties_less_than_is_sent(memory: float, share: float) -> None:
    """Below the bandwidth it ends by itself; small ticks and one big one agree."""
    bandwidth = 1000 * MIB
    one, many = (PreCopy(memory * MIB, share * bandwidth) for _ in range(2))
    one.advance(1e9, bandwidth)
    while not many.converged:
        many.advance(0.37 * memory / 1000, bandwidth)
    assert one.converged
    assert one.passes == many.passes
    assert one.sent == pytest.approx(many.sent, rel=1e-6)


def test_pre_copy_without_auto_converge_never_ends_against_a_busy_guest() -> None:
    """The dispatcher has no deadline of its own; auto-converge slows the guest until it fits."""
    busy = PreCopy(16_000 * MIB, 2000 * MIB, auto_converge=False)
    busy.advance(10_000, 1000 * MIB)
    assert not busy.converged
    slowed = PreCopy(16_000 * MIB, 2000 * MIB)
    slowed.advance(10_000, 1000 * MIB)
    assert slowed.converged
    assert slowed.throttle > 0
    busy.run_out(1000 * MIB)
    assert busy.converged


def test_percent_of_nothing_is_nothing() -> None:
    """Total 0 counts as 0, the end is capped at 99."""
    assert percent(0, 0) == 0
    assert percent(0, 10) == 99
    assert percent(10, 10) == 0
    assert percent(0.001, 10) == 99


CHANGES = st.lists(st.tuples(st.sampled_from(["running", "paused", "stopped", "gone"]), st.integers(0, 4)), max_size=60)


@given(changes=CHANGES, torn=st.binary(max_size=20))
def test_directory_comes_back_as_it_was(changes: list[tuple[str, int]], torn: bytes) -> None:
    """Whatever was registered, changed or removed, and whatever line a crash tore, a restart sees it."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "alpha.jsonl")
        directory = Directory(path, sync=False)
        assert directory.is_new
        directory.create([])
        for change, number in changes:
            vm = SimulatedVm(name=f"vm-{number}", host="alpha", state="stopped")
            guest = directory.get(vm.plain_uuid) or guest_from(vm, f"/vz/{number}", "generic")
            if change == "gone":
                directory.remove(guest.uuid)
            else:
                guest.enter(change)  # type: ignore[arg-type]
                directory.save(guest)
        directory.close()
        with path.open("ab") as stream:
            stream.write(torn.replace(b"\n", b""))
        again = Directory(path, sync=False)
        again.close()
        assert not again.is_new
        assert {g.uuid: vars(g) for g in again.all()} == {g.uuid: vars(g) for g in directory.all()}


def test_directory_forgets_its_history(tmp_path: Path) -> None:
    """The file does not grow for ever."""
    directory = Directory(tmp_path / "alpha.jsonl", sync=False)
    guest = guest_from(SimulatedVm(name="web-1", host="alpha"), "/vz/1", "generic")
    directory.create([guest])
    for _ in range(5000):
        directory.save(guest)
    directory.close()
    assert (tmp_path / "alpha.jsonl").read_text().count("\n") < 2500


def test_broken_state_file_says_what_to_do(tmp_path: Path) -> None:
    """A file that is no state file is refused, and stays as it is."""
    path = tmp_path / "alpha.jsonl"
    path.write_text("{}\n")
    with pytest.raises(SettingsError, match="remove it"):
        Directory(path, sync=False)
    assert path.read_text() == "{}\n"


def test_heartbeat_counts_while_the_guest_runs() -> None:
    """Pausing stops it, resuming goes on, booting begins anew."""
    guest = guest_from(SimulatedVm(name="web-1", host="alpha"), "/vz/1", "generic")
    boot_id = guest.boot_id
    guest.since -= 5
    assert guest.heartbeat() >= 500
    guest.enter("paused")
    beats = guest.heartbeat()
    assert guest.heartbeat() == beats
    guest.enter("running")
    assert guest.boot_id == boot_id
    assert guest.heartbeat() >= beats
    guest.enter("stopped")
    guest.enter("running")
    assert guest.boot_id != boot_id
    assert guest.boots == 2
    assert guest.heartbeat() < beats


def test_demo_file_has_what_the_demo_tells() -> None:
    """Three hosts; web-1 runs on alpha; one VM is paused; one is on gamma."""
    config = load(DEMO)
    assert list(config.hosts) == ["alpha", "beta", "gamma"]
    vms = {vm.name: vm for vm in config.vms}
    assert (vms["web-1"].host, vms["web-1"].state) == ("alpha", "running")
    assert any(vm.state == "paused" for vm in config.vms)
    assert any(vm.host == "gamma" for vm in config.vms)
    assert all(1024 <= vm.memory_mib <= 8192 for vm in config.vms)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "hosts"),
        ("[hosts.a]\ncolour = 1", "hosts.a.colour"),
        ("[hosts.a]\n[[vms]]\nname = 'x'\nhost = 'b'", "not among hosts"),
        ("[hosts.a]\n" + "[[vms]]\nname = 'x'\nhost = 'a'\n" * 2, "two virtual machines"),
        ("[hosts.a]\n[[faults]]\nhost = 'a'\nkind = 'fire'", "kind"),
        ("clock_scale = 0\n[hosts.a]", "clock_scale"),
        ("[hosts.'../a']", "hosts"),
        ("[hosts", "cannot be read"),
    ],
)
def test_wrong_file_is_refused_with_the_place(tmp_path: Path, text: str, complaint: str) -> None:
    """Each mistake is named."""
    file = tmp_path / "simulator.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=complaint):
        load(file)


def test_state_directory_comes_from_argument_environment_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order; a socket path that Unix cannot hold is refused."""
    file = tmp_path / "simulator.toml"
    file.write_text("state_dir = 'here'\n[hosts.alpha]\n[hosts.beta]\nsocket = 'b/sock'")
    monkeypatch.delenv("VMRELAY_SIMULATOR_STATE_DIR", raising=False)
    assert load(file).socket_path("alpha") == tmp_path / "here/alpha.sock"
    monkeypatch.setenv("VMRELAY_SIMULATOR_STATE_DIR", "/env")
    assert load(file).socket_path("beta") == Path("/env/b/sock")
    assert load(file, Path("/given")).socket_path("alpha") == Path("/given/alpha.sock")
    with pytest.raises(SettingsError, match="--state-dir"):
        load(file, Path("/" + "x" * 120)).socket_path("alpha")
    with pytest.raises(SettingsError, match="no host delta"):
        load(file).socket_path("delta")


def test_faults_are_used_up_one_by_one() -> None:
    """A fault strikes in its role, at its step, for its VM, as often as asked for."""
    faults = Faults()
    faults.arm(Fault(host="a", kind="fail", code=0x80000404, count=2))
    faults.arm(Fault(host="a", kind="fail", code=0x80000405, step=1, vm="web-1"))
    faults.arm(Fault(host="a", kind="delay", seconds=3, step=1, side="destination"))
    assert faults.at_step("source", 2, "web-1") == []
    assert [fault.code for fault in faults.at_step("source", 1, "web-1")] == [0x80000404]
    assert [fault.code for fault in faults.at_step("source", 1, "web-2")] == [0x80000404]
    assert [fault.code for fault in faults.at_step("source", 1, "web-2")] == []
    assert [fault.code for fault in faults.at_step("source", 1, "web-1")] == [0x80000405]
    assert [fault.kind for fault in faults.at_step("destination", 1, "web-9")] == ["delay"]
    assert not faults


def test_codes_have_texts_and_steps() -> None:
    """Known codes have words, unknown ones their number; locks belong to step 2."""
    assert "shutting down" in describe(Code.DISP_SHUTDOWN_IN_PROCESS)
    assert "backup" in describe(LOCKED_FOR["backup"])
    assert "0x80012345" in describe(0x80012345)
    assert describe(Code.FAILURE) == "PRL_ERR_FAILURE"
    assert natural_step(0x80038113) == 2
    assert natural_step(0x80030001) == 4
    assert natural_step(0x80000009) == 10


def test_connecting_to_nobody() -> None:
    """Where no dispatcher listens, connect says so."""
    with pytest.raises(SdkError) as raised:
        connect("/nonexistent/alpha.sock")
    assert raised.value.code == 0x80000249 - 2**32


def test_client_survives_handlers_that_fail_and_a_broken_dispatcher() -> None:
    """A handler's exception kills nothing; the connection's end ends jobs and is told once."""
    ours, theirs = socket.socketpair()
    with closing(theirs):
        server = SimulatedServer(ours)
        told: list[Event] = []
        ended = threading.Event()

        def failing(_event: Event) -> None:
            raise RuntimeError("on purpose")

        def keeping(event: Event) -> None:
            told.append(event)
            if event.type == EventType.DISP_CONNECTION_CLOSED:
                ended.set()

        server.reg_event_handler(failing)
        server.reg_event_handler(keeping)
        first, second = server.get_vm_list_ex(0), server.get_vm_config("x", 0x1000)
        with pytest.raises(SdkError):
            first.get_vms()
        theirs.sendall(b'{"event":100999,"vm":"{x}"}\n')
        theirs.sendall(json.dumps({"id": 1, "code": 0, "vms": []}).encode() + b"\n")
        assert first.wait(5000) == 0
        assert first.get_vms() == []
        assert [event.type for event in told] == [100999]
        server.unreg_event_handler(failing)
        theirs.sendall(b"no json\n")
        assert second.wait(5000) == 0
        assert second.get_ret_code() & 0xFFFFFFFF == 0x80000246
        with pytest.raises(SdkError):
            second.get_vm()
        assert ended.wait(5)
        assert server.get_vm_list_ex(0).get_ret_code() & 0xFFFFFFFF == 0x80000251
        server.close()
        server.close()
