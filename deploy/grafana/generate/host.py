"""One host: what leaves it, what enters it, its slots, and how its own phases do."""

from __future__ import annotations

from kit import BLUE, GREEN, RED, YELLOW, Dashboard, Panel, Query, Row
from queries import HOST, JOB, each_minute, highest, or_zero, quantile, rate, total

HERE = 'host="$host"'
YES_NO = (("0", "no", RED), ("1", "yes", GREEN))

STATE = Row(
    "$host now",
    [
        Panel(
            "Agent",
            "Whether the host's agent holds its lease: without it nothing moves from here or to here.",
            "none",
            [Query(highest("vmrelay_agent_up", "", HERE))],
            width=4,
            height=4,
            kind="stat",
            base=RED,
            limits=((1, GREEN),),
            words=(("0", "away", RED), ("1", "there", GREEN)),
            runbook="VmrelayAgentLost",
        ),
        Panel(
            "Hypervisor answers",
            "Whether it answered its agent, when last asked for its domains.",
            "none",
            [Query(highest("vmrelay_host_answers", "", HERE))],
            width=4,
            height=4,
            kind="stat",
            base=RED,
            limits=((1, GREEN),),
            words=YES_NO,
            runbook="VmrelayHypervisorSilent",
        ),
        Panel(
            "Cordoned",
            "Whether nothing new is sent here. Guests may leave.",
            "none",
            [Query(highest("vmrelay_host_cordoned", "", HERE))],
            width=4,
            height=4,
            kind="stat",
            limits=((1, YELLOW),),
            words=(("0", "no", GREEN), ("1", "yes", YELLOW)),
        ),
        Panel(
            "Leaving",
            "Migrations away from this host that run now.",
            "none",
            [Query(total("vmrelay_running_migrations", "", HERE, 'direction="out"'))],
            width=4,
            height=4,
            kind="stat",
            base=BLUE,
        ),
        Panel(
            "Arriving",
            "Migrations towards this host that run now.",
            "none",
            [Query(total("vmrelay_running_migrations", "", HERE, 'direction="in"'))],
            width=4,
            height=4,
            kind="stat",
            base=BLUE,
        ),
        Panel(
            "Waiting for this host",
            "Migrations that were interrupted and can only go on when this host is back.",
            "none",
            [Query(or_zero(highest("vmrelay_waiting_for_host_migrations", "", HERE)))],
            width=4,
            height=4,
            kind="stat",
            limits=((1, RED),),
            runbook="VmrelayMigrationWaitsForHost",
        ),
    ],
)

MOVES = Row(
    "Moves",
    [
        Panel(
            "Running",
            "Migrations that touch the host, by direction.",
            "none",
            [Query(total("vmrelay_running_migrations", "direction", HERE), "{{direction}}")],
        ),
        Panel(
            "Slots out",
            "Slots that migrations from this host take (heavy guests several), and how many there are.",
            "none",
            [
                Query(highest("vmrelay_slots_used", "", HERE, 'direction="out"'), "taken"),
                Query(highest("vmrelay_slots_limit", "", HERE, 'direction="out"'), "limit"),
            ],
            colours=(("limit", RED),),
        ),
        Panel(
            "Slots in",
            "The same towards this host.",
            "none",
            [
                Query(highest("vmrelay_slots_used", "", HERE, 'direction="in"'), "taken"),
                Query(highest("vmrelay_slots_limit", "", HERE, 'direction="in"'), "limit"),
            ],
            colours=(("limit", RED),),
        ),
        Panel(
            "Sent, and dirtied meanwhile",
            "A move ends when more is sent than the leaving guests dirty: where the lines cross, it stalls.",
            "binBps",
            [
                Query(total("vmrelay_perform_bandwidth_bytes_per_second", "", HERE), "sent"),
                Query(total("vmrelay_perform_dirty_bytes_per_second", "", HERE), "dirtied"),
            ],
            colours=(("sent", GREEN), ("dirtied", RED)),
            width=12,
            runbook="VmrelayMigrationMakesNoProgress",
        ),
        Panel(
            "Left to send",
            "What the performs that run now have yet to send from the host.",
            "bytes",
            [Query(total("vmrelay_perform_remaining_bytes", "", HERE), "left")],
            width=12,
        ),
    ],
)

PHASES = Row(
    "Its phases",
    [
        Panel(
            "How long, 95 of 100",
            "Begin, perform and confirm of guests that leave, prepare and finish of those that arrive.",
            "s",
            [Query(quantile(0.95, "vmrelay_phase_duration_seconds", "phase", HERE), "{{phase}}")],
        ),
        Panel(
            "In the queue, 95 of 100",
            "From a phase being queued to this agent taking it. It grows when the agent has no thread left.",
            "s",
            [Query(quantile(0.95, "vmrelay_queue_wait_seconds", "phase", HERE), "{{phase}}")],
            limits=((0.5, YELLOW), (2, RED)),
        ),
        Panel(
            "Phases that ended",
            "How many of each, and how. A phase that failed is undone by those that follow.",
            "cpm",
            [
                Query(
                    each_minute("vmrelay_phase_duration_seconds_count", "phase, outcome", HERE), "{{phase}} {{outcome}}"
                )
            ],
            stacked=True,
        ),
        Panel(
            "Retries",
            "Calls to this hypervisor that were made again, by class of error.",
            "cpm",
            [Query(or_zero(each_minute("vmrelay_retries_total", "class", HERE), "class"), "{{class}}")],
            stacked=True,
        ),
        Panel(
            "Recovered here",
            "What its agent did about interrupted attempts.",
            "cpm",
            [Query(or_zero(each_minute("vmrelay_recovery_actions_total", "action", HERE), "action"), "{{action}}")],
            stacked=True,
        ),
        Panel(
            "Agent's CPU",
            "Of one core. An agent only steers: the guest's memory never passes through it.",
            "percentunit",
            [Query(rate("process_cpu_seconds_total", "instance", HERE), "{{instance}}")],
        ),
    ],
)

ONE_HOST = Dashboard(
    "vmrelay-host",
    "vmrelay / one host",
    "What leaves a host and what enters it, its slots, and how its phases do.",
    [STATE, MOVES, PHASES],
    (JOB, HOST),
)
