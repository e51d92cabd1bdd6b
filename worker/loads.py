"""What guests use of their hosts, as agents publish it and planning reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class GuestLoad:
    """What one guest uses."""

    cpu: float
    """Cores in use: the 95th percentile of the time that ``seconds`` covers."""
    memory_mib: int
    """What it occupies on its host, overhead included."""
    dirty: float = 0.0
    """MiB that it writes in a second; 0 where nobody has measured it."""
    seconds: float = 0.0
    """How much of the recent past was measured."""
    left: int = 0
    """When the guest had left the host (Redis's clock, milliseconds); 0 where it is there."""

    def document(self) -> dict[str, Any]:
        """As the journal keeps it."""
        shown: dict[str, Any] = {"cpu": round(self.cpu, 3), "memory_mib": self.memory_mib}
        shown |= {"dirty": round(self.dirty, 1)} if self.dirty else {}
        return shown | {"seconds": round(self.seconds, 1)} | ({"left": self.left} if self.left else {})


@dataclass(frozen=True, slots=True)
class HostLoad:
    """What one host has, and what its guests use of it."""

    at: int
    """When it was measured (Redis's clock, milliseconds)."""
    seconds: float
    """How much of the recent past it covers."""
    cpu_cores: float
    """What the host has for guests; 0 where it is not known."""
    memory_mib: int
    guests: Mapping[str, GuestLoad] = field(default_factory=dict)
    """By uuid; those that left within the window, too."""

    @property
    def present(self) -> dict[str, GuestLoad]:
        """The guests that are there."""
        return {uuid: load for uuid, load in self.guests.items() if not load.left}

    def document(self) -> dict[str, Any]:
        """As the journal keeps it."""
        return {
            "at": self.at,
            "seconds": round(self.seconds, 1),
            "cpu_cores": self.cpu_cores,
            "memory_mib": self.memory_mib,
            "guests": {uuid: load.document() for uuid, load in self.guests.items()},
        }


def from_document(told: Mapping[str, Any]) -> HostLoad:
    """What ``HostLoad.document`` wrote; a field that this version does not know is left out."""
    return HostLoad(
        at=int(told["at"]),
        seconds=float(told.get("seconds", 0)),
        cpu_cores=float(told.get("cpu_cores", 0)),
        memory_mib=int(told.get("memory_mib", 0)),
        guests={
            uuid: GuestLoad(
                cpu=float(load.get("cpu", 0)),
                memory_mib=int(load.get("memory_mib", 0)),
                dirty=float(load.get("dirty", 0)),
                seconds=float(load.get("seconds", 0)),
                left=int(load.get("left", 0)),
            )
            for uuid, load in told.get("guests", {}).items()
        },
    )
