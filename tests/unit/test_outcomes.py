"""What follows from the end of a migration, once: the outcome counted, the event, and the result shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from celery import Celery
from celery.result import AsyncResult
from prometheus_client import REGISTRY
from terms import terms_text

from tasks import results
from worker import metrics
from worker.errors import Cancelled, Failed, InDoubt, Rejected, RelayError
from worker.hypervisors.base import Domain, DomainState
from worker.inventory import Inventory
from worker.journal import Journal, Record, connect
from worker.runtime import Runtime
from worker.settings import Settings

FIELDS: dict[str, str | int | float | None] = {
    "domain": "web",
    "uuid": "uuid-web",
    "source": "alpha",
    "destination": "beta",
    "driver": "vz",
    "flags_label": "compressed,live",
}
FAILED = {"outcome": "failed", "reason": "PRL_ERR_X", "error": "no", "error_phase": "perform"}
CANCELLED = {"outcome": "cancelled", "reason": "cancelled", "error": "stopped", "error_phase": "perform"}
MOVED = {"outcome": "succeeded"}
NOTHING = ("", "", 0)
Ends = Callable[[str, dict[str, str]], Record]


@pytest.fixture
def journal(redis_url: str) -> Iterator[Journal]:
    """An empty journal with an agent on both hosts."""
    with connect(redis_url) as client:
        journal = Journal(client)
        for host in ("alpha", "beta"):
            assert journal.lease(host, {"incarnation": host}, 3600) is None
        yield journal


@pytest.fixture
def runtime(journal: Journal) -> Runtime:
    """What a round gets; of that these rounds use the journal only."""
    return Runtime(None, None, journal)  # type: ignore[arg-type]


@pytest.fixture
def celery(redis_url: str) -> Iterator[Celery]:
    """A web application that has nothing of vmrelay but the URL."""
    app = Celery("web", broker=redis_url, backend=redis_url)
    yield app
    app.close()


def confirming(journal: Journal, ident: str, token: str = "t") -> None:  # noqa: S107 - a claim's token
    """A migration whose confirm is claimed."""
    journal.submit(ident, FIELDS | {"uuid": f"uuid-{ident}"}, {}, "b1", terms_text(99, 99))
    assert journal.claim(ident, 1, 1, "begin", "b1", "b", "alpha", NOTHING).won
    run = {"host": "alpha", "seconds": 0}
    journal.advance(ident, "b", "confirm", "b2", run, {}, 500)
    assert journal.claim(ident, 1, 1, "confirm", "b2", token, "alpha", NOTHING).won


def ended(journal: Journal, ident: str, end: dict[str, str]) -> Record:
    """A migration that ended so."""
    confirming(journal, ident)
    moved = Domain("web", f"uuid-{ident}", DomainState.RUNNING) if end is MOVED else None
    won, record = journal.conclude(ident, "t", {"host": "alpha", "seconds": 0}, end, 1000, moved)
    assert won
    return record


def make_old(journal: Journal) -> None:
    """Let everything in the outbox of results have ended long ago."""
    for ident in journal.client.zrange("vmrelay:unshown", 0, -1):
        journal.client.zadd("vmrelay:unshown", {ident: 1})


def raised(celery: Celery, ident: str) -> tuple[str, str]:
    """Type and text of what a waiting application gets."""
    with pytest.raises(RelayError) as caught:
        AsyncResult(ident, app=celery).get(timeout=1)
    return type(caught.value).__name__, str(caught.value)


# -- outcomes ---------------------------------------------------------------------------------------


def test_every_way_to_end_counts_once(journal: Journal) -> None:
    """Conclude, cancel of what waits, refusal and a request without a record; repeated calls count nothing more."""
    for ident, end in (("m1", MOVED), ("m2", FAILED), ("m3", FAILED)):
        ended(journal, ident, end)
        assert journal.conclude(ident, "t", {"host": "alpha", "seconds": 0}, end, 1000, None)[0] is False
    journal.submit("m4", FIELDS | {"uuid": "uuid-m4"}, {}, "b", terms_text(0, 0))
    assert journal.cancel("m4", "me", 1000) == ("ENDED", "")
    assert journal.cancel("m4", "me", 1000) == ("OVER", "cancelled")
    refused = {"reason": "unknown-domain", "error": "no such domain"}
    assert journal.refuse("m5", refused, 1000, {"outcome": "rejected"})
    assert not journal.refuse("m5", refused, 1000, {"outcome": "rejected"})
    journal.count_outcome("", "", "rejected", "malformed")
    assert journal.outcomes() == {
        ("vz", "compressed,live", "succeeded", ""): 1,
        ("vz", "compressed,live", "failed", "PRL_ERR_X"): 2,
        ("vz", "compressed,live", "cancelled", "cancelled"): 1,
        ("", "", "rejected", "unknown-domain"): 1,
        ("", "", "rejected", "malformed"): 1,
    }
    for ident in ("m1", "m2", "m3", "m4", "m5"):
        assert [kind for _, kind, _ in journal.events(ident)].count("ended") == 1, ident


def test_flag_sets_and_reasons_are_bounded(journal: Journal) -> None:
    """64 flag sets, 1000 fields: what comes later is counted under `other`, and nothing is lost."""
    for number in range(70):
        journal.count_outcome("vz", f"flags-{number}", "failed", "x")
    counts = journal.outcomes()
    assert len({flags for _, flags, _, _ in counts}) == 65
    assert counts["vz", "other", "failed", "x"] == 6
    for number in range(1000):
        journal.count_outcome("vz", "flags-1", "failed", f"reason-{number}")
    journal.count_outcome("vz", "flags-1", "failed", "x")
    counts = journal.outcomes()
    assert len(counts) == 1001
    assert counts["vz", "flags-1", "failed", "x"] == 2
    assert sum(counts.values()) == 1071


def test_the_leader_shows_what_the_journal_counts(journal: Journal, runtime: Runtime) -> None:
    """A round serves the counts, and the usual ones from 0 on; who does not lead serves none."""
    ended(journal, "m1", FAILED)
    settings = Settings.model_validate({"hosts": {"alpha": {"uri": "vzsim:///none"}}})
    usual = {"driver": "vz", "flags": "compressed,live,persist_dest", "outcome": "cancelled", "reason": ""}
    labels = {"driver": "vz", "flags": "compressed,live", "outcome": "failed", "reason": "PRL_ERR_X"}
    assert REGISTRY.get_sample_value(metrics.migrations.name, labels) is None
    try:
        results.show_outcomes(replace(runtime, inventory=Inventory(settings)))
        assert REGISTRY.get_sample_value(metrics.migrations.name, labels) == 1
        assert REGISTRY.get_sample_value(metrics.migrations.name, usual) == 0
    finally:
        metrics.migrations.show({})
    assert REGISTRY.get_sample_value(metrics.migrations.name, labels) is None


# -- results ----------------------------------------------------------------------------------------


def test_a_result_follows_from_the_record_alone(journal: Journal) -> None:
    """Document or error, with the text and the code that the record has."""
    moved = ended(journal, "m1", MOVED)
    assert results.result_of(moved) == moved.document()
    expected = [
        (FAILED, Failed, "web stays on alpha: no (perform, PRL_ERR_X)", "PRL_ERR_X"),
        (CANCELLED, Cancelled, "web stays on alpha: stopped (perform, cancelled)", "cancelled"),
    ]
    for number, (end, kind, text, code) in enumerate(expected):
        error = results.result_of(ended(journal, f"n{number}", end))
        assert (type(error), str(error), error.code) == (kind, text, code)  # type: ignore[union-attr]
    waited = Record("m", "ended", outcome="cancelled", reason="cancelled", error="cancelled before it started")
    assert str(results.result_of(waited)) == "cancelled before it started"
    refused = results.result_of(Record("m", "ended", outcome="rejected", reason="flags", error="no"))
    assert (type(refused), str(refused)) == (Rejected, "no [flags]")
    doubtful = results.result_of(Record("m", "in-doubt", domain="web", source="a", destination="b", error="why"))
    assert (type(doubtful), str(doubtful)) == (
        InDoubt,
        "web: why. Look at a and b; nothing was removed or resumed",
    )
    with pytest.raises(ValueError, match="active"):
        results.result_of(Record("m", "active"))


def test_whoever_ended_it_died_before_the_result(journal: Journal, runtime: Runtime, celery: Celery) -> None:
    """The round stores what is missing, in Celery's form, and each once."""
    moved = ended(journal, "m1", MOVED)
    ended(journal, "m2", FAILED)
    results.show_what_is_unshown(runtime)
    assert AsyncResult("m1", app=celery).state == "PENDING"  # they ended just now: whoever did that may still live
    make_old(journal)
    results.show_what_is_unshown(runtime)
    done = AsyncResult("m1", app=celery)
    assert (done.state, done.get(timeout=1)) == ("SUCCESS", moved.document())
    assert done.date_done.timestamp() == moved.ended / 1000
    assert raised(celery, "m2") == ("Failed", "web stays on alpha: no (perform, PRL_ERR_X)")
    assert journal.client.zcard("vmrelay:unshown") == 0
    assert 0 < journal.client.ttl(results.RESULT_KEY + "m1") <= results.shown("m1", {})[2]


