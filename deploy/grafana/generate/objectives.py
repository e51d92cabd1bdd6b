"""Objectives: what was promised, what was kept, and how much of the error budget is left.

The numbers are those of deploy/prometheus/rules/recording.yml, which the alerts follow, too.
"""

from __future__ import annotations

from kit import GREEN, RED, YELLOW, Dashboard, Panel, Query, Row
from queries import JOB, highest, kept, of, or_zero, quantile, ratio, since, within

ENDED = "vmrelay_migrations_total"
FAILED, JUDGED = 'outcome="failed"', 'outcome=~"succeeded|failed"'
BUDGET = "(1 - scalar(vmrelay:success:objective))"
DOWNTIME_BUDGET = "(1 - scalar(vmrelay:downtime:objective))"
KEPT = ((0.99, YELLOW), (0.999, GREEN))


def failures() -> str:
    """Which share of migrations failed over the dashboard's range; nothing where none ended."""
    return ratio(since(ENDED, "job", FAILED), since(ENDED, "job", JUDGED))


def share(title: str, description: str, expr: str) -> Panel:
    """A share over the chosen time."""
    return Panel(
        title,
        description,
        "percentunit",
        [Query(expr, "{{job}}", once=True)],
        width=6,
        height=5,
        kind="stat",
        base=RED,
        limits=KEPT,
        decimals=2,
        none="nothing to judge",
    )


def left(title: str, description: str, expr: str) -> Panel:
    """What is left of an error budget."""
    return Panel(
        title,
        description,
        "percentunit",
        [Query(expr, "{{job}}", once=True)],
        width=6,
        kind="stat",
        base=RED,
        limits=((0.25, YELLOW), (0.5, GREEN)),
        decimals=1,
        none="nothing to judge",
        least=None,
    )


def burn(metric: str, window: str, budget: str) -> Query:
    """How many times faster than allowed a budget is used up, by a recorded ratio of bad ones."""
    return Query(f"{of(f'relay:{metric}{window}')} / {budget}", f"{{{{job}}}} {window}")


SHARES = Row(
    "Kept, over the chosen time",
    [
        share(
            "Migrations that do not fail",
            "Succeeded / (succeeded + failed). Refused and cancelled migrations do not count.",
            f"1 - {failures()}",
        ),
        share(
            "Downtime of a second at most",
            "Of guests that moved, as their hypervisors measured it.",
            within("vmrelay_downtime_seconds", "1.0"),
        ),
        share(
            "Slots within five minutes",
            "Of migrations that started: the time from the request to the first attempt.",
            within("vmrelay_admission_wait_seconds", "300.0"),
        ),
        share(
            "Finish within half a second",
            "From the end of perform, while the guest may stand still: the relay's own share of the downtime.",
            within("vmrelay_handoff_seconds", "0.5"),
        ),
    ],
)

BUDGETS = Row(
    "Error budgets",
    [
        left(
            "Failures: budget left",
            "What is left of the failures that the objective allows over the chosen time. Below 0 it is missed.",
            f"1 - {failures()} / {BUDGET}",
        ),
        Panel(
            "Failures: burn rate",
            "How many times faster than allowed migrations fail. At 14.4 an hour uses up 2 % of a budget of 30 days.",
            "none",
            [burn("vmrelay_migrations_total:failed_ratio", window, BUDGET) for window in ("1h", "6h")],
            width=9,
            limits=((6, YELLOW), (14.4, RED)),
            decimals=1,
            runbook="VmrelayErrorBudgetBurns",
        ),
        Panel(
            "Failures, by error code",
            "Migrations that failed, per minute.",
            "cpm",
            [Query(or_zero(kept(ENDED, "reason", FAILED), "reason"), "{{reason}}")],
            width=9,
            stacked=True,
        ),
        left(
            "Downtime: budget left",
            "What is left of the guests that may stand still for more than a second. Below 0 the objective is missed.",
            f"1 - (1 - {within('vmrelay_downtime_seconds', '1.0')}) / {DOWNTIME_BUDGET}",
        ),
        Panel(
            "Downtime: burn rate",
            "How many times faster than allowed guests stand still for more than a second.",
            "none",
            [burn("vmrelay_downtime_seconds:over_1s_ratio", window, DOWNTIME_BUDGET) for window in ("30m", "6h")],
            width=9,
            limits=((6, YELLOW), (14.4, RED)),
            decimals=1,
            runbook="VmrelayDowntimeBudgetBurns",
        ),
        Panel(
            "Oldest in the queue, of what is allowed",
            "How long the oldest migration of each priority has waited for slots, as a share of its objective.",
            "percentunit",
            [
                Query(
                    f"{highest('vmrelay_pending_oldest_seconds', 'priority')}"
                    " / on (priority) vmrelay:queue_age:objective_seconds",
                    "{{priority}}",
                )
            ],
            width=9,
            limits=((0.5, YELLOW), (1, RED)),
            runbook="VmrelayQueueTooOld",
        ),
    ],
)

OVER_TIME = Row(
    "How it changes",
    [
        Panel(
            "Downtime",
            "Half of the guests that moved within an hour, and 99 of 100.",
            "s",
            [
                Query(quantile(0.5, "vmrelay_downtime_seconds", "job", window="1h"), "{{job}} p50"),
                Query(quantile(0.99, "vmrelay_downtime_seconds", "job", window="1h"), "{{job}} p99"),
            ],
            width=12,
            limits=((1, RED),),
        ),
        Panel(
            "Wait for slots",
            "From a request to its first attempt, half of those within an hour and 95 of 100.",
            "s",
            [
                Query(quantile(0.5, "vmrelay_admission_wait_seconds", "job", window="1h"), "{{job}} p50"),
                Query(quantile(0.95, "vmrelay_admission_wait_seconds", "job", window="1h"), "{{job}} p95"),
            ],
            width=12,
            limits=((300, RED),),
        ),
    ],
)

OBJECTIVES = Dashboard(
    "vmrelay-objectives",
    "vmrelay / objectives",
    "What was promised, what was kept, and how much of the error budget is left.",
    [SHARES, BUDGETS, OVER_TIME],
    (JOB,),
    since="now-7d",
)
