"""The migration flags of libvirt 9.0.0, and how wishes become a flag mask.

A user says yes, no or nothing for each flag; ``resolve`` turns that into a mask for one driver. What a
driver requires, accepts, does anyway or refuses stands in its flag profile (``profiles.py``).
Source: ``virDomainMigrateFlags`` in ``libvirt-domain.h``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag

from worker.errors import Rejected
from worker.hypervisors.profiles import PROFILES, FlagProfile, FlagRule, FlagStatus

__all__ = [
    "FLAG_PREFIX",
    "PROFILES",
    "FlagProfile",
    "FlagRule",
    "FlagStatus",
    "MigrateFlag",
    "flag_label",
    "flag_names",
    "parse_flags",
    "profile",
    "resolve",
    "without",
]

FLAG_PREFIX = "VIR_MIGRATE_"
MASK_BITS = 32
"""libvirt's flags are an ``unsigned int``."""


class MigrateFlag(IntFlag):
    """``VIR_MIGRATE_*``: names without the prefix, values as libvirt numbers them."""

    LIVE = 1 << 0
    PEER2PEER = 1 << 1
    TUNNELLED = 1 << 2
    PERSIST_DEST = 1 << 3
    UNDEFINE_SOURCE = 1 << 4
    PAUSED = 1 << 5
    NON_SHARED_DISK = 1 << 6
    NON_SHARED_INC = 1 << 7
    CHANGE_PROTECTION = 1 << 8
    UNSAFE = 1 << 9
    OFFLINE = 1 << 10
    COMPRESSED = 1 << 11
    ABORT_ON_ERROR = 1 << 12
    AUTO_CONVERGE = 1 << 13
    RDMA_PIN_ALL = 1 << 14
    POSTCOPY = 1 << 15
    TLS = 1 << 16
    PARALLEL = 1 << 17
    NON_SHARED_SYNCHRONOUS_WRITES = 1 << 18
    POSTCOPY_RESUME = 1 << 19
    ZEROCOPY = 1 << 20

    @property
    def macro(self) -> str:
        """The name as libvirt writes it; only for single flags."""
        return f"{FLAG_PREFIX}{self.name}"


def profile(name: str) -> FlagProfile:
    """The flag profile ``vz``, ``vz-libvirt`` or ``qemu``; raises ``Rejected`` for any other name."""
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(PROFILES)
        raise Rejected(f"unknown driver '{name}'; there are: {known}", code="unknown-driver") from None


def parse_flags(text: str) -> int:
    """A mask from names (with or without ``VIR_MIGRATE_``, any case) and numbers, separated by commas.

    Bits without a name pass: only the driver's own check may judge a raw mask. Raises ``Rejected``
    (``unknown-flag``) for a name that does not exist and for a number beyond 32 bits.
    """
    mask = 0
    for word in text.split(","):
        if word.strip():
            mask |= _one_flag(word.strip())
    return mask


def _one_flag(word: str) -> int:
    name = word.upper().removeprefix(FLAG_PREFIX).replace("-", "_")
    if name in MigrateFlag.__members__:
        return int(MigrateFlag[name])
    try:
        number = int(word, 16 if word.lower().startswith("0x") else 10)
    except ValueError:
        raise _unknown_flag(word) from None
    if not 0 <= number < 1 << MASK_BITS:
        raise Rejected(f"flag mask '{word}' does not fit into {MASK_BITS} bits", code="unknown-flag")
    return number


def _unknown_flag(word: str) -> Rejected:
    known = ", ".join(MigrateFlag.__members__)
    return Rejected(f"unknown migration flag '{word}'; there are: {known}", code="unknown-flag")


def without(mask: int, flags: MigrateFlag) -> int:
    """``mask`` less ``flags``. ``~`` of an ``IntFlag`` itself would drop every bit that has no name."""
    return mask & ~int(flags)


def _split(mask: int) -> tuple[list[str], int]:
    """The names of the known flags in ``mask``, lowest bit first, and the bits that have no name."""
    known = [flag for flag in MigrateFlag if mask & flag]
    rest = mask & ~sum(known)
    return [str(flag.name) for flag in known], rest


def flag_names(mask: int) -> list[str]:
    """The full ``VIR_MIGRATE_*`` names of a mask, lowest bit first; bits without a name as one number."""
    names, rest = _split(mask)
    return [FLAG_PREFIX + name for name in names] + ([f"0x{rest:x}"] if rest else [])


def flag_label(mask: int) -> str:
    """The flag set as a metric label: ``compressed,live,persist_dest``. ``parse_flags`` reads it back."""
    names, rest = _split(mask)
    return ",".join(sorted([name.lower() for name in names] + ([f"0x{rest:x}"] if rest else [])))


def resolve(profile_name: str, options: Mapping[str, bool | None]) -> int:
    """The mask for one driver from tri-state options by lower-case flag name.

    ``None`` (or absence) takes the driver's default. Raises ``Rejected`` that names flag, driver and
    reason when an option asks for what the driver cannot do, and also when it forbids what the driver
    does anyway. A definition that moves OFFLINE does not move live unless that is asked for as well.
    """
    rules = profile(profile_name)
    mask = rules.defaults
    if options.get("offline") and not rules.rules["LIVE"].always:
        mask = without(mask, MigrateFlag.LIVE)
    for option, wish in options.items():
        if wish is None:
            continue
        name = option.upper().removeprefix(FLAG_PREFIX).replace("-", "_")
        if name == "DIRECT":
            if wish:
                raise _refused(name, rules, f"refused: {rules.direct}")
            continue
        if name not in MigrateFlag.__members__:
            raise _unknown_flag(option)
        flag = MigrateFlag[name]
        rule = rules.rules[name]
        if wish and not rule.accepted:
            raise _refused(name, rules, f"{rule.status}: {rule.reason}")
        if not wish and rule.always:
            raise _refused(name, rules, f"cannot be switched off: {rule.reason}")
        mask = mask | int(flag) if wish else without(mask, flag)
    return mask


def _refused(name: str, rules: FlagProfile, why: str) -> Rejected:
    return Rejected(f"flag {name} on driver {rules.name}: {why}", code="flag-refused")