def test_a_result_that_was_stored_is_not_stored_again(journal: Journal, runtime: Runtime) -> None:
    """The outbox forgets it in the same step, and a second store of the same result changes nothing."""
    record = ended(journal, "m1", FAILED)
    results.store(journal, record)
    assert journal.client.zcard("vmrelay:unshown") == 0
    text = journal.client.get(results.RESULT_KEY + "m1")
    results.store(journal, record)
    make_old(journal)
    results.show_what_is_unshown(runtime)
    assert journal.client.get(results.RESULT_KEY + "m1") == text


def test_a_success_is_never_covered(journal: Journal, celery: Celery) -> None:
    """Neither by a late store of something else nor by the result of a record that has not ended."""
    record = ended(journal, "m1", MOVED)
    results.store(journal, record)
    assert not journal.show_result("m1", results.shown("m1", Failed("late")))
    assert AsyncResult("m1", app=celery).state == "SUCCESS"
    confirming(journal, "m2")
    assert not journal.show_result("m2", results.shown("m2", Failed("early")))
    assert AsyncResult("m2", app=celery).state == "PENDING"
    assert not journal.show_result("nobody", results.shown("nobody", Failed("whose?")))
    assert AsyncResult("nobody", app=celery).state == "PENDING"


def test_in_doubt_is_shown_until_it_is_settled(journal: Journal, celery: Celery) -> None:
    """In the step that says so, whoever says so; the final result takes its place."""
    confirming(journal, "m1")
    shown = results.shown("m1", results.in_doubt("web", "alpha", "beta", "both are silent"))
    journal.doubt("m1", "t", {"host": "alpha", "seconds": 0}, {"error": "both are silent"}, {}, shown)
    text = "web: both are silent. Look at alpha and beta; nothing was removed or resumed"
    assert raised(celery, "m1") == ("InDoubt", text)
    assert journal.outcomes() == {}
    # as a recovery takes it over
    journal.client.hset("vmrelay:m:m1", mapping={"state": "active", "step": "running", "token": "r"})
    won, settled = journal.conclude("m1", "r", {"host": "alpha", "seconds": 0}, MOVED, 1000, None)
    assert won
    assert settled.document()["error"] is None
    assert journal.outcomes() == {("vz", "compressed,live", "succeeded", ""): 1}
    results.store(journal, settled)
    assert AsyncResult("m1", app=celery).state == "SUCCESS"


