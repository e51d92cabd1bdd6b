"""Redis dies, is full, is cut off, or fails over: no process ends, nothing runs twice, nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis
from fault_proxy import FaultProxy
from relay_lab import Relay, until

from worker.embedded import EmbeddedRedis

PHASES = ["begin", "prepare", "perform", "finish", "confirm"]
LONG = 100_000
"""MiB of a guest that moves for about a second."""


class Frail(Relay):
    """A relay that reaches its Redis through a proxy."""

    def __init__(self, directory: Path, server: EmbeddedRedis, proxy: FaultProxy) -> None:
        self.server, self.proxy = server, proxy
        self.direct = redis.Redis.from_url(server.url, decode_responses=True)
        """Not through the proxy."""
        super().__init__(directory, proxy)
        self.celery.conf.broker_transport_options = {"socket_timeout": 1, "socket_connect_timeout": 1}

    def written(self) -> dict[Path, bytes]:
        """What Redis would find if it started now."""
        until(lambda: not self.direct.info("persistence")["aof_buffer_length"], "all is written")  # type: ignore[index]
        return {path: path.read_bytes() for path in (self.server.directory / "appendonlydir").iterdir()}

    def forget(self, kept: dict[Path, bytes]) -> None:
        """Start a killed Redis with what was written earlier."""
        for path, text in kept.items():
            path.write_bytes(text)
        self.server.start()

    def pids(self) -> dict[str, int]:
        """Every process that lives."""
        return {name: process.pid for name, process in self.processes.items() if process.poll() is None}

    def ended_once(self, ident: str) -> None:
        """A migration moved its guest; every phase was claimed once, and one outcome told."""
        record = self.wait(ident)
        assert record.outcome == "succeeded", (record, self.events(ident))
        assert [event["phase"] for event in self.events(ident, "phase")] == PHASES
        assert len(self.events(ident, "ended")) == 1
        assert self.where(record.domain) == {record.destination: "running"}
        until(lambda: self.result(ident)["status"] == "SUCCESS", "AsyncResult")


@pytest.fixture(scope="module")
def whole_frail() -> Iterator[Frail]:
    """One for this file: its Redis has an append-only file, as in production."""
    with TemporaryDirectory(prefix="vmrelay-") as name:
        directory = Path(name)
        with EmbeddedRedis(directory / "redis") as server, FaultProxy(server.port) as proxy:
            relay = Frail(directory, server, proxy)
            try:
                relay.start()
                yield relay
            finally:
                relay.stop()
                relay.direct.close()


@pytest.fixture
def frail(whole_frail: Frail) -> Iterator[Frail]:
    """The relay; whatever a test does to Redis, no process of it may end but those that the test ends itself."""
    before = whole_frail.pids()
    yield whole_frail
    whole_frail.proxy.forbidden = lambda _: False
    whole_frail.server.start()
    whole_frail.mend()
    after = whole_frail.pids()
    assert {name for name, pid in before.items() if after[name] != pid} <= {"scheduler", "agent-gamma"}


def test_a_perform_that_ends_while_redis_is_dead(frail: Frail) -> None:
    """Redis is killed in mid-perform and started when the dispatcher has done: what happened is journaled then."""
    name, jobs = frail.vm(memory_mib=LONG), frail.jobs_ended()
    pids = frail.pids()
    ident = frail.migrate(name)
    frail.copying(ident)
    frail.server.kill()
    until(lambda: frail.jobs_ended() == jobs + 1, "the guest has left")
    frail.server.start()
    frail.ended_once(ident)
    assert frail.jobs_ended() == jobs + 1
    assert frail.pids() == pids
    frail.moved(frail.vm())


def test_what_has_begun_ends_in_a_full_redis(frail: Frail) -> None:
    """Nothing new is taken, with an error that says so; a running migration ends; then everything goes on."""
    name, later = frail.vm(memory_mib=LONG), frail.vm()
    ident = frail.migrate(name)
    frail.copying(ident)
    frail.direct.config_set("maxmemory", 1)
    try:
        refused = frail.cli("migrate", later, "beta")
        assert refused.returncode == 1
        assert "[redis-full]" in refused.stderr
        assert "maxmemory" in refused.stderr
        frail.ended_once(ident)
    finally:
        frail.direct.config_set("maxmemory", 0)
    frail.moved(later)


def test_an_agent_and_a_scheduler_start_while_redis_is_full(frail: Frail) -> None:
    """Both serve; a request that waits in the queue is taken when there is room again."""
    name = frail.vm("gamma")
    frail.kill("scheduler")
    frail.kill("agent-gamma")
    frail.direct.delete("_kombu.binding.host.gamma")
    ident = frail.migrate(name)
    frail.direct.config_set("maxmemory", 1)
    try:
        frail.mend()
        assert frail.record(ident) is None
    finally:
        frail.direct.config_set("maxmemory", 0)
    frail.ended_once(ident)


def test_a_request_that_a_dying_scheduler_has_taken(frail: Frail) -> None:
    """Redis has handed it out and nobody has journaled it: the next scheduler does."""
    name = frail.vm()
    os.kill(frail.processes["scheduler"].pid, signal.SIGSTOP)
    ident = frail.migrate(name)
    until(lambda: not frail.direct.llen("scheduler"), "the request is taken")
    assert frail.record(ident) is None
    frail.kill("scheduler")
    frail.mend()
    frail.ended_once(ident)
    until(lambda: not frail.direct.keys("vmrelay:taken:*"), "nothing is in anybody's hands")


def test_requests_in_hand_while_redis_is_killed(frail: Frail) -> None:
    """The scheduler has taken them and cannot journal them; Redis dies and comes back: same scheduler, each once."""
    names, pids = [frail.vm(memory_mib=1) for _ in range(4)], frail.pids()
    create = frail.journal._scripts["create"].sha.encode()
    frail.proxy.forbidden = lambda said: create in said
    idents = [frail.migrate(name) for name in names]
    until(lambda: not frail.direct.llen("scheduler") and frail.proxy.refusals >= len(idents), "all are in hand")
    frail.server.kill()
    frail.proxy.cut()
    frail.server.start()
    frail.proxy.forbidden = lambda _: False
    for ident in idents:
        frail.ended_once(ident)
    assert frail.pids() == pids


def test_connections_that_go_silent(frail: Frail) -> None:
    """Nothing passes on any connection and nobody is told: found out in seconds, and the migration ends."""
    name, next_one = frail.vm(memory_mib=LONG), frail.vm("gamma")
    ident = frail.migrate(name)
    frail.copying(ident)
    frail.proxy.silence()
    frail.journal.client.connection_pool.disconnect()
    frail.ended_once(ident)
    frail.ended_once(frail.migrate(next_one))


def test_a_cut_at_every_phase(frail: Frail) -> None:
    """All connections are closed each time a phase has been claimed: five phases, each once."""
    name = frail.vm(memory_mib=LONG)
    ident = frail.migrate(name)
    for phase in PHASES:
        until(lambda phase=phase: phase in [e["phase"] for e in frail.events(ident, "phase")], phase)  # type: ignore[misc]
        frail.proxy.cut()
    frail.ended_once(ident)


def test_failover_to_a_replica(frail: Frail, tmp_path: Path) -> None:
    """The address leads to a promoted replica; the old master lives on read-only, and nobody stays with it."""
    name, next_one = frail.vm(memory_mib=LONG), frail.vm()
    with EmbeddedRedis(tmp_path) as replica, redis.Redis.from_url(replica.url) as second:
        second.replicaof("127.0.0.1", str(frail.server.port))
        until(lambda: second.info("replication")["master_link_status"] == "up", "the replica follows")  # type: ignore[index]
        ident = frail.migrate(name)
        frail.copying(ident)
        second.replicaof("NO", "ONE")
        frail.proxy.target = replica.port
        frail.direct.replicaof("127.0.0.1", str(replica.port))
        # No connection is cut: those to the old master find out by themselves.
        frail.ended_once(ident)
        frail.moved(next_one)
        until(lambda: frail.direct.info("replication")["master_link_status"] == "up", "the old master follows")
        frail.direct.replicaof("NO", "ONE")
        frail.proxy.target = frail.server.port
        frail.proxy.cut()
        replica.stop()
    frail.moved(frail.vm())


@pytest.mark.parametrize("memory_mib", [LONG, 4 * LONG], ids=["moved meanwhile", "still moving"])
def test_the_claim_of_perform_is_lost(frail: Frail, memory_mib: int) -> None:
    """Redis forgets its last second, in which perform was claimed: the one perform counts, and the guest has moved."""
    name = frail.vm(memory_mib=memory_mib)
    claim = frail.journal._scripts["claim"].sha.encode()
    frail.proxy.forbidden = lambda said: claim in said and b"\r\nperform\r\n" in said
    before, jobs = frail.proxy.refusals, frail.jobs_ended()
    ident = frail.migrate(name)
    until(lambda: frail.proxy.refusals > before, "perform is to be claimed")
    kept = frail.written()
    frail.proxy.forbidden = lambda _: False
    frail.copying(ident)
    frail.server.kill()
    if memory_mib == LONG:
        until(lambda: frail.jobs_ended() > jobs, "the guest has left")
    frail.forget(kept)
    record = frail.wait(ident)
    assert record.outcome == "succeeded", (record, frail.events(ident))
    assert frail.jobs_ended() == jobs + 1
    assert frail.where(name) == {"beta": "running"}
    assert len(frail.events(ident, "ended")) == 1


def test_the_end_is_lost(frail: Frail) -> None:
    """Redis forgets all that came after perform was claimed, the outcome too: the look at both hosts finds it again."""
    name, jobs = frail.vm(memory_mib=LONG), frail.jobs_ended()
    ident = frail.migrate(name)
    frail.copying(ident)
    kept = frail.written()
    frail.ended_once(ident)
    frail.server.kill()
    frail.forget(kept)
    record = frail.wait(ident)
    assert record.outcome == "succeeded", (record, frail.events(ident))
    assert frail.jobs_ended() == jobs + 1
    assert frail.where(name) == {"beta": "running"}
    until(lambda: frail.result(ident)["status"] == "SUCCESS", "AsyncResult")
