"""Debian's Prometheus scrapes a relay of real processes, with the committed configuration and rules.

One relay and one Prometheus for all of it: a load for every panel of the dashboards, the death of the leading
scheduler, and faults that raise alerts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dashboards_lab
import promql
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase
from prometheus_lab import CONFIG, PROMETHEUS, Prometheus
from recovery_lab import MEDIUM, QuickRelay
from relay_lab import HOSTS, running_relay
from relay_lab import until as at_once

from bench.monitoring.exporter import EXPORTER
from worker import metrics
from worker.journal.intake import schedulers

pytestmark = pytest.mark.skipif(
    not (PROMETHEUS.exists() and EXPORTER.exists()),
    reason="prometheus or prometheus-redis-exporter is missing (scripts/debian-packages)",
)
LOOK_SECONDS = 0.2
"""Prometheus learns nothing new between two scrapes, and each question costs it something."""
FAULTS = {
    "VmrelayAgentLost",
    "VmrelayMigrationWaitsForHost",
    "VmrelayMigrationInDoubt",
    "VmrelayLeaseConflict",
    "VmrelayRedisDoesNotPersist",
    "VmrelayNoSchedulerLeads",
}
"""The alerts that the test sees raised, in this order."""
MINUTE = 60_000
"""In milliseconds."""


class Impatient(Prometheus):
    """The committed rules, in copies whose ``for`` and ``keep_firing_for`` are a second: nothing else is changed."""

    def config(self) -> dict[str, Any]:
        """That configuration."""
        found = super().config()
        for file in (CONFIG / "rules").glob("*.yml"):
            text, number = re.subn(
                r"^( +)(for|keep_firing_for): \w+$", r"\1\2: 1s", file.read_text(), flags=re.MULTILINE
            )
            assert number or file.stem == "recording"
            (self.directory / file.name).write_text(text)
        found["rule_files"] = [str(self.directory / "recording.yml"), str(self.directory / "alerts.yml")]
        return found


@pytest.fixture
def monitored() -> Iterator[tuple[QuickRelay, Impatient]]:
    """A relay, a Prometheus, and ``vmrelay targets --watch`` that tells the one of the other."""
    with TemporaryDirectory(prefix="vmrelay-") as name, running_relay(Path(name) / "relay", QuickRelay) as relay:
        prometheus = Impatient(Path(name) / "prometheus")
        prometheus.directory.mkdir()
        watching = ("--output", str(prometheus.targets), "--watch", "--every", "1")
        relay.spawn("targets", "targets", *watching)
        until(prometheus.targets.exists, "a file of targets")
        try:
            prometheus.start()
            seen(prometheus, *(f"agent-{host}" for host in HOSTS))
            yield relay, prometheus
        finally:
            prometheus.stop()


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until it is true."""

    def looked() -> bool:
        time.sleep(LOOK_SECONDS)
        return bool(condition())

    at_once(looked, what)


def seen(prometheus: Prometheus, *instances: str) -> None:
    """Wait until these are scraped, and a scheduler that leads."""
    until(
        lambda: (
            all(prometheus.scraped().get(each) == "up" for each in instances)
            and prometheus.value("sum(vmrelay_scheduler_leads)") == 1
        ),
        f"{instances} scraped",
    )


def firing(prometheus: Prometheus, alert: str, **labels: str) -> None:
    """Wait until an alert fires with these labels."""
    until(
        lambda: any(labels.items() <= each["labels"].items() for each in prometheus.alerts().get(alert, [])),
        f"{alert} fires with {labels}",
    )


@pytest.mark.timeout(300)  # it is many tests in one
def test_prometheus_sees_a_relay_and_what_happens_to_it(monitored: tuple[QuickRelay, Impatient]) -> None:
    """Every panel has data; the lead changes and no count is lost; each fault raises its alert; the rules name only
    what is served."""
    relay, prometheus = monitored
    dashboards_lab.answered(relay, prometheus)
    the_lead_changes(relay, prometheus)
    until(lambda: "VmrelayAgentLost" not in prometheus.alerts(), "the agents that the load killed are back")
    before = prometheus.alerts()
    assert not before.keys() & FAULTS, before
    the_power_of_a_host_fails(relay, prometheus)
    relay.journal.client.config_set("appendonly", "no")
    a_second_agent_is_started(relay, prometheus)
    firing(prometheus, "VmrelayRedisDoesNotPersist", severity="page")
    rules_name_what_is_served(prometheus)
    relay.kill("standby")
    firing(prometheus, "VmrelayNoSchedulerLeads", job="vmrelay", severity="page")


