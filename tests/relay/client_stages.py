"""The client over its three connectors, each on a stage where a test says what becomes of a domain."""

from __future__ import annotations

from itertools import count
from typing import Protocol

from journal_lab import NOTHING
from relay_lab import LARGE, Relay
from terms import terms_text
from vmrelay_client import Client
from vmrelay_client.fake import FakeClient

from tasks import results

_numbers = count(1)
RUN = {"host": "alpha", "seconds": 0}


class Stage(Protocol):
    """A client, and domains whose migrations do as a test says. They begin on ``source``."""

    client: Client
    kind: str
    source: str

    def moving(self) -> str:
        """A domain that can be moved."""

    def drained(self) -> str:
        """A host with two guests that can leave it; open to others again when the test is over."""

    def staying(self) -> str:
        """One whose migration goes on until it is cancelled."""

    def failing(self) -> str:
        """One whose migration fails in perform."""

    def until_it_runs(self, migration: str) -> None:
        """Wait until a migration is in perform."""

    def doubtful(self) -> str:
        """A migration that an operator has to look at."""

    def settle(self, migration: str) -> None:
        """The operator has looked: it failed."""


class OnFake:
    """Nothing real."""

    source = "source-host"

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.client = self._fake = FakeClient(like="http" if kind == "fake-http" else "celery")

    def moving(self) -> str:
        return f"vm-{next(_numbers)}"

    def drained(self) -> str:
        return "gamma"

    def staying(self) -> str:
        name = self.moving()
        self._fake.keep_running(name)
        return name

    def failing(self) -> str:
        name = self.moving()
        self._fake.fail(name, "PRL_ERR_FAILURE")
        return name

    def until_it_runs(self, migration: str) -> None:
        while self.client.status(migration).phase != "perform":
            self._fake.advance(1)

    def doubtful(self) -> str:
        name = self.moving()
        self._fake.leave_in_doubt(name)
        asked = self.client.migrate(name, "beta")
        self._fake.advance(60)
        return asked.id

    def settle(self, migration: str) -> None:
        self._fake.settle(migration, "failed")


class OnRelay:
    """A relay of real processes."""

    source = "alpha"

    def __init__(self, kind: str, client: Client, relay: Relay) -> None:
        self.kind, self.client, self._relay = kind, client, relay

    def moving(self) -> str:
        return self._relay.vm()

    def drained(self) -> str:
        self._relay.empty()
        self._relay.vm("gamma")
        self._relay.vm("gamma")
        return "gamma"

    def staying(self) -> str:
        return self._relay.vm(memory_mib=LARGE)

    def failing(self) -> str:
        name = self._relay.vm()
        self._relay.fault("alpha", "fail", code="0x80031004", vm=name)
        return name

    def until_it_runs(self, migration: str) -> None:
        self._relay.copying(migration)

    def doubtful(self) -> str:
        journal, ident = self._relay.journal, f"doubtful-{next(_numbers)}"
        fields = {"domain": ident, "uuid": ident, "source": "alpha", "destination": "beta", "driver": "vz"}
        journal.submit(ident, fields, {}, "b1", terms_text(99, 99))
        assert journal.claim(ident, 1, 1, "begin", "b1", "b", "alpha", NOTHING).won
        shown = results.shown(ident, results.in_doubt(ident, "alpha", "beta", "seen on both"))
        journal.doubt(ident, "b", RUN, {"reason": "x", "error": "seen on both"}, {"why": "seen on both"}, shown)
        return ident

    def settle(self, migration: str) -> None:
        journal = self._relay.journal
        journal.client.hset(f"vmrelay:m:{migration}", mapping={"state": "active", "step": "running", "token": "r"})
        ended = {"outcome": "failed", "reason": "x", "error": "it stayed", "error_phase": "recover"}
        results.store(journal, journal.conclude(migration, "r", RUN, ended, 1000, None)[1])

    def open_hosts(self) -> None:
        """Undo what drains leave."""
        self._relay.journal.uncordon("gamma")
