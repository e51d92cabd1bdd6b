"""Migrations between real simulator processes: steps, events, states, preconditions, locks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from simulator_lab import ENDLESS, Lab, code, create, done, lab, three_hosts, until, uuid_of, without_faults

from worker.hypervisors.vz.sdk import (
    PRL_ERR_TIMEOUT,
    PRL_ERR_UNINITIALIZED,
    PVMT_DONT_RESUME_VM,
    EventType,
    JobStatus,
    VmState,
)

running = pytest.fixture(scope="module")(three_hosts)
sim = pytest.fixture(without_faults)


def test_events_come_in_the_order_of_the_steps_on_both_nodes(sim: Lab) -> None:
    """A running VM moves; both nodes tell it step by step, and the guest was never restarted."""
    name = create(sim)
    source, target = sim.client("alpha"), sim.client("beta")
    before = sim.guest("alpha", name)
    job = source.migrate(name, target)
    assert code(job) == 0
    assert job.get_error() is None
    changed = EventType.VM_STATE_CHANGED
    assert source.kinds(name) == [
        changed, EventType.VM_MIGRATE_STARTED, changed, changed, EventType.VM_MIGRATE_FINISHED,
        EventType.VM_CONFIG_CHANGED, EventType.VM_UNREGISTERED,
    ]  # fmt: skip
    assert target.kinds(name) == [
        EventType.VM_ADDED, EventType.VM_MIGRATE_STARTED, changed, EventType.VM_STARTED,
        EventType.VM_MIGRATE_FINISHED,
    ]  # fmt: skip
    states = [event.params["vminfo_vm_state"] for event in source.events if event.type == changed]
    assert states == [VmState.MIGRATING, VmState.PAUSED, VmState.STOPPED]
    sides = {
        client: event.params["migrate_is_source"]
        for client, events in (("source", source.events), ("target", target.events))
        for event in events
        if event.type == EventType.VM_MIGRATE_STARTED
    }
    assert sides == {"source": "true", "target": "false"}
    finished = next(event for event in target.events if event.type == EventType.VM_MIGRATE_FINISHED)
    assert 0 < int(finished.params["downtime_ms"]) <= 3020
    assert int(finished.params["transferred_bytes"]) > 300 * 2**20
    assert source.state(name) is None
    assert target.state(name) == VmState.RUNNING
    after = sim.guest("beta", name)
    assert before is not None
    assert after is not None
    assert after["boot_id"] == before["boot_id"]
    assert after["boots"] == 1
    assert after["heartbeat"] >= before["heartbeat"]


def test_progress_comes_in_two_sweeps_of_changing_integers(sim: Lab) -> None:
    """The files' sweep ends with 100, then the memory's begins lower; no event repeats the last."""
    name = create(sim, memory_mib=60_000)
    source, target = sim.client("alpha"), sim.client("beta")
    assert code(source.migrate(name, target)) == 0
    kind = EventType.VM_MIGRATE_PROGRESS_CHANGED
    values = [int(event.params["progress_changed"]) for event in source.events if event.type == kind]
    assert values[-1] == 100
    assert values.count(100) == 2
    assert min(values[values.index(100) :]) < 50
    assert all(one != other for one, other in itertools.pairwise(values))


def test_vm_is_in_both_directories_while_it_is_copied(sim: Lab) -> None:
    """Between steps 8 and 12 source and target both show it, MIGRATING."""
    name = create(sim, memory_mib=ENDLESS)
    source, target = sim.client("alpha"), sim.client("beta")
    job = source.migrate(name, target)
    assert job.get_status() == JobStatus.RUNNING
    assert job.get_ret_code() == PRL_ERR_UNINITIALIZED
    assert job.wait(1) == PRL_ERR_TIMEOUT
    until(lambda: target.state(name) == VmState.MIGRATING)
    assert source.state(name) == VmState.MIGRATING
    assert job.get_progress() == 100
    done(job.cancel())
    assert code(job) == 0x80000275


@pytest.mark.parametrize("documented", [False, True])
def test_dont_resume_is_ignored_as_coded_and_heeded_as_documented(documented: bool) -> None:
    """PVMT_DONT_RESUME_VM changes only the event at today's dispatcher, else the guest stays paused."""
    how = "as-documented" if documented else "as-coded"
    with lab(f'dont_resume = "{how}"\nclock_scale = 1000\n[hosts.alpha]\n[hosts.beta]\n') as sim:
        sim.start("alpha", "beta")
        name = create(sim)
        source, target = sim.client("alpha"), sim.client("beta")
        assert code(source.migrate(name, target, flags=0x800002 | PVMT_DONT_RESUME_VM)) == 0
        assert target.state(name) == (VmState.PAUSED if documented else VmState.RUNNING)
        assert EventType.VM_SUSPENDED in target.kinds(name)
        assert EventType.VM_STARTED not in target.kinds(name)


