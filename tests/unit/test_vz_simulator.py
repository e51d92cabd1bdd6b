"""The driver against real simulator processes: retries, losses and late cancels as they really happen."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from simulator_lab import ENDLESS, Lab, create, three_hosts, uuid_of, without_faults
from vz_fake import FLAGS, FakeWatch

from worker.errors import Cancelled, HypervisorError, Retry
from worker.hypervisors.base import DomainState, HostConfig, Move, Performed, Progress, RetryPolicy, Stop
from worker.hypervisors.simulator.client import connect
from worker.hypervisors.verdict import VerdictKind, verdict
from worker.hypervisors.vz.connection import Limits
from worker.hypervisors.vz.driver import VzHypervisor

running = pytest.fixture(scope="module")(three_hosts)
sim = pytest.fixture(without_faults)
RUNNING, ABSENT = DomainState.RUNNING, DomainState.ABSENT


class Stage:
    """Two driven hosts and one VM."""

    def __init__(self, sim: Lab) -> None:
        self.sim = sim
        self.source, self.destination = self.driver("alpha"), self.driver("beta")
        self.watch = FakeWatch()

    def driver(self, host: str) -> VzHypervisor:
        """The driver of one host."""
        path = str(self.sim.directory / f"{host}.sock")
        policy = RetryPolicy(initial=0.01, maximum=0.02, slow_initial=0.02, slow_maximum=0.02)
        config = HostConfig(host, f"vzsim://{path}", host, policy, poll_seconds=0.01)
        return VzHypervisor(config, lambda: connect(path), Limits(settle=3, stop=10))

    def move(self, **about: object) -> Move:
        """A new VM on the source."""
        name = create(self.sim, **about)
        return Move(name, uuid_of(name), FLAGS)

    def perform(self, move: Move) -> Performed:
        """Begin, prepare and perform."""
        begun = self.source.begin(move, self.watch)
        prepared = self.destination.prepare(move, begun.xml, begun.cookie, self.watch)
        return self.source.perform(move, begun.xml, prepared.uri, prepared.cookie, self.watch)

    def states(self, move: Move) -> tuple[DomainState, DomainState]:
        """What both show."""
        return self.source.inspect(move.uuid).state, self.destination.inspect(move.uuid).state

    def stop_at(self, percent: int) -> None:
        """Cancel as soon as so much has gone over."""
        remember = self.watch.progress

        def progress(seen: Progress) -> None:
            remember(seen)
            if seen.iteration == 2 and seen.percent >= percent:
                self.watch.wish = Stop.CANCEL

        self.watch.progress = progress  # type: ignore[method-assign]


@pytest.fixture
def stage(sim: Lab) -> Iterator[Stage]:
    """Drivers that are closed afterwards."""
    made = Stage(sim)
    yield made
    made.source.close()
    made.destination.close()


def test_two_transient_failures_then_success(stage: Stage) -> None:
    """The retries are told; downtime and bytes are what the dispatcher measured."""
    stage.sim.fault("alpha", kind="fail", code="0x80000404", count=2)
    move = stage.move()
    performed = stage.perform(move)
    assert [number for _, number, _ in stage.watch.retries] == [1, 2]
    assert performed.downtime_seconds is not None
    assert performed.transferred_bytes
    assert stage.destination.finish(move, performed.cookie, False, stage.watch).domain.state is RUNNING
    assert stage.states(move) == (ABSENT, RUNNING)


def test_a_permanent_failure_is_not_repeated(stage: Stage) -> None:
    """The VM runs on its source, the causes are in the text."""
    stage.sim.fault("alpha", kind="fail", code="0x80031000", nested=["0x80031004"])
    move = stage.move()
    with pytest.raises(HypervisorError) as caught:
        stage.perform(move)
    assert caught.value.retry is Retry.PERMANENT
    assert "PRL_ERR_VM_MIGRATE_NOT_ENOUGH_CPUS_ON_TARGET" in caught.value.message
    assert stage.watch.retries == []
    assert stage.states(move) == (RUNNING, ABSENT)


def test_a_dead_session_on_the_destination_wants_a_new_prepare(stage: Stage) -> None:
    """The cookie is good only while that session lives; with the new one it works."""
    move = stage.move()
    begun = stage.source.begin(move, stage.watch)
    prepared = stage.destination.prepare(move, begun.xml, begun.cookie, stage.watch)
    stage.destination.close()
    with pytest.raises(HypervisorError) as caught:
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert caught.value.retry is Retry.REPREPARE
    stage.perform(move)
    assert stage.states(move) == (ABSENT, RUNNING)


def test_a_session_lost_while_copying(stage: Stage) -> None:
    """The dispatcher goes on without us, and perform sees that it succeeded."""
    stage.sim.fault("alpha", kind="drop-session", step=10)
    move = stage.move()
    performed = stage.perform(move)
    assert stage.destination.finish(move, performed.cookie, False, stage.watch).domain.state is RUNNING
    assert stage.states(move) == (ABSENT, RUNNING)


def test_a_cancel_while_copying(stage: Stage) -> None:
    """The VM runs on its source."""
    move = stage.move(memory_mib=ENDLESS)
    stage.stop_at(0)
    with pytest.raises(Cancelled):
        stage.perform(move)
    assert stage.destination.finish(move, b"", True, stage.watch).domain.state is ABSENT
    assert stage.states(move) == (RUNNING, ABSENT)


def test_a_cancel_in_the_last_window(stage: Stage) -> None:
    """The job says cancelled, the VM runs on the destination: not called cancelled, and the verdict is right."""
    stage.sim.fault("alpha", kind="delay", step=11, seconds=100)
    move = stage.move()
    stage.stop_at(100)
    with pytest.raises(HypervisorError) as caught:
        stage.perform(move)
    assert (caught.value.retry, caught.value.code) == (Retry.VERIFY, "PRL_ERR_OPERATION_WAS_CANCELED")
    assert verdict(*stage.states(move), RUNNING).kind is VerdictKind.STUB_LEFT
    stage.source.remove(move.uuid)
    assert stage.states(move) == (ABSENT, RUNNING)


def test_hosts_that_lose_each_other(stage: Stage) -> None:
    """After the start that is for the caller to look at; the VM runs on its source."""
    stage.sim.fault("alpha", kind="cut-link")
    move = stage.move()
    with pytest.raises(HypervisorError) as caught:
        stage.perform(move)
    assert (caught.value.retry, caught.value.after) == (Retry.VERIFY, Retry.TRANSIENT)
    assert stage.destination.finish(move, b"", True, stage.watch).domain.state is ABSENT
    assert verdict(*stage.states(move), RUNNING).kind is VerdictKind.SAFE_ON_SOURCE


def test_a_crashed_source_dispatcher_is_seen_and_found_again(stage: Stage) -> None:
    """Perform ends in doubt; once the dispatcher is back the driver logs in by itself."""
    stage.sim.fault("alpha", kind="crash", step=9)
    move = stage.move()
    with pytest.raises(HypervisorError) as caught:
        stage.perform(move)
    assert caught.value.retry is Retry.VERIFY
    stage.sim.wait("alpha")
    stage.sim.start("alpha")
    assert stage.source.inspect(move.uuid).state is RUNNING


def test_nothing_logged_holds_a_session(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Over a whole migration with a failure in it, at the loudest level."""
    caplog.set_level(logging.DEBUG)
    stage.sim.fault("beta", kind="drop-session", side="destination")
    move = stage.move()
    with pytest.raises(HypervisorError) as caught:
        stage.perform(move)
    sessions = [one._connection.session().uuid for one in (stage.source, stage.destination)]
    performed = stage.perform(move)
    stage.destination.finish(move, performed.cookie, False, stage.watch)
    sessions += [one._connection.session().uuid for one in (stage.source, stage.destination)]
    assert caplog.records
    shown = caplog.text + str(caught.getrepr(showlocals=False))
    assert not any(session.strip("{}") in shown for session in sessions)
