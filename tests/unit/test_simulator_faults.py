"""Faults, crashes and restarts of real simulator processes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulator_lab import Lab, code, create, create_endless, three_hosts, until, uuid_of, without_faults

from worker.hypervisors.vz.sdk import EventType, JobStatus, SearchFlag, VmState

running = pytest.fixture(scope="module")(three_hosts)
sim = pytest.fixture(without_faults)


def test_failures_strike_as_often_as_armed(sim: Lab) -> None:
    """Two jobs fail with the given code, text and nested events; the third succeeds."""
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    sim.fault("alpha", kind="fail", count=2, code="0x80000404", text="going down", nested=["0x80000016"])
    for _ in range(2):
        job = source.migrate(name, target)
        assert code(job) == 0x80000404
        error = job.get_error()
        assert error is not None
        assert error.err_string == "going down"
        assert job.get_events()[0].err_code & 0xFFFFFFFF == 0x80000016
    assert code(source.migrate(name, target)) == 0


@pytest.mark.parametrize("step", [4, 5, 8, 10])
def test_target_refuses_at_a_step(sim: Lab, step: int) -> None:
    """A failure on the target's side is the job's failure; the target takes back what it made."""
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    sim.fault("beta", kind="fail", side="destination", step=step, code="0x80000016")
    assert code(source.migrate(name, target)) == 0x80000016
    assert source.state(name) == VmState.RUNNING
    assert target.state(name) is None


def test_other_requests_can_fail_too(sim: Lab) -> None:
    """A fault may name any request."""
    name, source = create(sim), sim.client("alpha")
    sim.fault("alpha", kind="fail", op="get_state", code="0x80000521", vm=name)
    vm = source.vm(name)
    assert vm is not None
    assert code(vm.get_state()) == 0x80000521
    assert code(vm.get_state()) == 0


@pytest.mark.parametrize("search", ["name", "uuid"])
def test_a_look_at_one_guest_can_be_held(sim: Lab, search: str) -> None:
    """A delay of get_vm_config hits only that guest, by name and by uuid, after so many looks, while others pass."""
    name, other, source = create(sim), create(sim), sim.client("alpha")
    flag = {"name": SearchFlag.BY_NAME, "uuid": SearchFlag.BY_UUID}[search]
    key = {"name": name, "uuid": f"{{{uuid_of(name)}}}"}[search]
    sim.fault("alpha", kind="hang", op="get_vm_config", vm=name, after=1)
    assert code(source.server.get_vm_config(key, flag)) == 0
    held = source.server.get_vm_config(key, flag)
    assert code(source.server.get_vm_config(other, SearchFlag.BY_NAME)) == 0
    assert code(source.server.get_vm_config(key, flag)) == 0
    assert held.get_status() is JobStatus.RUNNING


def test_a_look_at_an_absent_guest_can_be_held(sim: Lab) -> None:
    """What is not here is known by its uuid: so is a destination's look before the guest arrives."""
    source, uuid = sim.client("alpha"), uuid_of("never-there")
    sim.fault("alpha", kind="fail", op="get_vm_config", vm=uuid, code="0x80000521")
    assert code(source.server.get_vm_config(f"{{{uuid}}}", SearchFlag.BY_UUID)) == 0x80000521


def test_a_dispatcher_that_dies_of_a_request(sim: Lab) -> None:
    """The client's job ends with its connection; what was there is there after a restart."""
    name, source = create(sim), sim.client("alpha")
    sim.fault("alpha", kind="crash", op="get_vm_config", vm=name)
    assert code(source.server.get_vm_config(name, SearchFlag.BY_NAME)) == 0x80000246
    sim.wait("alpha")
    sim.start("alpha")
    assert sim.client("alpha").state(name) == VmState.RUNNING


CUTS = {
    ("alpha", "source", 9): (VmState.RUNNING, None),
    ("beta", "destination", 8): (VmState.RUNNING, None),
    ("beta", "destination", 10): (VmState.PAUSED, None),
    ("alpha", "source", 11): (VmState.STOPPED, None),
    ("beta", "destination", 11): (VmState.STOPPED, VmState.RUNNING),
}


