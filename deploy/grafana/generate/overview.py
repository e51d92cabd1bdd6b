"""The first page: what moves, what waits, what came of it, by flag set and outcome, and how long it took."""

from __future__ import annotations

from kit import BLUE, GREEN, GREY, PURPLE, RED, YELLOW, Dashboard, Panel, Query, Row
from queries import (
    DRIVER,
    FLAGS,
    JOB,
    each_minute,
    highest,
    kept,
    most,
    or_zero,
    quantile,
    quantiles,
    rate,
    ratio,
    since,
    total,
)

CHOSEN = ('flags=~"$flags"', 'driver=~"$driver"')
DRIVEN = ('driver=~"$driver"',)
UNMOVED = 'result!="moved"'
OUTCOMES = (("succeeded", GREEN), ("failed", RED), ("cancelled", YELLOW), ("rejected", PURPLE))
ENDED = "vmrelay_migrations_total"
MOVED, JUDGED = ('outcome="succeeded"', 'outcome=~"succeeded|failed"')

NOW = Row(
    "Now",
    [
        Panel(
            "Moving",
            "Migrations between their first phase and their last, counted at their sources.",
            "none",
            [Query(total("vmrelay_running_migrations", "", 'direction="out"'))],
            width=3,
            height=4,
            kind="stat",
            base=BLUE,
        ),
        Panel(
            "Waiting",
            "Accepted, and not started yet: source, destination or a network has no room.",
            "none",
            [Query(or_zero(total("vmrelay_pending_migrations", "")))],
            width=3,
            height=4,
            kind="stat",
            base=BLUE,
        ),
        Panel(
            "Oldest waits",
            "How long ago the oldest migration in the queue for slots was asked for.",
            "s",
            [Query(or_zero(highest("vmrelay_pending_oldest_seconds", "")))],
            width=3,
            height=4,
            kind="stat",
            limits=((300, YELLOW), (900, RED)),
            runbook="VmrelayQueueTooOld",
        ),
        Panel(
            "In doubt",
            "Migrations for which no rule is known to be safe: they wait for an operator (vmrelay resolve).",
            "none",
            [Query(or_zero(highest("vmrelay_in_doubt_migrations", "")))],
            width=3,
            height=4,
            kind="stat",
            limits=((1, RED),),
            runbook="VmrelayMigrationInDoubt",
        ),
        Panel(
            "Agents away",
            "Hosts of the inventory whose agent does not hold its lease.",
            "none",
            [Query(or_zero("count({} == 0)".format(highest("vmrelay_agent_up", "job, host"))))],
            width=3,
            height=4,
            kind="stat",
            limits=((1, RED),),
            runbook="VmrelayAgentLost",
        ),
        Panel(
            "Moved",
            "Succeeded / (succeeded + failed) over the chosen time. Refused and cancelled migrations do not count.",
            "percentunit",
            [
                Query(
                    ratio(
                        since(ENDED, "job", MOVED, *CHOSEN),
                        since(ENDED, "job", JUDGED, *CHOSEN),
                    ),
                    once=True,
                )
            ],
            width=3,
            height=4,
            kind="stat",
            base=RED,
            limits=((0.95, YELLOW), (0.99, GREEN)),
            decimals=1,
            none="none ended",
            runbook="VmrelayMigrationsFail",
        ),
        Panel(
            "Downtime p95",
            "How long guests stood still at most, 95 of 100 of those that moved in the chosen time.",
            "s",
            [Query(quantile(0.95, "vmrelay_downtime_seconds", "", *DRIVEN, window="$__range"), once=True)],
            width=3,
            height=4,
            kind="stat",
            limits=((1, YELLOW), (5, RED)),
            none="none moved",
        ),
        Panel(
            "Sent now",
            "What all hosts together send for the performs that run; 0 where the hypervisor does not tell (Virtuozzo).",
            "binBps",
            [Query(total("vmrelay_perform_bandwidth_bytes_per_second", ""))],
            width=3,
            height=4,
            kind="stat",
            base=BLUE,
        ),
    ],
)

ENDS = Row(
    "What came of them",
    [
        Panel(
            "By outcome",
            "Migrations that ended, per minute.",
            "cpm",
            [Query(kept(ENDED, "outcome", *CHOSEN), "{{outcome}}")],
            width=12,
            stacked=True,
            colours=OUTCOMES,
        ),
        Panel(
            "Succeeded, by flag set",
            "Which kinds of migration end well: the flags that were in force, sorted.",
            "cpm",
            [Query(kept(ENDED, "flags", MOVED, *CHOSEN), "{{flags}}")],
            width=12,
            stacked=True,
        ),
        Panel(
            "By flag set and outcome",
            "How many ended so over the chosen time.",
            "none",
            [Query(f"{since(ENDED, 'flags, outcome', *CHOSEN)} > 0", once=True)],
            width=12,
            kind="table",
            columns=(("flags", "flags"), ("outcome", "outcome"), ("Value", "migrations")),
            base=GREY,
        ),
        Panel(
            "Why not",
            "The error codes of those that did not move, the most frequent first. The task contract lists them.",
            "none",
            [
                Query(
                    most(20, since(ENDED, "outcome, reason", 'outcome!="succeeded"', *CHOSEN)),
                    once=True,
                )
            ],
            width=12,
            kind="table",
            columns=(("outcome", "outcome"), ("reason", "reason"), ("Value", "migrations")),
            base=GREY,
            runbook="VmrelayMigrationsFail",
        ),
    ],
)

