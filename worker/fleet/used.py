"""How full a host is, as people see it: pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from worker.inventory import Host
from worker.loads import HostLoad


@dataclass(frozen=True, slots=True)
class Used:
    """What the guests of a host use, and what it has for them: its capacity less its reserve."""

    at: float
    """When it was measured (Unix time of Redis's clock)."""
    seconds: float
    """How much of the recent past it covers."""
    cpu_cores: float
    """In use: the 95th percentile of each guest, added up."""
    cpu_cores_usable: float
    """0 where it is not known."""
    memory_mib: int
    memory_mib_usable: int

    @property
    def cpu(self) -> float | None:
        """The share of CPU in use; ``None`` where it is not known."""
        return self.cpu_cores / self.cpu_cores_usable if self.cpu_cores_usable and self.seconds else None

    @property
    def memory(self) -> float | None:
        """The share of memory in use; ``None`` where it is not known."""
        return self.memory_mib / self.memory_mib_usable if self.memory_mib_usable else None

    def document(self) -> dict[str, Any]:
        """As users see it."""
        shares = {"cpu": self.cpu, "memory": self.memory}
        return {name: share and round(share, 4) for name, share in shares.items()} | asdict(self)


def used(host: Host, load: HostLoad | None) -> Used | None:
    """How full a host is, by what its agent has told last; ``None`` where it has told nothing."""
    if load is None:
        return None
    own, guests = host.settings, load.present.values()
    cpu = load.cpu_cores if own.cpu_cores is None else own.cpu_cores
    memory = load.memory_mib if own.memory_mib is None else own.memory_mib
    return Used(
        at=load.at / 1000,
        seconds=load.seconds,
        cpu_cores=round(sum(guest.cpu for guest in guests), 3),
        cpu_cores_usable=max(cpu - own.reserve_cpu_cores, 0),
        memory_mib=sum(guest.memory_mib for guest in guests),
        memory_mib_usable=max(memory - own.reserve_memory_mib, 0),
    )


def percent(share: float | None) -> str:
    """``87 %``; ``-`` where it is not known."""
    return "-" if share is None else f"{share:.0%}".replace("%", " %")
