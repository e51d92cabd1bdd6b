"""Objectives: what was promised, what was kept, and how much of the error budget is left."""

from __future__ import annotations

from kit import GREEN, RED, YELLOW, Dashboard, Panel, Query, Row
from queries import JOB, OBJECTIVE, kept, or_zero, quantile, ratio, within

ENDED = "vmrelay_migrations_total"
LOST, JUDGED = 'outcome="failed"', 'outcome=~"succeeded|failed"'
BUDGET = "(1 - $objective)"
KEPT = ((0.99, YELLOW), (0.999, GREEN))


def failures(window: str) -> str:
    """Which share of migrations failed; nothing where none ended."""
    part = f"({kept(ENDED, 'job', LOST, window=window)} or on (job) 0 * {kept(ENDED, 'job', JUDGED, window=window)})"
    return ratio(part, kept(ENDED, "job", JUDGED, window=window))


def share(title: str, description: str, expr: str) -> Panel:
    """A share over the chosen time, against the objective of one in a hundred."""
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


SHARES = Row(
    "Kept, over the chosen time",
    [
        share(
            "Migrations that do not fail",
            "Succeeded / (succeeded + failed). Refused and cancelled migrations do not count.",
            f"1 - {failures('$__range')}",
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

BURN = Row(
    "Error budget of failures, objective $objective",
    [
        Panel(
            "Budget left",
            "What is left of the failures that the objective allows over the chosen time. Below 0 it is missed.",
            "percentunit",
            [Query(f"1 - ({failures('$__range')}) / {BUDGET}", "{{job}}", once=True)],
            width=6,
            kind="stat",
            base=RED,
            limits=((0.25, YELLOW), (0.5, GREEN)),
            decimals=1,
            none="nothing to judge",
        ),
        Panel(
            "Burn rate",
            "How many times faster than the objective allows failures happen: 14.4 for an hour uses up 2 % of 30 days.",
            "none",
            [
                Query(f"({failures('1h')}) / {BUDGET}", "{{job}} 1 h"),
                Query(f"({failures('6h')}) / {BUDGET}", "{{job}} 6 h"),
            ],
            width=9,
            limits=((6, YELLOW), (14.4, RED)),
            decimals=1,
        ),
        Panel(
            "Failures",
            "Migrations that failed, in each interval of the graph, by error code.",
            "none",
            [Query(or_zero(kept(ENDED, "reason", LOST), "reason"), "{{reason}}")],
            width=9,
            stacked=True,
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
    [SHARES, BURN, OVER_TIME],
    (JOB, OBJECTIVE),
    since="now-7d",
)
