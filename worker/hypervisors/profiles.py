"""The flag profiles: what each driver requires, accepts, does by default, or refuses, and why.

``vz`` is the 2015 patch that this project starts from, ``vz-libvirt`` and ``qemu`` are the drivers of
libvirt 9.0.0. Names here are those of ``flags.MigrateFlag``; ``flags`` re-exports what others need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class FlagStatus(StrEnum):
    """What a driver does with a flag."""

    REQUIRED = "required"
    """Must be set; it is part of the defaults."""
    DEFAULT_ON = "default-on"
    """Set unless the user says no."""
    SUPPORTED = "supported"
    """Set only when the user says yes."""
    REFUSED = "refused"
    UNIMPLEMENTED = "refused: not implemented"
    UNDECIDED = "refused: undecided"


@dataclass(frozen=True, slots=True)
class FlagRule:
    """One driver's rule for one flag."""

    status: FlagStatus
    reason: str
    always: bool = False
    """What the flag asks for happens anyway, so a plain "no" is refused."""

    @property
    def accepted(self) -> bool:
        """Whether the driver takes the flag at all."""
        return self.status in (FlagStatus.REQUIRED, FlagStatus.DEFAULT_ON, FlagStatus.SUPPORTED)

    @property
    def default(self) -> bool:
        """Whether the flag is set when the user says nothing."""
        return self.status in (FlagStatus.REQUIRED, FlagStatus.DEFAULT_ON)


@dataclass(frozen=True, slots=True)
class FlagProfile:
    """One driver's rules for all flags, lowest bit first."""

    name: str
    rules: Mapping[str, FlagRule]
    direct: str
    """Why migration without a destination daemon is refused."""

    def _mask(self, names: list[str]) -> int:
        return sum(1 << bit for bit, name in enumerate(self.rules) if name in names)

    @property
    def defaults(self) -> int:
        """The mask when the user says nothing."""
        return self._mask([name for name, rule in self.rules.items() if rule.default])

    @property
    def accepted(self) -> int:
        """The mask of every flag that the driver takes (libvirt's ``virCheckFlags``)."""
        return self._mask([name for name, rule in self.rules.items() if rule.accepted])

    @property
    def required(self) -> int:
        """The mask of the flags that must be set."""
        return self._mask([n for n, rule in self.rules.items() if rule.status is FlagStatus.REQUIRED])


def _required(reason: str) -> FlagRule:
    return FlagRule(FlagStatus.REQUIRED, reason, always=True)


def _on(reason: str, *, always: bool = False) -> FlagRule:
    return FlagRule(FlagStatus.DEFAULT_ON, reason, always)


def _yes(reason: str, *, always: bool = False) -> FlagRule:
    return FlagRule(FlagStatus.SUPPORTED, reason, always)


def _no(reason: str, *, always: bool = False) -> FlagRule:
    return FlagRule(FlagStatus.REFUSED, reason, always)


def _planned(reason: str) -> FlagRule:
    return FlagRule(FlagStatus.UNIMPLEMENTED, reason)


def _undecided(reason: str) -> FlagRule:
    return FlagRule(FlagStatus.UNDECIDED, reason)


_NEWER = "newer than the driver of 2015"
_NO_USE = "no use case on vz"
_UNKNOWN_TO_VZ = "libvirt's vz driver does not take it"

VZ = FlagProfile(
    "vz",
    {
        "LIVE": _required("vz always migrates live"),
        "PEER2PEER": _planned("planned for later; it would repeat what the client does"),
        "TUNNELLED": _no("no such use on vz; only meaningful with peer-to-peer"),
        "PERSIST_DEST": _required("vz domains are always persistent"),
        "UNDEFINE_SOURCE": _no("a vz domain always leaves the source", always=True),
        "PAUSED": _yes("the SDK's don't-resume option"),
        "NON_SHARED_DISK": _undecided("vz itself classifies shared and non-shared disks"),
        "NON_SHARED_INC": _undecided("vz itself classifies shared and non-shared disks"),
        "CHANGE_PROTECTION": _no("SDK locks are advisory"),
        "UNSAFE": _no("vz disks always have cache=none"),
        "OFFLINE": _planned("planned for later; the SDK call belongs to perform, which offline skips"),
        "COMPRESSED": _required("vz always compresses memory"),
        "ABORT_ON_ERROR": _no(_NO_USE),
        "AUTO_CONVERGE": _no(_NO_USE),
        "RDMA_PIN_ALL": _no(_NO_USE),
        "POSTCOPY": _no(_NEWER),
        "TLS": _no(_NEWER),
        "PARALLEL": _no(_NEWER),
        "NON_SHARED_SYNCHRONOUS_WRITES": _no(_NEWER),
        "POSTCOPY_RESUME": _no(_NEWER),
        "ZEROCOPY": _no(_NEWER),
    },
    direct="without a destination daemon the driver would need its own authentication",
)

