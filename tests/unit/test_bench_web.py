"""How the benchmark of the web API judges what it measured, and that its copies are migrations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from journal_lab import KEEP, NOTHING, agents, fields
from terms import terms_text

from bench.web.__main__ import judged
from bench.web.filling import Original, fill
from worker.journal import Journal, connect
from worker.journal.lists import Filters


@pytest.fixture
def journal(redis_url: str) -> Iterator[Journal]:
    """An empty journal."""
    with connect(redis_url) as client:
        yield Journal(client)


def test_both_sides_are_told_with_their_ratio() -> None:
    """Medians and 95th percentiles in milliseconds, of the large journal and of the small one."""
    told = judged({"list": [0.010] * 20}, {"list": [0.015] * 19 + [0.115]})
    assert told["list"] == {
        "median_ms": 15.0,
        "p95_ms": 20.0,
        "small_median_ms": 10.0,
        "small_p95_ms": 10.0,
        "ratio": 1.5,
    }


def test_a_filled_journal_is_one(journal: Journal, redis_url: str) -> None:
    """Every copy is read, listed and counted as what it is, with its events; ids, guests, hosts and times differ."""
    agents(journal)
    assert journal.submit("m", fields("web", "alpha", "beta"), {}, "b", terms_text(1, 1))[1][0] == "OK"
    assert journal.claim("m", 1, 1, "begin", "b", "t", "alpha", NOTHING).won
    run = {"phase": "begin", "host": "alpha", "attempt": 1, "seconds": 0.1, "queued_seconds": 0.1}
    ended = {"outcome": "failed", "reason": "x", "error": "y", "error_phase": "begin"}
    assert journal.conclude("m", "t", run, ended, KEEP, None)[0]
    raw = journal.client.hgetall("vmrelay:m:m")
    with redis.Redis.from_url(redis_url) as dumper:
        original = Original(raw, dumper.dump("vmrelay:m:m:events"))
    copies = Journal(journal.client, "copies:")
    fill(copies, [original, original, original], 60)
    assert copies.is_listed()
    records, cursor = copies.page(Filters(outcome="failed"), 60)
    assert (len(records), cursor, len({record.id for record in records})) == (60, None, 60)
    assert records == sorted(records, key=lambda record: record.created, reverse=True)
    assert [run.name for run in records[0].phases] == ["begin"]
    assert [kind for _, kind, _ in copies.events(records[0].id)][-1] == "ended"
    assert len({record.source for record in records}) > 5
