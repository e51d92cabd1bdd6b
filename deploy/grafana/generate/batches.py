"""Batches and drains: what is open, what came of each move, rolls, cordons, and who waits for a slot."""

from __future__ import annotations

from kit import BLUE, GREEN, RED, YELLOW, Dashboard, Panel, Query, Row
from queries import JOB, highest, kept, or_zero, quantile, ratio, since, total

ITEMS = "vmrelay_batch_items_total"
OUTCOMES = (("moved", GREEN), ("failed", RED), ("skipped", YELLOW))

OPEN = Row(
    "Now",
    [
        Panel(
            "Open batches",
            "Lists, plans, rebalances, drains and returns that have not finished.",
            "none",
            [Query(or_zero(total("vmrelay_batches", "")))],
            width=4,
            height=4,
            kind="stat",
            base=BLUE,
        ),
        Panel(
            "Paused",
            "Batches that wait for somebody to resume them (vmrelay batch resume).",
            "none",
            [Query(or_zero(total("vmrelay_batches", "", 'state="paused"')))],
            width=4,
            height=4,
            kind="stat",
            limits=((1, YELLOW),),
        ),
        Panel(
            "Rolls",
            "Rolls over several hosts that are not over.",
            "none",
            [Query(or_zero(total("vmrelay_rolls", "")))],
            width=4,
            height=4,
            kind="stat",
            base=BLUE,
        ),
        Panel(
            "Cordoned hosts",
            "Hosts to which nothing new is sent.",
            "none",
            [Query(or_zero("sum({})".format(highest("vmrelay_host_cordoned", "job, host"))))],
            width=4,
            height=4,
            kind="stat",
            limits=((1, YELLOW),),
        ),
        Panel(
            "Moves that were made",
            "Moved / (moved + failed) over the chosen time; what was skipped has its reason in the batch's receipt.",
            "percentunit",
            [
                Query(
                    ratio(
                        since(ITEMS, "job", 'outcome="moved"'),
                        since(ITEMS, "job", 'outcome=~"moved|failed"'),
                    ),
                    once=True,
                )
            ],
            width=4,
            height=4,
            kind="stat",
            base=RED,
            limits=((0.95, YELLOW), (0.99, GREEN)),
            decimals=1,
            none="none ended",
        ),
        Panel(
            "Waiting for slots",
            "Migrations in the queue for slots; a batch asks for a few of its moves at a time.",
            "none",
            [Query(or_zero(total("vmrelay_pending_migrations", "")))],
            width=4,
            height=4,
            kind="stat",
            base=BLUE,
        ),
    ],
)

MOVES = Row(
    "Moves",
    [
        Panel(
            "Moves that ended",
            "By what became of them, per minute.",
            "cpm",
            [Query(kept(ITEMS, "outcome"), "{{outcome}}")],
            width=12,
            stacked=True,
            colours=OUTCOMES,
        ),
        Panel(
            "By kind of batch and outcome",
            "How many ended so over the chosen time.",
            "none",
            [Query(f"{since(ITEMS, 'kind, outcome')} > 0", once=True)],
            width=12,
            kind="table",
            columns=(("kind", "kind"), ("outcome", "outcome"), ("Value", "moves")),
        ),
        Panel(
            "Batches, by state",
            "planning: the planner works; planned: held for approval; cancelling: what moves is let end.",
            "none",
            [Query(total("vmrelay_batches", "state"), "{{state}}")],
        ),
        Panel(
            "How long batches take",
            "From being asked for to their end, half of them and 95 of 100, by kind, over the chosen time.",
            "s",
            [
                Query(quantile(0.5, "vmrelay_batch_duration_seconds", "kind", window="$__range"), "{{kind}} p50", True),
                Query(
                    quantile(0.95, "vmrelay_batch_duration_seconds", "kind", window="$__range"), "{{kind}} p95", True
                ),
            ],
            kind="bargauge",
            base=BLUE,
        ),
        Panel(
            "Cordoned",
            "When nothing new was sent to which host.",
            "none",
            [Query(highest("vmrelay_host_cordoned", "host"), "{{host}}")],
            kind="state-timeline",
            limits=((1, YELLOW),),
            words=(("0", "open", GREEN), ("1", "cordoned", YELLOW)),
        ),
    ],
)

QUEUE = Row(
    "The queue for slots",
    [
        Panel(
            "Waiting, by priority",
            "Urgent ones overtake; those of low priority age, so that none waits for ever.",
            "none",
            [Query(total("vmrelay_pending_migrations", "priority"), "{{priority}}")],
            stacked=True,
        ),
        Panel(
            "Oldest, by priority",
            "How long ago the oldest one of each priority was asked for.",
            "s",
            [Query(highest("vmrelay_pending_oldest_seconds", "priority"), "{{priority}}")],
            limits=((300, YELLOW), (900, RED)),
            runbook="VmrelayQueueTooOld",
        ),
        Panel(
            "Slots of migration networks",
            "Taken, and how many each network has; none is 0 where the inventory names no network.",
            "none",
            [
                Query(or_zero(highest("vmrelay_network_slots_used", "network"), "network"), "{{network}} taken"),
                Query(or_zero(highest("vmrelay_network_slots_limit", "network"), "network"), "{{network}} limit"),
            ],
        ),
    ],
)

BATCHES = Dashboard(
    "vmrelay-batches",
    "vmrelay / batches and drains",
    "What is open, what came of each move, which hosts are cordoned, and who waits for a slot.",
    [OPEN, MOVES, QUEUE],
    (JOB,),
    since="now-6h",
)