TIMES = Row(
    "How long it takes",
    [
        Panel(
            "Duration",
            "From a migration's start to its end, all attempts: half of them are faster than p50, 95 of 100 than p95.",
            "s",
            quantiles("vmrelay_migration_duration_seconds", 0.5, 0.95, matchers=('outcome="succeeded"', *DRIVEN)),
        ),
        Panel(
            "Downtime",
            "How long guests stood still, as their hypervisors measured it.",
            "s",
            quantiles("vmrelay_downtime_seconds", 0.5, 0.95, 0.99, matchers=DRIVEN),
            limits=((1, YELLOW), (5, RED)),
        ),
        Panel(
            "Each phase, 95 of 100",
            "One phase on its host, without the time in the queue. Perform is the move itself.",
            "s",
            [Query(quantile(0.95, "vmrelay_phase_duration_seconds", "phase", *DRIVEN), "{{phase}}")],
        ),
        Panel(
            "Wait for slots, 95 of 100",
            "From a request to its first attempt, by priority.",
            "s",
            [Query(quantile(0.95, "vmrelay_admission_wait_seconds", "priority"), "{{priority}}")],
            limits=((300, YELLOW), (900, RED)),
        ),
        Panel(
            "From perform to finish",
            "The guest may stand still between the end of perform and the start of finish: this is the relay's share.",
            "s",
            quantiles("vmrelay_handoff_seconds", 0.5, 0.99),
            limits=((0.1, YELLOW), (0.5, RED)),
        ),
        Panel(
            "Rounds of copying",
            "How often memory was copied anew until the guest could be stopped, of those that moved; 0 where no "
            "hypervisor tells.",
            "none",
            [
                Query(or_zero(quantile(0.5, "vmrelay_iterations", "", *DRIVEN)), "p50"),
                Query(or_zero(quantile(0.95, "vmrelay_iterations", "", *DRIVEN)), "p95"),
            ],
        ),
    ],
)

TROUBLE = Row(
    "Trouble",
    [
        Panel(
            "Retries inside a phase",
            "Calls to a hypervisor that were made again, by class of error.",
            "cpm",
            [Query(or_zero(each_minute("vmrelay_retries_total", "class", *DRIVEN), "class"), "{{class}}")],
            stacked=True,
        ),
        Panel(
            "Recoveries",
            "What was done about attempts that nobody carried on any more.",
            "cpm",
            [Query(or_zero(each_minute("vmrelay_recovery_actions_total", "action", *DRIVEN), "action"), "{{action}}")],
            stacked=True,
        ),
        Panel(
            "Attempts that did not move the guest",
            "again: another attempt follows; gave-up: the migration failed; in-doubt: an operator is asked.",
            "cpm",
            [
                Query(
                    or_zero(each_minute("vmrelay_attempts_total", "result", UNMOVED, *DRIVEN), "result"),
                    "{{result}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Stalls",
            "Performs that would not come to an end by themselves, by kind.",
            "cpm",
            [Query(or_zero(each_minute("vmrelay_stalls_total", "kind", *DRIVEN), "kind"), "{{kind}}")],
            stacked=True,
            runbook="VmrelayMigrationMakesNoProgress",
        ),
        Panel(
            "In doubt",
            "Migrations for which no rule is known to be safe. Each one is a guest that may stand still.",
            "none",
            [Query(or_zero(highest("vmrelay_in_doubt_migrations", "")), "in doubt")],
            limits=((1, RED),),
            runbook="VmrelayMigrationInDoubt",
        ),
        Panel(
            "Longest in doubt",
            "Since when the oldest of them waits for an operator.",
            "s",
            [Query(or_zero(highest("vmrelay_in_doubt_oldest_seconds", "")), "oldest")],
            limits=((60, RED),),
            runbook="VmrelayMigrationInDoubt",
        ),
    ],
)

DATA = Row(
    "What is moved",
    [
        Panel(
            "Sent by each host",
            "How fast the performs that run now send from the host; 0 where its hypervisor does not tell (Virtuozzo).",
            "binBps",
            [Query(total("vmrelay_perform_bandwidth_bytes_per_second", "host"), "{{host}}")],
            link=("This host", "/d/vmrelay-host?var-host=${__field.labels.host}"),
        ),
        Panel(
            "Left to send",
            "What the performs that run now have yet to send; 0 where the hypervisor does not tell (Virtuozzo).",
            "bytes",
            [Query(total("vmrelay_perform_remaining_bytes", "host"), "{{host}}")],
            link=("This host", "/d/vmrelay-host?var-host=${__field.labels.host}"),
        ),
        Panel(
            "Moved, by driver",
            "Bytes of migrations that succeeded, at the moment they ended.",
            "binBps",
            [Query(rate("vmrelay_transferred_bytes_total", "driver", *DRIVEN), "{{driver}}")],
        ),
    ],
)

OVERVIEW = Dashboard(
    "vmrelay-overview",
    "vmrelay / overview",
    "Live migrations: what moves, what waits, what came of it, and how long it took.",
    [NOW, ENDS, TIMES, TROUBLE, DATA],
    (JOB, FLAGS, DRIVER),
)
