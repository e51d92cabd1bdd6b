"""What a running perform tells the journal, and what it is told, with a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.exceptions import Ignore
from hypothesis import given
from hypothesis import strategies as st
from terms import terms_text

from tasks import tuning, watch
from tasks.tuning import tune
from tasks.watch import JournalWatch, Pace
from worker import metrics
from worker.agent import Agent
from worker.contract import Baton
from worker.errors import HypervisorError, Rejected, Retry
from worker.hypervisors.base import Phase, Progress
from worker.hypervisors.convergence import Stall, StallAction, StallKind, Tuning, TuningKind
from worker.inventory import Inventory
from worker.journal import Journal, Record, connect
from worker.leaving import Leaving
from worker.runtime import Runtime
from worker.settings import Settings

NOTHING = ("", "", 0)
FIELDS = {"domain": "web", "uuid": "u", "source": "alpha", "destination": "beta", "driver": "qemu", "flags": 1}
BATON = Baton(migration="m", attempt=1, epoch=1, domain="web", uuid="u", source="alpha", destination="beta", flags=1)
STALL = Stall(StallKind.NOT_CONVERGING, "dirties 90 MiB/s, sends 80 MiB/s", 7, 90, 80, 2.5)
ASKED = {"migration": "m", "kind": "set-downtime", "value": 700, "requested_by": "ann"}

Ask = Callable[..., dict[str, str]]


@pytest.fixture
def journal(redis_url: str) -> Any:
    """A journal whose migration m performs under the token t."""
    with connect(redis_url) as client:
        yield performing(Journal(client))


def performing(journal: Journal) -> Journal:
    """The same journal, in which a migration performs."""
    for host in ("alpha", "beta"):
        journal.lease(host, {"incarnation": host}, 3600)
    assert journal.submit("m", FIELDS, {}, "begin", terms_text(1, 1))[1][0] == "OK"
    for phase, following in (("begin", "prepare"), ("prepare", "perform")):
        assert journal.claim("m", 1, 1, phase, phase, phase, "alpha", NOTHING).won
        assert journal.advance("m", phase, following, following, {"host": "alpha", "seconds": 0}, {}, 9) == []
    assert journal.claim("m", 1, 1, "perform", "perform", "t", "alpha", NOTHING).won
    return journal


@pytest.fixture
def ask(journal: Journal, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The task ``vmrelay.v1.tune``, called in this process."""
    settings = Settings(redis_url=redis_url)
    parts = Runtime(settings, Inventory(settings), journal)
    monkeypatch.setattr(tuning, "runtime", lambda: parts)
    return cast(Ask, lambda **more: tune.run(**ASKED | more))


def watching(journal: Journal, monkeypatch: pytest.MonkeyPatch, phase: Phase = Phase.PERFORM) -> JournalWatch:
    """A watch of the running perform; each of its looks is a beat."""
    monkeypatch.setattr(watch, "BEAT_SECONDS", 0)
    host = SimpleNamespace(name="alpha", profile="qemu")
    agent = SimpleNamespace(host=host, journal=journal, leaving=Leaving("alpha"), draining=False, evicting=False)
    return JournalWatch(cast(Agent, agent), BATON, phase, "t", cancel=False)


def events(journal: Journal, kind: str) -> list[dict[str, Any]]:
    """The data of the migration's events of one kind."""
    return [data for _, found, data in journal.events("m") if found == kind]


def record(journal: Journal) -> Record:
    """The migration."""
    found = journal.record("m")
    assert found is not None
    return found


def value(metric: Any, *labels: str) -> float:
    """What a metric counts."""
    return float(metric.labels(*labels)._value.get())