@pytest.mark.parametrize("cut", CUTS)
def test_cut_link(sim: Lab, cut: tuple[str, str, int]) -> None:
    """Where the VM is after a cut depends on the step; the code is the same as for a cancel."""
    host, side, step = cut
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    sim.fault(host, kind="cut-link", side=side, step=step)
    assert code(source.migrate(name, target)) == 0x80000275
    on_source, on_target = CUTS[cut]
    assert source.state(name) == on_source
    until(lambda: target.state(name) == on_target)


def test_silent_target_is_given_up(sim: Lab) -> None:
    """A target that never replies costs the reply timeout, then 0x80000015."""
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    sim.fault("beta", kind="hang", side="destination", step=8)
    assert code(source.migrate(name, target)) == 0x80000015
    assert source.state(name) == VmState.RUNNING


def test_dropped_target_session_makes_the_cookie_void(sim: Lab) -> None:
    """The target's client is dropped just before the authorisation."""
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    sim.fault("beta", kind="drop-session", side="destination")
    assert code(source.migrate(name, target)) == 0x80030001
    assert target.closed.wait(10)


def test_dropped_source_session_loses_the_answer_not_the_migration(sim: Lab) -> None:
    """Jobs end with 0x80000246, later calls with 0x80000251, the task goes on and can be attached to."""
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    sim.fault("alpha", kind="delay", step=10, seconds=300, vm=name)
    sim.fault("alpha", kind="drop-session", step=9)
    job = source.migrate(name, target)
    assert code(job) == 0x80000246
    assert source.closed.wait(10)
    assert not source.server.is_connected()
    assert code(source.server.get_vm_config(name, 0x1000)) == 0x80000251
    again = sim.client("alpha", previous=source.session)
    assert again.login.get_running_tasks() == [job.task]
    attached = again.server.attach_to_lost_task(job.task)
    assert code(attached) == 0
    assert code(sim.client("alpha").server.attach_to_lost_task(job.task)) == 0x80000349
    until(lambda: target.state(name) == VmState.RUNNING)
    until(lambda: again.state(name) is None)
    assert code(again.server.attach_to_lost_task(job.task)) == 0x80000092


def test_source_that_cannot_be_deleted_is_only_a_message(sim: Lab) -> None:
    """The job succeeds; a VM_MESSAGE tells the calling session; the stub stays, stopped."""
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    sim.fault("alpha", kind="fail", code="0x80031048")
    assert code(source.migrate(name, target)) == 0
    message = next(event for event in source.events if event.type == EventType.VM_MESSAGE)
    assert message.err_code & 0xFFFFFFFF == 0x80031048
    assert source.state(name) == VmState.STOPPED
    assert target.state(name) == VmState.RUNNING


def test_noise_doubles_events_and_mixes_in_unknown_ones(sim: Lab) -> None:
    """The migration works all the same."""
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    sim.fault("alpha", kind="noise")
    assert code(source.migrate(name, target)) == 0
    assert 100999 in source.kinds(name)
    until(lambda: source.kinds(name).count(EventType.VM_MIGRATE_FINISHED) == 2)
    assert code(source.migrate(create(sim), target)) == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    armed=st.lists(
        st.tuples(
            st.sampled_from(["fail", "cut-link", "drop-session", "noise", "delay"]),
            st.sampled_from(["source", "destination"]),
            st.integers(1, 12),
        ),
        min_size=1,
        max_size=3,
    ),
    paused=st.booleans(),
)
def test_never_two_running_copies(sim: Lab, armed: list[tuple[str, str, int]], paused: bool) -> None:
    """Whatever goes wrong, at most one copy runs, and it is the guest that was booted once."""
    name = create(sim, state="paused" if paused else "running")
    source, target = sim.client("alpha"), sim.client("beta")
    for kind, side, step in armed:
        host = "alpha" if side == "source" else "beta"
        sim.fault(host, kind=kind, side=side, step=step, vm=name, code="0x80000016", seconds=3)
    result = code(source.migrate(name, target))
    until(lambda: not sim.ask("alpha", "show")["outgoing"] and not sim.ask("beta", "show")["incoming"])
    copies = [vm for host in ("alpha", "beta") if (vm := sim.guest(host, name)) is not None]
    assert copies
    assert [vm["state"] for vm in copies].count("running") <= 1
    assert "migrating" not in {vm["state"] for vm in copies}
    assert len({vm["boot_id"] for vm in copies if vm["state"] != "stopped"}) <= 1
    assert {vm["boots"] for vm in copies} == {1}
    if result == 0:
        arrived = sim.guest("beta", name)
        assert arrived is not None
        assert arrived["state"] == ("paused" if paused else "running")
    source.server.close()
    target.server.close()
    sim.ask("alpha", "clear")
    sim.ask("beta", "clear")


