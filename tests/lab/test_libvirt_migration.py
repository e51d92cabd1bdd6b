"""The five phases between two real libvirt hosts with a real guest."""

from __future__ import annotations

import logging
import threading
import uuid as uuids
from typing import TYPE_CHECKING

import pytest
from conftest import command

from worker.errors import Cancelled, HypervisorError, Rejected, Retry
from worker.hypervisors.base import DomainState, Move, Stop
from worker.hypervisors.flags import MigrateFlag as Flag

if TYPE_CHECKING:
    from conftest import Stage

pytestmark = pytest.mark.lab

ABSENT, RUNNING, PAUSED = DomainState.ABSENT, DomainState.RUNNING, DomainState.PAUSED
PAUSED_OUT, PAUSED_IN, MIGRATING = DomainState.PAUSED_OUT, DomainState.PAUSED_IN, DomainState.MIGRATING
LIVE = int(Flag.LIVE | Flag.PERSIST_DEST | Flag.UNDEFINE_SOURCE)
SLOW = {"bandwidth": 1}  # MiB/s: a guest that dirties more than that is copied for ever


def suspend(stage: Stage, uuid: str) -> None:
    """Pause a guest as its user would."""
    import libvirt

    connection = libvirt.open(stage.lab.uris["alpha"])
    connection.lookupByUUIDString(uuid).suspend()
    connection.close()


def test_there_and_back(stage: Stage) -> None:
    """A running guest moves there and back, each phase shows what it should, and no beat is lost."""
    guest = stage.guest("wanderer")
    move, watch = guest.move(), stage.watch
    for here in (stage, stage.turned()):
        begun = here.source.begin(move, watch)
        assert f"<uuid>{guest.uuid}</uuid>" in begun.xml
        assert not begun.paused
        assert here.states(guest.uuid) == (MIGRATING, ABSENT)
        prepared = here.destination.prepare(move, begun.xml, begun.cookie, watch)
        assert prepared.uri.startswith("tcp:127.")
        assert here.states(guest.uuid) == (MIGRATING, PAUSED_IN)
        performed = here.source.perform(move, begun.xml, prepared.uri, prepared.cookie, watch)
        assert here.states(guest.uuid) == (PAUSED_OUT, PAUSED_IN)
        finished = here.destination.finish(move, performed.cookie, False, watch)
        assert (finished.domain.name, finished.domain.state) == ("wanderer", RUNNING)
        assert finished.domain.persistent
        assert finished.domain.memory_bytes == 32 << 20
        assert finished.downtime_seconds is not None
        assert finished.downtime_seconds >= 0
        assert finished.transferred_bytes
        assert here.states(guest.uuid) == (PAUSED_OUT, RUNNING)
        assert here.source.confirm(move, finished.cookie, False, watch).state is ABSENT
        assert here.states(guest.uuid) == (ABSENT, RUNNING)
        guest.beats_on()


def test_source_definition_stays_without_undefine(stage: Stage) -> None:
    """Without UNDEFINE_SOURCE the source keeps the definition, shut off."""
    guest = stage.guest("kept")
    move = guest.move(int(Flag.LIVE | Flag.PERSIST_DEST))
    finished = stage.destination.finish(move, stage.up_to_perform(move), False, stage.watch)
    assert stage.source.confirm(move, finished.cookie, False, stage.watch).state is DomainState.SHUTOFF
    assert stage.states(guest.uuid) == (DomainState.SHUTOFF, RUNNING)


def test_paused_guest_arrives_paused(stage: Stage) -> None:
    """A guest that its user paused arrives paused, and beats on when it is resumed there."""
    guest = stage.guest("sleeper")
    suspend(stage, guest.uuid)
    begun = stage.source.begin(guest.move(), stage.watch)
    assert begun.paused
    move = guest.move(LIVE | int(Flag.PAUSED))
    prepared = stage.destination.prepare(move, begun.xml, begun.cookie, stage.watch)
    performed = stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    finished = stage.destination.finish(move, performed.cookie, False, stage.watch)
    assert finished.domain.state is PAUSED
    assert stage.destination.finish(move, performed.cookie, False, stage.watch).domain.state is PAUSED
    assert stage.source.confirm(move, finished.cookie, False, stage.watch).state is ABSENT
    assert stage.destination.resume(guest.uuid).state is RUNNING
    guest.beats_on()


def test_paused_on_request(stage: Stage) -> None:
    """With PAUSED a running guest arrives paused."""
    guest = stage.guest("lulled")
    move = guest.move(LIVE | int(Flag.PAUSED))
    stage.migrate(move)
    assert stage.states(guest.uuid) == (ABSENT, PAUSED)


