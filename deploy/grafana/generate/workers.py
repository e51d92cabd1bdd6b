"""The processes: agents, schedulers and the Redis between them."""

from __future__ import annotations

from kit import GREEN, GREY, RED, YELLOW, Dashboard, Panel, Query, Row, Variable
from queries import JOB, each_minute, highest, kept, more, of, or_zero, quantile, rate, total

REDIS = Variable("redis", "Redis exporter", "label_values(redis_up, instance)")
CHOSEN_REDIS = 'instance=~"$redis"'


def of_redis(metric: str, *matchers: str) -> str:
    """A metric of the chosen redis_exporter, whatever job scrapes it."""
    return f"{metric}{{{', '.join((CHOSEN_REDIS, *matchers))}}}"


NOW = Row(
    "Now",
    [
        Panel(
            "Processes",
            "Agents and schedulers that answered the last scrape.",
            "none",
            [Query("sum({})".format(of("up")))],
            width=3,
            height=4,
            kind="stat",
            base=RED,
            limits=((1, GREEN),),
        ),
        Panel(
            "Not answering",
            "Processes that Prometheus knows and did not reach.",
            "none",
            [Query(or_zero("count({} == 0)".format(of("up"))))],
            width=3,
            height=4,
            kind="stat",
            limits=((1, RED),),
            runbook="VmrelayMetricsMissing",
        ),
        Panel(
            "Agents away",
            "Hosts whose agent does not hold its lease.",
            "none",
            [Query(or_zero("count({} == 0)".format(highest("vmrelay_agent_up", "job, host"))))],
            width=3,
            height=4,
            kind="stat",
            limits=((1, RED),),
            runbook="VmrelayAgentLost",
        ),
        Panel(
            "Leads",
            "Schedulers that lead. Exactly one must: with none, nothing is admitted and no batch goes on.",
            "none",
            [Query(or_zero(total("vmrelay_scheduler_leads", "")))],
            width=3,
            height=4,
            kind="stat",
            base=RED,
            limits=((1, GREEN), (2, RED)),
            runbook="VmrelayNoSchedulerLeads",
        ),
        Panel(
            "Redis answers",
            "Whether Redis did what the schedulers asked of it in their last rounds.",
            "none",
            [Query("min({})".format(of("vmrelay_redis_up")))],
            width=3,
            height=4,
            kind="stat",
            base=RED,
            limits=((1, GREEN),),
            words=(("0", "no", RED), ("1", "yes", GREEN)),
            runbook="VmrelayRedisAway",
        ),
        Panel(
            "Redis persists",
            "Whether Redis would keep what it was told if it crashed now. vmrelay doctor says why not.",
            "none",
            [Query("min({})".format(of("vmrelay_redis_persists")))],
            width=3,
            height=4,
            kind="stat",
            base=RED,
            limits=((1, GREEN),),
            words=(("0", "no", RED), ("1", "yes", GREEN)),
            runbook="VmrelayRedisDoesNotPersist",
        ),
        Panel(
            "Messages sent again",
            "Phase messages that nobody took in time, over the chosen time. Some are normal after a restart.",
            "none",
            [Query(or_zero(more("vmrelay_republished_messages_total", "job")), once=True)],
            width=3,
            height=4,
            kind="stat",
            decimals=0,
            limits=((10, YELLOW),),
        ),
        Panel(
            "Interrupted attempts",
            "Attempts that nobody carried on any more, over the chosen time.",
            "none",
            [Query(or_zero(more("vmrelay_interrupted_attempts_total", "job")), once=True)],
            width=3,
            height=4,
            kind="stat",
            decimals=0,
            limits=((1, YELLOW),),
        ),
    ],
)

PROCESSES = Row(
    "Agents and schedulers",
    [
        Panel(
            "Agents",
            "Which host's agent held its lease, and when.",
            "none",
            [Query(highest("vmrelay_agent_up", "host"), "{{host}}")],
            width=12,
            kind="state-timeline",
            base=RED,
            limits=((1, GREEN),),
            words=(("0", "away", RED), ("1", "there", GREEN)),
            runbook="VmrelayAgentLost",
        ),
        Panel(
            "Hypervisors",
            "Which host's hypervisor answered its agent, and when.",
            "none",
            [Query(highest("vmrelay_host_answers", "host"), "{{host}}")],
            width=12,
            kind="state-timeline",
            base=RED,
            limits=((1, GREEN),),
            words=(("0", "silent", RED), ("1", "answers", GREEN)),
            runbook="VmrelayHypervisorSilent",
        ),
        Panel(
            "Age of leases",
            "How long ago each agent renewed its lease. At lease_seconds another one may take the host.",
            "s",
            [Query(highest("vmrelay_lease_age_seconds", "host"), "{{host}}")],
            limits=((8, YELLOW), (15, RED)),
        ),
        Panel(
            "Fights over a host",
            "How often a second agent wanted a host that has one. It is refused; find out who started it.",
            "cpm",
            [Query(or_zero(kept("vmrelay_lease_conflicts_total", "host"), "host"), "{{host}}")],
            stacked=True,
            runbook="VmrelayLeaseConflict",
        ),
        Panel(
            "Leading scheduler",
            "Exactly one leads. With none, nothing is admitted and no batch goes on.",
            "none",
            [Query(total("vmrelay_scheduler_leads", ""), "lead")],
            base=RED,
            limits=((1, GREEN), (2, RED)),
            runbook="VmrelayNoSchedulerLeads",
        ),
        Panel(
            "CPU",
            "Of one core, by process.",
            "percentunit",
            [Query(rate("process_cpu_seconds_total", "instance"), "{{instance}}")],
            limits=((0.8, YELLOW), (1.0, RED)),
        ),
        Panel(
            "Memory",
            "Resident memory, by process. It stays level, however many migrations there have been.",
            "bytes",
            [Query(total("process_resident_memory_bytes", "instance"), "{{instance}}")],
        ),
        Panel(
            "Running since",
            "When each process started, and its version.",
            "dateTimeFromNow",
            [
                Query(
                    "max by (instance, version) ({} * 1000 * on (job, instance) group_left (version) {})".format(
                        of("process_start_time_seconds"), of("vmrelay_build_info")
                    ),
                    once=True,
                )
            ],
            kind="table",
            columns=(("instance", "process"), ("version", "version"), ("Value", "started")),
            base=GREY,
        ),
    ],
)

