"""What libvirt and QEMU refuse: the validator says it beforehand, and in the same words; the guest runs on."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
from libvirt_lab import LIVE, Guest, Lab, Stage, open_stage
from refusals import FORESEEN, UNFORESEEN, Refusal

from worker.errors import HypervisorError, Rejected, Retry
from worker.hypervisors.base import DomainState, Move, Phase
from worker.hypervisors.checks import check_migration
from worker.hypervisors.flags import MigrateFlag as Flag

pytestmark = pytest.mark.lab

MIGRATABLE = 8  # VIR_DOMAIN_XML_MIGRATABLE


def of_refusal(refusal: Refusal) -> str:
    """A test's id."""
    return refusal.words.replace(" ", "_")


@pytest.fixture(scope="module")
def ground(lab: Lab, heartbeat: ModuleType) -> Iterator[Stage]:
    """Drivers for all refusals, which change nothing."""
    yield from open_stage(lab, heartbeat)


@pytest.fixture(scope="module")
def stubborn(ground: Stage) -> Iterator[Guest]:
    """One guest that is refused again and again, and moves well in the end."""
    guest = ground.guest("stubborn", memory=16)
    yield guest
    ground.migrate(guest.move())
    guest.beats_on()


def refused(stage: Stage, move: Move) -> tuple[Phase, HypervisorError]:
    """Make the calls up to the one that is refused."""
    phase = Phase.BEGIN
    try:
        begun = stage.source.begin(move, stage.watch)
        phase = Phase.PREPARE
        prepared = stage.destination.prepare(move, begun.xml, begun.cookie, stage.watch)
        phase = Phase.PERFORM
        stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, stage.watch)
    except HypervisorError as error:
        return phase, error
    stage.drop(move)
    raise AssertionError("nobody refused it")


def runs_on(stage: Stage, guest: Guest, move: Move) -> None:
    """Nothing is left of the attempt: no job, no copy, and the guest beats on."""
    stage.drop(move)
    assert stage.states(guest.uuid) == (DomainState.RUNNING, DomainState.ABSENT)
    guest.beats_on()


@pytest.mark.parametrize("refusal", FORESEEN, ids=of_refusal)
def test_the_validator_says_what_libvirt_says(
    ground: Stage, stubborn: Guest, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validator refuses it before anything is touched; libvirt, asked all the same, with the same code and text."""
    from worker.hypervisors.libvirt import driver

    move = refusal.of(stubborn)
    with pytest.raises(Rejected) as foreseen:
        check_migration("qemu", move.flags, move.params, DomainState.RUNNING, domain=stubborn.name, uuid=stubborn.uuid)
    assert foreseen.value.code == refusal.code
    assert foreseen.value.message.startswith(refusal.text)
    with pytest.raises(Rejected):
        ground.source.begin(move, ground.watch)
    assert ground.source.inspect(stubborn.uuid).state is DomainState.RUNNING
    monkeypatch.setattr(driver, "check_migration", lambda *_args, **_named: None)
    phase, error = refused(ground, move)
    assert phase is refusal.phase
    if error.code != refusal.code:
        symbol, text = refusal.or_else
        assert error.code == symbol
        assert text in error.message
    else:
        assert error.message.endswith(foreseen.value.message)
    assert error.after in (Retry.OPERATOR, Retry.PERMANENT, Retry.DONE)
    runs_on(ground, stubborn, move)


def test_a_definition_without_a_uuid(ground: Stage, stubborn: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirt draws one, which cannot be the guest's: refused by the validator and by libvirt."""
    from worker.hypervisors.libvirt import driver

    with ground.by_hand("alpha", stubborn.uuid) as domain:
        xml = domain.XMLDesc(MIGRATABLE).replace(f"<uuid>{stubborn.uuid}</uuid>", "")
    move = stubborn.move(params={"destination_xml": xml})
    with pytest.raises(Rejected, match=f"does not match source {stubborn.uuid}") as foreseen:
        ground.source.begin(move, ground.watch)
    monkeypatch.setattr(driver, "check_migration", lambda *_args, **_named: None)
    with pytest.raises(HypervisorError, match=f"does not match source {stubborn.uuid}") as asked:
        ground.source.begin(move, ground.watch)
    assert foreseen.value.code == asked.value.code


@pytest.mark.parametrize("refusal", UNFORESEEN, ids=of_refusal)
def test_what_only_the_host_knows(ground: Stage, stubborn: Guest, refusal: Refusal) -> None:
    """The host's own reason comes through, the attempt leaves nothing behind, and the guest runs on."""
    move = refusal.of(stubborn)
    check_migration("qemu", move.flags, move.params, DomainState.RUNNING)
    phase, error = refused(ground, move)
    assert (phase, error.code) == (refusal.phase, refusal.code)
    assert refusal.text in error.message
    assert error.after in (Retry.OPERATOR, Retry.PERMANENT)
    runs_on(ground, stubborn, move)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            Flag.NON_SHARED_DISK | Flag.NON_SHARED_INC,
            "Flags 'VIR_MIGRATE_NON_SHARED_DISK' and 'VIR_MIGRATE_NON_SHARED_INC' are mutually exclusive",
        ),
        (
            Flag.NON_SHARED_SYNCHRONOUS_WRITES,
            "Flag 'VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_INC' is required by flag "
            "'VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES'",
        ),
        (Flag.TUNNELLED, "cannot perform tunnelled migration without using peer2peer flag"),
    ],
    ids=["both_ways_to_copy_storage", "synchronous-writes", "tunnelled_without_p2p"],
)
def test_what_libvirts_library_refuses(ground: Stage, stubborn: Guest, flags: Flag, text: str) -> None:
    """``virDomainMigrate3`` has checks of its own, before any phase: the driver makes them, in the same words."""
    import libvirt

    with pytest.raises(Rejected) as foreseen:
        ground.source.begin(stubborn.move(LIVE | int(flags)), ground.watch)
    assert foreseen.value.message.startswith(text)
    with ground.by_hand("alpha", stubborn.uuid) as domain:
        destination = libvirt.open(ground.lab.uris["beta"])
        with pytest.raises(libvirt.libvirtError, match=r"tunnelled|Flag") as asked:
            domain.migrate3(destination, {}, LIVE | int(flags))
        destination.close()
    assert str(asked.value).endswith(text)
    assert foreseen.value.code == "VIR_ERR_INVALID_ARG"
    assert asked.value.get_error_code() in (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_OPERATION_INVALID)
    stubborn.beats_on()
