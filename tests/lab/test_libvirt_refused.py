"""What libvirt and QEMU refuse: the validator says it beforehand, and in the same words; the guest runs on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType

import pytest
from libvirt_lab import LIVE, Guest, Lab, Stage, open_stage

from worker.errors import HypervisorError, Rejected, Retry
from worker.hypervisors.base import DomainState, Move, ParamValue, Phase
from worker.hypervisors.checks import check_migration
from worker.hypervisors.flags import MigrateFlag as Flag

pytestmark = pytest.mark.lab

NONE = Flag(0)
MIGRATABLE = 8  # VIR_DOMAIN_XML_MIGRATABLE
NOBODY = "11111111-2222-4333-8444-555555555555"
INVALID, UNSUPPORTED = "VIR_ERR_INVALID_ARG", "VIR_ERR_ARGUMENT_UNSUPPORTED"
INTERNAL, OPERATION = "VIR_ERR_INTERNAL_ERROR", "VIR_ERR_OPERATION_INVALID"
QEMU = "unable to execute QEMU command 'migrate-set-parameters': Parameter "
CAPABILITY = "unable to execute QEMU command 'migrate-set-capabilities': "


@dataclass(frozen=True)
class Refusal:
    """What is asked for, and which phase refuses it, with libvirt's symbol and text."""

    words: str
    """virsh's options."""
    phase: Phase
    code: str
    text: str
    flags: Flag = NONE
    params: Mapping[str, ParamValue] = field(default_factory=dict)
    without: Flag = NONE
    """Flags that a plain live migration has and this one has not."""

    def of(self, guest: Guest) -> Move:
        """As an attempt."""
        return guest.move((LIVE | int(self.flags)) & ~int(self.without), params=self.params)


