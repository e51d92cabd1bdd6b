"""What doctor says of what it finds: the pure parts, and the command over a real Redis."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from worker import metrics
from worker.cli import doctor as diagnosis
from worker.embedded import EmbeddedRedis
from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.journal.health import Finding, Result, judged, persists
from worker.journal.webhooks import Standing
from worker.runtime import Runtime
from worker.scheduler import Rounds
from worker.seal import ensure_key
from worker.settings import Settings

GOOD: dict[str, Any] = {
    "redis_version": "7.2.4",
    "role": "master",
    "connected_slaves": 1,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "maxmemory_policy": "noeviction",
    "used_memory": 50 * 2**20,
    "maxmemory": 100 * 2**20,
}


def results(info: dict[str, Any], appendfsync: str = "everysec") -> dict[str, Result]:
    """The findings that are not ok."""
    return {found.name: found.result for found in judged(info, appendfsync) if found.result is not Result.OK}


def test_a_good_redis() -> None:
    """Nothing to say, of Redis as of Valkey, and it persists."""
    assert results(GOOD) == results(GOOD | {"valkey_version": "9.1.2"}) == {}
    assert persists(GOOD)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"redis_version": "6.0.16"}, {"redis": Result.FAILED}),
        ({"role": "slave", "master_host": "other"}, {"role": Result.FAILED}),
        ({"aof_enabled": 0}, {"persistence": Result.FAILED}),
        ({"aof_last_write_status": "err"}, {"persistence": Result.FAILED}),
        ({"aof_last_bgrewrite_status": "err"}, {"persistence": Result.WARNING}),
        ({"rdb_last_bgsave_status": "err"}, {"persistence": Result.WARNING}),
        ({"maxmemory_policy": "allkeys-lru"}, {"eviction": Result.FAILED}),
        ({"used_memory": 85 * 2**20}, {"memory": Result.WARNING}),
        ({"used_memory": 100 * 2**20}, {"memory": Result.FAILED}),
        ({"maxmemory": 0}, {}),
    ],
    ids=str,
)
def test_a_redis_that_lacks_something(change: dict[str, Any], expected: dict[str, Result]) -> None:
    """Each lack is one finding, with advice, and the metric follows the one of persistence."""
    info = GOOD | change
    assert results(info) == expected
    assert all(found.advice for found in judged(info) if found.result is not Result.OK)
    assert persists(info) is ("persistence" not in expected)


def test_an_append_only_file_that_nobody_syncs() -> None:
    """``appendfsync no`` is a warning; a setting that may not be read is none."""
    assert results(GOOD, "no") == {"persistence": Result.WARNING}
    assert results(GOOD, "") == {}


def test_clocks() -> None:
    """A clock is ahead or behind; only by seconds is it worth a warning."""
    assert diagnosis.clock("clock", 0.3).result is Result.OK
    behind = diagnosis.clock("clock", -7.04)
    assert (behind.result, behind.detail) == (Result.WARNING, "7.0 s behind Redis's")


def test_agents() -> None:
    """Up, draining, silent hypervisor, skewed clock, and none; one of the version before says nothing of its clock."""
    card = {"pid": 7, "node": "n", "answers": True}

    def said(**change: object) -> list[tuple[str, Result]]:
        return [(found.name, found.result) for found in diagnosis.agent("alpha", card | change)]

    assert said() == said(clock_offset_seconds=0.1) == said(draining=True) == [("agent alpha", Result.OK)]
    assert said(answers=False) == [("agent alpha", Result.WARNING)]
    assert said(clock_offset_seconds=-60) == [("agent alpha", Result.OK), ("clock alpha", Result.WARNING)]
    (down,) = diagnosis.agent("alpha", None)
    assert (down.result, down.advice) == (Result.WARNING, "start 'vmrelay agent alpha'")


def test_schedulers() -> None:
    """None is a warning; of several one leads."""
    card = {"pid": 7, "node": "n"}
    assert diagnosis.scheduling(None, []).result is Result.WARNING
    assert diagnosis.scheduling(card, ["a"]).detail == "pid 7 on n leads"
    assert diagnosis.scheduling(card, ["a", "b"]).detail == "pid 7 on n leads; 2 run"


@pytest.mark.parametrize(
    ("length", "known", "served", "strange"),
    [
        (0, True, False, False),
        (3, True, True, False),
        (3, True, False, True),
        (101, True, True, True),
        (1, False, False, True),
    ],
)
def test_queues(length: int, known: bool, served: bool, strange: bool) -> None:
    """Strange is what nobody takes, what is for no host of ours, and what is very long."""
    assert bool(diagnosis.queue("host.alpha", length, known=known, served=served)) is strange


@pytest.fixture
def look(
    private_redis: Callable[..., EmbeddedRedis], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Finding]]:
    """Run doctor over a Redis of one's own after a change to it; what it finds, by name."""
    server = private_redis()
    monkeypatch.chdir(tmp_path)  # a vmrelay.toml here would bring hosts of its own
    settings = Settings(redis_url=server.url, state_dir=tmp_path, hosts={"alpha": {"uri": "vzsim:///none"}})  # type: ignore[dict-item]
    ensure_key(settings.key_file)
    client = connect(server.url)
    parts = Runtime(settings, Inventory(settings), Journal(client))
    monkeypatch.setattr(diagnosis, "runtime", lambda: parts)

    def looked(change: Callable[[Any], object] = lambda _: None) -> dict[str, Finding]:
        change(client)
        done = CliRunner().invoke(diagnosis.doctor, ["-o", "json"], catch_exceptions=False)
        found = {each["name"]: Finding(**each) for each in json.loads(done.output)}
        assert done.exit_code == any(each.result == "failed" for each in found.values())
        client.close()
        return found

    return looked


