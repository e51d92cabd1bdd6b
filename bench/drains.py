"""``make bench-drains``: drains of hundreds of guests, all of the relay, on simulated hosts.

One drain of many guests, and an urgent migration asked for in the middle of it; then two drains at once, of other
hosts. The journal's events are the witness: who started when, and how many left and entered each host at that moment.
The last line is one JSON object; the exit code is 1 where a guest was lost, moved twice, or a host was over a cap.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from bench.stage import Stage, simulated_stage
from worker.contract import DRAIN, MIGRATE, SCHEDULER_QUEUE
from worker.journal import Journal
from worker.journal.batch import Batch

HOSTS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
SLOTS = 2
PATIENCE_SECONDS = 900
LOOK_SECONDS = 0.2
FAIR_FROM = 0.1
"""Progress of two drains is compared once each has moved so much of its guests: before, one move is a large share."""


@dataclass(frozen=True)
class Figures:
    """What the last line says."""

    guests: int
    drain_seconds: float
    migrations_per_second: float
    urgent_seconds: float
    """From the moment when the urgent migration was asked for to its start, while the drain had all slots."""
    fairness: float
    """The least ratio of the two drains' progress at any moment, the slower one's to the faster one's."""
    over_cap: int
    """Starts at which a host had more migrations than its limit."""
    lost: int
    duplicated: int
    moved_twice: int
    """Guests that one drain migrated more than once."""
    receipts_right: bool


# -- decisions --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """One migration's time on its hosts, by the journal's clock (milliseconds)."""

    source: str
    destination: str
    started: int
    ended: int


def over_caps(spans: Iterable[Span], limit: int) -> int:
    """How many starts found a host with more than ``limit`` in one direction, itself included.

    What ends in the same millisecond as something starts has given its slot back.
    """
    changes = []
    for span in spans:
        for slot in ((span.source, "out"), (span.destination, "in")):
            changes += [(span.started, 1, slot), (span.ended, -1, slot)]
    running: Counter[tuple[str, str]] = Counter()
    over = 0
    for _, change, slot in sorted(changes):
        running[slot] += change
        over += change > 0 and running[slot] > limit
    return over


def least_ratio(samples: Iterable[tuple[float, float]]) -> float:
    """The least ratio of two drains' progress (shares from 0 to 1) while both go on."""
    ratios = [min(a, b) / max(a, b) for a, b in samples if FAIR_FROM <= max(a, b) < 1]
    return round(min(ratios, default=1.0), 3)


def _right(batch: Batch) -> bool:
    """Whether a drain moved everything; the urgent guest, which went by itself, may be told as skipped."""
    print(f"  {', '.join(batch.hosts)}: {batch.moved} moved, {batch.failed} failed, {batch.skipped} skipped")
    return not batch.failed and batch.moved + batch.skipped == batch.total and batch.skipped <= 1


# -- the run ----------------------------------------------------------------------------------------


def _ask(task: str, arguments: dict[str, object], ident: str = "") -> str:
    from worker.app import app

    ident = ident or str(uuid.uuid4())
    app.send_task(task, kwargs=arguments, task_id=ident, queue=SCHEDULER_QUEUE)
    return ident


def _until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {PATIENCE_SECONDS} s")
        time.sleep(LOOK_SECONDS)


def _moved(journal: Journal, batch: str) -> int:
    found = journal.batch(batch)
    return found.moved if found else 0


def _finished(journal: Journal, batch: str) -> bool:
    found = journal.batch(batch)
    return found is not None and found.state == "finished"