CRASHES = {
    ("alpha", "source", 5): (VmState.RUNNING, None),
    ("alpha", "source", 10): (VmState.RUNNING, None),
    ("alpha", "source", 11): (VmState.STOPPED, None),
    ("alpha", "source", 12): (VmState.STOPPED, VmState.RUNNING),
    ("beta", "destination", 5): (VmState.RUNNING, None),
    ("beta", "destination", 8): (VmState.RUNNING, VmState.STOPPED),
    ("beta", "destination", 11): (VmState.STOPPED, VmState.RUNNING),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_crash_at_a_step_and_restart(sim: Lab, crash: tuple[str, str, int]) -> None:
    """The directory survives, with the target's leftovers; MIGRATING, locks and sessions do not."""
    host, side, step = crash
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    before = sim.guest("alpha", name)
    sim.fault(host, kind="crash", side=side, step=step)
    job = source.migrate(name, target)
    assert code(job) in (0x80000246, 0x80000275)
    assert sim.wait(host) == -9
    sim.start(host)
    states = [sim.client("alpha").state(name), sim.client("beta").state(name)]
    on_source, on_target = CRASHES[crash]
    assert states[0] == on_source
    until(lambda: sim.client("beta").state(name) == on_target)
    shown = sim.ask(host, "show")
    assert shown["locks"] == {}
    assert shown["outgoing"] == shown["incoming"] == []
    runs_on = "alpha" if on_source == VmState.RUNNING else "beta"
    after = sim.guest(runs_on, name)
    if VmState.RUNNING in (on_source, on_target):
        assert before is not None
        assert after is not None
        assert after["boot_id"] == before["boot_id"]


def test_kill_and_restart_keeps_the_vms_and_their_guests_run_on(sim: Lab) -> None:
    """A killed dispatcher comes back with its VMs; the guests' heartbeat never stopped."""
    name = create(sim)
    until(lambda: (sim.guest("alpha", name) or {})["heartbeat"] > 0)
    before = sim.ask("alpha", "show")["vms"]
    sim.kill("alpha")
    sim.start("alpha")
    after = sim.ask("alpha", "show")["vms"]
    keep = ("name", "uuid", "boot_id", "boots", "state")
    assert [[vm[key] for key in keep] for vm in after] == [[vm[key] for key in keep] for vm in before]
    assert all(new["heartbeat"] >= old["heartbeat"] for new, old in zip(after, before, strict=True))


def test_orderly_stop_cancels_what_runs(sim: Lab) -> None:
    """SIGTERM: the task is cancelled, the client told of the shutdown, the VM stays."""
    name, source, target = create_endless(sim)
    job = source.migrate(name, target)
    until(lambda: source.saw(EventType.VM_MIGRATE_PROGRESS_CHANGED))
    assert sim.terminate("alpha") == 0
    assert code(job) in (0x80000275, 0x80000246)
    assert source.closed.wait(10)
    assert source.saw(EventType.DISP_SHUTDOWN)
    sim.start("alpha")
    assert sim.client("alpha").state(name) == VmState.RUNNING
