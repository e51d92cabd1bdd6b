"""The relay of ``relay_lab`` over real libvirt hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from libvirt_lab import Guest, Lab, command, eventually
from relay_lab import Relay, until

from worker.embedded import EmbeddedRedis


class LibvirtRelay(Relay):
    """A scheduler and an agent for each host of a lab, and the guests that a test starts there."""

    kinds = ("scheduler", "agent")

    def __init__(self, directory: Path, redis: EmbeddedRedis, lab: Lab, heartbeat: ModuleType) -> None:
        self.lab = lab
        self.hosts = tuple(lab.uris)
        self.guests: list[Guest] = []
        self._heartbeat = heartbeat
        super().__init__(directory, redis)

    def inventory(self) -> str:
        """The lab's hosts, and a stall verdict that comes soon."""
        uris, peers = self.lab.uris, self.lab.peers
        hosts = "".join(f'[hosts.{host}]\nuri = "{uris[host]}"\npeer_uri = "{peers[host]}"\n' for host in uris)
        return "[stall]\nrounds = 2\n" + hosts

    def guest(self, name: str, host: str = "alpha", memory: int = 32, rate: int = 2) -> Guest:
        """Start a guest; wait for its first beats, and until its host's agent has published it."""
        words = ["guest", self.lab.folder, host, name, "-m", str(memory), "-r", str(rate)]
        serial = Path(command(*words).stdout.strip())  # type: ignore[arg-type]
        self.guests.append(Guest(name, "", serial, self._heartbeat))
        eventually(lambda: self._heartbeat.read(serial).beats > 2, f"first beats of {name}")
        self.published(name, host, "running")
        return self.guests[-1]

    def published(self, name: str, host: str, state: str) -> None:
        """Wait until the agent of a host has published a domain in this state."""
        until(lambda: self.journal.find_domain(name, [host]).get(host, {}).get("state") == state, f"{name} is {state}")

    def where(self, name: str) -> dict[str, str]:
        """On which hosts a domain is, and whether it runs there: a fresh look."""
        import libvirt

        words = {libvirt.VIR_DOMAIN_RUNNING: "running", libvirt.VIR_DOMAIN_SHUTOFF: "shutoff"}
        found = {}
        for host, uri in self.lab.uris.items():
            connection = libvirt.open(uri)
            try:
                for domain in connection.listAllDomains():
                    if domain.name() == name:
                        found[host] = words.get(domain.state()[0], "paused")
            finally:
                connection.close()
        return found

    def shut_off(self, guest: Guest, host: str = "alpha") -> None:
        """Pull a guest's plug, and wait until its host's agent has published that."""
        with self.domain(guest.name, host) as domain:
            domain.destroy()
        self.published(guest.name, host, "shutoff")

    @contextmanager
    def domain(self, name: str, host: str) -> Iterator[Any]:
        """A domain as libvirt-python shows it, over a connection of its own."""
        import libvirt

        connection = libvirt.open(self.lab.uris[host])
        try:
            yield connection.lookupByName(name)
        finally:
            connection.close()

    def lives(self, guest: Guest, host: str) -> None:
        """See that a guest runs on this host and on no other, and that no beat of it was lost or came twice."""
        assert self.where(guest.name) == {host: "running"}
        guest.beats_on()

    def remove_guests(self) -> None:
        """Remove every guest that was started, wherever it is."""
        import libvirt

        names = {guest.name for guest in self.guests}
        for uri in self.lab.uris.values():
            connection = libvirt.open(uri)
            try:
                for domain in connection.listAllDomains():
                    if domain.name() in names:
                        persistent = domain.isPersistent()
                        if domain.isActive():
                            domain.destroy()
                        if persistent:
                            domain.undefine()
            finally:
                connection.close()
        self.guests.clear()
