"""What may be resolved and what may be asked for again: decisions over records, without processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from terms import terms, terms_text

from tasks.reconcile import assumed_dead
from tasks.resolve import _retry, asked_again, goes_on, refuse_resolving, refuse_retrying
from worker.contract import MigrateRequest, ResolveRequest, RetryRequest
from worker.errors import Rejected
from worker.hypervisors.convergence import Convergence, StallAction
from worker.inventory import Inventory
from worker.journal import Journal, Record, connect
from worker.runtime import Runtime
from worker.seal import ensure_key, load_key, seal_documents
from worker.settings import Settings

RECORD = Record(
    "m",
    "active",
    domain="web",
    uuid="407e6e84-b2cd-5505-acd6-6cc15b293447",
    source="alpha",
    destination="beta",
    attempt=1,
    epoch=1,
    phase="perform",
    step="running",
    owner="alpha",
    incarnation="a",
    host="alpha",
)
AGENTS = {"alpha": {"incarnation": "a", "answers": True}, "beta": {"incarnation": "b", "answers": True}}
SILENT = AGENTS | {"beta": {"incarnation": "b", "answers": False}}
ALONE = {"alpha": AGENTS["alpha"]}
RECOVERY = replace(RECORD, phase="recover")
QUEUED = replace(RECORD, phase="finish", step="queued", host="beta")
WAITING = replace(RECOVERY, step="queued", host="beta", waiting={"host": "beta", "why": "away", "since": 1})
DOUBT = replace(RECORD, state="in-doubt", phase="recover", step="", owner="beta")


@pytest.mark.parametrize(
    ("record", "agents", "dead", "code"),
    [
        (replace(RECORD, state="ended", outcome="failed"), AGENTS, None, "over"),
        (replace(RECORD, state="pending"), AGENTS, None, "not-started"),
        (replace(RECORD, state="backoff"), AGENTS, None, "not-started"),
        (RECORD, AGENTS, None, "goes-on"),
        (QUEUED, AGENTS, None, "goes-on"),
        (RECOVERY, AGENTS, None, "goes-on"),
        (RECORD, ALONE, "beta", "goes-on"),
        (WAITING, ALONE, "gamma", "not-its-host"),
        (DOUBT, AGENTS, "alpha", "host-alive"),
        (WAITING, ALONE, "alpha", "host-alive"),
    ],
)
def test_what_is_not_resolved(record: Record, agents: dict[str, Any], dead: str | None, code: str) -> None:
    """What is over, has not begun or goes on by itself is left alone; who is alive is not assumed dead."""
    with pytest.raises(Rejected) as refusal:
        refuse_resolving(record, agents, dead)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("record", "agents", "dead"),
    [
        (DOUBT, AGENTS, None),
        (DOUBT, ALONE, "beta"),
        (DOUBT, SILENT, "beta"),
        (WAITING, ALONE, None),
        (WAITING, ALONE, "beta"),
        (WAITING, SILENT, "beta"),
        (QUEUED, ALONE, None),
        (QUEUED, ALONE, "beta"),
        (RECORD, {"beta": AGENTS["beta"]}, "alpha"),
        (replace(RECORD, incarnation="before"), AGENTS, None),
        (replace(RECOVERY, owner="alpha"), ALONE, "beta"),
        (replace(RECORD, phase="finish", owner="beta", incarnation="b"), SILENT, "beta"),
    ],
)
def test_what_is_resolved(record: Record, agents: dict[str, Any], dead: str | None) -> None:
    """In doubt, waiting for a host, or in the hands of an agent that is gone: both hosts are looked at."""
    refuse_resolving(record, agents, dead)


def test_who_carries_an_attempt_on() -> None:
    """The very life of the agent that claimed it, or whoever is there to take what is queued."""
    assert goes_on(RECORD, ALONE)
    assert not goes_on(replace(RECORD, incarnation="before"), ALONE)
    assert not goes_on(RECORD, {})
    assert goes_on(QUEUED, AGENTS)
    assert not goes_on(QUEUED, ALONE)
    assert not goes_on(WAITING, AGENTS)
    assert not goes_on(DOUBT, AGENTS)


@pytest.mark.parametrize(
    ("state", "outcome", "code"),
    [
        ("in-doubt", "", "in-doubt"),
        ("active", "", "goes-on"),
        ("pending", "", "goes-on"),
        ("ended", "succeeded", "over"),
        ("ended", "rejected", "over"),
        ("ended", "failed", ""),
        ("ended", "cancelled", ""),
    ],
)
def test_what_may_be_asked_for_again(state: str, outcome: str, code: str) -> None:
    """Only what ended on its source."""
    record = replace(RECORD, state=state, outcome=outcome)
    if not code:
        refuse_retrying(record)
        return
    with pytest.raises(Rejected) as refusal:
        refuse_retrying(record)
    assert refusal.value.code == code


@pytest.fixture
def parts(redis_url: str, tmp_path: Path) -> Runtime:
    """The scheduler's parts, with a seal key."""
    settings = Settings(redis_url=redis_url, state_dir=tmp_path, hosts={}, perform_deadline_seconds=600)
    ensure_key(settings.key_file)
    return Runtime(settings, Inventory(settings), Journal(connect(redis_url)))