def test_a_wish_goes_to_perform_and_its_end_into_the_events(
    journal: Journal, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for, handed out once, oldest first, and told with what became of it and who asked."""
    running = watching(journal, monkeypatch)
    done, failed = (
        value(metrics.tunings, "qemu", kind, end) for kind, end in (("set-downtime", "done"), ("set-speed", "failed"))
    )
    first, second = ask(), ask(kind="set-speed", value=9)
    assert first == {"migration": "m", "tuning": first["tuning"], "answer": "asked"}
    assert running.tuning() is None, "only what a beat has brought is handed out"
    running.progress(Progress())
    wishes = [running.tuning(), running.tuning()]
    assert wishes == [
        Tuning(first["tuning"], TuningKind.DOWNTIME, 700),
        Tuning(second["tuning"], TuningKind.SPEED, 9),
    ]
    assert running.tuning() is None
    running.progress(Progress())
    assert running.tuning() is None, "what was handed out is not handed out again"
    running.tuned(cast(Tuning, wishes[0]), None)
    running.tuned(cast(Tuning, wishes[1]), HypervisorError("no", code="X", retry=Retry.PERMANENT))
    assert events(journal, "tuned") == [
        {"tuning": first["tuning"], "kind": "set-downtime", "value": 700, "requested_by": "ann", "error": None},
        {"tuning": second["tuning"], "kind": "set-speed", "value": 9, "requested_by": "ann"}
        | {"error": {"code": "X", "message": "no"}},
    ]
    assert journal.client.exists("vmrelay:m:m:tunings") == 0
    assert value(metrics.tunings, "qemu", "set-downtime", "done") == done + 1
    assert value(metrics.tunings, "qemu", "set-speed", "failed") == failed + 1


def test_a_wish_that_comes_too_late_is_told_so(journal: Journal, ask: Ask) -> None:
    """Perform ended before its agent looked: an event says so, and its kind is counted by who advances."""
    ident = ask()["tuning"]
    kinds = journal.advance("m", "t", "finish", "finish", {"host": "alpha", "seconds": 0}, {}, 9)
    assert kinds == ["set-downtime"]
    (told,) = events(journal, "tuned")
    assert (told["tuning"], told["error"]["code"], told["requested_by"]) == (ident, "too-late", "ann")
    assert journal.client.exists("vmrelay:m:m:tunings") == 0
    with pytest.raises(Rejected, match="finish is queued") as refusal:
        ask()
    assert refusal.value.code == "not-running"


def test_what_cannot_be_asked_of_a_migration(journal: Journal, ask: Ask) -> None:
    """Unknown, without POSTCOPY, malformed, over: each has its code, and what is refused is counted."""
    refused = value(metrics.tunings, "qemu", "postcopy", "refused")
    for code, more in {
        "unknown-migration": {"migration": "n"},
        "needs-postcopy": {"kind": "postcopy", "value": None},
        "malformed": {"value": 0},
    }.items():
        with pytest.raises(Rejected) as refusal:
            ask(**more)
        assert refusal.value.code == code
    assert value(metrics.tunings, "qemu", "postcopy", "refused") == refused + 1
    ask()
    journal.conclude("m", "t", {"host": "alpha", "seconds": 0}, {"outcome": "failed"}, 9, None)
    assert journal.client.exists("vmrelay:m:m:tunings") == 0
    with pytest.raises(Rejected, match="is over: failed") as refusal:
        ask()
    assert refusal.value.code == "over"


def test_wishes_are_bounded_and_sent_twice_are_one(journal: Journal, ask: Ask) -> None:
    """A list that nobody looks at does not grow for ever; the same wish is on it once."""
    for _ in range(2):
        assert journal.tune("m", "wish") == ["OK"]
    for _ in range(15):
        ask()
    with pytest.raises(Rejected) as refusal:
        ask()
    assert refusal.value.code == "too-many-tunings"
    assert journal.client.llen("vmrelay:m:m:tunings") == 16
    assert 0 < journal.client.ttl("vmrelay:m:m:tunings") <= 3600


def test_a_kind_of_tomorrow_is_left_alone(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer scheduler's wish does not break a perform: it waits until it is too late."""
    running = watching(journal, monkeypatch)
    journal.tune("m", json.dumps({"tuning": "x", "kind": "fly", "value": 1, "requested_by": ""}))
    running.progress(Progress())
    assert running.tuning() is None
    assert journal.advance("m", "t", "finish", "finish", {"host": "alpha", "seconds": 0}, {}, 9) == ["fly"]


def test_a_stall_is_in_events_record_and_result(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each verdict is an event, the last one stays in the document, and all are counted."""
    running = watching(journal, monkeypatch)
    before = value(metrics.stalls, "qemu", "not-converging", "downtime")
    running.stalled(STALL, StallAction.DOWNTIME, "downtime raised to 0.6 s")
    running.stalled(STALL, StallAction.DOWNTIME, "downtime raised to 0.9 s")
    told = events(journal, "stalled")
    assert [each["detail"] for each in told] == ["downtime raised to 0.6 s", "downtime raised to 0.9 s"]
    assert told[-1] == {
        "kind": "not-converging",
        "reason": STALL.reason,
        "iteration": 7,
        "dirty_bytes_per_second": 90,
        "bandwidth_bytes_per_second": 80,
        "expected_downtime_seconds": 2.5,
        "action": "downtime",
        "detail": "downtime raised to 0.9 s",
    }
    assert record(journal).document()["stalled"] == told[-1]
    assert value(metrics.stalls, "qemu", "not-converging", "downtime") == before + 2


def test_a_timeout_is_told_with_what_is_known(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no verdict and has no numbers of its own: they are those of the last progress."""
    running = watching(journal, monkeypatch)
    late = Stall(StallKind.TIMEOUT, "still copying after 3 s")
    running.stalled(late, StallAction.SUSPEND, "")
    running.progress(Progress(bandwidth_bytes_per_second=80, dirty_bytes_per_second=90, iteration=2))
    running.stalled(late, StallAction.SUSPEND, "")
    rates = [
        (each["dirty_bytes_per_second"], each["bandwidth_bytes_per_second"]) for each in events(journal, "stalled")
    ]
    assert rates == [(0, 0), (90, 80)]


def test_a_superseded_perform_tells_nothing(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has taken over speaks; the old one goes on, is not stopped by that, and does not advance."""
    running = watching(journal, monkeypatch)
    journal.client.hset("vmrelay:m:m", "token", "another")
    running.progress(Progress(percent=50))
    running.stalled(STALL, StallAction.REPORT, "")
    assert running.stop() is None
    assert events(journal, "progress") == events(journal, "stalled") == []
    with pytest.raises(Ignore):
        running.settle()


def test_what_redis_missed_is_told_when_it_is_back(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict while Redis is away stops nothing; it is in the events once, before the phase ends."""
    with connect("redis://127.0.0.1:1/0") as nobody:
        running = watching(Journal(nobody), monkeypatch)
        running.progress(Progress())
        running.stalled(STALL, StallAction.REPORT, "")
    monkeypatch.setattr(running._agent, "journal", journal)
    for _ in range(2):
        running.settle()
    assert [told["kind"] for told in events(journal, "stalled")] == ["not-converging"]


def test_progress_is_shown_whole_and_small(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event and the record hold all that is known, the result back end what a page shows."""
    running = watching(journal, monkeypatch)
    now = Progress(30, 100, 70, 5, 9, 3, 0.4, "copying", 44, 20, 1.5, postcopy=True)
    running.progress(now)
    (told,) = events(journal, "progress")
    assert told == record(journal).progress
    assert Progress(**told) == now
    shown = json.loads(str(journal.client.get("celery-task-meta-m")))["result"]
    assert shown == {
        "current": 32,
        "total": 100,
        "percent": 32,
        "description": "copying",
        "phase": "perform",
        "host": "alpha",
        "remaining_bytes": 70,
        "bandwidth_bytes_per_second": 9,
        "dirty_bytes_per_second": 5,
        "iteration": 3,
        "expected_downtime_seconds": 0.4,
    }


@given(looks=st.lists(st.tuples(st.floats(0.5, 3600), st.integers(0, 100), st.booleans()), max_size=400))
def test_events_of_progress_are_bounded(looks: list[tuple[float, int, bool]]) -> None:
    """Every new percent and the switch are noted, and however it goes up and down only some two hundred in a month."""
    pace, now, noted, top, switched = Pace(0.0), 0.0, 0, -1, False
    for pause, percent, postcopy in looks * 3:
        now = min(now + pause, 30 * 86400)
        progress = Progress(percent=percent, postcopy=postcopy)
        worth = pace.worth_noting(progress, now)
        if percent > top or (postcopy and not switched):
            assert worth
        if worth:
            pace.noted(progress, now)
            noted, top, switched = noted + 1, max(top, percent), switched or postcopy
    assert noted <= 101 + 1 + 110
