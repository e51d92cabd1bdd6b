"""What an application may rely on, whichever way the client asks: one suite for Celery, HTTP and the fake."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from client_stages import OnFake, OnRelay, Stage
from relay_lab import Relay, until
from vmrelay_client import (
    Batch,
    Cancelled,
    Client,
    Failed,
    IdempotencyConflict,
    InDoubt,
    Migration,
    Rejected,
    TimedOut,
)

SECONDS = 40.0
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="session")
def web_url(whole_relay: Relay) -> str:
    """The HTTP API of the relay that all tests share; ends with it."""
    # Tests look more often than one application may.
    whole_relay.environment["VMRELAY_WEB__REQUESTS_PER_MINUTE"] = "100000"
    whole_relay.spawn("client-web", "web", "--port", "0")
    del whole_relay.environment["VMRELAY_WEB__REQUESTS_PER_MINUTE"]

    def listens() -> re.Match[str] | None:
        assert whole_relay.processes["client-web"].poll() is None, whole_relay.log("client-web")
        return re.search(r"http://127\.0\.0\.1:\d+", whole_relay.log("client-web"))

    return until(listens, "the HTTP API listens")[0]  # type: ignore[index]


@pytest.fixture(params=["fake-celery", "fake-http", "celery", "http"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The client over one of its connectors."""
    if request.param.startswith("fake"):
        yield OnFake(request.param)
        return
    relay: Relay = request.getfixturevalue("relay")
    url = request.getfixturevalue("web_url") if request.param == "http" else relay.redis.url
    with Client.from_url(url) as client:
        real = OnRelay(request.param, client, relay)
        yield real
        real.open_hosts()


def test_a_migration_is_asked_for_and_waited_for(stage: Stage) -> None:
    """It waits, runs with a rising percentage, and has moved its domain; what is told of it says so."""
    name = stage.moving()
    asked = stage.client.migrate(name, "beta", reason="room", priority="high", traceparent=TRACE)
    seen: list[Migration] = []
    done = stage.client.wait(asked.id, SECONDS, seen.append)
    assert (done.id, done.state, done.percent, done.over, done.error) == (asked.id, "succeeded", 100, True, None)
    assert seen[-1] == done
    assert {each.state for each in seen} <= {"waiting", "running", "succeeded"}
    assert [each.percent for each in seen] == sorted(each.percent for each in seen)
    document = done.document
    assert (document["outcome"], document["domain"], document["destination"]) == ("succeeded", name, "beta")
    assert (document["reason"], document["priority"], document["source"]) == ("room", "high", stage.source)
    assert document["traceparent"] == TRACE
    assert stage.client.status(asked.id) == done
    assert stage.client.cancel(asked.id).answer == "over"
    assert stage.client.cancel(asked.id).detail == "succeeded"


def test_the_same_key_is_the_same_migration(stage: Stage) -> None:
    """A double click asks for one migration, during it and after it; the key means another one in another scope."""
    name = stage.moving()
    first = stage.client.migrate(name, "beta", idempotency_key=f"order-{name}", requested_by="anna")
    again = stage.client.migrate(name, "beta", idempotency_key=f"order-{name}", requested_by="anna")
    assert stage.client.wait(first.id, SECONDS).state == "succeeded"
    late = stage.client.migrate(name, "beta", idempotency_key=f"order-{name}", requested_by="anna")
    assert first.id == again.id == late.id
    assert stage.client.status(first.id).state == "succeeded"


def test_another_request_under_the_key_does_nothing(stage: Stage) -> None:
    """The first request stands; over HTTP the second is told so."""
    key = f"key-{stage.moving()}"
    first = stage.client.migrate(stage.moving(), "beta", idempotency_key=key)
    stage.client.wait(first.id, SECONDS)
    if stage.kind.endswith("http"):
        with pytest.raises(IdempotencyConflict) as conflict:
            stage.client.migrate(stage.moving(), "gamma", idempotency_key=key)
        assert conflict.value.code == "idempotency-conflict"
    else:
        assert stage.client.migrate(stage.moving(), "gamma", idempotency_key=key).id == first.id
    done = stage.client.wait(first.id, SECONDS)
    assert done.document["destination"] == "beta"


def test_a_refusal_has_its_code(stage: Stage) -> None:
    """Asked at once or waited for, an impossible request raises Rejected with the relay's code and words."""
    if isinstance(stage, OnFake):
        stage.client.refuse("nobody")  # type: ignore[attr-defined]
    with pytest.raises(Rejected) as refused:
        stage.client.wait(stage.client.migrate("nobody", "beta").id, SECONDS)
    assert refused.value.code == "unknown-domain"
    assert "nobody" in str(refused.value)
    assert "[" not in str(refused.value)


def test_a_failure_has_its_code(stage: Stage) -> None:
    """What failed in perform raises Failed with the hypervisor's code; the status tells the same without raising."""
    asked = stage.client.migrate(stage.failing(), "beta")
    with pytest.raises(Failed) as failed:
        stage.client.wait(asked.id, SECONDS)
    now = stage.client.status(asked.id)
    assert (now.state, now.over, now.percent) == ("failed", True, 100)
    assert now.error is not None
    assert now.error.code == failed.value.code
    assert re.fullmatch("PRL_ERR_[A-Z_]+", failed.value.code)