def test_the_same_is_asked_for_again(parts: Runtime) -> None:
    """Flags, parameters, definitions and what was to be done about stalls; who asks now, and after which migration."""
    seal = load_key(parts.settings.key_file)
    xml = "<domain><name>web</name></domain>"
    record = replace(
        RECORD,
        flags=1,
        params=seal_documents(seal, {"bandwidth": 100, "destination_xml": xml}, RECORD.id),
        deadline_seconds=60.0,
        attempts_allowed=5,
        convergence=Convergence(StallAction.ABORT, 30.0, StallAction.SUSPEND, False),
        requested_by="anna",
        request_reason="beta has room",
    )
    request = MigrateRequest.parse(asked_again(parts, record, "bert"))
    assert (request.domain, request.destination, request.source) == (RECORD.uuid, "beta", None)
    assert (request.flags, request.attempts, request.deadline_seconds) == (1, 5, 60.0)
    assert request.params == {"bandwidth": 100, "destination_xml": xml}
    assert (request.on_stall, request.timeout_seconds, request.on_timeout) == ("abort", 30.0, "suspend")
    assert (request.requested_by, request.reason) == ("bert", "again after m: beta has room")


def test_what_the_settings_decided_they_decide_again(parts: Runtime) -> None:
    """A default is not made a wish: it may have changed."""
    document = asked_again(parts, replace(RECORD, deadline_seconds=600.0), "")
    assert not {"deadline_seconds", "on_stall", "timeout_seconds", "on_timeout"} & document.keys()
    assert document["reason"] == "again after m"
    assert len(asked_again(parts, replace(RECORD, request_reason="x" * 500), "")["reason"]) == 500


def test_a_definition_that_does_not_open(parts: Runtime) -> None:
    """Without the key the retry is refused, with the way out."""
    record = replace(RECORD, params={"destination_xml": "bm90IHNlYWxlZA=="})
    with pytest.raises(Rejected, match="give it again") as refusal:
        asked_again(parts, record, "")
    assert refusal.value.code == "no-seal-key"


@pytest.mark.parametrize("model", [ResolveRequest, RetryRequest])
@pytest.mark.parametrize("wrong", [{}, {"migration": "a:b"}, {"migration": 5}, {"migration": "m", "more": 1}])
def test_requests_are_checked(model: type[ResolveRequest], wrong: dict[str, Any]) -> None:
    """Wrong, missing and unknown fields are named."""
    with pytest.raises(Rejected) as refusal:
        model.parse(wrong)
    assert refusal.value.code == "malformed"
    assert model.parse({"migration": "m", "requested_by": "me"}).requested_by == "me"


# -- the scripts ----------------------------------------------------------------------------------

FIELDS = {"domain": "web", "uuid": "u", "source": "alpha", "destination": "beta"}
RUN = {"attempt": 1, "phase": "begin", "host": "alpha", "seconds": 0.1}
NOWHERE = ("", "", 0)


@pytest.fixture
def journal(redis_url: str) -> Journal:
    """A journal with one migration whose begin is claimed."""
    book = Journal(connect(redis_url))
    for host in ("alpha", "beta"):
        book.lease(host, {"incarnation": host}, 60)
    assert book.submit("m", FIELDS, {}, "{}", terms_text(1, 1))[1][0] == "OK"
    assert book.claim("m", 1, 1, "begin", "{}", "t-1", "alpha", NOWHERE).won
    return book


