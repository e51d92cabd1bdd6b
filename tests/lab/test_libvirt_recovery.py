"""What recovery meets on real libvirt: agents killed in the midst of a call, and daemons that have just started."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import Recorder, command, driver, eventually
from mortal import Mortal, mortal

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import DomainState, Move, Performed, Stop

if TYPE_CHECKING:
    from libvirt_lab import Guest, Lab, Stage

pytestmark = pytest.mark.lab

ABSENT, RUNNING, PAUSED, SHUTOFF = DomainState.ABSENT, DomainState.RUNNING, DomainState.PAUSED, DomainState.SHUTOFF
MIGRATING, PAUSED_IN, PAUSED_OUT = DomainState.MIGRATING, DomainState.PAUSED_IN, DomainState.PAUSED_OUT
SLOW = {"bandwidth": 1}  # MiB/s: a guest that dirties more than that is copied for ever


@pytest.fixture
def agents(lab: Lab) -> Iterator[Callable[[str], Mortal]]:
    """Start a process with a driver of a host; all are killed at the end."""
    with ExitStack() as stack:
        yield lambda host: stack.enter_context(mortal(lab, host))


def started(source: Mortal, stage: Stage, move: Move, destination: Mortal | None = None) -> None:
    """Begin, prepare, and a perform that is not waited for, but until it copies."""
    begun = source.call("begin", move)
    if destination is not None:
        prepared = destination.call("prepare", move, begun.xml, begun.cookie)
    else:
        prepared = stage.destination.prepare(move, begun.xml, begun.cookie, stage.watch)
    source.start("perform", move, begun.xml, prepared.uri, prepared.cookie)
    with stage.by_hand("alpha", move.uuid) as domain:
        eventually(lambda: domain.jobStats().get("data_remaining", 0) > 0, "copying")


def performed(stage: Stage, move: Move, destination: Mortal) -> Performed:
    """Begin, prepare and perform, with the destination's part in a process that may die."""
    begun = stage.source.begin(move, stage.watch)
    prepared = destination.call("prepare", move, begun.xml, begun.cookie)
    return stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)


@contextmanager
def frozen(lab: Lab, host: str, name: str) -> Iterator[Callable[[], None]]:
    """Stop a guest's QEMU; the function lets it go on."""
    pids = [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if (words := cmdline(process)) and f"guest={name}," in words and f"{lab.folder}/{host}/" in words
    ]
    assert pids

    def thaw() -> None:
        while pids:
            os.kill(pids.pop(), signal.SIGCONT)

    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield thaw
    finally:
        thaw()