def test_a_running_migration_is_cancelled(stage: Stage) -> None:
    """It answers that it was asked to stop, ends as cancelled, and is over for whoever cancels again."""
    asked = stage.client.migrate(stage.staying(), "beta")
    stage.until_it_runs(asked.id)
    now = stage.client.status(asked.id)
    assert (now.state, now.phase, now.host, now.known) == ("running", "perform", stage.source, True)
    assert 6 <= now.percent < 94
    with pytest.raises(TimedOut) as late:
        stage.client.wait(asked.id, 0.2)
    assert "goes on" in str(late.value)
    assert stage.client.cancel(asked.id, requested_by="bob").answer == "asked"
    with pytest.raises(Cancelled) as cancelled:
        stage.client.wait(asked.id, SECONDS)
    assert cancelled.value.code == "cancelled"
    assert (stage.client.cancel(asked.id).answer, stage.client.cancel(asked.id).detail) == ("over", "cancelled")


def test_what_nobody_knows_waits(stage: Stage) -> None:
    """A status of an unknown id is no error, since its request may be on its way; a cancel of it is refused."""
    now = stage.client.status("nobody-asked-for-this")
    assert (now.state, now.known, now.over) == ("waiting", False, False)
    with pytest.raises(TimedOut):
        stage.client.wait("nobody-asked-for-this", 0.2)
    with pytest.raises(Rejected) as refused:
        stage.client.cancel("nobody-asked-for-this")
    assert refused.value.code == "unknown-migration"


def test_doubt_is_told_and_is_not_the_end(stage: Stage) -> None:
    """What an operator must look at raises InDoubt and is not over; once it is settled its outcome is told."""
    ident = stage.doubtful()
    with pytest.raises(InDoubt, match=r"test|seen on both") as doubt:
        stage.client.wait(ident, SECONDS)
    assert doubt.value.code == "in-doubt"
    now = stage.client.status(ident)
    assert (now.state, now.over, now.percent) == ("in-doubt", False, 0)
    told = stage.client.events(ident, SECONDS)
    assert next(event for event in told if event.type == "in-doubt").data["why"]
    stage.settle(ident)
    assert [event.data["outcome"] for event in told if event.type == "ended"] == ["failed"]
    assert stage.client.status(ident).state == "failed"


def test_events_come_to_an_end(stage: Stage) -> None:
    """Phases, then progress, then the outcome, and nothing after it; whoever comes late is told the outcome, too."""
    asked = stage.client.migrate(stage.staying(), "beta")
    told = []
    for event in stage.client.events(asked.id, SECONDS):
        told.append(event)
        if event.type == "progress" and not stage.client.status(asked.id).over:
            stage.client.cancel(asked.id)
    types = [event.type for event in told]
    assert types.index("phase") < types.index("progress") < types.index("ended") == len(types) - 1
    assert all(0 <= event.data["percent"] <= 100 for event in told if event.type == "progress")
    assert any(event.data["phase"] == "perform" for event in told if event.type == "phase")
    assert (told[-1].data["outcome"], told[-1].data["reason"]) == ("cancelled", "cancelled")
    assert [event.at for event in told] == sorted(event.at for event in told)
    assert list(stage.client.events(asked.id, SECONDS))[-1].type == "ended"


def test_events_time_out(stage: Stage) -> None:
    """Whoever reads events of what goes on is told so when the time is up."""
    asked = stage.client.migrate(stage.staying(), "beta")
    with pytest.raises(TimedOut):
        list(stage.client.events(asked.id, 1.0))
    stage.client.cancel(asked.id)
    with pytest.raises(Cancelled):
        stage.client.wait(asked.id, SECONDS)


def test_a_drain_is_asked_for_and_steered(stage: Stage) -> None:
    """A drain that is held is planned, goes on when it is told to, and ends with counts; the key makes it one."""
    host, key = stage.drained(), f"drain-{stage.moving()}"
    asked = stage.client.drain(host, idempotency_key=key, requested_by="anna", hold=True)
    assert stage.client.drain([host], idempotency_key=key, requested_by="anna", hold=True).id == asked.id
    if isinstance(stage, OnRelay):
        until(lambda: stage.client.batch(asked.id).state == "planned", "the drain is planned")
    assert not stage.client.batch(asked.id).over
    assert stage.client.control(asked.id, "retry").answer == "over"
    assert stage.client.control(asked.id, "resume", requested_by="anna").answer == "ok"
    seen: list[Batch] = []
    done = stage.client.wait_batch(asked.id, SECONDS, seen.append)
    assert (done.state, done.over, done.percent) == ("finished", True, 100)
    assert done.moved >= 2
    assert done.moved + done.failed + done.skipped == done.total
    assert seen[-1] == done
    assert stage.client.control(asked.id, "cancel").answer == "over"
    assert stage.client.control(asked.id, "retry").answer == ("ok" if done.failed else "none")
    with pytest.raises(Rejected) as refused:
        stage.client.control("no-such-batch", "pause")
    assert refused.value.code == "unknown-batch"


def test_a_refused_batch_has_its_code(stage: Stage) -> None:
    """A drain of a host that there is not is rejected, at once or when it is waited for."""
    if isinstance(stage, OnFake):
        stage.client.refuse_batches("unknown-host")  # type: ignore[attr-defined]
    with pytest.raises(Rejected) as refused:
        stage.client.wait_batch(stage.client.drain(["gamma", "nowhere"]).id, SECONDS)
    assert refused.value.code == "unknown-host"


def test_a_rebalance_ends(stage: Stage) -> None:
    """A rebalance in which nothing may move has nothing to do, and says so."""
    if isinstance(stage, OnFake):
        stage.client.plan_batches(moved=0)  # type: ignore[attr-defined]
    done = stage.client.wait_batch(stage.client.rebalance({"exclude": ["*"], "plan_seconds": 0.5}).id, SECONDS)
    assert (done.state, done.moved, done.failed, done.percent) == ("finished", 0, 0, 100)