def record_of(journal: Journal) -> Record:
    """The record as it is now."""
    record = journal.record("m")
    assert record is not None
    return record


def kinds(journal: Journal) -> list[str]:
    """The kinds of all events so far."""
    return [kind for _, kind, _ in journal.events("m")]


def test_the_next_attempt_is_hastened_once(journal: Journal) -> None:
    """What waits for its next attempt is due at once, and nothing else is touched."""
    assert journal.hasten("m", {"by": "me"}) == ("STALE", "active")
    assert journal.hasten("gone", {}) == ("STALE", "")
    journal.backoff("m", "t-1", RUN, {}, 3600, {}, NOWHERE)
    assert journal.choose(terms(1, 1)) == []
    assert journal.hasten("m", {"by": "me"}) == ("OK", "")
    assert journal.choose(terms(1, 1)) == ["m"]
    assert journal.hasten("m", {"by": "me"}) == ("SAME", "")
    assert kinds(journal).count("hastened") == 1


def test_a_retry_hastens_what_waits_for_its_next_attempt(journal: Journal, parts: Runtime) -> None:
    """It keeps its id, and no second migration is asked for."""
    journal.backoff("m", "t-1", RUN, {}, 3600, {}, NOWHERE)
    for _ in range(2):
        answer = _retry(parts, RetryRequest.parse({"migration": "m", "requested_by": "me"}), "new")
        assert answer == {"migration": "m", "answer": "hastened"}
    assert journal.record("new") is None
    assert [told for _, kind, told in journal.events("m") if kind == "hastened"] == [{"by": "me"}]


def looked(journal: Journal, token: str, **told: Any) -> None:
    """One visit of a recovery."""
    assert journal.claim("m", 1, 2, "recover", "{}", token, "beta", NOWHERE).won
    run = {
        "attempt": 1,
        "phase": "recover",
        "host": "beta",
        "stage": "unmoved",
        "seconds": 0.0,
        "source": "running",
        **told,
    }
    journal.advance("m", token, "recover", "{}", run, {}, 1000, "beta")


def test_a_recovery_that_waits_says_so_once(journal: Journal) -> None:
    """It looks again and again; the events tell what changed, and the record what it waits for, until it goes on."""
    assert journal.recover(record_of(journal), "beta", "{}", {"why": "x"}, 500, {"warning": "careful"})
    assert record_of(journal).warning == "careful"
    shown = ("celery-task-meta-m", json.dumps({"status": "PROGRESS"}), 60)
    for number in range(3):
        looked(journal, f"look-{number}", destination="unreachable", idle=True)
        assert journal.waiting("m", 2, "beta", "its agent is away", shown) is (number == 0)
    waiting = record_of(journal).waiting
    assert waiting is not None
    assert (waiting["host"], waiting["why"]) == ("beta", "its agent is away")
    assert journal.client.get("celery-task-meta-m") == shown[1]
    assert kinds(journal)[-4:] == ["recovering", "phase", "phase-ended", "waiting"]

    looked(journal, "look-4", destination="absent", idle=True)
    assert kinds(journal)[-1] == "phase-ended"
    looked(journal, "look-5", destination="absent")
    assert kinds(journal)[-1] == "phase-ended"
    assert record_of(journal).waiting is None


def test_a_look_after_a_long_wait_is_told(journal: Journal) -> None:
    """The first look of a recovery is an event, although somebody has said already that it waits."""
    assert journal.recover(record_of(journal), "beta", "{}", {}, 500)
    assert journal.waiting("m", 2, "beta", "its agent is away")
    looked(journal, "look", destination="absent", idle=True)
    assert kinds(journal)[-3:] == ["waiting", "phase", "phase-ended"]


def test_a_warning_is_not_lost_by_a_later_one(journal: Journal) -> None:
    """A host that was assumed dead is still named when something else went wrong at the end."""
    warning = assumed_dead(["beta"], "web")
    assert journal.recover(record_of(journal), "alpha", "{}", {}, 500, {"warning": warning})
    assert journal.claim("m", 1, 2, "recover", "{}", "t-2", "alpha", NOWHERE).won
    told = RUN | {"phase": "recover"}
    journal.conclude("m", "t-2", told, {"outcome": "succeeded", "warning": "still defined"}, 60, None)
    assert record_of(journal).warning == f"{warning}; still defined"
    assert "before anybody uses it again look for web there" in warning