MESSAGES = Row(
    "Phase messages",
    [
        Panel(
            "Claims",
            "What phase messages were answered: ok is one that runs; the others were duplicates or out of date.",
            "cpm",
            [Query(each_minute("vmrelay_claims_total", "result"), "{{result}}")],
            stacked=True,
        ),
        Panel(
            "In the queue, 95 of 100",
            "From a phase being queued to its agent taking it.",
            "s",
            [Query(quantile(0.95, "vmrelay_queue_wait_seconds", "phase"), "{{phase}}")],
            limits=((0.5, YELLOW), (2, RED)),
        ),
        Panel(
            "Recovery takes",
            "From noticing that an attempt was interrupted until it was ended or went on, over the chosen time.",
            "s",
            [
                Query(quantile(0.5, "vmrelay_recovery_duration_seconds", window="$__range"), "p50", True),
                Query(quantile(0.95, "vmrelay_recovery_duration_seconds", window="$__range"), "p95", True),
            ],
            kind="bargauge",
            limits=((10, YELLOW), (30, RED)),
            none="no recovery",
        ),
    ],
)

HOOKS = Row(
    "Webhooks",
    [
        Panel(
            "Tries to deliver",
            "By webhook and by what came of them. none is 0 where the settings name no webhook.",
            "cpm",
            [
                Query(
                    or_zero(kept("vmrelay_webhook_deliveries_total", "webhook, result"), "webhook"),
                    "{{webhook}} {{result}}",
                )
            ],
            stacked=True,
            runbook="VmrelayWebhookGivesUp",
        ),
        Panel(
            "Still to be told",
            "Deliveries that wait, by webhook.",
            "none",
            [Query(or_zero(highest("vmrelay_webhook_waiting_deliveries", "webhook"), "webhook"), "{{webhook}}")],
        ),
        Panel(
            "Oldest of them",
            "For how long the oldest delivery of each webhook has waited.",
            "s",
            [Query(or_zero(highest("vmrelay_webhook_oldest_seconds", "webhook"), "webhook"), "{{webhook}}")],
            limits=((300, YELLOW), (3600, RED)),
            runbook="VmrelayWebhookLate",
        ),
    ],
)

STORE = Row(
    "Redis (redis_exporter)",
    [
        Panel(
            "Memory",
            "What Redis uses, and its limit; 0 is none. It must not evict: maxmemory-policy noeviction.",
            "bytes",
            [
                Query(f"max({of_redis('redis_memory_used_bytes')})", "used"),
                Query(f"max({of_redis('redis_memory_max_bytes')})", "limit"),
            ],
            width=6,
            colours=(("limit", RED),),
        ),
        Panel(
            "Commands",
            "How many it serves each second.",
            "ops",
            [Query(f"sum(rate({of_redis('redis_commands_processed_total')}[$__rate_interval]))", "commands")],
            width=6,
        ),
        Panel(
            "Clients",
            "Connections, and those that wait in a blocking command: each agent and scheduler does.",
            "none",
            [
                Query(f"sum({of_redis('redis_connected_clients')})", "connected"),
                Query(f"sum({of_redis('redis_blocked_clients')})", "waiting"),
            ],
            width=6,
        ),
        Panel(
            "Evicted keys",
            "Must stay 0: an evicted key is a migration forgotten.",
            "none",
            [Query(f"sum(increase({of_redis('redis_evicted_keys_total')}[$__rate_interval]))", "evicted")],
            width=6,
            limits=((1, RED),),
            runbook="VmrelayRedisDoesNotPersist",
        ),
    ],
)

WORKERS = Dashboard(
    "vmrelay-workers",
    "vmrelay / workers and Redis",
    "Agents, schedulers, the messages between them, and the Redis that keeps it all.",
    [NOW, PROCESSES, MESSAGES, STORE, HOOKS],
    (JOB, REDIS),
)
