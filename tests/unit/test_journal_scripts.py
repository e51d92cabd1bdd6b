"""Single ways through the journal's scripts, against a real Redis."""

from __future__ import annotations

from typing import Any

import pytest
from journal_lab import HOSTS, KEEP, NOTHING, agents, fields
from terms import terms, terms_text

from worker.hypervisors.base import Domain, DomainState
from worker.journal import Journal, connect


@pytest.fixture
def journal(redis_url: str) -> Any:
    """An empty journal with an agent on every host."""
    with connect(redis_url) as client:
        journal = Journal(client)
        agents(journal)
        yield journal


def test_a_draining_or_absent_agent_is_not_admitted_to(journal: Journal) -> None:
    """The request waits; a round starts it when the host may be used."""
    journal.lease("beta", {"incarnation": "beta", "draining": True}, 3600)
    journal.unlease("gamma", "gamma")
    for ident, destination in (("m1", "beta"), ("m2", "gamma")):
        created, admitted = journal.submit(ident, fields(ident, "alpha", destination), {}, "b", terms_text(9, 9))
        assert (created, admitted[0]) == (["OK"], "CLOSED" if ident == "m1" else "BEHIND")
        assert journal.record(ident).state == "pending"  # type: ignore[union-attr]
    assert journal.choose(terms(9, 9)) == []
    journal.lease("beta", {"incarnation": "beta"}, 3600)
    journal.lease("gamma", {"incarnation": "gamma"}, 3600)
    assert journal.choose(terms(9, 9)) == ["m1", "m2"]


def test_a_host_whose_hypervisor_is_silent_is_not_admitted_to(journal: Journal) -> None:
    """Its agent says so with the lease: requests from and towards it wait, others start."""
    journal.lease("beta", {"incarnation": "beta", "answers": False}, 3600)
    assert journal.submit("m1", fields("m1", "alpha", "beta"), {}, "b", terms_text(9, 9))[1] == ["CLOSED", "beta"]
    journal.cancel("m1", "", KEEP)
    assert journal.submit("m2", fields("m2", "beta", "gamma"), {}, "b", terms_text(9, 9))[1] == ["CLOSED", "beta"]
    journal.cancel("m2", "", KEEP)
    journal.lease("beta", {"incarnation": "beta", "answers": True}, 3600)
    assert journal.submit("m3", fields("m3", "alpha", "beta"), {}, "b", terms_text(9, 9))[1][0] == "OK"


def test_leases_exclude_each_other(journal: Journal) -> None:
    """A second agent is told who holds it; only the holder gives it back."""
    assert journal.lease("alpha", {"incarnation": "x", "pid": 5}, 10) == {"incarnation": "alpha"}
    journal.unlease("alpha", "x")
    assert set(journal.agents(HOSTS)) == set(HOSTS)
    journal.unlease("alpha", "alpha")
    assert journal.lease("alpha", {"incarnation": "x", "pid": 5}, 10) is None


def test_a_look_that_is_older_than_a_migration_is_not_published(journal: Journal) -> None:
    """An agent looked before a domain arrived: its list may not take the domain away again."""
    web = Domain("web", "uuid-web", DomainState.RUNNING)
    assert journal.publish("alpha", "0", [web])
    version = journal.inventory_version("beta")
    journal.submit("m", fields("web", "alpha", "beta"), {}, "b", terms_text(1, 1))
    assert journal.claim("m", 1, 1, "begin", "b", "t", "alpha", NOTHING).won
    journal.conclude("m", "t", {"host": "alpha", "seconds": 0}, {"outcome": "succeeded"}, KEEP, web)
    assert not journal.publish("beta", version, [])
    assert list(journal.find_domain("web", HOSTS)) == ["beta"]
    assert list(journal.find_domain("UUID-WEB", HOSTS)) == ["beta"]


def test_a_rejected_request_holds_nothing(journal: Journal) -> None:
    """Recorded once, ended from the start, and no domain is held."""
    assert journal.refuse("m", {"reason": "x", "error": "y"}, KEEP, {})
    assert not journal.refuse("m", {"reason": "z", "error": "z"}, KEEP, {})
    record = journal.record("m")
    assert record is not None
    assert (record.state, record.outcome, record.reason) == ("ended", "rejected", "x")
    assert journal.count("ended") == 1
    journal.forget(-1)
    assert journal.count("ended") == 0


def test_a_new_attempt_begins_without_the_progress_of_the_last_one(journal: Journal) -> None:
    """How far a failed perform was is forgotten with it."""
    assert journal.submit("m", fields("web", "alpha", "beta"), {}, "1", terms_text(1, 1))[1][0] == "OK"
    for attempt in (1, 2):
        record = journal.record("m")
        assert record is not None
        assert record.document()["progress"] is None
        assert journal.claim("m", attempt, record.epoch, "begin", str(attempt), "t", "alpha", NOTHING).won
        journal.progress("m", "t", {"percent": 42}, True, NOTHING)
        journal.backoff("m", "t", {"phase": "begin", "host": "alpha", "seconds": 1}, {}, 0, {}, NOTHING)
        journal.admit("m", attempt + 1, str(attempt + 1), terms_text(1, 1))


def test_what_was_measured_and_what_went_wrong_is_in_the_document(journal: Journal) -> None:
    """Fields of the end come back as what they are: seconds, counts, a warning."""
    journal.submit("m", fields("web", "alpha", "beta"), {}, "b", terms_text(1, 1))
    assert journal.claim("m", 1, 1, "begin", "b", "t", "alpha", NOTHING).won
    measured: dict[str, str | int | float | None] = {
        "downtime_seconds": 0.25,
        "transferred_bytes": 4096,
        "total_seconds": 12.5,
        "iterations": 3,
    }
    ended = measured | {"outcome": "succeeded", "warning": "confirm was not answered"}
    _, record = journal.conclude("m", "t", {"host": "alpha", "seconds": 0}, ended, KEEP, None)
    document = record.document()
    assert {name: document[name] for name in measured} == measured
    assert isinstance(document["iterations"], int)
    assert (document["warning"], document["stalled"]) == ("confirm was not answered", None)
