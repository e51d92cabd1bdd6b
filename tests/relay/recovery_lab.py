"""A relay whose agents are missed soon, and what tests of interrupted migrations have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fault_proxy import FaultProxy
from relay_lab import Relay, until

from worker.embedded import EmbeddedRedis
from worker.journal import Record

MEDIUM = 500_000
"""MiB: a guest whose memory is still being copied when a test acts, and that has moved soon after."""
WAITING = "vmrelay_waiting_for_host_migrations"


class QuickRelay(Relay):
    """Leases of two seconds: what a killed agent had is recovered soon."""

    def __init__(self, directory: Path, redis: EmbeddedRedis | FaultProxy) -> None:
        super().__init__(directory, redis)
        self.environment["VMRELAY_LEASE_SECONDS"] = "2"

    def kill_host(self, host: str) -> None:
        """A host loses its power: its agent and its dispatcher are gone."""
        self.kill(f"agent-{host}")
        self.kill(f"simulator-{host}")

    def power_on(self, host: str) -> None:
        """The host is back, with what is on its disks."""
        self.spawn(f"simulator-{host}", "simulator", host)
        until(lambda: self.answers(host), f"simulator of {host}")
        self.restart_agent(host)

    def missed(self, host: str) -> None:
        """Wait until the lease of a killed agent has lapsed."""
        until(lambda: host not in self.journal.agents([host]), f"the lease of {host} has lapsed")

    def waits_for(self, ident: str, host: str) -> Record:
        """Wait until a migration says that it waits for a host; its record."""

        def there() -> Record | None:
            record = self.record(ident)
            return record if record and record.waiting and record.waiting["host"] == host else None

        record = until(there, f"{ident} waits for {host}")
        assert record is not None
        return record

    def told(self, *words: str) -> Any:
        """What a command prints with ``-o json``; it must succeed."""
        done = self.cli(*words, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def where_alive(self, name: str) -> dict[str, str]:
        """As ``where``, on the hosts that answer."""
        alive = [host for host in self.hosts if self.answers(host)]
        return {host: str(vm["guest"]) for host in alive for vm in self.ask(host, "show")["vms"] if vm["name"] == name}

    def settled(self, name: str, *hosts: str) -> None:
        """See that a guest runs on exactly one of these hosts, and that no other one has more than stopped remains."""
        where = self.where(name)
        running = [host for host, state in where.items() if state == "running"]
        assert len(running) == 1, where
        assert set(running) <= set(hosts)
        assert set(where.values()) <= {"running", "stopped"}, where
