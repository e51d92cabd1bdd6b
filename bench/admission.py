"""``make bench-admission``: what it costs to choose and admit the next migration, however many wait.

All in one run on one Redis, in turns: 100 and 10,000 that wait in the same lanes, with every slot taken but what one
that ended had; the same of 1,000 batches with two each; and one urgent migration behind 500. The ratios mean
something on another machine, the times do not. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks import dispatch
from worker.embedded import EmbeddedRedis
from worker.journal import Journal, Record, connect
from worker.terms import Room, Terms

HOSTS = tuple(f"h{number:02}" for number in range(12))
ROUTES = [(a, b) for n, a in enumerate(HOSTS[:10]) for b in HOSTS[:10][n + 1 :]]
SLOTS = 2
TERMS = Terms(dict.fromkeys(HOSTS, Room(SLOTS, SLOTS)))
NOTHING = ("", "", 0)


class Queue:
    """A journal of its own, in which so many wait."""

    def __init__(self, journal: Journal, waiting: int, flows: int = 1) -> None:
        self.journal = journal
        self.number = 0
        for host in HOSTS:
            journal.lease(host, {"incarnation": "bench"}, 86400)
        for number in range(waiting):
            self.ask(ROUTES[number % len(ROUTES)], f"b{number % flows}" if flows > 1 else "")

    def ask(self, route: tuple[str, str], batch: str = "", priority: str = "normal") -> str:
        """One more waits; nothing of it starts by itself."""
        self.number += 1
        if batch:
            self._batch(batch, route)
        record = Record(
            id=f"{batch}.{self.number}" if batch else f"m{self.number:06}",
            batch=batch,
            item=self.number if batch else 0,
            state="pending",
            domain=f"vm-{self.number}",
            uuid=f"uuid-{self.number}",
            source=route[0],
            destination=route[1],
            driver="vz",
            flags_label="live",
            priority=priority,
        )
        created, _ = self.journal.submit(record.id, record.asked_fields, {}, "{}", Terms({}).text())
        if created != ["OK"]:
            raise SystemExit(f"{record.id} was not taken: {created}")
        return record.id

    def _batch(self, batch: str, route: tuple[str, str]) -> None:
        """A batch that runs, and wants this move next: as little of one as the scripts need."""
        key, client = f"{self.journal.prefix}b:{batch}", self.journal.client
        move = {"n": self.number, "domain": f"vm-{self.number}", "source": route[0], "destination": route[1]}
        client.hset(key, mapping={"state": "running", "kind": "list", "hosts": "[]"})
        client.hset(f"{key}:items", self.number, json.dumps(move))
        client.zadd(f"{key}:open", {str(self.number): 0})

    def admit_one(self) -> tuple[float, str]:
        """Seconds that a round takes which starts one migration, as the scheduler makes it; and which one."""
        started = time.perf_counter()
        ident = self.journal.choose(TERMS, 1)[0]
        record = self.journal.record(ident)
        assert record is not None
        baton = dispatch.first_baton(record)
        terms = TERMS.text(record.source, record.destination)
        answer = self.journal.admit(ident, baton.attempt, dispatch.text(baton), terms)
        took = time.perf_counter() - started
        if answer[0] != "OK":
            raise SystemExit(f"{ident} was chosen and not admitted: {answer}")
        return took, ident

    def look_in_vain(self) -> float:
        """Seconds that a round takes which finds no room."""
        started = time.perf_counter()
        if self.journal.choose(TERMS):
            raise SystemExit("there should be no room")
        return time.perf_counter() - started

    def fill(self) -> list[str]:
        """Take all slots; what took them."""
        taken = []
        while chosen := self.journal.choose(TERMS):
            for ident in chosen:
                record = self.journal.record(ident)
                assert record is not None
                self.journal.admit(ident, 1, "{}", TERMS.text(record.source, record.destination))
                taken.append(ident)
        return taken

    def end(self, ident: str) -> None:
        """One that runs ends; another one is asked for in its place, so that as many wait."""
        record = self.journal.record(ident)
        assert record is not None
        baton = self.journal.baton(ident)
        self.journal.claim(ident, 1, 1, "begin", baton, "t", record.source, NOTHING)
        run = {"phase": "begin", "host": record.source, "seconds": 0}
        self.journal.conclude(ident, "t", run, {"outcome": "succeeded", "reason": ""}, 60, None)
        self.ask((record.source, record.destination), record.batch)


@contextmanager
def servers(names: list[str]) -> Iterator[dict[str, Journal]]:
    """A journal for each name, all on one Redis."""
    with TemporaryDirectory(prefix="vmrelay-") as folder:
        server = EmbeddedRedis(Path(folder))
        server.start()
        try:
            yield {name: Journal(connect(server.url), f"{name}:") for name in names}
        finally:
            server.stop()


def measured(queue: Queue, running: list[str], number: int) -> list[float]:
    """Seconds of so many rounds, each of which starts one migration in the place of one that ended."""
    times = []
    for _ in range(number):
        queue.end(running.pop(0))
        took, ident = queue.admit_one()
        times.append(took)
        running += [ident, *queue.fill()]
    return times


def urgent_place(journal: Journal, waiting: int) -> int:
    """How many start before an urgent migration that was asked for after all others."""
    queue = Queue(journal, waiting)
    running = queue.fill()
    urgent = queue.ask(ROUTES[0], priority="urgent")
    for place in range(waiting):
        queue.end(next(ident for ident in running if _frees(journal, ident)))
        running = [ident for ident in running if (record := journal.record(ident)) and record.state == "active"]
        _, ident = queue.admit_one()
        running.append(ident)
        if ident == urgent:
            return place
    return waiting


def _frees(journal: Journal, ident: str) -> bool:
    record = journal.record(ident)
    return record is not None and (record.source, record.destination) == ROUTES[0]


def main() -> int:
    """Run and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench-admission", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="migrations started of each size")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    options = parser.parse_args()
    rounds, most = (30, 1000) if options.quick else (options.rounds, 10_000)
    sizes = {"100": (100, 1), str(most): (most, 1), "1000 batches": (2000, 1000)}
    with servers([*sizes, "urgent"]) as journals:
        queues = {name: Queue(journals[name], *size) for name, size in sizes.items()}
        running = {name: queue.fill() for name, queue in queues.items()}
        times: dict[str, list[float]] = {name: [] for name in sizes}
        idle: dict[str, list[float]] = {name: [] for name in sizes}
        for _ in range(10):  # in turns: what the machine does besides falls on all of them
            for name, queue in queues.items():
                times[name] += measured(queue, running[name], rounds // 10)
                idle[name] += [queue.look_in_vain() for _ in range(10)]
        place = urgent_place(journals["urgent"], 500)
    micro = {name: round(statistics.median(each) * 1e6, 1) for name, each in times.items()}
    vain = {name: round(statistics.median(each) * 1e6, 1) for name, each in idle.items()}
    figures = {
        "admit_one_us": micro,
        "no_room_us": vain,
        "ratio": round(micro[str(most)] / micro["100"], 3),
        "urgent_after": place,
    }
    for name in sizes:
        print(f"{name:>12}: {micro[name]:8.1f} us to choose and admit one, {vain[name]:8.1f} us where nothing has room")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
