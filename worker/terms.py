"""How much may run at once, as the settings say it: what the admission scripts are told with each call.

What an operator changed meanwhile lies in the journal (hash ``limits``), and the scripts put it on top.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Room:
    """What one host allows."""

    outgoing: int
    """So many may leave it at once."""
    incoming: int
    """So many may enter it."""
    network: str = ""
    """The migration network that it sends and receives over; empty for one that nobody counts."""

    def document(self) -> dict[str, Any]:
        """As the scripts read it."""
        return {"out": self.outgoing, "in": self.incoming} | ({"net": self.network} if self.network else {})


@dataclass(frozen=True, slots=True)
class Terms:
    """What all hosts and networks allow, and how turns are shared."""

    hosts: dict[str, Room]
    networks: dict[str, int] = field(default_factory=dict)
    """So many use each migration network at once; one that is not named has no limit."""
    migrations: int | None = None
    """So many run at once in all."""
    urgent_slots: int = 0
    """So many slots of each host and direction are left to urgent ones, where there are more than that."""
    half_life_seconds: float = 60
    ageing_seconds: float = 900

    @property
    def network_names(self) -> list[str]:
        """All networks, those without a limit, too."""
        return sorted({room.network for room in self.hosts.values() if room.network} | set(self.networks))

    def text(self, *hosts: str) -> str:
        """As the scripts read it: for all hosts, or for those that are named."""
        named = {name: self.hosts[name] for name in hosts if name in self.hosts} if hosts else self.hosts
        used = {room.network for room in named.values()} if hosts else self.networks
        document = {
            "hosts": {name: room.document() for name, room in named.items()},
            "nets": {name: self.networks[name] for name in used if name in self.networks},
            "urgent": self.urgent_slots,
            "half_life": int(self.half_life_seconds * 1000),
            "ageing": int(self.ageing_seconds * 1000),
        }
        return json.dumps(document | ({} if self.migrations is None else {"all": self.migrations}))


def terms_of(settings: Settings) -> Terms:
    """What these settings allow."""
    admission = settings.admission
    return Terms(
        hosts={name: Room(own.max_outgoing, own.max_incoming, own.network) for name, own in settings.hosts.items()},
        networks={name: network.max_migrations for name, network in settings.networks.items()},
        migrations=admission.max_migrations,
        urgent_slots=admission.urgent_slots,
        half_life_seconds=admission.half_life_seconds,
        ageing_seconds=admission.ageing_seconds,
    )
