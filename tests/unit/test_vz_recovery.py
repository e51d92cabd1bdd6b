"""Following and releasing against a scripted SDK: what no simulated host can be made to show at the right moment."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
from vz_fake import LIMITS, MOVE, UUID, FakeHost, FakeWatch, ended, progress_event, started

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import DomainState, Stop
from worker.hypervisors.vz import following
from worker.hypervisors.vz.sdk import Event, EventType, VmState

MIGRATING, PAUSED, RUNNING, STOPPED = VmState.MIGRATING, VmState.PAUSED, VmState.RUNNING, VmState.STOPPED


class TellingWatch(FakeWatch):
    """Has the dispatcher tell something at each look."""

    def __init__(self, host: FakeHost, *told: Event, stop: Stop | None = None) -> None:
        super().__init__(stop)
        self.host, self.told = host, deque(told)

    def progress(self, progress: object) -> None:
        """Remember, and tell the next event."""
        super().progress(progress)  # type: ignore[arg-type]
        if self.told:
            self.host.tell(self.told.popleft())


def test_follow_through_the_switch_over() -> None:
    """Paused and stopped for a moment, a source is not at its end yet; it is when it has let go."""
    host = FakeHost()
    host.add()
    host.states = deque([MIGRATING, MIGRATING, PAUSED, STOPPED, STOPPED])
    watch = TellingWatch(host, started(), progress_event(50))

    def let_go(progress: object) -> None:
        TellingWatch.progress(watch, progress)
        if not host.states:
            host.gone()

    watch.progress = let_go  # type: ignore[method-assign]
    assert host.driver().follow(MOVE, watch).state is DomainState.ABSENT
    assert {progress.description for progress in watch.seen} >= {"waiting", "files"}


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (ended(), STOPPED),
        (Event(EventType.VM_MIGRATE_CANCELLED, f"{{{UUID}}}"), PAUSED),
    ],
)
def test_follow_until_the_dispatcher_says_so(monkeypatch: pytest.MonkeyPatch, event: Event, shown: VmState) -> None:
    """A stub that stays, or a guest paused by its user: the end is told, and nothing is waited for."""
    monkeypatch.setattr(following, "REST_SECONDS", 3600)
    host = FakeHost()
    host.add()
    host.states = deque([MIGRATING, MIGRATING, shown])
    driver = host.driver(limits=replace(LIMITS, settle=3600))
    seen = driver.follow(MOVE, TellingWatch(host, started(), event)).state
    assert seen is {STOPPED: DomainState.SHUTOFF, PAUSED: DomainState.PAUSED}[shown]


def test_follow_what_stays_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is told, since the dispatcher was started anew, what it shows for a while is how it ended."""
    monkeypatch.setattr(following, "REST_SECONDS", 0.01)
    host = FakeHost()
    host.add(PAUSED)
    assert host.driver().follow(MOVE, FakeWatch()).state is DomainState.PAUSED


def test_follow_cancels_once() -> None:
    """A wish to stop goes to the dispatcher as a cancel from this session; what it shows then is the answer."""
    host = FakeHost()
    host.add()
    host.states = deque([MIGRATING, MIGRATING, MIGRATING, RUNNING])
    assert host.driver().follow(MOVE, FakeWatch(Stop.CANCEL)).state is DomainState.RUNNING
    assert host.count("migrate_cancel") == 1


def test_follow_a_host_that_goes_away() -> None:
    """It is waited for a while; then the error says that it cannot be reached."""
    host = FakeHost()
    host.add(MIGRATING)
    driver = host.driver()
    driver.open()

    class Leaving(FakeWatch):
        """The dispatcher dies at the first look."""

        def stop(self) -> Stop | None:
            host.refusals = 1_000_000
            host.servers[-1].alive = False
            return None

    with pytest.raises(HypervisorError) as caught:
        driver.follow(MOVE, Leaving())
    assert caught.value.retry in (Retry.TRANSIENT, Retry.VERIFY)


@pytest.mark.parametrize("state", [RUNNING, MIGRATING, VmState.STARTING, VmState.RESUMING, VmState.UNKNOWN])
def test_release_refuses_what_may_run(state: VmState) -> None:
    """Nothing is stopped or unregistered, whatever the caller saw on the destination."""
    host = FakeHost()
    host.add(state)
    with pytest.raises(HypervisorError) as caught:
        host.driver().release(MOVE)
    assert caught.value.retry is Retry.VERIFY
    assert host.count("stop") == host.count("unregister") == 0


@pytest.mark.parametrize("state", [PAUSED, STOPPED, VmState.SUSPENDED])
def test_release_takes_away_what_stands_still(state: VmState) -> None:
    """A paused copy is stopped first; the files stay, and a second time there is nothing to do."""
    host = FakeHost()
    host.add(state)
    driver = host.driver()
    for _ in range(2):
        assert driver.release(MOVE).state is DomainState.ABSENT
    assert (host.count("stop"), host.count("unregister")) == (int(state is PAUSED), 1)
