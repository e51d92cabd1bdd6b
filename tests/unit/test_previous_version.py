"""What the version before this one wrote is understood: its messages, its records, and a migration under way.

The data is what that version really wrote (``data/contract/README.md``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery import Task

from tasks import dispatch, phases
from tasks.reconcile import AWAY, interrupted
from worker.agent import Agent
from worker.contract import PHASE, Baton, MigrateRequest, canonical
from worker.hypervisors.base import (
    Begun,
    Domain,
    DomainState,
    Finished,
    Hypervisor,
    Measured,
    Performed,
    Phase,
    Prepared,
)
from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.runtime import Runtime
from worker.seal import Seal
from worker.settings import Settings

DATA = Path(__file__).parent / "data" / "contract"
KEY = bytes.fromhex((DATA / "seal.hex").read_text())
IDENT = "6f0c9a52-5d0e-4c4b-9f6e-2f3f4a1d7b10"
HOSTS = {host: {"uri": "vzsim:///none"} for host in ("alpha", "beta")}


def written(name: str) -> dict[str, Any]:
    """One of the files."""
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found


def message_of(phase: Phase) -> dict[str, Any]:
    """The baton in a phase's message, as Celery hands it to the task."""
    baton: dict[str, Any] = written(phase)["message"]["body"][0][0]
    return baton


class Host:
    """A hypervisor that does what it is asked, and remembers with which cookie."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cookies: list[bytes] = []
        self.uuid = ""

    def _domain(self, state: DomainState) -> Domain:
        return Domain("golden", self.uuid, state)

    def domains(self) -> list[Domain]:
        """Nothing that anybody looks at."""
        return []

    def inspect(self, uuid: str) -> Domain:
        """The guest is on the destination at the end."""
        return self._domain(DomainState.ABSENT if self.name == "alpha" else DomainState.RUNNING)

    def begin(self, move: Any, watch: Any) -> Begun:
        """A definition."""
        self.uuid = move.uuid
        return Begun("<domain/>", b"begun")

    def prepare(self, move: Any, xml: str, cookie: bytes, watch: Any) -> Prepared:
        """A place to send it to."""
        assert xml
        return Prepared("tcp:beta", b"prepared")

    def perform(self, move: Any, xml: str, uri: str, cookie: bytes, watch: Any) -> Performed:
        """It moves."""
        assert (bool(xml), bool(uri), move.destination_name, move.deadline_seconds) == (True, True, "golden-moved", 600)
        self.cookies.append(cookie)
        return Performed(b"performed")

    def finish(self, move: Any, cookie: bytes, cancelled: bool, watch: Any) -> Finished:
        """It runs here."""
        assert not cancelled
        self.cookies.append(cookie)
        return Finished(Domain(move.destination_name, move.uuid, DomainState.RUNNING), b"finished")

    def confirm(self, move: Any, cookie: bytes, cancelled: bool, watch: Any) -> Domain:
        """It has left."""
        assert not cancelled
        return Domain(move.domain, move.uuid, DomainState.ABSENT)

    def measured(self, move: Any) -> Measured:
        """Nothing."""
        return Measured()


@pytest.fixture
def agents(redis_url: str) -> Iterator[dict[str, Agent]]:
    """The agents of both hosts, of this version, with their leases."""
    settings = Settings(redis_url=redis_url, hosts=HOSTS)
    with connect(redis_url) as client:
        parts = Runtime(settings, Inventory(settings), Journal(client))
        made = {}
        for name in HOSTS:
            hypervisor = cast(Hypervisor, Host(name))
            made[name] = Agent(parts.inventory[name], parts, hypervisor, Seal(KEY))
            made[name].take_lease()
        yield made
        for agent in made.values():
            agent._lease_journal.client.close()


def restore(journal: Journal, keys: dict[str, Any]) -> None:
    """Put the journal into the state in which the other version left it."""
    for name, value in keys.items():
        key = f"vmrelay:{name}"
        if isinstance(value, dict):
            journal.client.hset(key, mapping=value)
        elif isinstance(value, str):
            journal.client.set(key, value)
        elif isinstance(value[0], list):
            journal.client.zadd(key, dict(value))
        else:
            journal.client.sadd(key, *value)


def serve(agents: dict[str, Agent], monkeypatch: pytest.MonkeyPatch, phase: Phase, raw: dict[str, Any]) -> Any:
    """Let the agent whose turn it is run a phase; what it hands on."""
    agent = agents["alpha" if phase.on_source else "beta"]
    monkeypatch.setattr(phases, "current", lambda: agent)
    task = SimpleNamespace(request=SimpleNamespace(chain=None, id=IDENT))
    return phases.run(cast("Task[..., Any]", task), phase, raw)


@pytest.mark.parametrize("first", list(Phase))
def test_a_migration_under_way_is_finished(
    agents: dict[str, Agent], monkeypatch: pytest.MonkeyPatch, first: Phase
) -> None:
    """From any phase on: its message is claimed, its cookies open, and its record ends as succeeded, counted once."""
    journal = agents["alpha"].journal
    restore(journal, written(first)["keys"])
    before = journal.record(IDENT)
    assert before is not None
    assert (before.state, before.phase, before.step) == ("active", first, "queued")
    assert (before.host, before.incarnation, before.waiting) == ("alpha" if first.on_source else "beta", "", None)
    raw = message_of(first)
    for phase in list(Phase)[list(Phase).index(first) :]:
        raw = serve(agents, monkeypatch, phase, raw)
    after = journal.record(IDENT)
    assert after is not None
    assert (after.state, after.outcome, after.domain) == ("ended", "succeeded", "golden")
    assert raw["outcome"] == "succeeded"
    assert [run.name for run in after.phases] == list(Phase)
    assert not any(journal.load_of(host) != (0, 0) for host in HOSTS)
    told = [kind for _, kind, _ in journal.events(IDENT)]
    assert told.count("ended") == 1


@pytest.mark.parametrize("phase", list(Phase))
def test_its_batons_are_what_we_would_write(phase: Phase) -> None:
    """Nothing of them is lost, and what is new has its default."""
    raw = message_of(phase)
    baton = Baton.model_validate(raw)
    assert baton.document() == raw
    assert written(phase)["keys"][f"m:{IDENT}"]["baton"] == canonical(raw) == dispatch.text(baton)


def test_what_a_newer_version_adds_to_a_message_is_passed_over(
    agents: dict[str, Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim compares the message as it came, so a field that we do not know does not make it a forgery."""
    journal = agents["alpha"].journal
    restore(journal, written(Phase.PERFORM)["keys"])
    raw = message_of(Phase.PERFORM) | {"unknown": {"to": ["us"]}}
    journal.client.hset(f"vmrelay:m:{IDENT}", "baton", canonical(raw))
    following = serve(agents, monkeypatch, Phase.PERFORM, raw)
    assert "unknown" not in following
    serve(agents, monkeypatch, Phase.FINISH, following)


