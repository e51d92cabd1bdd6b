"""The options of ``virsh migrate`` and its helper commands, and what each becomes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.params import PARAMS, ParamType

INT_MAX, UINT_MAX, ULLONG_MAX = 2**31 - 1, 2**32 - 1, 2**64 - 1


class Kind(Enum):
    """What follows an option."""

    DATA = auto()
    """Required data, usually given without the option's name."""
    SWITCH = auto()
    TEXT = auto()
    NUMBER = auto()


Command = Mapping[str, Kind]

FLAG_OPTIONS = {
    "live": MigrateFlag.LIVE,
    "p2p": MigrateFlag.PEER2PEER,
    "tunnelled": MigrateFlag.TUNNELLED,
    "persistent": MigrateFlag.PERSIST_DEST,
    "undefinesource": MigrateFlag.UNDEFINE_SOURCE,
    "suspend": MigrateFlag.PAUSED,
    "copy-storage-all": MigrateFlag.NON_SHARED_DISK,
    "copy-storage-inc": MigrateFlag.NON_SHARED_INC,
    "copy-storage-synchronous-writes": MigrateFlag.NON_SHARED_SYNCHRONOUS_WRITES,
    "change-protection": MigrateFlag.CHANGE_PROTECTION,
    "unsafe": MigrateFlag.UNSAFE,
    "compressed": MigrateFlag.COMPRESSED,
    "auto-converge": MigrateFlag.AUTO_CONVERGE,
    "rdma-pin-all": MigrateFlag.RDMA_PIN_ALL,
    "offline": MigrateFlag.OFFLINE,
    "abort-on-error": MigrateFlag.ABORT_ON_ERROR,
    "postcopy": MigrateFlag.POSTCOPY,
    "postcopy-resume": MigrateFlag.POSTCOPY_RESUME,
    "zerocopy": MigrateFlag.ZEROCOPY,
    "tls": MigrateFlag.TLS,
    "parallel": MigrateFlag.PARALLEL,
}
_OTHER_SWITCHES = ("direct", "verbose", "postcopy-after-precopy", "timeout-suspend", "timeout-postcopy")

_PARAM_OPTIONS = {spec.option.removeprefix("--"): spec for spec in PARAMS.values()}
TEXT_OPTIONS = {o: spec.name for o, spec in _PARAM_OPTIONS.items() if spec.type is ParamType.STRING}
LIST_OPTIONS = frozenset(option for option, spec in _PARAM_OPTIONS.items() if spec.repeatable)
FILE_OPTIONS = frozenset(("xml", "persistent-xml"))
NUMBER_OPTIONS = {o: (spec.name, spec.type) for o, spec in _PARAM_OPTIONS.items() if spec.type is not ParamType.STRING}

# the order in which virsh lists them, which decides where a stray word goes
_NUMBERS_AND_TEXTS = (
    "migrateuri",
    "graphicsuri",
    "listen-address",
    "dname",
    "timeout",
    "xml",
    "migrate-disks",
    "disks-port",
    "disks-uri",
    "comp-methods",
    "comp-mt-level",
    "comp-mt-threads",
    "comp-mt-dthreads",
    "comp-xbzrle-cache",
    "auto-converge-initial",
    "auto-converge-increment",
    "persistent-xml",
    "postcopy-bandwidth",
    "parallel-connections",
    "bandwidth",
    "tls-destination",
)

_MIGRATE: Command = {
    "domain": Kind.DATA,
    "desturi": Kind.DATA,
    **dict.fromkeys((*FLAG_OPTIONS, *_OTHER_SWITCHES), Kind.SWITCH),
    **{o: Kind.TEXT if o in TEXT_OPTIONS else Kind.NUMBER for o in _NUMBERS_AND_TEXTS},
}

COMMANDS: Mapping[str, Command] = {
    "migrate": _MIGRATE,
    "migrate-setmaxdowntime": {"domain": Kind.DATA, "downtime": Kind.NUMBER},
    "migrate-getmaxdowntime": {"domain": Kind.DATA},
    "migrate-compcache": {"domain": Kind.DATA, "size": Kind.NUMBER},
    "migrate-setspeed": {"domain": Kind.DATA, "bandwidth": Kind.NUMBER, "postcopy": Kind.SWITCH},
    "migrate-getspeed": {"domain": Kind.DATA, "postcopy": Kind.SWITCH},
    "migrate-postcopy": {"domain": Kind.DATA},
    "domjobabort": {"domain": Kind.DATA, "postcopy": Kind.SWITCH},
    "domjobinfo": {
        "domain": Kind.DATA,
        **dict.fromkeys(("completed", "keep-completed", "anystats", "rawstats"), Kind.SWITCH),
    },
}
