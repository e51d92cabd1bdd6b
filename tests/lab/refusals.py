"""What libvirt 9.0.0 and QEMU 7.2 refuse: a table of options, and of the words in which they are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from libvirt_lab import LIVE, Guest

from worker.hypervisors.base import Move, ParamValue, Phase
from worker.hypervisors.flags import MigrateFlag as Flag

NONE = Flag(0)
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
    or_else: tuple[str, str] = ("", "")
    """Symbol and part of the text that come instead where the other side's failure is noticed first."""

    def of(self, guest: Guest) -> Move:
        """As an attempt."""
        return guest.move((LIVE | int(self.flags)) & ~int(self.without), params=self.params)


BEGIN, PREPARE, PERFORM = Phase.BEGIN, Phase.PREPARE, Phase.PERFORM
# by the validator
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
        or_else=("VIR_ERR_OPERATION_FAILED", "TLS handshake failed"),
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
# because it depends on the host or on the domain
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