def test_cancelled_after_prepare(stage: Stage) -> None:
    """An attempt dropped after prepare leaves the guest running, and the next one succeeds."""
    guest = stage.guest("stayer")
    stage.up_to_prepare(guest.move())
    stage.drop(guest.move())
    guest.beats_on()
    stage.migrate(guest.move())
    guest.beats_on()


def test_cancelled_after_perform(stage: Stage) -> None:
    """An attempt dropped after perform lets the guest run on at its source with every beat."""
    guest = stage.guest("returner")
    stage.up_to_perform(guest.move())
    stage.drop(guest.move())
    guest.beats_on()


@pytest.mark.parametrize("why", list(Stop))
def test_stopped_during_perform(stage: Stage, why: Stop) -> None:
    """A perform told to stop is aborted with progress seen, and the guest runs on at its source."""
    guest = stage.guest(f"stopped-{why}", rate=16)
    deadline = 0.3 if why is Stop.DEADLINE else None
    move = guest.move(params=SLOW, deadline_seconds=deadline)
    if why is not Stop.DEADLINE:  # which perform finds by itself
        stage.watch.stopping = lambda: why if len(stage.watch.seen) > 2 else None
    begun, prepared = stage.up_to_prepare(move)
    with pytest.raises(Cancelled, match=str(why)):
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert any(progress.total_bytes for progress in stage.watch.seen)
    stage.drop(move)
    guest.beats_on()


def test_aborted_from_elsewhere(stage: Stage) -> None:
    """A perform aborted by somebody else fails as aborted, and what comes next is an operator's choice."""
    guest = stage.guest("aborted", rate=16)
    move = guest.move(params=SLOW)
    begun, prepared = stage.up_to_prepare(move)
    copying = threading.Event()

    def abort() -> None:
        copying.wait(30)
        stage.source.abort(guest.uuid)

    def told() -> Stop | None:
        if stage.watch.seen and stage.watch.seen[-1].total_bytes:
            copying.set()
        return None

    stage.watch.stopping = told
    thread = threading.Thread(target=abort)
    thread.start()
    with pytest.raises(HypervisorError) as caught:
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    thread.join()
    assert (caught.value.code, caught.value.after) == ("VIR_ERR_OPERATION_ABORTED", Retry.OPERATOR)
    stage.drop(move)
    stage.source.abort(guest.uuid)
    stage.source.abort(str(uuids.uuid4()))
    guest.beats_on()


def test_watch_that_fails_leaves_no_perform_behind(stage: Stage) -> None:
    """What the watch raises comes out of perform only when the copying has ended."""
    guest = stage.guest("watched", rate=16)
    move = guest.move(params=SLOW)
    begun, prepared = stage.up_to_prepare(move)

    def broken() -> Stop | None:
        raise LookupError("the journal is gone")

    stage.watch.stopping = broken
    with pytest.raises(LookupError):
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert stage.source.inspect(guest.uuid).state is RUNNING
    stage.drop(move)
    guest.beats_on()