def _one_drain(journal: Journal, guests: int) -> tuple[str, float, float]:
    """Drain alpha; in the middle ask for an urgent migration away from it. Batch, seconds, seconds until it started."""
    begun = time.monotonic()
    batch = _ask(DRAIN, {"hosts": ["alpha"], "requested_by": "operator"})
    _until(lambda: _moved(journal, batch) >= guests // 5, "a fifth of the drain")
    urgent = _ask(MIGRATE, {"domain": "urgent", "destination": "gamma", "priority": "urgent"})
    _until(lambda: (record := journal.record(urgent)) is not None and record.started > 0, "the urgent start")
    record = journal.record(urgent)
    assert record is not None
    _until(lambda: _finished(journal, batch), "the drain")
    return batch, time.monotonic() - begun, (record.started - record.created) / 1000


def _two_drains(journal: Journal, sizes: Mapping[str, int]) -> tuple[list[str], float]:
    """Drain two hosts at once; the batches, and the least ratio of their progress."""
    batches = {host: _ask(DRAIN, {"hosts": [host], "requested_by": f"operator-{host}"}) for host in sizes}
    samples: list[tuple[float, float]] = []

    def look() -> bool:
        first, second = (_moved(journal, batch) / sizes[host] for host, batch in batches.items())
        samples.append((first, second))
        return all(_finished(journal, batch) for batch in batches.values())

    _until(look, "two drains")
    return list(batches.values()), least_ratio(samples)


def _spans(journal: Journal) -> list[Span]:
    spans = []
    for record in journal.records(most=100_000):
        started = [int(at.split("-")[0]) for at, kind, _ in journal.events(record.id) if kind == "started"]
        if started and record.ended:
            spans.append(Span(record.source, record.destination, started[0], record.ended))
    return spans


def _places(stage: Stage, hosts: Sequence[str]) -> Counter[str]:
    """How many hosts run each guest, as the hosts themselves say."""
    from worker.hypervisors.simulator.control import ask

    shown = (vm for host in hosts for vm in ask(stage.sockets[host], "show")["vms"])
    return Counter(vm["name"] for vm in shown if vm["state"] == "running")


def run(guests: int) -> Figures:
    """Both scenes on one relay."""
    half = guests // 2
    first = {f"a-{n}": "alpha" for n in range(guests)} | {"urgent": "alpha"}
    machines = first | {f"b-{n}": "beta" for n in range(half)} | {f"g-{n}": "gamma" for n in range(half)}
    with simulated_stage(list(machines.items()), HOSTS, SLOTS) as stage:
        journal = stage.journal
        print(f"{guests} guests leave alpha, one of them urgently, {SLOTS} at once", flush=True)
        drained, seconds, urgent = _one_drain(journal, guests)
        sizes = {host: len(journal.domains(host)) for host in ("beta", "gamma")}
        print(f"  {seconds:.1f} s; the urgent one started after {urgent:.2f} s", flush=True)
        print(f"two drains at once: {sizes}", flush=True)
        batches, fairness = _two_drains(journal, sizes)
        places = _places(stage, HOSTS)
        moves = Counter(
            (item.uuid, batch)
            for batch in (drained, *batches)
            for item in journal.items(batch)
            if item.state == "moved"
        )
        receipts = [journal.batch(batch) for batch in (drained, *batches)]
        return Figures(
            guests=len(machines),
            drain_seconds=round(seconds, 1),
            migrations_per_second=round(guests / seconds, 1),
            urgent_seconds=round(urgent, 3),
            fairness=fairness,
            over_cap=over_caps(_spans(journal), SLOTS),
            lost=len(set(machines) - set(places)),
            duplicated=sum(number > 1 for number in places.values()),
            moved_twice=sum(number > 1 for number in moves.values()),
            receipts_right=all(found and _right(found) for found in receipts),
        )


def main() -> int:
    """Run, and print the figures."""
    options = argparse.ArgumentParser(prog="make bench-drains", description=__doc__)
    options.add_argument("--guests", type=int, default=500, help="of the host that is drained first")
    figures = run(options.parse_args().guests)
    print(json.dumps(asdict(figures)))
    wrong = figures.over_cap or figures.lost or figures.duplicated or figures.moved_twice or not figures.receipts_right
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