@pytest.mark.parametrize(("state", "shown"), [("paused", VmState.PAUSED), ("stopped", VmState.STOPPED)])
def test_paused_and_stopped_vms_arrive_as_they_were(sim: Lab, state: str, shown: VmState) -> None:
    """Neither is started by its migration; a stopped one has only the files' sweep."""
    name = create(sim, state=state)
    source, target = sim.client("alpha"), sim.client("beta")
    assert code(source.migrate(name, target)) == 0
    assert target.state(name) == shown


def test_vm_gets_a_new_name_and_goes_to_an_address(sim: Lab) -> None:
    """target_name renames; a host is found by its address; disks that are not shared are created."""
    name = create(sim)
    source, target = sim.client("alpha"), sim.client("gamma")
    job = source.migrate(name, target, host="192.0.2.3", new_name=f"{name}-moved", flags=2 | 0x4000)
    assert code(job) == 0
    assert source.kinds(name)[-1] == EventType.VM_DELETED
    moved = target.vm(f"{name}-moved")
    assert moved is not None
    assert moved.uuid == f"{{{uuid_of(name)}}}"


def test_two_migrations_run_at_the_same_time(sim: Lab) -> None:
    """Two VMs leave over one connection, in parallel, sharing the bandwidth."""
    first, second = create(sim, memory_mib=20_000), create(sim, memory_mib=20_000)
    source, target = sim.client("alpha"), sim.client("beta")
    jobs = [source.migrate(name, target) for name in (first, second)]
    until(lambda: len(sim.ask("alpha", "show")["outgoing"]) == 2)
    assert [code(job) for job in jobs] == [0, 0]
    assert [target.state(name) for name in (first, second)] == [VmState.RUNNING] * 2


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "same host": ({}, {"host": "alpha"}, 0x80031045),
    "localhost": ({}, {"host": "localhost"}, 0x80031045),
    "unknown host": ({}, {"host": "delta"}, 0x80000511),
    "session without braces": ({}, {"to": "00000000-0000-0000-0000-000000000000"}, 0x80030001),
    "unknown session": ({}, {"to": "{00000000-0000-0000-0000-000000000000}"}, 0x80030001),
    "low security level": ({}, {"host": "gamma", "flags": 0x800000}, 0x80000277),
    "linked clone": ({"linked_clone": True}, {}, 0x80031000),
    "snapshots": ({"snapshots": True}, {}, 0x80031055),
    "remote device": ({"remote_device": True}, {}, 0x80031000),
    "too few cpus": ({"cpus": 8}, {}, 0x80031000),
    "disk full": ({"shared": False}, {"flags": 2}, 0x80031000),
    "missing disk": ({"shared": False, "disk_gib": 1}, {}, 0x80000016),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_move_stays_and_runs(sim: Lab, case: str) -> None:
    """Each precondition has its code; the VM runs on where it was, MIGRATE_CANCELLED is told."""
    about, how, expected = REFUSALS[case]
    name = create(sim, **about)
    source, target = sim.client("alpha"), sim.client("beta")
    job = source.migrate(name, **{"to": target, **how})
    assert code(job) == expected
    error = job.get_error()
    assert error is not None
    assert error.err_code & 0xFFFFFFFF == expected
    assert error.err_string
    assert bool(job.get_events()) == (expected == 0x80031000)
    assert source.state(name) == VmState.RUNNING
    until(lambda: target.state(name) is None)
    assert EventType.VM_MIGRATE_CANCELLED in source.kinds(name)


def test_nested_events_tell_every_unmet_precondition(sim: Lab) -> None:
    """The envelope's causes come with the job's result."""
    name = create(sim, cpus=8, shared=False, disk_gib=100)
    job = sim.client("alpha").migrate(name, sim.client("beta"))
    assert code(job) == 0x80031000
    assert [event.err_code & 0xFFFFFFFF for event in job.get_events()] == [0x80031004, 0x80031015]