def test_destination_connection_lost_before_perform(stage: Stage) -> None:
    """The incoming domain dies with the connection that prepared it: perform fails, the source runs on."""
    guest = stage.guest("deserted")
    begun, prepared = stage.up_to_prepare(guest.move())
    stage.destination.close()
    with pytest.raises(HypervisorError) as caught:
        stage.source.perform(guest.move(), begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert (caught.value.retry, caught.value.after) == (Retry.VERIFY, Retry.TRANSIENT)
    stage.drop(guest.move())
    guest.beats_on()
    stage.migrate(guest.move())
    guest.beats_on()


def test_source_connection_lost_before_perform(stage: Stage) -> None:
    """libvirt drops the job with the connection that began it: perform is not even tried."""
    guest = stage.guest("orphan")
    begun, prepared = stage.up_to_prepare(guest.move())
    stage.source.close()
    with pytest.raises(HypervisorError, match="begin again") as caught:
        stage.source.perform(guest.move(), begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert (caught.value.retry, caught.value.untouched) == (Retry.REPREPARE, True)
    stage.drop(guest.move())
    guest.beats_on()


def test_both_connections_lost_after_perform(stage: Stage) -> None:
    """Paused on the source and gone from the destination: the source is resumed, and no beat is lost."""
    guest = stage.guest("stranded")
    stage.up_to_perform(guest.move())
    stage.source.close()
    stage.destination.close()
    assert stage.source.inspect(guest.uuid).state is PAUSED_OUT
    stage.drop(guest.move())
    guest.beats_on()


def test_source_connection_lost_after_perform(stage: Stage) -> None:
    """The guest is finished on the destination, even without a cookie; the source's copy is removed."""
    guest = stage.guest("widow")
    stage.up_to_perform(guest.move())
    stage.source.close()
    assert stage.states(guest.uuid) == (PAUSED_OUT, PAUSED_IN)
    assert stage.destination.finish(guest.move(), b"", False, stage.watch).domain.state is RUNNING
    with pytest.raises(HypervisorError, match="is still on alpha"):
        stage.source.confirm(guest.move(), b"", False, stage.watch)
    stage.source.remove(guest.uuid)
    stage.source.remove(guest.uuid)
    assert stage.states(guest.uuid) == (ABSENT, RUNNING)
    guest.beats_on()


def test_what_would_crash_libvirtd_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare without a cookie and perform without a URI never reach libvirt."""
    from worker.hypervisors.libvirt import phases

    def called(*_arguments: object) -> None:
        raise AssertionError("libvirt was called")

    guest = stage.guest("robust")
    begun = stage.source.begin(guest.move(), stage.watch)
    monkeypatch.setattr(phases, "prepare", called)
    monkeypatch.setattr(phases, "perform", called)
    with pytest.raises(HypervisorError, match="cookie") as caught:
        stage.destination.prepare(guest.move(), begun.xml, b"", stage.watch)
    assert caught.value.untouched
    with pytest.raises(HypervisorError, match="URI") as caught:
        stage.source.perform(guest.move(), begun.xml, "", b"cookie", stage.watch)
    assert caught.value.untouched
    stage.drop(guest.move())


def test_refused_perform_frees_the_source(stage: Stage) -> None:
    """A perform that libvirt refuses before it takes the job leaves no job behind."""
    guest = stage.guest("freed")
    begun, prepared = stage.up_to_prepare(guest.move())
    bad = guest.move(params={"auto_converge.initial": 20})
    with pytest.raises(HypervisorError) as caught:
        stage.source.perform(bad, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert (caught.value.code, caught.value.retry) == ("VIR_ERR_INVALID_ARG", Retry.PERMANENT)
    assert stage.source.inspect(guest.uuid).state is RUNNING
    stage.drop(guest.move())
    stage.migrate(guest.move())
    guest.beats_on()


def test_perform_is_made_once(stage: Stage) -> None:
    """A second perform is refused by the driver, and the first one's result still finishes."""
    guest = stage.guest("once")
    move = guest.move()
    begun, prepared = stage.up_to_prepare(move)
    performed = stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    with pytest.raises(HypervisorError, match="made already") as caught:
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    assert caught.value.retry is Retry.VERIFY
    assert stage.states(guest.uuid) == (PAUSED_OUT, PAUSED_IN)
    finished = stage.destination.finish(move, performed.cookie, False, stage.watch)
    assert stage.source.confirm(move, finished.cookie, False, stage.watch).state is ABSENT
    guest.beats_on()


def test_begin_twice(stage: Stage) -> None:
    """A domain with a migration job is not begun again."""
    guest = stage.guest("busy")
    stage.source.begin(guest.move(), stage.watch)
    with pytest.raises(HypervisorError, match="another migration job") as caught:
        stage.source.begin(guest.move(), stage.watch)
    assert caught.value.untouched
    stage.drop(guest.move())


def test_flags_are_checked_before_the_domain_is_touched(stage: Stage) -> None:
    """Begin refuses flags that exclude each other without taking the domain's job."""
    guest = stage.guest("checked")
    flags = LIVE | int(Flag.NON_SHARED_DISK | Flag.NON_SHARED_INC)
    with pytest.raises(Rejected):
        stage.source.begin(guest.move(flags), stage.watch)
    assert stage.source.inspect(guest.uuid).state is RUNNING


def test_unknown_domain(stage: Stage) -> None:
    """Begin names the domain that is not there; confirm takes it for done."""
    ghost = str(uuids.uuid4())
    with pytest.raises(HypervisorError, match=ghost) as caught:
        stage.source.begin(Move("ghost", ghost, LIVE), stage.watch)
    assert (caught.value.code, caught.value.untouched) == ("VIR_ERR_NO_DOMAIN", True)
    assert stage.source.confirm(Move("ghost", ghost, LIVE), b"", False, stage.watch).state is ABSENT


def test_name_taken(stage: Stage) -> None:
    """A guest whose name is taken on the destination is refused there and runs on."""
    guest = stage.guest("twin")
    other = stage.guest("twin", host="beta")
    begun = stage.source.begin(guest.move(), stage.watch)
    with pytest.raises(HypervisorError, match="already exists") as caught:
        stage.destination.prepare(guest.move(), begun.xml, begun.cookie, stage.watch)
    assert (caught.value.retry, caught.value.untouched) == (Retry.PERMANENT, True)
    assert stage.source.confirm(guest.move(), b"", True, stage.watch).state is RUNNING
    assert stage.destination.inspect(other.uuid).state is RUNNING


def test_renamed(stage: Stage) -> None:
    """A guest takes its new name on the destination."""
    guest = stage.guest("before")
    stage.migrate(guest.move(params={"destination_name": "after"}))
    seen = stage.destination.inspect(guest.uuid)
    assert (seen.name, seen.state) == ("after", RUNNING)
    guest.beats_on()


def test_repeated_finish_and_confirm(stage: Stage) -> None:
    """Finish and confirm give the same answer when they are asked again."""
    guest = stage.guest("repeated")
    move, watch = guest.move(), stage.watch
    cookie = stage.up_to_perform(move)
    first = stage.destination.finish(move, cookie, False, watch)
    again = stage.destination.finish(move, cookie, False, watch)
    assert (first.domain.state, again.domain.state) == (RUNNING, RUNNING)
    for _ in range(2):
        assert stage.source.confirm(move, first.cookie, False, watch).state is ABSENT
    guest.beats_on()


def test_repeated_cancelled_finish_and_confirm(stage: Stage) -> None:
    """Dropping an attempt twice changes nothing more."""
    guest = stage.guest("dropped")
    stage.up_to_prepare(guest.move())
    stage.drop(guest.move())
    stage.drop(guest.move())
    guest.beats_on()


def test_cancelled_finish_tells_that_the_guest_runs(stage: Stage) -> None:
    """A cancelled finish that comes after a good one shows the running guest and does not harm it."""
    guest = stage.guest("late")
    move = guest.move()
    finished = stage.destination.finish(move, stage.up_to_perform(move), False, stage.watch)
    assert stage.destination.finish(move, b"", True, stage.watch).domain.state is RUNNING
    stage.source.confirm(move, finished.cookie, False, stage.watch)
    guest.beats_on()


def test_nothing_secret_is_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither definitions nor cookies reach a log or an error, in good attempts and in bad ones."""
    guest = stage.guest("discreet")
    secret = f"secret-{uuids.uuid4()}"
    with caplog.at_level(logging.DEBUG):
        begun = stage.source.begin(guest.move(), stage.watch)
        # libvirt's XML errors quote the line at fault, and a password may stand there
        torn_xml = begun.xml.replace("<name>", f"<graphics passwd='{secret}' <name>")
        with pytest.raises(HypervisorError) as torn:
            stage.destination.prepare(guest.move(), torn_xml, begun.cookie, stage.watch)
        torn_cookie = begun.cookie.replace(b"<name>", f"<name><a b='{secret}' <".encode())
        with pytest.raises(HypervisorError) as odd:
            stage.destination.prepare(guest.move(), begun.xml, torn_cookie, stage.watch)
        stage.drop(guest.move())
        stage.migrate(guest.move())
    said = capfd.readouterr()
    for text in (caplog.text, said.out, said.err):
        assert "qemu-migration" not in text
        assert "<domain" not in text
        assert secret not in text
    for error in (torn.value, odd.value):
        assert error.code == "VIR_ERR_XML_DETAIL"
        assert "<domain" not in str(error)
        assert secret not in str(error)


def test_daemon_killed_and_back(stage: Stage) -> None:
    """A dead daemon is a transient error, the guest runs on, and the driver connects anew by itself."""
    guest = stage.guest("survivor")
    stage.source.begin(guest.move(), stage.watch)
    command("host", stage.lab.folder, "alpha", "kill")
    try:
        with pytest.raises(HypervisorError) as caught:
            stage.source.inspect(guest.uuid)
        assert (caught.value.retry, caught.value.untouched) == (Retry.TRANSIENT, True)
        with pytest.raises(HypervisorError):
            stage.source.begin(guest.move(), stage.watch)
        assert len(stage.watch.retried) == 3
    finally:
        command("host", stage.lab.folder, "alpha", "start")
    guest.beats_on()
    stage.migrate(guest.move())
    guest.beats_on()


def test_source_daemon_killed_during_perform(stage: Stage) -> None:
    """The answer of a perform is lost with its daemon: verify, and both sides are settled afterwards."""
    guest = stage.guest("shaken", rate=16)
    move = guest.move(params=SLOW)
    begun, prepared = stage.up_to_prepare(move)
    killed: list[bool] = []

    def kill() -> Stop | None:
        if not killed and stage.watch.seen and stage.watch.seen[-1].total_bytes:
            killed.append(True)
            command("host", stage.lab.folder, "alpha", "kill")
        return None

    stage.watch.stopping = kill
    try:
        with pytest.raises(HypervisorError) as caught:
            stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
        assert (caught.value.retry, caught.value.after) == (Retry.VERIFY, Retry.TRANSIENT)
    finally:
        command("host", stage.lab.folder, "alpha", "start")
    stage.drop(move)
    guest.beats_on()
