"""The stage over two real libvirt hosts, each in namespaces of its own, and eyes on what their guests truly do."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import libvirt

from chaos.keeper import Keeper
from chaos.libvirt_lab import DAEMON, Host, LabKeeper, command, load_heartbeat
from chaos.stage import READY_SECONDS, Copy, Guest, Stage, until
from chaos.wire import Wire
from worker.contract import MIGRATE, SCHEDULER_QUEUE

MEMORY_MIB, DIRTY_MIB_PER_SECOND = 16, 2
BANDWIDTH_MIB_PER_SECOND = 6
"""Of a perform that is to be met in its middle: it takes some three seconds."""
WARM_BEATS = 100
"""After so many a guest has dirtied most of its memory."""
HALF_WAY_BYTES = 1 << 20
STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTOFF: "shutoff",
    libvirt.VIR_DOMAIN_CRASHED: "shutoff",
}


class LibvirtStage(Stage):
    """Real hosts, whose daemons are killed like every other process; their guests run on meanwhile."""

    keeper_class: ClassVar[type[Keeper]] = LabKeeper

    def __init__(self, folder: Path) -> None:
        libvirt.registerErrorHandler(lambda *_: None, None)  # else every error is printed
        self.lab = folder / "lab"
        folder.mkdir(parents=True, exist_ok=True)
        command("up", "--netns", "-d", self.lab, *self.hosts)
        self.machines = {host: Host(self.lab, host) for host in self.hosts}
        super().__init__(folder)
        self.wires = {host: Wire(self.port) for host in self.hosts}
        self.heartbeat = load_heartbeat()
        self.slowly = False
        """Whether the next migration is asked for with little bandwidth."""
        self.peer_to_peer = False
        """Whether it is asked for as one that the source's daemon makes by itself."""
        self._guest: Guest | None = None

    def inventory(self) -> str:
        """See ``Stage``."""
        peers = {name: (self.lab / name / "peer").read_text().strip() for name in self.machines}
        return "".join(
            f'[hosts.{name}]\nuri = "{host.uri}"\npeer_uri = "{peers[name]}"\n' for name, host in self.machines.items()
        )

    def agent_command(self, host: str) -> list[str]:
        """See ``Stage``: each agent reaches Redis over a wire of its own."""
        return ["env", f"VMRELAY_REDIS_URL={self.wires[host].url}", *super().agent_command(host)]

    def start_hosts(self) -> None:
        """See ``Stage``."""
        for name, host in self.machines.items():
            host.find()
            for daemon in host.daemons():
                daemon.kill()
            until(lambda host=host: not host.daemons(), f"{name}'s first daemon has ended")  # type: ignore[misc]
            self.keeper.add(self.host_process(name), host.daemon_command())

    def stop(self) -> None:
        """See ``Stage``."""
        super().stop()
        for wire in self.wires.values():
            wire.close()
        if (self.lab / "lab").exists():
            command("down", self.lab)

    def await_hosts(self) -> None:
        """See ``Stage``: the daemons answer."""
        until(lambda: all(map(self.answers, self.hosts)), "the daemons answer", READY_SECONDS)

    def host_process(self, host: str) -> str:
        """See ``Stage``: what stands for a host is its libvirt daemon."""
        return DAEMON + host

    # -- guests -----------------------------------------------------------------------------------

    def new_guest(self, cell_number: int, paused: bool) -> Guest:
        """The guest of the cell before where it lives: it has dirtied its memory. Else a new one."""
        source = self.hosts[0]
        if self._guest is None:
            name = f"vm-{cell_number}"
            command("guest", self.lab, source, name, "-m", str(MEMORY_MIB), "-r", str(DIRTY_MIB_PER_SECOND))
            until(lambda: self.beats(name) > WARM_BEATS, f"{name} beats", READY_SECONDS)
            with self._connection(source) as connection:
                ident = connection.lookupByName(name).UUIDString()
            self._guest = Guest(name, ident, "running", Copy("running"))
        guest = self._guest
        until(lambda: self._published(guest) == {source: "running"}, f"{guest.name} is published")
        return guest

    def _published(self, guest: Guest) -> dict[str, Any]:
        return {host: card.get("state") for host, card in self.journal.find_domain(guest.name, self.hosts).items()}

    def remove_guest(self, guest: Guest) -> None:
        """See ``Stage``."""
        self._guest = None
        for host in self.hosts:
            with suppress(libvirt.libvirtError), self._connection(host) as connection:
                domain = connection.lookupByUUIDString(guest.uuid)
                if domain.isActive():
                    domain.destroy()
                domain.undefine()

    def serial(self, guest: str) -> Path:
        """The file to which a guest writes its beats."""
        return self.lab / f"{guest}.serial"

    def beats(self, guest: str) -> int:
        """How often a guest has beaten."""
        return int(self.heartbeat.read(self.serial(guest)).beats)

    def copies(self, guest: Guest) -> dict[str, Copy]:
        """See ``Stage``; raises ``libvirtError`` where a daemon does not answer, which is no time to judge."""
        found = {}
        for host in self.hosts:
            with self._connection(host) as connection:
                for domain in connection.listAllDomains():
                    if domain.UUIDString() == guest.uuid:
                        found[host] = Copy(STATES.get(domain.state()[0], "other"))
        return found

    def alive(self, guest: Guest) -> list[str]:
        """On which hosts a process of the guest is, whatever it does there; asks no daemon."""
        return [name for name, host in self.machines.items() for _ in host.guests(guest.name)]

    def leftovers(self, guest: Guest) -> list[str]:
        """See ``Stage``."""
        found = []
        for host in self.hosts:
            with self._connection(host) as connection:
                for domain in connection.listAllDomains():
                    if domain.isActive() and not domain.isPersistent():
                        found.append(f"{domain.name()} has no definition on {host}")
                    if domain.isActive() and domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
                        found.append(f"{host} still has a job of {domain.name()}")
        return found

    # -- migrations -------------------------------------------------------------------------------

    def migrate(self, guest: Guest, destination: str, ident: str = "") -> str:
        """See ``Stage``."""
        ident = ident or str(uuid.uuid4())
        arguments: dict[str, Any] = {"domain": guest.name, "destination": destination}
        if self.slowly:
            arguments["params"] = {"bandwidth": BANDWIDTH_MIB_PER_SECOND}
        if self.peer_to_peer:
            arguments["options"] = {"peer2peer": True}
        self.celery.send_task(MIGRATE, kwargs=arguments, task_id=ident, queue=SCHEDULER_QUEUE)
        return ident

    def hold_copying(self, guest: Guest) -> Callable[[], bool]:
        """See ``Stage``: it is copied slowly, and met on the way."""
        source = self.hosts[0]

        def copying() -> bool:
            with suppress(libvirt.libvirtError), self._connection(source) as connection:
                stats = connection.lookupByUUIDString(guest.uuid).jobStats()
                return bool(stats.get("data_processed", 0) > HALF_WAY_BYTES and stats.get("data_remaining", 0))
            return False

        return copying

    def answers(self, host: str) -> bool:
        """Whether a host's daemon answers."""
        with suppress(libvirt.libvirtError), self._connection(host) as connection:
            return bool(connection.getVersion())
        return False

    @contextmanager
    def _connection(self, host: str) -> Iterator[libvirt.virConnect]:
        connection = libvirt.open(self.machines[host].uri)
        try:
            yield connection
        finally:
            connection.close()
