"""What a host can do, from what its libvirt says of itself (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from worker.errors import HypervisorError
from worker.hypervisors.base import Move
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.libvirt.errors import refused

_PROFILES = {"qemu": "qemu", "vz": "vz-libvirt", "parallels": "vz-libvirt"}
"""By ``virConnectGetType`` in lower case."""


def profile_of(kind: str, host: str) -> str:
    """The flag profile for what ``virConnectGetType`` says. Raises ``HypervisorError`` for other kinds."""
    if profile := _PROFILES.get(kind.lower()):
        return profile
    raise refused(
        f"host {host} is of libvirt's kind '{kind}', which vmrelay cannot migrate; it drives QEMU and vz: "
        "correct the host's uri in vmrelay.toml",
        code="unsupported-hypervisor",
    )


@dataclass(frozen=True, slots=True)
class Features:
    """The part of ``virConnectGetCapabilities`` that speaks of migration; ``None`` where it is silent."""

    live: bool | None = None
    transports: frozenset[str] | None = None

    @classmethod
    def of(cls, capabilities: str) -> Features:
        """Read ``<migration_features>``. Raises ``ElementTree.ParseError``."""
        told = ET.fromstring(capabilities).find("host/migration_features")  # noqa: S314 libvirt's own words
        if told is None:
            return cls()
        transports = frozenset(item.text or "" for item in told.iterfind("uri_transports/uri_transport"))
        return cls(live=told.find("live") is not None, transports=transports or None)

    def check(self, move: Move, host: str) -> None:
        """Raise ``HypervisorError`` where this host says that it cannot take part."""
        if self.live is False and not move.flags & MigrateFlag.OFFLINE:
            raise _cannot(f"host {host} says that it cannot migrate live; see its libvirt's capabilities")
        transport = urlsplit(str(move.params.get("migrate_uri") or "")).scheme
        # unix:// needs no network, and libvirt does not list it
        known = not transport or transport == "unix" or self.transports is None or transport in self.transports
        if not known:
            offered = ", ".join(sorted(self.transports or ()))
            raise _cannot(f"host {host} has no transport '{transport}' for migrate_uri; it has {offered}")


def _cannot(message: str) -> HypervisorError:
    return refused(message, code="VIR_ERR_OPERATION_UNSUPPORTED")
