"""Outcome, event and result, each once for a migration: whatever comes twice, and whoever dies when."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from celery.result import AsyncResult
from prometheus_client.parser import text_string_to_metric_families
from relay_lab import LARGE, PATIENCE, Relay, until
from wiretap import Wiretap, wiretap

from worker.errors import Failed, Rejected

OUTCOMES = "vmrelay_migrations_total"


def total(relay: Relay) -> int:
    """All outcomes that the journal counts."""
    return relay.outcomes()


def said_once(relay: Relay, ident: str, before: int) -> None:
    """See that one outcome was counted since, and that the migration's end was told once."""
    relay.counted(before + 1)
    assert len(relay.events(ident, "ended")) == 1


@contextmanager
def every_message_three_times(relay: Relay) -> Iterator[Wiretap]:
    """Whatever is sent to a host or to the scheduler meanwhile has two exact copies."""
    seen: set[bytes] = set()
    copies = redis.Redis.from_url(relay.redis.url)

    def copy(words: list[bytes]) -> None:
        if words[:1] == [b"LPUSH"] and words[1].startswith((b"host.", b"scheduler")) and words[2] not in seen:
            seen.add(words[2])
            copies.lpush(words[1], words[2], words[2])

    with wiretap(relay.redis.port, copy) as tap:
        yield tap
    copies.close()


def results_shown(tap: Wiretap, ident: str) -> list[str]:
    """The final states that were published for a migration, in order."""
    key = f"celery-task-meta-{ident}".encode()
    texts = [words[2] for words in tap.commands if words[:2] == [b"PUBLISH", key]]
    states = [json.loads(text)["status"] for text in texts]
    return [state for state in states if state in ("SUCCESS", "FAILURE")]


def quiet(relay: Relay) -> None:
    """Wait until every message was taken, and one more migration went its way behind them."""
    queues = ["scheduler", *(f"host.{host}" for host in relay.hosts)]
    until(lambda: not any(relay.journal.client.llen(queue) for queue in queues), "queues are empty")
    relay.moved(relay.vm())


def test_copies_of_every_message_of_a_success(relay: Relay) -> None:
    """Three deliveries of request and phases: one outcome, one event, one result."""
    name, before = relay.vm(memory_mib=20_000), total(relay)
    with every_message_three_times(relay) as tap:
        ident = relay.migrate(name)
        record = relay.wait(ident)
        assert AsyncResult(ident, app=relay.celery).get(timeout=PATIENCE) == record.document()
        said_once(relay, ident, before)
        quiet(relay)
    assert results_shown(tap, ident) == ["SUCCESS"]
    said_once(relay, ident, before + 1)
    assert relay.where(name) == {"beta": "running"}


def test_copies_of_every_message_of_a_failure(relay: Relay) -> None:
    """The same for one that fails in perform, and is undone."""
    name, before = relay.vm(), total(relay)
    relay.fault("alpha", "fail", code="0x80031004", count=9, vm=name)
    with every_message_three_times(relay) as tap:
        ident = relay.migrate(name)
        assert relay.wait(ident).outcome == "failed"
        with pytest.raises(Failed, match=f"{name} stays on alpha: .* \\(perform, PRL_ERR_"):
            AsyncResult(ident, app=relay.celery).get(timeout=PATIENCE)
        said_once(relay, ident, before)
        quiet(relay)
    assert results_shown(tap, ident) == ["FAILURE"]
    said_once(relay, ident, before + 1)


def test_copies_of_a_request_that_is_refused(relay: Relay) -> None:
    """Three deliveries of it are one refusal."""
    before = total(relay)
    with every_message_three_times(relay):
        ident = relay.migrate("nobody")
        with pytest.raises(Rejected, match="unknown-domain"):
            AsyncResult(ident, app=relay.celery).get(timeout=PATIENCE)
        said_once(relay, ident, before)
        quiet(relay)
    said_once(relay, ident, before + 1)


