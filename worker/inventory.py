"""The hosts that vmrelay may move domains between. Messages name these, never URIs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from worker.errors import Rejected
from worker.hypervisors import profile_for
from worker.hypervisors.base import HostConfig
from worker.settings import HostSettings, Settings
from worker.terms import Terms, terms_of


@dataclass(frozen=True, slots=True)
class Host:
    """One host: what the inventory says of it."""

    name: str
    settings: HostSettings
    profile: str

    @property
    def queue(self) -> str:
        """The Celery queue that this host's agent consumes."""
        return f"host.{self.name}"

    @property
    def peer_uri(self) -> str:
        """Where other hosts' daemons reach this host's; empty where its URI is a local one."""
        if self.settings.peer_uri is not None:
            return self.settings.peer_uri
        return self.settings.uri if urlsplit(self.settings.uri).hostname else ""


class Inventory(Mapping[str, Host]):
    """All hosts by name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.terms: Terms = terms_of(settings)
        self._hosts = {name: Host(name, host, profile_for(host.uri)) for name, host in sorted(settings.hosts.items())}

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    def host(self, name: str) -> Host:
        """The host called so. Raises ``Rejected`` (``unknown-host``)."""
        try:
            return self._hosts[name]
        except KeyError:
            known = ", ".join(self._hosts) or "none"
            raise Rejected(f"unknown host '{name[:80]}'; the inventory has {known}", code="unknown-host") from None

    def config(self, name: str) -> HostConfig:
        """What the driver of a host needs to know."""
        host = self.host(name)
        return HostConfig(
            name=name,
            uri=host.settings.uri,
            address=host.settings.address or name,
            retry=self._settings.retry.policy(),
            poll_seconds=self._settings.poll_seconds,
            peer_uri=host.peer_uri,
            stall=self._settings.stall.policy(),
        )
