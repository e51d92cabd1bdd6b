"""The five phases between two real libvirt hosts with a real guest."""

from __future__ import annotations

import logging
import uuid as uuids
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import LIVE

from worker.errors import HypervisorError, Rejected, Retry
from worker.hypervisors.base import DomainState, Move
from worker.hypervisors.flags import MigrateFlag as Flag

if TYPE_CHECKING:
    from libvirt_lab import Stage

pytestmark = pytest.mark.lab

ABSENT = DomainState.ABSENT
RUNNING = DomainState.RUNNING
PAUSED = DomainState.PAUSED
PAUSED_OUT = DomainState.PAUSED_OUT
PAUSED_IN = DomainState.PAUSED_IN
MIGRATING = DomainState.MIGRATING


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
        assert finished.total_seconds
        assert finished.total_seconds >= finished.downtime_seconds
        assert finished.iterations
        assert finished.failure is None
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
    with stage.by_hand("alpha", guest.uuid) as domain:
        domain.suspend()
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
