"""Every Prometheus metric, defined once.

They are recorded when something ends, by the process that ended it, so that a migration of three seconds
between two scrapes counts. Outcomes are counted by the journal in the step that ends a migration, so that a process
that is killed takes no count with it; the leading scheduler shows them. Labels are bounded: no domain, no
migration id, no error text.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from wsgiref.simple_server import WSGIServer

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from worker.errors import Retry, Unavailable
from worker.hypervisors.base import Phase
from worker.hypervisors.convergence import StallAction, StallKind
from worker.journaled import Counted, Shown

QUICK = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LONG = (0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
PAUSE = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10)
ROUNDS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200)

migrations = Counted(
    "vmrelay_migrations_total",
    "Migrations that ended, by flag set (sorted, lower case, joined by commas), outcome and error code. "
    "Counted in the journal, once for each; only the leading scheduler shows it.",
    ("driver", "flags", "outcome", "reason"),
)
batch_items = Counted(
    "vmrelay_batch_items_total",
    "Moves of batches that ended, by kind of batch and outcome: moved, failed, skipped. "
    "Counted in the journal; only the leading scheduler shows it.",
    ("kind", "outcome"),
)
lease_conflicts = Counted(
    "vmrelay_lease_conflicts_total",
    "How often a second agent wanted a host: it was refused, or took the host over from one that lives. "
    "Counted in the journal; only the leading scheduler shows it.",
    ("host",),
)
in_doubt = Shown("vmrelay_in_doubt_migrations", "Migrations that are in doubt: an operator must look.", ())
in_doubt_oldest_seconds = Shown(
    "vmrelay_in_doubt_oldest_seconds", "Since when the oldest of them is in doubt; 0 where none is.", ()
)
lease_age_seconds = Shown(
    "vmrelay_lease_age_seconds",
    "How long ago the host's agent renewed its lease, which lapses at lease_seconds; nothing where it has lapsed.",
    ("host",),
)
leads = Shown("vmrelay_scheduler_leads", "Whether this scheduler leads: 1 in one of them, 0 in the others.", ())
webhook_deliveries = Counted(
    "vmrelay_webhook_deliveries_total",
    "Tries to deliver to a webhook, by what came of them: delivered, retried, refused (410), dropped (too many wait, "
    "or the record has expired), gave-up. Counted in the journal; only the leading scheduler shows it.",
    ("webhook", "result"),
)
webhook_seconds = Histogram(
    "vmrelay_webhook_duration_seconds", "One try to deliver to a webhook.", ["webhook"], buckets=QUICK
)
webhook_waiting = Gauge("vmrelay_webhook_waiting_deliveries", "What a webhook is still to be told.", ["webhook"])
webhook_oldest_seconds = Gauge(
    "vmrelay_webhook_oldest_seconds", "For how long the oldest of that has waited; 0 where nothing waits.", ["webhook"]
)
batches = Gauge("vmrelay_batches", "Batches that have not finished.", ["state"])
batch_seconds = Histogram(
    "vmrelay_batch_duration_seconds",
    "From a batch being asked for to its end.",
    ["kind"],
    buckets=(1, 5, 15, 60, 300, 900, 3600, 7200, 14400, 28800, 86400),
)
migration_seconds = Histogram(
    "vmrelay_migration_duration_seconds",
    "From a migration's start (its slots taken) to its end, all attempts.",
    ["driver", "outcome"],
    buckets=LONG,
)
phase_seconds = Histogram(
    "vmrelay_phase_duration_seconds",
    "One phase on its host, without the time in the queue.",
    ["driver", "phase", "outcome"],
    buckets=(*LONG[:1], 0.25, *LONG[1:]),
)
queue_wait_seconds = Histogram(
    "vmrelay_queue_wait_seconds", "From a phase being queued to its agent taking it.", ["phase"], buckets=QUICK
)
handoff_seconds = Histogram(
    "vmrelay_handoff_seconds",
    "From the end of perform to the start of finish: the guest may stand still.",
    buckets=QUICK,
)
downtime_seconds = Histogram(
    "vmrelay_downtime_seconds",
    "How long the guest stood still, as its hypervisor measured it.",
    ["driver"],
    buckets=PAUSE,
)
transferred_bytes = Counter(
    "vmrelay_transferred_bytes", "Bytes moved by migrations that succeeded, as the hypervisor counted them.", ["driver"]
)
job_seconds = Histogram(
    "vmrelay_job_seconds",
    "The whole move of a guest as its hypervisor measured it, of migrations that succeeded.",
    ["driver"],
    buckets=LONG,
)
iterations = Histogram(
    "vmrelay_iterations",
    "Rounds of copying memory that a migration took, of those that succeeded.",
    ["driver"],
    buckets=ROUNDS,
)
stalls = Counter(
    "vmrelay_stalls",
    "Verdicts that a perform does not come to an end by itself, by kind and what was done about it.",
    ["driver", "kind", "action"],
)
tunings = Counter(
    "vmrelay_tunings",
    "Changes to a running perform that were asked for, by what became of them: done, failed, too-late, refused.",
    ["driver", "kind", "result"],
)
perform_remaining_bytes = Gauge(
    "vmrelay_perform_remaining_bytes", "What the performs that run now have yet to send from the host.", ["host"]
)
perform_bandwidth = Gauge(
    "vmrelay_perform_bandwidth_bytes_per_second", "How fast the performs that run now send from the host.", ["host"]
)
perform_dirty = Gauge(
    "vmrelay_perform_dirty_bytes_per_second",
    "How fast the guests that leave the host now dirty their memory.",
    ["host"],
)
retries = Counter(
    "vmrelay_retries", "Calls retried inside a phase, by phase and error class.", ["driver", "phase", "class"]
)
attempts = Counter(
    "vmrelay_attempts", "Attempts that ended, by how: moved, again, gave-up, in-doubt.", ["driver", "result"]
)
claims = Counter(
    "vmrelay_claims",
    "Phase messages by what their claim was answered; busy: the phase runs here already.",
    ["phase", "result"],
)
republished = Counter("vmrelay_republished_messages", "Phase messages sent again because nobody took them.", ["phase"])
conflicts = Counter(
    "vmrelay_conflicts",
    "Requests under the id of another migration or batch, which goes on unchanged.",
    ["kind"],
)
running = Gauge("vmrelay_running_migrations", "Migrations that touch the host now.", ["host", "direction"])
admission_wait_seconds = Histogram(
    "vmrelay_admission_wait_seconds",
    "From a request to its first attempt, all of whose slots were free.",
    ["priority"],
    buckets=LONG,
)
pending = Gauge("vmrelay_pending_migrations", "Migrations in the queue for slots.", ["priority"])
pending_oldest_seconds = Gauge(
    "vmrelay_pending_oldest_seconds",
    "How long ago the oldest migration in the queue for slots was asked for.",
    ["priority"],
)
slots_used = Gauge(
    "vmrelay_slots_used", "Slots that migrations from (out) or towards (in) the host take now.", ["host", "direction"]
)
slots_limit = Gauge("vmrelay_slots_limit", "How many slots there are, as now in force.", ["host", "direction"])
network_slots_used = Gauge("vmrelay_network_slots_used", "Slots of the migration network that are taken.", ["network"])
network_slots_limit = Gauge(
    "vmrelay_network_slots_limit", "How many the migration network has, as now in force.", ["network"]
)
rolls = Gauge("vmrelay_rolls", "Rolls that are not over, by state.", ["state"])
host_cordoned = Gauge("vmrelay_host_cordoned", "Whether nothing new is sent to the host.", ["host"])
waiting = Gauge("vmrelay_waiting_migrations", "Migrations that wait, by what for.", ["state"])
waiting_for_host = Gauge(
    "vmrelay_waiting_for_host_migrations", "Migrations that can only go on when the host is back.", ["host"]
)
agent_up = Gauge("vmrelay_agent_up", "Whether the host's agent holds its lease.", ["host"])
LEADERS = (
    webhook_waiting,
    webhook_oldest_seconds,
    batches,
    rolls,
    host_cordoned,
    waiting,
    waiting_for_host,
    agent_up,
    pending,
    pending_oldest_seconds,
    slots_used,
    slots_limit,
    network_slots_used,
    network_slots_limit,
)
"""Gauges of the whole relay: empty in every process but the scheduler that leads."""
interrupted = Counter(
    "vmrelay_interrupted_attempts",
    "Attempts that nobody carried on any more, by phase and whether it was queued or running.",
    ["driver", "phase", "step"],
)
recoveries = Counter(
    "vmrelay_recovery_actions",
    "What was done about interrupted attempts, by how far they were.",
    ["driver", "stage", "action"],
)
recovery_seconds = Histogram(
    "vmrelay_recovery_duration_seconds",
    "From noticing that an attempt was interrupted until it was ended or went on.",
    ["driver"],
    buckets=QUICK,
)
host_answers = Gauge(
    "vmrelay_host_answers",
    "Whether the host's hypervisor answered its agent, when last asked for its domains.",
    ["host"],
)
redis_persists = Gauge(
    "vmrelay_redis_persists",
    "Whether Redis would keep what it was told, but for the last second, if it crashed now: its append-only file is on "
    "and written. Told by every scheduler; 'vmrelay doctor' says why not.",
    ["address"],
)
redis_up = Gauge(
    "vmrelay_redis_up",
    "Whether Redis did what the scheduler asked of it in its last round. Told by every scheduler.",
    ["address"],
)
http_requests = Counter(
    "vmrelay_http_requests",
    "Requests to the web API, by method, route and class of status.",
    ["method", "route", "status"],
)
http_request_seconds = Histogram(
    "vmrelay_http_request_duration_seconds",
    "From a request to the end of its answer; not of event streams.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10),
)
http_streams = Gauge("vmrelay_http_streams", "Event streams that are open.")
build = Gauge("vmrelay_build_info", "Always 1; the label tells the version.", ["version"])


def record_end(
    driver: str,
    outcome: str,
    seconds: float | None = None,
    downtime: float | None = None,
    transferred: int | None = None,
    job: float | None = None,
    rounds: int | None = None,
) -> None:
    """Observe what was measured of a migration that ended; by whoever ended it, at most once in its life."""
    if seconds is not None:
        migration_seconds.labels(driver, outcome).observe(seconds)
    if outcome == "succeeded":
        if downtime is not None:
            downtime_seconds.labels(driver).observe(downtime)
        if transferred is not None:
            transferred_bytes.labels(driver).inc(transferred)
        if job is not None:
            job_seconds.labels(driver).observe(job)
        if rounds is not None:
            iterations.labels(driver).observe(rounds)


def expect_stalls(driver: str) -> None:
    """Serve the stalls of a driver from 0 on: of a counter that appears with its first one no rate sees that one."""
    for kind in StallKind:
        for action in StallAction:
            stalls.labels(driver, kind, action)


def expect_trouble(driver: str) -> None:
    """Serve from 0 on what seldom happens to attempts of a driver; for the reason above."""
    for phase in Phase:
        retries.labels(driver, phase, Retry.TRANSIENT)  # the one class that is repeated inside a phase
    for result in ("moved", "again", "gave-up", "in-doubt"):
        attempts.labels(driver, result)
    recovery_seconds.labels(driver)


def expect_batches(kinds: Iterable[str]) -> None:
    """Serve from 0 on how long batches of these kinds take; for the reason above."""
    for kind in kinds:
        batch_seconds.labels(kind)


def lead_no_more() -> None:
    """Show nothing of what is the leading scheduler's to show."""
    for shown in (migrations, batch_items, lease_conflicts, in_doubt, in_doubt_oldest_seconds, lease_age_seconds):
        shown.show({})
    webhook_deliveries.show({})
    leads.show({(): 0})
    for gauge in LEADERS:
        gauge.clear()


def serve(address: str, port: int) -> tuple[WSGIServer, int]:
    """Serve ``/metrics``; port 0 takes a free one. Returns the server and its port.

    Raises ``Unavailable`` where the port is taken.
    """
    build.labels(version("vmrelay")).set(1)
    try:
        server, _ = start_http_server(port, addr=address)
    except OSError as taken:
        raise Unavailable(
            f"metrics cannot be served on {address}:{port} ({taken.strerror}); set another metrics port",
            code="port-taken",
        ) from None
    return server, server.server_port
