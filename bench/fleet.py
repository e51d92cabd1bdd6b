"""``make fleet``: many migrations of many guests among real libvirt hosts at once, through the whole relay.

Every guest goes from host to host, all guests at the same time; the next move of a guest is asked for as soon as its
last one has ended, since a domain is held by one migration. At the end the hosts themselves are asked who runs what.
The last line is one JSON object; the exit code is 1 where anything is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from urllib.request import urlopen

from worker.cli.demo_guests import beat_problems, place_problems
from worker.cli.demo_stage import Guest, Stage, new_folder, remove, require, set_stage
from worker.journal import Journal, Record

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")
PATIENCE_SECONDS = 300
COUNT_SECONDS = 10
"""How long a counter may lag behind the journal."""
LOOK_SECONDS = 0.02
HANDOFF = "vmrelay_handoff_seconds"


@dataclass(frozen=True)
class Figures:
    """What the last line says. Seconds; the handoff's quantiles are read from its histogram as Prometheus would."""

    migrations: int
    guests: int
    hosts: int
    succeeded: int
    lost: int
    """Guests that run nowhere."""
    duplicated: int
    """Guests that run on more than one host."""
    handoff_p50_seconds: float
    handoff_p99_seconds: float
    handoff_max_seconds: float
    """Exactly, from the records."""
    downtime_p50_seconds: float
    seconds: float


# -- decisions --------------------------------------------------------------------------------------


def fleet(guests: int, hosts: Sequence[str]) -> list[Guest]:
    """Tiny guests of different sizes, spread over the hosts."""
    return [Guest(f"vm-{n + 1}", hosts[n % len(hosts)], 16 + 4 * (n % 5), n % 3) for n in range(guests)]


def routes(guests: Sequence[Guest], hosts: Sequence[str], migrations: int) -> dict[str, list[str]]:
    """Where each guest goes, one host after the other; every other guest goes round the other way."""
    found: dict[str, list[str]] = {guest.name: [] for guest in guests}
    for n in range(migrations):
        guest = guests[n % len(guests)]
        step = 1 if n % len(guests) % 2 == 0 else -1
        at = found[guest.name][-1] if found[guest.name] else guest.host
        found[guest.name].append(hosts[(hosts.index(at) + step) % len(hosts)])
    return found


def quantile(buckets: Mapping[float, float], share: float) -> float:
    """A quantile of a histogram (upper bound to cumulative count), as Prometheus' ``histogram_quantile``; 0 of none."""
    wanted = share * max(buckets.values(), default=0)
    below, counted = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if bound == float("inf"):
            break
        if count >= wanted and count > counted:
            return below + (bound - below) * (wanted - counted) / (count - counted)
        below, counted = bound, count
    return below


def copies(found: Mapping[str, Mapping[str, bool]], guests: Iterable[str]) -> Counter[str]:
    """How many guests run nowhere (``lost``) and how many more than once (``duplicated``)."""
    running = {guest: sum(found.get(guest, {}).values()) for guest in guests}
    return Counter({"lost": sum(n == 0 for n in running.values()), "duplicated": sum(n > 1 for n in running.values())})


# -- effects ----------------------------------------------------------------------------------------


def migrate(journal: Journal, plan: Mapping[str, Sequence[str]]) -> list[Record]:
    """Ask for every guest's first move at once and for each next one when the last has ended; all records."""
    from worker.cli import client
    from worker.contract import MIGRATE

    left = {guest: list(route) for guest, route in plan.items()}
    flying: dict[str, str] = {}
    ended: list[Record] = []

    def ask(guest: str) -> None:
        if left[guest]:
            ident = str(uuid.uuid4())
            arguments = {"domain": guest, "destination": left[guest].pop(0), "requested_by": "fleet"}
            flying[client.enqueue(MIGRATE, arguments, ident)] = guest

    for guest in left:
        ask(guest)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while flying:
        for ident, guest in list(flying.items()):
            record = journal.record(ident)
            if record is not None and record.state in ("ended", "in-doubt"):
                del flying[ident]
                ended.append(record)
                print(f"{guest:<7} {record.source or '?':<6} → {record.destination:<6} {_outcome(record)}", flush=True)
                if record.outcome == "succeeded":
                    ask(guest)
        if time.monotonic() > deadline:
            raise SystemExit(f"not over after {PATIENCE_SECONDS} s: {', '.join(flying.values())}")
        time.sleep(LOOK_SECONDS)
    return ended


