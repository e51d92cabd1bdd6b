"""A journal filled by its own scripts, with no agent and no host: what the page shows of many guests."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from worker.hypervisors.base import Domain, DomainState, Phase
from worker.inventory import Inventory
from worker.journal import Journal
from worker.loads import GuestLoad, HostLoad
from worker.settings import HostSettings, Settings
from worker.terms import Room, Terms

NOTHING = ("", "", 0)
KEEP = 3600
GIB = 2**30


class Fleet:
    """Hosts with agents that say so, guests, and migrations as far as a test wants them."""

    def __init__(self, journal: Journal, hosts: int, url: str = "", slots: int = 64) -> None:
        names = [f"node-{number:02}" for number in range(hosts)]
        self.settings = Settings(redis_url=url, state_dir=Path("/nonexistent"), rules={}, networks={})
        # Set afterwards: the settings of the folder in which the tests run would come on top.
        self.settings.hosts = {
            name: HostSettings(uri=f"vzsim:///{name}", max_outgoing=slots, max_incoming=slots) for name in names
        }
        self.journal, self.names, self.inventory = journal, names, Inventory(self.settings)
        self.tokens: dict[str, str] = {}
        journal.lease("scheduler", {"incarnation": "s", "pid": 1}, KEEP)
        for name in names:
            journal.lease(name, {"incarnation": name, "pid": 1}, KEEP)

    def people(self, host: str, names: list[str], busy: float = 0.5) -> None:
        """A host has these guests, and is so busy."""
        now = round(time.time() * 1000)
        guests = [Domain(name, self.uuid(name), DomainState.RUNNING, memory_bytes=4 * GIB) for name in names]
        self.journal.publish(host, self.journal.inventory_version(host), guests)
        share = {
            guest.uuid: GuestLoad(64 * busy / len(guests), int(262_144 * busy / len(guests)), 0, 60) for guest in guests
        }
        self.journal.publish_load(host, HostLoad(now, 60, 64, 262_144, share), KEEP)

    @staticmethod
    def uuid(name: str) -> str:
        """A guest's."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))

    def ask(self, ident: str, domain: str, source: str, destination: str, *, start: bool = True, **more: str) -> str:
        """A migration: begun where there is a slot, or left in the queue; its id."""
        fields = {"domain": domain, "uuid": self.uuid(domain), "source": source, "destination": destination}
        told = {name: fields[name] for name in ("domain", "source", "destination")}
        room = self.settings.hosts[source].max_outgoing if start else 0
        terms = Terms({host: Room(room, room) for host in (source, destination)}).text()
        self.journal.submit(ident, fields | {"driver": "vz"} | more, told, f"{ident}-1", terms)
        return ident

    def claim(self, ident: str, phase: Phase, host: str) -> None:
        """An agent takes a phase."""
        record = self.journal.record(ident)
        assert record is not None
        self.tokens[ident] = f"{ident}-{phase}"
        won = self.journal.claim(
            ident, record.attempt, record.epoch, phase, self.journal.baton(ident), self.tokens[ident], host, NOTHING
        )
        assert won.won, (ident, phase, won)

    def perform(self, ident: str, percent: int = 0) -> None:
        """A migration is copied, and so far."""
        record = self.journal.record(ident)
        assert record is not None
        for phase, after, host in (("begin", "prepare", record.source), ("prepare", "perform", record.destination)):
            self.claim(ident, Phase(phase), host)
            run = {"phase": phase, "host": host, "attempt": 1, "seconds": 0.02, "queued_seconds": 0.003}
            self.journal.advance(ident, self.tokens[ident], after, f"{ident}-{after}", run, {}, 10_000, "")
        self.claim(ident, Phase.PERFORM, record.source)
        self.progress(ident, percent)

    def progress(self, ident: str, percent: int) -> None:
        """It is copied so far now."""
        left = (100 - percent) * GIB // 50
        told = {
            "percent": percent, "total_bytes": 2 * GIB, "remaining_bytes": left, "iteration": 1 + percent // 60,
            "bandwidth_bytes_per_second": (180 + percent) * 2**20, "expected_downtime_seconds": 0.04 + percent / 1000,
        }  # fmt: skip
        self.journal.progress(ident, self.tokens[ident], told, True, NOTHING)

    def end(self, ident: str, outcome: str = "succeeded", reason: str = "", error: str = "") -> None:
        """It is over."""
        record = self.journal.record(ident)
        assert record is not None
        here = Domain(record.domain, record.uuid, DomainState.RUNNING, memory_bytes=4 * GIB)
        fields = {"outcome": outcome, "reason": reason, "error": error, "downtime_seconds": 0.041}
        run = {"phase": record.phase, "host": record.source, "attempt": 1, "seconds": 3.2}
        self.journal.conclude(ident, self.tokens[ident], run, fields, KEEP, here if outcome == "succeeded" else None)

    def doubt(self, ident: str, error: str) -> None:
        """Nobody knows where its guest runs."""
        record = self.journal.record(ident)
        assert record is not None
        run = {
            "phase": record.phase,
            "host": record.source,
            "attempt": 1,
            "seconds": 3.2,
            "error": "interrupted",
            "message": error,
        }
        told = {"source_state": "running", "destination_state": "running", "why": error}
        fields = {"reason": "interrupted", "error": error}
        self.journal.doubt(ident, self.tokens[ident], run, fields, told, NOTHING)