@pytest.mark.parametrize("phase", list(Phase))
def test_task_names_and_queues_are_the_same(phase: Phase) -> None:
    """So a message finds its task, and its host."""
    message = written(phase)["message"]
    assert message["headers"]["task"] == PHASE + phase
    host = "alpha" if phase.on_source else "beta"
    assert message["properties"]["delivery_info"]["routing_key"] == f"host.{host}"


def test_its_requests_are_taken() -> None:
    """An application that sends what it always sent need not change."""
    (_, arguments, _) = written("request")["message"]["body"]
    request = MigrateRequest.parse(arguments)
    assert (request.domain, request.destination, request.attempts) == ("golden", "beta", 2)
    assert request.options == {"paused": False}
    assert request.params == {"destination_name": "golden-moved"}


def test_a_claim_of_the_version_before_is_not_taken_for_another_agents(
    agents: dict[str, Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say which agent it is: only an agent that is away makes it an interrupted one."""
    journal = agents["alpha"].journal
    restore(journal, written(Phase.PREPARE)["keys"])
    serve(agents, monkeypatch, Phase.PREPARE, message_of(Phase.PREPARE))
    # what the other version's claim writes
    journal.client.hset(f"vmrelay:m:{IDENT}", mapping={"step": "running", "token": "t", "owner": "alpha"})
    record = journal.record(IDENT)
    assert record is not None
    assert interrupted(record, journal.agents(HOSTS), 0, 10) == ""
    assert interrupted(record, {}, 11, 10) == AWAY