def test_an_embedded_redis_is_as_it_must_be(look: Callable[..., dict[str, Finding]]) -> None:
    """Of the server that the demo starts nothing is said but that no process runs yet."""
    found = look()
    bad = {name for name, each in found.items() if each.result != "ok"}
    assert bad - {"user"} == {"scheduler", "agent alpha"}
    assert ("user" in bad) is (os.geteuid() == 0)
    assert found["persistence"].detail == "append-only file, appendfsync everysec"


def test_a_redis_that_forgets(look: Callable[..., dict[str, Finding]]) -> None:
    """Without an append-only file, and with another policy, doctor fails, and says what to set."""

    def spoil(client: Any) -> None:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")

    found = look(spoil)
    assert "appendonly yes" in found["persistence"].advice
    assert "noeviction" in found["eviction"].advice


def test_the_scheduler_shows_whether_redis_persists(private_redis: Callable[..., EmbeddedRedis]) -> None:
    """The gauge is 1, and 0 once the append-only file is switched off."""
    server = private_redis()
    settings = Settings(redis_url=server.url)
    with connect(server.url) as client:
        rounds = Rounds(Runtime(settings, Inventory(settings), Journal(client)), "here/1/x", 0)
        gauge = metrics.redis_persists.labels(f"127.0.0.1:{server.port}")
        rounds._judge()
        assert gauge._value.get() == 1
        client.config_set("appendonly", "no")
        rounds._judge()
        assert gauge._value.get() == 0
        rounds._parts.journal.client.close()


def test_a_full_redis(look: Callable[..., dict[str, Finding]]) -> None:
    """It is said what no longer works, and what to do; the rest can still be looked at."""
    found = look(lambda client: client.config_set("maxmemory", 1))
    assert found["memory"].result == "failed"
    assert "maxmemory" in found["memory"].advice
    assert found["scripts"].result == "ok"


def test_messages_for_nobody(look: Callable[..., dict[str, Finding]]) -> None:
    """A queue of any priority whose agent is down, and that of a host that was removed."""
    found = look(lambda client: [client.lpush(key, "m") for key in ("host.alpha\x06\x169", "host.gone")])
    assert found["queue host.alpha"].result == found["queue host.gone"].result == "warning"
    assert "DEL host.gone" in found["queue host.gone"].advice


def test_webhooks() -> None:
    """One that works is fine; one that fails, or whose deliveries nobody takes, is a warning with what to try."""
    well = diagnosis.webhook("cmdb", Standing(waiting=3, oldest_seconds=5, told=990, error="answered 500"), 1000)
    assert (well.result, well.detail) == (Result.OK, "3 deliveries wait, last delivered 10 s ago")
    failing = diagnosis.webhook("cmdb", Standing(waiting=3, failures=2, failed=995, error="answered 500"), 1000)
    assert failing.result is Result.WARNING
    assert failing.detail.endswith("never told anything yet; 2 tries in a row failed, the last 5 s ago: answered 500")
    assert failing.advice == "try it: vmrelay webhook test cmdb"
    late = diagnosis.webhook("cmdb", Standing(waiting=3, oldest_seconds=601, told=300), 1000)
    assert (late.result, "scheduler" in late.advice) == (Result.WARNING, True)


def test_the_clock_offset_is_measured(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine an hour ahead says so."""
    now = time.time
    with connect(redis_url) as client:
        assert abs(Journal(client).clock_offset()) < diagnosis.SKEW_SECONDS
        monkeypatch.setattr(time, "time", lambda: now() + 3600)
        assert 3590 < Journal(client).clock_offset() < 3610