def _outcome(record: Record) -> str:
    if record.outcome == "succeeded":
        return f"{record.outcome}, {record.seconds or 0:.2f} s, downtime {record.downtime_seconds or 0:.3f} s"
    return f"{record.outcome or record.state}: {record.error}"


def handoffs(urls: Iterable[str]) -> dict[float, float]:
    """The histogram of handoffs, summed over the agents: upper bound to cumulative count."""
    from prometheus_client.parser import text_string_to_metric_families

    buckets: Counter[float] = Counter()
    for url in urls:
        with urlopen(url, timeout=COUNT_SECONDS) as answer:  # noqa: S310 - a URL of ours
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{HANDOFF}_bucket":
                    buckets[float(sample.labels["le"])] += sample.value
    return dict(buckets)


def counted(urls: Sequence[str], records: Sequence[Record]) -> list[str]:
    """Where the counters of outcomes and the records disagree, once they had time to agree."""
    from worker.cli.demo_report import scrape, unequal

    deadline = time.monotonic() + COUNT_SECONDS
    while (wrong := unequal(scrape(urls), records)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return wrong


def run(stage: Stage, plan: Mapping[str, Sequence[str]], hosts: int) -> tuple[Figures, list[str]]:
    """Move everything, look, count: the figures, and what is wrong."""
    from worker.cli.demo_report import metrics_urls
    from worker.runtime import runtime

    parts = runtime()
    urls = list(metrics_urls(parts.settings, parts.journal).values())
    started = time.perf_counter()
    records = migrate(parts.journal, plan)
    seconds = time.perf_counter() - started
    stage.await_beats()
    found = stage.look()
    wrong = [f"{r.domain} to {r.destination}: {_outcome(r)}" for r in records if r.outcome != "succeeded"]
    wrong += place_problems(found, {guest: route[-1] for guest, route in plan.items()})
    wrong += beat_problems({guest: stage.beats(guest) for guest in plan})
    wrong += counted(urls, records)
    buckets = handoffs(urls)
    if (seen := buckets.get(float("inf"), 0)) != len(records):
        wrong.append(f"{HANDOFF}_count is {seen:g} after {len(records)} migrations")
    waits = [run.queued_seconds for record in records for run in record.phases if run.name == "finish"]
    downtimes = [record.downtime_seconds for record in records if record.downtime_seconds is not None]
    return Figures(
        migrations=len(records),
        guests=len(plan),
        hosts=hosts,
        succeeded=sum(record.outcome == "succeeded" for record in records),
        **copies(found, plan),
        handoff_p50_seconds=round(quantile(buckets, 0.5), 4),
        handoff_p99_seconds=round(quantile(buckets, 0.99), 4),
        handoff_max_seconds=round(max(waits, default=0.0), 4),
        downtime_p50_seconds=round(statistics.median(downtimes or [0.0]), 4),
        seconds=round(seconds, 1),
    ), wrong


def main() -> int:
    """Run and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(prog="make fleet", description=__doc__)
    parser.add_argument("--guests", type=int, default=10, help="10 where not given")
    parser.add_argument("--migrations", type=int, default=60, help="of all guests together; 60 where not given")
    parser.add_argument("--hosts", type=int, default=3, choices=range(2, len(NAMES) + 1), metavar="N")
    options = parser.parse_args()
    if options.guests < 1 or options.migrations < options.guests:
        parser.error("at least one guest, and at least one migration for each")
    from worker.cli.demo_relay import Relay, signals_unwind, stopping, use

    require()
    hosts = NAMES[: options.hosts]
    guests = fleet(options.guests, hosts)
    with signals_unwind():
        folder = new_folder()
        try:
            stage = set_stage(folder, hosts, guests, slots=options.guests)
            use(stage.config, folder / "state")
            with stopping(Relay(folder / "state", "--no-procfile", "--exit-with-parent")) as relay:
                figures, wrong = run(stage, routes(guests, hosts, options.migrations), len(hosts))
                if wrong:
                    print(f"The log ends with\n{relay.tail()}", file=sys.stderr)
        finally:
            remove(folder)
    for line in wrong:
        print(f"WRONG: {line}")
    print(json.dumps(asdict(figures)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
