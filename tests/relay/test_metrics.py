"""What every process serves on /metrics."""

from __future__ import annotations

import shutil
import subprocess

from prometheus_client.parser import text_string_to_metric_families
from relay_lab import HOSTS, Relay

NAMES = {
    "vmrelay_migrations",
    "vmrelay_migration_duration_seconds",
    "vmrelay_phase_duration_seconds",
    "vmrelay_queue_wait_seconds",
    "vmrelay_handoff_seconds",
    "vmrelay_downtime_seconds",
    "vmrelay_transferred_bytes",
    "vmrelay_job_seconds",
    "vmrelay_iterations",
    "vmrelay_stalls",
    "vmrelay_tunings",
    "vmrelay_perform_remaining_bytes",
    "vmrelay_perform_bandwidth_bytes_per_second",
    "vmrelay_perform_dirty_bytes_per_second",
    "vmrelay_retries",
    "vmrelay_attempts",
    "vmrelay_claims",
    "vmrelay_republished_messages",
    "vmrelay_running_migrations",
    "vmrelay_waiting_migrations",
    "vmrelay_agent_up",
    "vmrelay_host_answers",
    "vmrelay_build_info",
    "vmrelay_in_doubt_migrations",
    "vmrelay_in_doubt_oldest_seconds",
    "vmrelay_lease_age_seconds",
    "vmrelay_lease_conflicts",
    "vmrelay_scheduler_leads",
    "vmrelay_redis_up",
}


def test_promtool_has_nothing_to_say(relay: Relay) -> None:
    """`promtool check metrics` is silent about every process; where promtool is missing, the parser judges."""
    relay.moved(relay.vm())
    for name in ("scheduler", *HOSTS):
        text = relay.metrics_text(name)
        families = {family.name for family in text_string_to_metric_families(text)}
        assert families >= NAMES
        if promtool := shutil.which("promtool"):
            done = subprocess.run(
                [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name


def test_a_success_is_counted_once_by_whoever_ended_it(relay: Relay) -> None:
    """Migrations, durations, phases, handoff, downtime and bytes, each once over all processes; flags as a sorted
    label."""

    def all_of(sample: str, **labels: str) -> float:
        return sum(relay.metrics(host, sample, **labels) for host in HOSTS)

    flags = "compressed,live,paused,persist_dest"
    outcome = {"driver": "vz", "flags": flags, "outcome": "succeeded", "reason": ""}
    outcomes = relay.outcomes(**outcome)
    samples: dict[str, dict[str, str]] = {
        "vmrelay_migration_duration_seconds_count": {"driver": "vz", "outcome": "succeeded"},
        "vmrelay_handoff_seconds_count": {},
        "vmrelay_downtime_seconds_count": {"driver": "vz"},
        "vmrelay_attempts_total": {"driver": "vz", "result": "moved"},
    }
    before = {sample: all_of(sample, **labels) for sample, labels in samples.items()}
    phases = all_of("vmrelay_phase_duration_seconds_count", outcome="succeeded")
    moved_bytes = all_of("vmrelay_transferred_bytes_total")
    record = relay.moved(relay.vm(), options={"paused": True})
    relay.counted(outcomes + 1, **outcome)
    assert {sample: all_of(sample, **labels) - before[sample] for sample, labels in samples.items()} == dict.fromkeys(
        samples, 1
    )
    assert all_of("vmrelay_phase_duration_seconds_count", outcome="succeeded") == phases + 5
    assert all_of("vmrelay_transferred_bytes_total") == moved_bytes + (record.transferred_bytes or 0)


def test_no_label_names_a_domain_or_a_migration(relay: Relay) -> None:
    """Labels are bounded: neither ids nor names of guests are among their values; and none is Prometheus's own, since
    its configuration lets ours stand (honor_labels)."""
    record = relay.moved(relay.vm())
    for name in ("scheduler", *HOSTS):
        text = relay.metrics_text(name)
        assert record.id not in text
        assert record.uuid not in text
        assert f'"{record.domain}"' not in text
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        assert not any({"job", "instance", "process"} & one.labels.keys() for one in samples)