def test_a_record_that_is_gone_or_strange_holds_nobody_up(journal: Journal, runtime: Runtime, celery: Celery) -> None:
    """What expired leaves the outbox; what cannot be read is tried again later, and the others get theirs."""
    for ident in ("m1", "m2", "m3"):
        ended(journal, ident, FAILED)
    journal.client.delete("vmrelay:m:m1")
    journal.client.hset("vmrelay:m:m2", "outcome", "of a later version")
    make_old(journal)
    results.show_what_is_unshown(runtime)
    assert raised(celery, "m3")[0] == "Failed"
    assert journal.client.zrange("vmrelay:unshown", 0, -1) == ["m2"]
    assert journal.unshown(results.UNSHOWN_SECONDS) == []  # not again at once


def test_a_store_while_redis_is_away_is_left_to_the_outbox(journal: Journal) -> None:
    """Whoever ended the migration goes on with its answer."""
    record = ended(journal, "m1", MOVED)
    gone = Journal(connect("redis://127.0.0.1:1/0"))
    assert results.deliver(gone, record) == record.document()
    assert journal.client.zrange("vmrelay:unshown", 0, -1) == ["m1"]


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's
def test_the_text_is_what_celery_itself_would_write(celery: Celery) -> None:
    """Field by field, for a success and for an error."""
    for ident, result in (("a", {"x": 1}), ("b", Failed("no", code="x"))):
        ours = json.loads(results.shown(ident, result)[1])
        if isinstance(result, RelayError):
            celery.backend.mark_as_failure(ident, result)
        else:
            celery.backend.mark_as_done(ident, result)
        celerys = json.loads(celery.backend.get(celery.backend.get_key_for_task(ident)))
        celerys["children"] = []  # as where a task stores it
        assert ours.pop("date_done") <= celerys.pop("date_done")
        assert ours == celerys