def cmdline(process: Path) -> str:
    """What a process was started with, if it is a QEMU."""
    try:
        text = (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
    return text if "qemu-system" in text.split("\0", 1)[0] else ""


def restart(stage: Stage, host: str) -> None:
    """Kill the daemon of a host, and start it again."""
    command("host", stage.lab.folder, host, "kill")
    command("host", stage.lab.folder, host, "start")


def test_source_agent_killed_in_perform(stage: Stage, agents: Callable[[str], Mortal]) -> None:
    """The daemon copies on; the next agent follows it to the end, and the guest arrives without perform's cookie."""
    guest, source = stage.guest("unattended", rate=16), agents("alpha")
    move, watch = guest.move(params=SLOW), Recorder()
    started(source, stage, move)
    source.kill()
    assert stage.states(guest.uuid) == (MIGRATING, PAUSED_IN)

    def hurry() -> Stop | None:
        if watch.seen:
            with stage.by_hand("alpha", guest.uuid) as domain:
                domain.migrateSetMaxSpeed(1 << 10)
        return None

    watch.stopping = hurry
    assert stage.source.follow(move, watch).state is PAUSED_OUT
    assert watch.seen[0].total_bytes
    assert stage.destination.finish(move, b"", False, stage.watch).domain.state is RUNNING
    for _ in range(2):
        assert stage.source.release(move).state is ABSENT
    guest.beats_on()


def test_source_agent_killed_in_perform_that_is_stopped(stage: Stage, agents: Callable[[str], Mortal]) -> None:
    """The next agent aborts what it follows; the destination drops what waits there, and the guest runs on."""
    guest, source = stage.guest("recalled", rate=16), agents("alpha")
    move = guest.move(params=SLOW)
    started(source, stage, move)
    source.kill()
    watch = Recorder(stopping=lambda: Stop.CANCEL)
    assert stage.source.follow(move, watch).state is RUNNING
    stage.drop(move)
    guest.beats_on()


def test_suspended_guest_is_followed_too(stage: Stage, agents: Callable[[str], Mortal]) -> None:
    """One that stands still while it is copied, so that it converges, counts as migrating until the copying ends."""
    guest, source = stage.guest("standing", rate=16), agents("alpha")
    move, watch = guest.move(params=SLOW), Recorder()
    started(source, stage, move)
    source.kill()
    with stage.by_hand("alpha", guest.uuid) as domain:
        domain.suspend()
        assert stage.source.inspect(guest.uuid).state is MIGRATING
        with pytest.raises(HypervisorError, match="stands still"):
            stage.source.release(move)
        domain.migrateSetMaxSpeed(1 << 10)
    assert stage.source.follow(move, watch).state is PAUSED_OUT
    stage.drop(move)
    guest.beats_on()


def test_destination_agent_killed_after_perform(stage: Stage, agents: Callable[[str], Mortal]) -> None:
    """What it prepared is soon gone; a finish says so, and the source runs on."""
    guest, destination = stage.guest("jilted"), agents("beta")
    performed(stage, guest.move(), destination)
    destination.kill()
    with pytest.raises(HypervisorError, match="nothing of jilted is left on beta") as caught:
        stage.destination.finish(guest.move(), b"", False, stage.watch)
    assert (caught.value.code, caught.value.retry, caught.value.after) == (
        "VIR_ERR_NO_DOMAIN",
        Retry.VERIFY,
        Retry.TRANSIENT,
    )
    assert stage.states(guest.uuid) == (PAUSED_OUT, ABSENT)
    stage.drop(guest.move())
    guest.beats_on()


@pytest.mark.parametrize("cancelled", [False, True])
def test_destination_agent_killed_in_finish(stage: Stage, agents: Callable[[str], Mortal], cancelled: bool) -> None:
    """The daemon carries the finish to its end. The next agent's waits for that: two at a time kill the daemon."""
    guest, destination = stage.guest(f"halfway{int(cancelled)}"), agents("beta")
    cookie = performed(stage, guest.move(), destination).cookie
    with frozen(stage.lab, "beta", guest.name) as thaw:
        destination.start("finish", guest.move(), cookie, False)
        with stage.by_hand("beta", guest.uuid) as domain:
            eventually(lambda: domain.controlInfo()[0] != 0, "finish")
        destination.kill()
        assert stage.destination.inspect(guest.uuid).state is PAUSED_IN
        watch = Recorder()
        timer = threading.Thread(target=lambda: (eventually(lambda: bool(watch.seen), "waiting"), thaw()))
        timer.start()
        finished = stage.destination.finish(guest.move(), b"", cancelled, watch)
        timer.join()
    assert finished.domain.state is RUNNING
    assert finished.domain.persistent
    assert stage.source.release(guest.move()).state is ABSENT
    guest.beats_on()


def test_what_a_living_agent_prepared_is_left_alone(
    stage: Stage, agents: Callable[[str], Mortal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process's finish does not touch it, whatever it is asked to do; the owner's then goes well."""
    from worker.hypervisors.libvirt import foreign

    monkeypatch.setattr(foreign, "FOREIGN_SECONDS", 0.2)
    guest, destination = stage.guest("owned"), agents("beta")
    cookie = performed(stage, guest.move(), destination).cookie
    for cancelled in (False, True):
        with pytest.raises(HypervisorError, match="another process that prepared it") as caught:
            stage.destination.finish(guest.move(), b"", cancelled, stage.watch)
        assert caught.value.retry is Retry.VERIFY
    assert destination.call("finish", guest.move(), cookie, False).domain.state is RUNNING
    assert stage.source.release(guest.move()).state is ABSENT
    guest.beats_on()


def test_killed_by_its_daemon_in_finish(stage: Stage, agents: Callable[[str], Mortal]) -> None:
    """A daemon that died between defining the guest and letting it run kills it later: the definition is dropped."""
    guest, destination = stage.guest("defined"), agents("beta")
    performed(stage, guest.move(), destination)
    with stage.by_hand("beta", guest.uuid) as domain:
        domain.connect().defineXML(domain.XMLDesc(0))  # as finish does just before it lets the guest run
    restart(stage, "beta")
    destination.kill()
    assert stage.states(guest.uuid) == (PAUSED_OUT, SHUTOFF)
    stage.drop(guest.move())
    guest.beats_on()


def looked_at_while_it_starts(stage: Stage, host: str, uuid: str) -> set[DomainState]:
    """Restart a daemon, and look from before it answers until it is at rest; every state that was shown."""
    shown: set[DomainState] = set()
    refusals: list[Retry] = []
    rested = threading.Event()

    def look() -> None:
        while not rested.is_set():
            try:
                hypervisor = driver(stage.lab, host)  # a new connection: an agent that starts has no older one
            except HypervisorError:
                continue
            try:
                for _ in range(20):
                    shown.add(hypervisor.inspect(uuid).state)
            except HypervisorError as error:
                refusals.append(error.retry)
            finally:
                hypervisor.close()

    command("host", stage.lab.folder, host, "kill")
    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        command("host", stage.lab.folder, host, "start")
        eventually(lambda: bool(shown), "a look")
    finally:
        rested.set()
        for looker in lookers:
            looker.join()
    assert set(refusals) <= {Retry.TRANSIENT}
    return shown


@pytest.mark.parametrize("shown", [RUNNING, PAUSED])
def test_looks_at_a_daemon_that_starts(stage: Stage, shown: DomainState) -> None:
    """A guest that nobody migrates is never seen as anything but what it is."""
    guest = stage.guest(f"steady{shown}")
    if shown is PAUSED:
        with stage.by_hand("alpha", guest.uuid) as domain:
            domain.suspend()
    assert looked_at_while_it_starts(stage, "alpha", guest.uuid) == {shown}


def test_looks_at_a_source_that_starts(stage: Stage, agents: Callable[[str], Mortal]) -> None:
    """It cancels the copying before it shows the guest: running, and nothing before that."""
    guest, source = stage.guest("cancelled", rate=16), agents("alpha")
    move = guest.move(params=SLOW)
    started(source, stage, move)
    assert looked_at_while_it_starts(stage, "alpha", guest.uuid) == {RUNNING}
    assert isinstance(source.answer(), HypervisorError)
    stage.drop(move)
    guest.beats_on()


@pytest.mark.parametrize("host", ["alpha", "beta"])
def test_looks_at_a_host_that_starts_after_perform(stage: Stage, agents: Callable[[str], Mortal], host: str) -> None:
    """The source shows its copy paused; the destination kills what waited, and shows nothing else before."""
    guest, destination = stage.guest(f"between{host}"), agents("beta")
    performed(stage, guest.move(), destination)
    expected = {PAUSED_OUT} if host == "alpha" else {ABSENT}
    assert looked_at_while_it_starts(stage, host, guest.uuid) == expected
    destination.kill()
    stage.drop(guest.move())
    guest.beats_on()


def test_looks_at_a_destination_that_starts_after_finish(stage: Stage) -> None:
    """The guest that has arrived is seen to run."""
    guest: Guest = stage.guest("arrived")
    cookie = stage.up_to_perform(guest.move())
    stage.destination.finish(guest.move(), cookie, False, stage.watch)
    assert looked_at_while_it_starts(stage, "beta", guest.uuid) == {RUNNING}
    assert stage.source.release(guest.move()).state is ABSENT
    guest.beats_on()