def test_copies_of_a_cancel(relay: Relay) -> None:
    """Of a migration that waits for slots: it ends once, by whichever copy comes first."""
    blockers = [relay.migrate(relay.vm(memory_mib=LARGE)) for _ in range(2)]
    for blocker in blockers:
        relay.copying(blocker)
    ident = relay.migrate(relay.vm())
    relay.wait(ident, "pending")
    before = total(relay)
    with every_message_three_times(relay) as tap:
        relay.send("vmrelay.v1.cancel", migration=ident)
        assert relay.wait(ident).outcome == "cancelled"
        until(lambda: relay.result(ident)["status"] == "FAILURE", "AsyncResult")
        until(lambda: not relay.journal.client.llen("scheduler"), "all copies were taken")
    said_once(relay, ident, before)
    assert results_shown(tap, ident) == ["FAILURE"]
    for blocker in blockers:
        relay.send("vmrelay.v1.cancel", migration=blocker)
        relay.wait(blocker)


def confirming(relay: Relay, name: str) -> str:
    """A migration whose confirm hangs at its source's dispatcher, which is stopped; its id."""
    ident = relay.migrate(name)
    relay.copying(ident)
    relay.processes["agent-beta"].send_signal(signal.SIGSTOP)
    relay.in_phase(ident, "finish", "queued")
    relay.processes["simulator-alpha"].send_signal(signal.SIGSTOP)
    relay.processes["agent-beta"].send_signal(signal.SIGCONT)
    relay.in_phase(ident, "confirm")
    return ident


def test_an_agent_killed_between_the_end_and_its_result(relay: Relay) -> None:
    """The migration ended and nobody can have stored its result: the leading scheduler does."""
    name, before = relay.vm(memory_mib=200_000), total(relay)
    key = ""
    try:
        ident = confirming(relay, name)
        # While a list is in its place no result can be stored: whoever tries gets an error from Redis.
        key = f"celery-task-meta-{ident}"
        relay.journal.client.delete(key)
        relay.journal.client.rpush(key, "in the way")
    finally:
        relay.processes["simulator-alpha"].send_signal(signal.SIGCONT)
    until(lambda: relay.events(ident, "ended"), "the end")
    relay.kill("agent-alpha")
    assert relay.journal.client.zscore("vmrelay:unshown", ident) is not None
    relay.journal.client.delete(key)
    record = relay.record(ident)
    assert record is not None
    assert AsyncResult(ident, app=relay.celery).get(timeout=PATIENCE) == record.document()
    assert relay.journal.client.zscore("vmrelay:unshown", ident) is None
    assert relay.where(name) == {"beta": "running"}
    relay.restart_agent("alpha")
    said_once(relay, ident, before)


@pytest.mark.parametrize("times", range(2))
def test_an_agent_killed_at_the_instant_of_the_end(relay: Relay, times: int) -> None:
    """SIGKILL at the first sight of the event: before or after the result, there is one of everything."""
    name, before = relay.vm(), total(relay)
    agent = relay.processes["agent-alpha"]

    def kill(words: list[bytes]) -> None:
        if words[:1] == [b"XADD"] and words[1].startswith(b"vmrelay:m:") and b"ended" in words:
            agent.kill()

    with wiretap(relay.redis.port, kill) as tap:
        ident = relay.migrate(name)
        agent.wait(PATIENCE)
        record = relay.wait(ident)
        assert AsyncResult(ident, app=relay.celery).get(timeout=PATIENCE) == record.document()
        relay.restart_agent("alpha")
        said_once(relay, ident, before)
        quiet(relay)
    assert results_shown(tap, ident) == ["SUCCESS"]
    said_once(relay, ident, before + 1)
    assert relay.where(name) == {"beta": "running"}


def served(port: str) -> float:
    """The outcomes that a process shows, summed over all labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == OUTCOMES)


def test_one_scheduler_of_two_shows_the_outcomes(relay: Relay) -> None:
    """The one that leads; when it is killed, the other one goes on from the same numbers, and after both a new one."""
    relay.moved(relay.vm())
    relay.spawn("second", "scheduler")
    try:
        ready = re.compile(r"scheduler ready.*?metrics_port\D+(\d+)")
        port = until(lambda: ready.search(relay.log("second")), "the second one is ready")[1]
        relay.counted(total(relay))
        assert served(port) == 0
        relay.kill("scheduler")
        until(lambda: served(port) == total(relay), "the second one leads")
    finally:
        relay.kill("second")
    before = total(relay)
    relay.spawn("scheduler", "scheduler")
    relay.ready("scheduler")
    now = total(relay)  # what other tests left under way may have ended meanwhile
    assert now >= before
    relay.counted(now)