VZ_LIBVIRT = FlagProfile(
    "vz-libvirt",
    {
        "LIVE": _on("vz always migrates live, the flag is accepted and ignored", always=True),
        "PEER2PEER": _yes("the source daemon drives the migration"),
        "TUNNELLED": _no("dispatchers tunnel by themselves; " + _UNKNOWN_TO_VZ),
        "PERSIST_DEST": _on("vz domains are always persistent, the flag is accepted and ignored", always=True),
        "UNDEFINE_SOURCE": _on("a vz domain always leaves the source, the flag is ignored", always=True),
        "PAUSED": _yes("the SDK's don't-resume option"),
        "NON_SHARED_DISK": _no("vz itself classifies shared and non-shared disks"),
        "NON_SHARED_INC": _yes("accepted and ignored: vz itself classifies shared and non-shared disks"),
        "CHANGE_PROTECTION": _no("SDK locks are advisory"),
        "UNSAFE": _no("vz disks always have cache=none"),
        "OFFLINE": _no("the driver lacks the offline feature"),
        "COMPRESSED": _no("vz always compresses memory, and libvirt's driver refuses the flag", always=True),
        "ABORT_ON_ERROR": _no(_UNKNOWN_TO_VZ),
        "AUTO_CONVERGE": _no(_UNKNOWN_TO_VZ),
        "RDMA_PIN_ALL": _no(_UNKNOWN_TO_VZ),
        "POSTCOPY": _no(_UNKNOWN_TO_VZ),
        "TLS": _no(_UNKNOWN_TO_VZ),
        "PARALLEL": _no(_UNKNOWN_TO_VZ),
        "NON_SHARED_SYNCHRONOUS_WRITES": _no(_UNKNOWN_TO_VZ),
        "POSTCOPY_RESUME": _no(_UNKNOWN_TO_VZ),
        "ZEROCOPY": _no(_UNKNOWN_TO_VZ),
    },
    direct="direct migration is not supported by the source host",
)

QEMU = FlagProfile(
    "qemu",
    {
        "LIVE": _on("guest CPUs keep running while memory is copied"),
        "PEER2PEER": _yes("the source daemon drives the migration"),
        "TUNNELLED": _yes("data goes through the libvirt connection; needs PEER2PEER"),
        "PERSIST_DEST": _on("the domain is defined on the destination"),
        "UNDEFINE_SOURCE": _on("the source forgets the domain after success"),
        "PAUSED": _yes("the domain stays paused on the destination; excludes POSTCOPY"),
        "NON_SHARED_DISK": _yes("copies whole disk images; excludes NON_SHARED_INC"),
        "NON_SHARED_INC": _yes("copies the top layer of each disk; excludes NON_SHARED_DISK"),
        "CHANGE_PROTECTION": _yes("added on the source by itself", always=True),
        "UNSAFE": _yes("skips the storage safety test"),
        "OFFLINE": _yes("moves only the definition; needs PERSIST_DEST"),
        "COMPRESSED": _yes("compresses memory: xbzrle unless a method is named"),
        "ABORT_ON_ERROR": _yes("gives up on an I/O error; never sent to the destination"),
        "AUTO_CONVERGE": _yes("throttles the guest until migration converges"),
        "RDMA_PIN_ALL": _yes("locks all guest memory up front; useful with rdma:// only"),
        "POSTCOPY": _yes("may switch to post-copy; needs LIVE, excludes PAUSED and TUNNELLED"),
        "TLS": _yes("protects the migration stream with the hypervisor's TLS setup"),
        "PARALLEL": _yes("uses several connections; excludes TUNNELLED"),
        "NON_SHARED_SYNCHRONOUS_WRITES": _yes("mirrors guest writes synchronously; needs NON_SHARED_*"),
        "POSTCOPY_RESUME": _yes("continues a broken post-copy migration; needs POSTCOPY"),
        "ZEROCOPY": _yes("sends memory pages without copying; needs PARALLEL"),
    },
    direct="direct migration is not supported by the source host",
)

PROFILES: Mapping[str, FlagProfile] = {p.name: p for p in (VZ, VZ_LIBVIRT, QEMU)}