def test_name_and_uuid_taken_on_the_target(sim: Lab) -> None:
    """The name and the uuid have codes of their own."""
    source, target = sim.client("alpha"), sim.client("beta")
    name, other = create(sim), create(sim, "beta")
    assert code(source.migrate(name, target, new_name=other)) == 0x80000115
    create(sim, "beta", name=f"{name}-twin", uuid=uuid_of(name))
    assert code(source.migrate(name, target)) == 0x80000062
    assert source.state(name) == VmState.RUNNING


def test_unreachable_target(sim: Lab) -> None:
    """A dispatcher that is down, and a wrong port, cannot be connected to."""
    name = create(sim)
    source, target = sim.client("alpha"), sim.client("beta")
    vm = source.vm(name)
    assert vm is not None
    assert code(vm.migrate_with_rename_ex("beta", 1, target.session, "", "", 2, 0, True)) == 0x80000510
    sim.kill("beta")
    assert code(source.migrate(name, target)) == 0x80000510


def test_session_is_a_bearer_checked_once_and_dies_with_its_connection(sim: Lab) -> None:
    """After the authorisation the target's client may leave; before it the uuid is void."""
    source, target, other = sim.client("alpha"), sim.client("beta"), sim.client("beta")
    name = create(sim, memory_mib=100_000)
    job = source.migrate(name, target)
    until(lambda: other.state(name) == VmState.MIGRATING)
    target.server.close()
    assert code(job) == 0
    assert other.state(name) == VmState.RUNNING
    assert code(source.migrate(create(sim), target)) == 0x80030001
    done(other.server.logoff())
    assert code(source.migrate(create(sim), other)) == 0x80030001


def test_locked_vm_is_waited_for_then_refused(sim: Lab) -> None:
    """An exclusive operation is waited for about 60 (simulated) seconds; a second migration too."""
    source, target = sim.client("alpha"), sim.client("beta")
    name = create(sim)
    sim.ask("alpha", "vm-lock", name=name, operation="backup")
    assert code(source.migrate(name, target)) == 0x80038113
    sim.ask("alpha", "vm-lock", name=name, operation="")
    assert code(source.migrate(name, target)) == 0
    slow = create(sim, memory_mib=ENDLESS)
    first = source.migrate(slow, target)
    until(lambda: source.state(slow) == VmState.MIGRATING)
    assert code(source.migrate(slow, target)) == 0x80038109
    done(first.cancel())
    assert code(first) == 0x80000275


def test_uuid_that_already_arrives_on_the_target(sim: Lab) -> None:
    """Two hosts sending the same uuid at once: the second is told that one arrives already."""
    name = create(sim, memory_mib=ENDLESS)
    create(sim, "gamma", name=f"{name}-twin", uuid=uuid_of(name))
    alpha, gamma, target = sim.client("alpha"), sim.client("gamma"), sim.client("beta")
    job = alpha.migrate(name, target)
    until(lambda: target.state(name) == VmState.MIGRATING)
    assert code(gamma.migrate(f"{name}-twin", target, flags=0x4002)) == 0x80031034
    done(job.cancel())


def test_power_operations(sim: Lab) -> None:
    """Pause and start keep the guest; stop and start boot it anew; a wrong state is refused."""
    name, source = create(sim), sim.client("alpha")
    vm = source.vm(name)
    assert vm is not None
    boot_id = (sim.guest("alpha", name) or {})["boot_id"]
    assert code(vm.start_ex(0x800)) == 0x80000516
    assert code(vm.pause(False)) == 0
    assert source.state(name) == VmState.PAUSED
    assert code(vm.start_ex(0x800)) == 0
    assert (sim.guest("alpha", name) or {})["boot_id"] == boot_id
    assert code(vm.unregister()) == 0x80000516
    assert code(vm.stop_ex(0, 0)) == 0
    assert code(vm.start_ex(0x800)) == 0
    assert (sim.guest("alpha", name) or {})["boot_id"] != boot_id
    assert code(vm.stop_ex(0, 0)) == 0
    assert code(vm.delete()) == 0
    assert code(vm.get_state()) == 0x80000105