def the_lead_changes(relay: QuickRelay, prometheus: Prometheus) -> None:
    """The leading scheduler is killed between migrations: the recorded count goes on as the journal's does."""
    recorded = 'outcome:vmrelay_migrations_total:sum{outcome="succeeded"}'

    def three_more() -> int:
        for _ in range(3):
            relay.moved(relay.vm())
        number = relay.outcomes(outcome="succeeded")
        until(lambda: prometheus.value(recorded) == number, f"{number} counted")
        return number

    three_more()
    relay.spawn("standby", "scheduler")
    until(lambda: len(schedulers(relay.journal)) == 2, "two schedulers")
    relay.kill("scheduler")
    number = three_more()
    assert prometheus.value("sum(resets(relay:vmrelay_migrations_total:max[10m]))") == 0
    increase = prometheus.value(f"increase({recorded}[10m])")
    assert increase == pytest.approx(number, rel=0.05), "but for the ends of the window"
    leaders = "max_over_time(vmrelay_scheduler_leads[10m]) == 1"
    assert prometheus.value(f"count({leaders})") == 2, prometheus.query(leaders)
    until(lambda: prometheus.value("count(vmrelay_scheduler_leads)") == 1, "the dead one is a target no more")


def the_power_of_a_host_fails(relay: QuickRelay, prometheus: Prometheus) -> None:
    """Its agent is lost, a migration waits for it; with a second copy of the guest that is in doubt, for a minute."""
    name = relay.vm(memory_mib=MEDIUM)
    ident = relay.migrate(name, attempts=1)
    relay.copying(ident)
    relay.kill_host("alpha")
    record = relay.waits_for(ident, "alpha")
    firing(prometheus, "VmrelayAgentLost", host="alpha", severity="page")
    firing(prometheus, "VmrelayMigrationWaitsForHost", host="alpha", severity="page")
    relay.ask("beta", "vm-create", vm={"name": name, "uuid": record.uuid, "memory_mib": 64})
    relay.power_on("alpha")
    assert relay.wait(ident).state == "in-doubt"
    until(lambda: prometheus.value("max(vmrelay_in_doubt_migrations)") == 1, "in doubt")
    assert "VmrelayMigrationInDoubt" not in prometheus.alerts(), "it waits for a minute"
    relay.journal.client.zincrby("vmrelay:doubt", -MINUTE, ident)  # and a minute passes
    firing(prometheus, "VmrelayMigrationInDoubt", severity="page")
    until(lambda: "VmrelayAgentLost" not in prometheus.alerts(), "the agent is back")
    relay.ask("beta", "vm-delete", name=name)
    assert relay.cli("resolve", ident).returncode == 1
    until(lambda: "VmrelayMigrationInDoubt" not in prometheus.alerts(), "nothing is in doubt")


def a_second_agent_is_started(relay: QuickRelay, prometheus: Prometheus) -> None:
    """It is refused, and somebody is told."""
    refused = relay.cli("agent", "beta")
    assert "[host-owned]" in refused.stderr
    firing(prometheus, "VmrelayLeaseConflict", host="beta", severity="page")
    assert [each["labels"]["host"] for each in prometheus.alerts()["VmrelayLeaseConflict"]] == ["beta"]


def rules_name_what_is_served(prometheus: Prometheus) -> None:
    """Every metric, label and value in the rules is one that this run exposed; else an alert would never fire."""
    rules = [
        rule
        for file in sorted((CONFIG / "rules").glob("*.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]
    recorded = {rule["record"]: promql.metrics(rule["expr"]) for rule in rules if "record" in rule}
    series = prometheus.series('{__name__=~"up|vmrelay.*|relay:.*|outcome:.*"}')
    exposed = {each["metric"] for each in prometheus.ask("targets/metadata") if each["metric"].startswith("vmrelay")}
    target = {"job", "instance", "process"}
    unseen = {name: labels | target for name, labels in defined().items() if name.removesuffix("_total") in exposed}
    unseen |= {name: unseen[of] for name, sources in recorded.items() for of in sources if of in unseen}
    wrong = {rule["expr"]: found for rule in rules if (found := promql.missing(rule["expr"], series, unseen))}
    assert not wrong


def defined() -> dict[str, set[str]]:
    """The labels of metrics, as they are defined, by the name of their samples."""
    found: dict[str, set[str]] = {}
    for item in vars(metrics).values():
        if isinstance(item, MetricWrapperBase):
            suffix = "_total" if item._type == "counter" else ""
            found[item._name + suffix] = set(item._labelnames)
        elif isinstance(item, metrics.Shown):
            found[item.name] = set(item.labels)
    return found
