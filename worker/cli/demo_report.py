"""What the demo prints at the end: tables of migrations, and counters from every ``/metrics``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.request import urlopen

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from worker.hypervisors.base import Phase
from worker.journal import Journal, Record
from worker.settings import Settings

TABLE_COLUMNS = 150
"""A terminal that is narrower would break the table of migrations."""
SCRAPE_SECONDS = 5.0
COUNT_SECONDS = 10.0
"""How long a counter may lag behind the journal."""
Key = tuple[str, str, str, str]
"""Driver, flag set, outcome, reason."""


def console() -> Console:
    """The demo's standard output; wide where it is no terminal, so that lines stay whole."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=200)


@dataclass(frozen=True, slots=True)
class Counters:
    """Some of vmrelay's counters, summed over processes."""

    migrations: Counter[Key] = field(default_factory=Counter)
    retries: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By phase and class."""

    def since(self, before: Counters) -> Counters:
        """What was added after ``before``."""
        return Counters(self.migrations - before.migrations, self.retries - before.retries)


def metrics_urls(settings: Settings, journal: Journal) -> dict[str, str]:
    """Where each agent and the leading scheduler serve their metrics, by name."""
    address = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.metrics_address, settings.metrics_address)  # noqa: S104
    cards = journal.agents([*settings.hosts, "scheduler"])
    return {name: f"http://{address}:{card['metrics_port']}/metrics" for name, card in cards.items()}


def scrape(urls: Iterable[str]) -> Counters:
    """The counters of these processes. Raises ``OSError`` where one does not answer."""
    from prometheus_client.parser import text_string_to_metric_families

    found = Counters()
    for url in urls:
        with urlopen(url, timeout=SCRAPE_SECONDS) as answer:  # noqa: S310 - a URL of ours
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels, value = sample.labels, int(sample.value)
                if sample.name == "vmrelay_migrations_total":
                    key = (labels["driver"], labels["flags"], labels["outcome"], labels["reason"])
                    found.migrations[key] += value
                elif sample.name == "vmrelay_retries_total":
                    found.retries[labels["phase"], labels["class"]] += value
    return found


def unequal(counters: Counters, records: Iterable[Record]) -> list[str]:
    """Where the counters and the records disagree about driver, flag set, outcome and reason."""
    counted: Counter[Key] = Counter()
    for key, count in counters.migrations.items():
        counted[_comparable(key)] += count
    wanted = Counter(_comparable((r.driver, r.flags_label, r.outcome, r.reason)) for r in records)
    return [
        f"vmrelay_migrations_total{key} is {counted[key]}, the journal says {wanted[key]}"
        for key in sorted({*counted, *wanted})
        if counted[key] != wanted[key]
    ]


def _comparable(key: Key) -> Key:
    # A refused request may not have come as far as a driver and its flags.
    return ("", "", *key[2:]) if key[2] == "rejected" else key


def say_migrations(screen: Console, records: Iterable[Record]) -> None:
    """Each migration with the phases of its last attempt: a table where there is room."""
    if screen.width >= TABLE_COLUMNS:
        screen.print(_migrations_table(records))
        return
    screen.print(Text("Migrations", style="italic"))
    for record in records:
        name, route, *phases, attempts, retries, downtime, total, outcome = _cells(record)
        screen.print(Text(f"{name}, {route}: {outcome}", style="bold"))
        told = [f"{phase} {cell}" for phase, cell in zip(Phase, phases, strict=True) if cell != "-"]
        if told:
            screen.print(Padding(Text(", ".join(told)), (0, 0, 0, 2)))
        screen.print(Text(f"  attempts {attempts}, retries {retries}, downtime {downtime}, total {total}"))


def _migrations_table(records: Iterable[Record]) -> Table:
    table = Table(title="Migrations", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("domain", "from → to", *Phase, "attempts", "retries", "downtime", "total", "outcome"):
        table.add_column(heading)
    for record in records:
        table.add_row(*map(Text, _cells(record)))
    return table


def _cells(record: Record) -> list[str]:
    runs = {run.name: run for run in record.phases if run.attempt == record.attempt}
    name = record.domain
    if record.destination_name not in ("", name):
        name = f"{name} → {record.destination_name}"
    downtime = f"{record.downtime_seconds:.3f}s" if record.downtime_seconds is not None else "-"
    phases = (runs.get(phase) for phase in Phase)
    return [
        name,
        f"{record.source or '?'} → {record.destination}",
        *(f"{run.host} {run.seconds:.3f}s{' (stopped)' if run.error else ''}" if run else "-" for run in phases),
        str(record.attempt),
        str(record.retries),
        downtime,
        f"{record.seconds:.1f}s" if record.seconds is not None else "-",
        record.outcome,
    ]


def counters_table(counters: Counters) -> Table:
    """The counters by flag set and outcome."""
    table = Table(title="vmrelay_migrations_total, of all processes", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("driver", "flags", "outcome", "reason"):
        table.add_column(heading, overflow="fold")
    table.add_column("count", justify="right")
    for key, count in sorted(counters.migrations.items()):
        table.add_row(*(Text(value or "-") for value in key), str(count))
    return table


def retries_lines(counters: Counters) -> list[str]:
    """The counter of retries, one line for each phase and class."""
    return [
        f'vmrelay_retries_total{{phase="{phase}",class="{kind}"}} {count}'
        for (phase, kind), count in sorted(counters.retries.items())
    ]


def say_errors(screen: Console, records: Iterable[Record]) -> None:
    """One line for each migration that did not succeed: why."""
    for record in records:
        if record.error:
            screen.print(Text(f"{record.domain}: {record.outcome}: {record.error} [{record.reason}]"), soft_wrap=True)


def count(screen: Console, before: Counters, urls: list[str], records: list[Record]) -> list[str]:
    """Print the counters of all processes once they say what the journal says; returns where they do not."""
    deadline = time.monotonic() + COUNT_SECONDS
    while True:
        counters = scrape(urls).since(before)
        wrong = unequal(counters, records)
        if not wrong or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    screen.print()
    screen.print(counters_table(counters))
    for line in retries_lines(counters):
        screen.print(Text(line))
    return wrong


def verdict(screen: Console, wrong: list[str], well: str) -> list[str]:
    """Print what is wrong, or ``well``; returns ``wrong``."""
    for line in wrong:
        screen.print(Text(f"WRONG: {line}", style="red"), soft_wrap=True)
    if not wrong:
        screen.print(Text(f"\n{well}", style="green"))
    return wrong
