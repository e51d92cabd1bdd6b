"""``make bench``: the relay beside a bare Celery chain, hop and handoff latency, journal round trips.

Both sides run in one run on the same Redis, agents and machine, in turns. The bare chain is five no-op tasks
on the same two host queues, alternating as the phases do; its results are stored, as Celery does by
default. ``relay_vs_quiet_chain`` compares with one that stores only its last result. Only the ratios mean
something on another machine. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence

import redis

from bench.stage import HOSTS, Stage, stage

PATIENCE_SECONDS = 300
ORDER = (0, 1, 0, 1, 0)
"""Which of the two hosts runs each of the five steps."""


def _wait(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not done after {PATIENCE_SECONDS} s")
        time.sleep(0.01)


def chains(running: Stage, number: int, task: str) -> float:
    """Seconds for ``number`` bare chains, from the first send to the last result."""
    from celery import chain

    from worker.app import app

    ends = []
    started = time.perf_counter()
    for _ in range(number):
        steps = [app.signature(task, queue=f"host.{HOSTS[side]}") for side in ORDER[:-1]]
        steps.append(app.signature("bench.noop", queue=f"host.{HOSTS[ORDER[-1]]}"))
        ends.append(f"celery-task-meta-{chain(*steps).apply_async(({'step': 0},)).id}")
    _wait(lambda: running.journal.client.exists(*ends) == number, task)
    return time.perf_counter() - started


def migrations(running: Stage, number: int) -> tuple[float, list[str]]:
    """Seconds for ``number`` migrations, from the first request to the last outcome; and their ids."""
    from worker.app import app

    where = {vm["name"]: host for host in HOSTS for vm in running.journal.domains(host)}
    moves = [(name, HOSTS[1 - HOSTS.index(host)]) for name, host in sorted(where.items())][:number]
    before = running.journal.count("ended")
    idents = [str(uuid.uuid4()) for _ in moves]
    started = time.perf_counter()
    for ident, (name, destination) in zip(idents, moves, strict=True):
        arguments = {"domain": name, "destination": destination}
        app.send_task("vmrelay.v1.migrate", kwargs=arguments, task_id=ident, queue="scheduler")
    _wait(lambda: running.journal.count("ended") == before + len(moves), "migrations")
    seconds = time.perf_counter() - started
    records = [running.journal.record(ident) for ident in idents]
    failed = [record for record in records if record is None or record.outcome != "succeeded"]
    if failed:
        raise SystemExit(f"{len(failed)} migrations did not succeed, the first: {failed[0]}")
    return seconds, idents


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1000, 3), "p99": round(cuts[98] * 1000, 3)}


def waits(running: Stage, idents: Sequence[str], *phases: str) -> list[float]:
    """How long the named phases of these migrations stood in their queues, in seconds."""
    records = [record for ident in idents if (record := running.journal.record(ident))]
    return [run.queued_seconds for record in records for run in record.phases if run.name in phases]


def one_by_one(running: Stage, number: int) -> list[str]:
    """Migrations with a single one in flight."""
    return [ident for _ in range(number) for ident in migrations(running, 1)[1]]


def round_trips(running: Stage, number: int) -> float:
    """Journal calls that the agents make for each phase, counted by Redis itself (MONITOR)."""
    seen: list[str] = []
    watcher = redis.Redis.from_url(running.redis_url, decode_responses=True)
    with watcher.monitor() as monitor:  # type: ignore[no-untyped-call]
        thread = threading.Thread(
            target=lambda: seen.extend(iter(lambda: str(monitor.next_command()["command"]), "PING bench")), daemon=True
        )
        thread.start()
        idents = one_by_one(running, number)
        running.journal.client.execute_command("PING", "bench")
        thread.join(10)
    scheduler = 2  # create and admit travel in one pipeline, before the first phase
    calls = sum(1 for line in seen if line.startswith("EVALSHA") and any(ident in line for ident in idents))
    return round((calls - scheduler * number) / (5 * number), 3)


def main() -> int:
    """Run and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--number", type=int, default=200, help="migrations and chains in each round")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    options = parser.parse_args()
    rounds, number = (1, 40) if options.quick else (options.rounds, options.number)
    with stage(max(number, 100)) as running:
        migrations(running, 40)
        chains(running, 40, "bench.noop")
        ratios, quiet_ratios, hops = [], [], []
        for turn in range(rounds):
            relay_seconds, _ = migrations(running, number)
            chain_seconds = chains(running, number, "bench.noop")
            quiet_seconds = chains(running, number, "bench.noop_quiet")
            ratios.append(chain_seconds / relay_seconds)
            quiet_ratios.append(quiet_seconds / relay_seconds)
            print(
                f"round {turn + 1}: {number / relay_seconds:.0f} migrations/s, {number / chain_seconds:.0f} chains/s "
                f"({number / quiet_seconds:.0f} without results), ratio {ratios[-1]:.2f}",
                flush=True,
            )
        alone = one_by_one(running, 20 if options.quick else 100)
        hops = waits(running, alone, "prepare", "perform", "finish", "confirm")
        _, hundred = migrations(running, 100)
        figures = {
            "relay_vs_chain": round(statistics.median(ratios), 3),
            "relay_vs_quiet_chain": round(statistics.median(quiet_ratios), 3),
            "hop_ms": quantiles(hops),
            "handoff_ms": {
                "1": quantiles(waits(running, alone, "finish")),
                "100": quantiles(waits(running, hundred, "finish")),
            },
            "round_trips_per_phase": round_trips(running, 5),
        }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