BEGIN, PREPARE, PERFORM = Phase.BEGIN, Phase.PREPARE, Phase.PERFORM
FORESEEN = [
    Refusal(
        "auto-converge auto-converge-initial 100",
        PERFORM,
        INTERNAL,
        QEMU + "'cpu_throttle_initial' expects an integer in the range of 1 to 99",
        Flag.AUTO_CONVERGE,
        {"auto_converge.initial": 100},
    ),
    Refusal(
        "auto-converge auto-converge-increment 0",
        PERFORM,
        INTERNAL,
        QEMU + "'cpu_throttle_increment' expects an integer in the range of 1 to 99",
        Flag.AUTO_CONVERGE,
        {"auto_converge.increment": 0},
    ),
    Refusal(
        "auto-converge-initial 20",
        PERFORM,
        INVALID,
        "Turn auto convergence on to tune it",
        params={"auto_converge.initial": 20},
    ),
    Refusal(
        "parallel-connections 2",
        PREPARE,
        INVALID,
        "Turn parallel migration on to tune it",
        params={"parallel.connections": 2},
    ),
    Refusal(
        "parallel parallel-connections 0",
        PREPARE,
        INTERNAL,
        QEMU + "'multifd_channels' expects a value between 1 and 255",
        Flag.PARALLEL,
        {"parallel.connections": 0},
    ),
    Refusal(
        "parallel parallel-connections 256",
        PREPARE,
        INTERNAL,
        QEMU + "'multifd-channels' expects uint8_t",
        Flag.PARALLEL,
        {"parallel.connections": 256},
    ),
    Refusal(
        "compressed comp-methods zstd",
        PREPARE,
        INVALID,
        "Unsupported compression method 'zstd'",
        Flag.COMPRESSED,
        {"compression": ["zstd"]},
    ),
    Refusal(
        "compressed comp-methods mt,mt",
        PREPARE,
        INVALID,
        "Compression method 'mt' is specified twice",
        Flag.COMPRESSED,
        {"compression": ["mt", "mt"]},
    ),
    Refusal(
        "compressed comp-methods mt comp-mt-level 10",
        PREPARE,
        INTERNAL,
        QEMU + "'compress_level' expects a value between 0 and 9",
        Flag.COMPRESSED,
        {"compression": ["mt"], "compression.mt.level": 10},
    ),
    Refusal(
        "compressed comp-mt-level 1",
        PREPARE,
        INVALID,
        "Turn multithread compression on to tune it",
        Flag.COMPRESSED,
        {"compression.mt.level": 1},
    ),
    Refusal(
        "compressed comp-xbzrle-cache 1M",
        PREPARE,
        INVALID,
        "Turn xbzrle compression on to tune it",
        Flag.COMPRESSED,
        {"compression.xbzrle.cache": 1 << 20},
    ),
    Refusal(
        "compressed comp-methods xbzrle comp-xbzrle-cache 5000",
        PREPARE,
        INTERNAL,
        QEMU + "'xbzrle_cache_size' expects a power of two no less than the target page size",
        Flag.COMPRESSED,
        {"compression": ["xbzrle"], "compression.xbzrle.cache": 5000},
    ),
    Refusal(
        "compressed comp-methods mt parallel",
        PREPARE,
        INTERNAL,
        CAPABILITY + "Multifd is not compatible with compress",
        Flag.COMPRESSED | Flag.PARALLEL,
        {"compression": ["mt"]},
    ),
    Refusal(
        "postcopy suspend",
        BEGIN,
        UNSUPPORTED,
        "post-copy migration is not supported with non-live or paused migration",
        Flag.POSTCOPY | Flag.PAUSED,
    ),
    Refusal(
        "postcopy without live",
        BEGIN,
        UNSUPPORTED,
        "post-copy migration is not supported with non-live or paused migration",
        Flag.POSTCOPY,
        without=Flag.LIVE,
    ),
    Refusal(
        "postcopy-bandwidth 17592186044416",
        PREPARE,
        "VIR_ERR_OVERFLOW",
        "migration parameter 'bandwidth.postcopy' must be less than 17592186044416",
        params={"bandwidth.postcopy": 17592186044416},
    ),
    Refusal("zerocopy", BEGIN, OPERATION, "zero-copy is only available for parallel migration", Flag.ZEROCOPY),
    Refusal(
        "zerocopy parallel compressed",
        PERFORM,
        INTERNAL,
        CAPABILITY + "Zero copy only available for non-compressed non-TLS multifd migration",
        Flag.ZEROCOPY | Flag.PARALLEL | Flag.COMPRESSED,
    ),
    Refusal(
        "copy-storage-all disks-port disks-uri",
        PREPARE,
        INVALID,
        "Both port and URI requested for disk migration while being mutually exclusive",
        Flag.NON_SHARED_DISK,
        {"disks_port": 49300, "disks_uri": "tcp://192.0.2.1:49301"},
    ),
    Refusal(
        "zerocopy parallel tls",
        PERFORM,
        INTERNAL,
        "unable to execute QEMU command 'migrate-set-parameters': "
        "Zero copy only available for non-compressed non-TLS multifd migration",
        Flag.ZEROCOPY | Flag.PARALLEL | Flag.TLS,
    ),
    Refusal(
        "p2p tunnelled tls",
        PERFORM,
        INTERNAL,
        "failed to convert virJSONValue to yajl data",
        Flag.PEER2PEER | Flag.TUNNELLED | Flag.TLS,
    ),
    Refusal(
        "p2p tunnelled migrateuri",
        PERFORM,
        UNSUPPORTED,
        "migration URI is not supported by tunnelled migration",
        Flag.PEER2PEER | Flag.TUNNELLED,
        {"migrate_uri": "tcp://192.0.2.1:49999"},
    ),
    Refusal(
        "p2p tunnelled parallel",
        PERFORM,
        INVALID,
        "Flags 'VIR_MIGRATE_TUNNELLED' and 'VIR_MIGRATE_PARALLEL' are mutually exclusive",
        Flag.PEER2PEER | Flag.TUNNELLED | Flag.PARALLEL,
    ),
    Refusal(
        "p2p tunnelled postcopy",
        PERFORM,
        UNSUPPORTED,
        "post-copy is not supported with tunnelled migration",
        Flag.PEER2PEER | Flag.TUNNELLED | Flag.POSTCOPY,
    ),
    Refusal(
        "migrateuri rdma://",
        PREPARE,
        OPERATION,
        "cannot start RDMA migration with no memory hard limit set",
        params={"migrate_uri": "rdma://192.0.2.1:49999"},
    ),
    Refusal(
        "persistent-xml broken",
        PERFORM,
        "VIR_ERR_XML_DETAIL",
        "(domain_definition):1: Couldn't find end of Start Tag domain line 1",
        params={"persistent_xml": "<domain"},
    ),
    Refusal(
        "xml of another domain",
        BEGIN,
        "VIR_ERR_CONFIG_UNSUPPORTED",
        f"Target domain uuid {NOBODY} does not match source ",
        params={
            "destination_xml": f"<domain type='qemu'><name>other</name><uuid>{NOBODY}</uuid><memory>16384</memory>"
            "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
        },
    ),
    Refusal(
        "postcopy-resume",
        BEGIN,
        UNSUPPORTED,
        "resuming failed post-copy migration requires post-copy to be enabled",
        Flag.POSTCOPY_RESUME,
    ),
    Refusal(
        "postcopy postcopy-resume",
        BEGIN,
        OPERATION,
        "domain 'stubborn' is not being migrated",
        Flag.POSTCOPY | Flag.POSTCOPY_RESUME,
    ),
]
UNFORESEEN = [
    Refusal(
        "copy-storage-all migrate-disks vdz",
        BEGIN,
        INVALID,
        "disk target vdz not found",
        Flag.NON_SHARED_DISK,
        {"migrate_disks": ["vdz"]},
    ),
    Refusal(
        "postcopy, of a QEMU that may not handle page faults",
        PREPARE,
        INTERNAL,
        CAPABILITY + "Postcopy is not supported",
        Flag.POSTCOPY,
    ),
    Refusal(
        "listen-address of another machine",
        PREPARE,
        INTERNAL,
        "unable to execute QEMU command 'migrate-incoming': Failed to bind socket: Cannot assign requested address",
        params={"listen_address": "192.0.2.9"},
    ),
    Refusal(
        "zerocopy parallel, of a daemon that may not lock memory",
        PERFORM,
        "VIR_ERR_SYSTEM_ERROR",
        "Operation not permitted",
        Flag.ZEROCOPY | Flag.PARALLEL,
    ),
]


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
    assert (phase, error.code) == (refusal.phase, refusal.code)
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
