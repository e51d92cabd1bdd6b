"""Every query of every committed dashboard, asked of a Prometheus that scraped a relay; and a load that fills them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from promql import missing
from recovery_lab import QuickRelay
from relay_lab import until as wait_until

from bench.monitoring import dashboards
from bench.monitoring.dashboards import Asked, Span
from bench.monitoring.exporter import running_exporter
from bench.monitoring.load import Load
from bench.monitoring.prometheus import Prometheus

until = partial(wait_until, pause=0.2)
MOST_SERIES = 50
HELD = 100
"""Simulated seconds for which a move is held that is cancelled or interrupted: a real one."""
UNSEEN = {
    "vmrelay_stalls_total": {"driver", "kind", "action"},
    "vmrelay_republished_messages_total": {"phase"},
    "vmrelay_iterations_bucket": {"driver", "le"},
    "vmrelay_network_slots_used": {"network"},
    "vmrelay_network_slots_limit": {"network"},
    "vmrelay_webhook_waiting_deliveries": {"webhook"},
    "vmrelay_webhook_oldest_seconds": {"webhook"},
    "relay:vmrelay_webhook_deliveries_total:max": {"webhook", "result"},
}
"""What simulated Virtuozzo hosts without networks and webhooks do not serve; and the labels that it would have."""


class Loaded:
    """A relay of the tests, as the load sees it."""

    def __init__(self, relay: QuickRelay) -> None:
        self.relay, self.journal, self.hosts = relay, relay.journal, relay.hosts

    def send(self, task: str, **arguments: Any) -> str:
        """Enqueue a task by name; its id."""
        return self.relay.send(task, **arguments)

    def ask(self, host: str, action: str, **arguments: Any) -> dict[str, Any]:
        """The control channel of a simulated host."""
        return self.relay.ask(host, action, **arguments)

    def interrupt(self, host: str) -> None:
        """Kill the host's agent, and start it again when the other side's agent has looked: panels show what it did."""
        self.relay.kill(f"agent-{host}")
        self.relay.missed(host)
        until(lambda: self._looked(host), "the other side has been looked at")
        self.relay.restart_agent(host)

    def _looked(self, away: str) -> bool:
        ends = [
            event
            for record in self.journal.records()
            if away in (record.source, record.destination)
            for event in self.relay.events(record.id, "phase-ended")
        ]
        return any(event["phase"] == "recover" and event["host"] != away for event in ends)


def answered(relay: QuickRelay, prometheus: Prometheus) -> None:
    """See that every query of every dashboard gets an answer, after a load; and names only what is served.

    Somebody else keeps the file of targets current (``vmrelay targets --watch``).
    """
    with running_exporter(prometheus.directory, relay.redis.url):
        span = loaded(relay, prometheus)
        answers = asked(prometheus, span)
        assert len(answers) > 100
        wrong = wrong_with(answers) + misnamed(prometheus, answers)
        assert not wrong, "\n".join(wrong)


def loaded(relay: QuickRelay, prometheus: Prometheus) -> Span:
    """Every kind of outcome once, scraped; the time that it took."""
    begun = now(prometheus)
    Load(Loaded(relay), held=HELD).turn()
    ended = now(prometheus)
    until(lambda: counted(prometheus) == relay.outcomes(), "outcomes are scraped")
    until(lambda: set(prometheus.scraped().values()) == {"up"}, "all processes are scraped again")
    # A rate wants two samples, also of a process that was started anew, and of the rules that rest on it.
    until(lambda: now(prometheus) > ended + 5 * prometheus.interval, "two more scrapes")
    return Span(begun, now(prometheus), prometheus.interval)


def now(prometheus: Prometheus) -> float:
    """Prometheus's clock."""
    return prometheus.value("time()") or 0


def counted(prometheus: Prometheus) -> float | None:
    """How many migrations have ended, as the rules recorded."""
    return prometheus.value("sum(outcome:vmrelay_migrations_total:sum)")


def asked(prometheus: Prometheus, span: Span) -> list[Asked]:
    """Every query with its answer. Rates look back over all of it: the load is shorter than Grafana's minute."""
    whole = Span(span.start, span.end, span.interval, rate=span.end - span.start)
    return [each for dashboard in dashboards.load() for each in dashboards.ask(dashboard, prometheus, whole)]


def wrong_with(answers: Sequence[Asked]) -> list[str]:
    """Queries without an answer, without any number, or with too many series; each in words."""
    wrong = []
    for each in answers:
        numbers = [value for line in each.lines for _, value in line.points if not math.isnan(value)]
        if not each.lines:
            wrong.append(f"{each.title}: no answer to {each.expr}")
        elif not numbers:
            wrong.append(f"{each.title}: no number from {each.expr}")
        elif len(each.lines) >= MOST_SERIES:
            wrong.append(f"{each.title}: {len(each.lines)} series from {each.expr}")
    return wrong


def misnamed(prometheus: Prometheus, answers: Sequence[Asked]) -> list[str]:
    """Metrics and labels that a query names and that the run does not serve."""
    series = prometheus.series('{__name__=~".+"}')
    unseen = {name: labels | {"job"} for name, labels in UNSEEN.items()}
    return [f"{each.title}: {text}" for each in answers for text in missing(each.expr, series, unseen)]
