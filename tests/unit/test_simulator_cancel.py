"""Cancel in all its forms, with the quirks of the dispatcher, on real simulator processes."""

from __future__ import annotations

import pytest
from simulator_lab import ENDLESS, Lab, code, create, create_endless, three_hosts, until, without_faults

from worker.hypervisors.vz.sdk import PRL_ERR_TIMEOUT, EventType, VmState

running = pytest.fixture(scope="module")(three_hosts)
sim = pytest.fixture(without_faults)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_flag_8_cancels_the_tasks_of_a_session_that_ends(sim: Lab, side: str) -> None:
    """PACF_CANCEL_TASK_ON_END_SESSION works on either node; the VM runs on."""
    source = sim.client("alpha", flags=0xC if side == "source" else 4)
    target = sim.client("beta", flags=0xC if side == "destination" else 4)
    watcher, name = sim.client("alpha"), create(sim, memory_mib=ENDLESS)
    source.migrate(name, target)
    until(lambda: source.saw(EventType.VM_MIGRATE_PROGRESS_CHANGED))
    (source if side == "source" else target).server.close()
    until(lambda: watcher.state(name) == VmState.RUNNING)
    assert EventType.VM_MIGRATE_CANCELLED in watcher.kinds(name)


def test_job_cancel_succeeds_at_once_and_the_job_ends_later(sim: Lab) -> None:
    """SUCCESS, then 0x80000275; TASK_NOT_FOUND afterwards; the source runs, the target forgets."""
    name, source, target = create_endless(sim)
    job = source.migrate(name, target)
    until(lambda: source.saw(EventType.VM_MIGRATE_PROGRESS_CHANGED))
    assert code(job.cancel()) == 0
    assert code(job) == 0x80000275
    assert code(job.cancel()) == 0x80000092
    assert source.state(name) == VmState.RUNNING
    until(lambda: target.state(name) is None)
    assert source.kinds(name)[-3:] == [
        EventType.VM_STATE_CHANGED, EventType.VM_STARTED, EventType.VM_MIGRATE_CANCELLED
    ]  # fmt: skip
    until(lambda: EventType.VM_MIGRATE_CANCELLED in target.kinds(name))


def test_job_of_another_session_cannot_be_cancelled(sim: Lab) -> None:
    """PrlJob_Cancel is for the session that owns the job; PrlVm_MigrateCancel is for any."""
    name, source, target = create_endless(sim)
    job = source.migrate(name, target)
    other = sim.client("alpha")
    foreign = other.server.request({"op": "job_cancel", "task": job.task})
    assert code(foreign) == 0x80000005
    vm = other.vm(name)
    assert vm is not None
    assert code(vm.migrate_cancel()) == 0
    assert code(job) == 0x80000275


def test_migrate_cancel_works_on_the_target_too(sim: Lab) -> None:
    """A cancel on the target reaches the source as a lost connection: the same code."""
    name, source, target = create_endless(sim)
    job = source.migrate(name, target)
    vm = until(lambda: target.vm(name))
    assert code(vm.migrate_cancel()) == 0
    assert code(job) == 0x80000275
    assert source.state(name) == VmState.RUNNING


def test_migrate_cancel_without_a_migration_is_never_answered(sim: Lab) -> None:
    """The cancel job does not finish while the session lives."""
    source, name = sim.client("alpha"), create(sim)
    vm = source.vm(name)
    assert vm is not None
    job = vm.migrate_cancel()
    assert source.state(name) == VmState.RUNNING  # a later request is answered before it
    assert job.wait(50) == PRL_ERR_TIMEOUT
    source.server.close()
    assert code(job) == 0x80000246


@pytest.mark.parametrize("step", [1, 5, 8, 9, 10])
def test_cancel_before_the_switch_over_leaves_the_source_running(sim: Lab, step: int) -> None:
    """Wherever the task waits: 0x80000275, the VM runs on its source and is gone from the target."""
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    sim.fault("alpha", kind="hang", step=step, vm=name)
    job = source.migrate(name, target)
    until(lambda: sim.ask("alpha", "show")["outgoing"] == [{"vm": name, "step": step}])
    assert code(job.cancel()) == 0
    assert code(job) == 0x80000275
    assert source.state(name) == VmState.RUNNING
    until(lambda: target.state(name) is None)


def test_cancel_in_the_last_window_spoils_only_the_answer(sim: Lab) -> None:
    """In step 11 the job says cancelled although the VM runs on the target; a stub stays behind."""
    name, source, target = create(sim), sim.client("alpha"), sim.client("beta")
    sim.fault("alpha", kind="hang", step=11, vm=name)
    job = source.migrate(name, target)
    until(lambda: EventType.VM_MIGRATE_FINISHED in target.kinds(name))
    assert code(job.cancel()) == 0
    assert code(job) == 0x80000275
    assert source.state(name) == VmState.STOPPED
    assert target.state(name) == VmState.RUNNING
