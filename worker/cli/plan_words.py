"""A plan in words and rows, as tables and Markdown show it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from worker.cli.plan_bars import some
from worker.cli.words import clean, duration, many
from worker.contract.plans import Gain, Goal, HostView, Impossible, Left, Plan, Spread, Step

SHARES = (0.5, 0.8, 0.95)
"""How much of what is above the ceilings has to be gone for a point of the gains to be worth telling."""
Row = tuple[str, str]


def about(seconds: float) -> str:
    """An expected duration: ``12 s``, ``4 min 10 s``, ``2 h 5 min``."""
    return duration(seconds) if seconds >= 120 else f"{seconds:.0f} s"


def gib(mib: float) -> str:
    """Memory in GiB, one digit."""
    return f"{mib / 1024:.1f}"


def points(low: float, high: float) -> str:
    """One percentage or a range of them."""
    return f"{100 * low:.0f} %" if round(100 * low) == round(100 * high) else f"{100 * low:.0f} to {100 * high:.0f} %"


def wanted(goal: Goal, hosts: Sequence[HostView] = ()) -> str:
    """What a plan is for."""
    where = f" (guests of {some(goal.hosts)})" if goal.hosts and goal.kind != "drain" else ""
    match goal.kind:
        case "drain":
            return f"nothing left on {some(goal.hosts)}"
        case "consolidate":
            return f"as few hosts in use as possible{where}"
        case "place":
            return f"{many(len(goal.targets), 'guest')} on given hosts"
    if goal.ceiling_percent is not None:
        return f"every host at most {goal.ceiling_percent:g} % full{where}"
    return f"every host at most {goal.ceiling_points:g} points above the mean{ceilings(hosts)}{where}"


def ceilings(hosts: Sequence[HostView]) -> str:
    """The ceilings as shares of hosts, in brackets."""
    if not hosts:
        return ""
    cpu = [host.ceiling_cpu for host in hosts]
    memory = [host.ceiling_memory for host in hosts]
    return f": cpu {points(min(cpu), max(cpu))}, memory {points(min(memory), max(memory))}"


def status(plan: Plan) -> str:
    """How good a plan is."""
    least = f"no plan moves less than {plan.bound_gib:.1f} GiB"
    match plan.status:
        case "nothing-to-do":
            return "nothing to do"
        case "optimal":
            return f"proved optimal: {least}"
        case "bounded" if plan.gap is not None:
            return f"gap {100 * plan.gap:.1f} %: {least}"
        case "bounded":
            return "no bound is known"
        case "best-effort":
            short = [f"not moved: {many(len(plan.left), 'guest')}"] if plan.left else []
            short += [f"without an order: {many(len(plan.stuck), 'move')}"] if plan.stuck else []
            short += [f"above a ceiling: {many(plan.totals.hot_after, 'host')}"] if plan.totals.hot_after else []
            gap = f", gap {100 * plan.gap:.1f} %" if plan.gap is not None else ""
            return f"best effort{gap}: {', '.join(short) or 'not everything that was asked for'}"
    return "impossible"


def limits(goal: Goal) -> str:
    """What a plan was not to exceed."""
    told = (
        many(goal.max_moves, "move") if goal.max_moves is not None else "",
        f"{goal.max_gib:g} GiB" if goal.max_gib is not None else "",
        f"{goal.max_minutes:g} min" if goal.max_minutes is not None else "",
        f"memory of a host {goal.most_percent:g} %",
        f"a move costs {goal.price_per_move_gib:g} GiB more",
        f"only {some(goal.select)}" if goal.select else "",
        f"not {some(goal.exclude)}" if goal.exclude else "",
        f"seed {goal.seed}",
    )
    return ", ".join(part for part in told if part)


def header(plan: Plan, now: float) -> list[Row]:
    """What the plan is, for what, on which data, and how good."""
    guests = sum(host.before.guests for host in plan.hosts)
    rows = [
        ("plan", f"{plan.id}, {many(len(plan.hosts), 'host')}, {many(guests, 'guest')}"),
        ("made", _made(plan, now)),
        ("goal", wanted(plan.goal, plan.hosts)),
        ("loads", _age(plan)),
        ("limits", limits(plan.goal)),
        ("status", status(plan)),
    ]
    return [row for row in rows if row[1]]


def _made(plan: Plan, now: float) -> str:
    if not plan.made:
        return ""
    at = datetime.fromtimestamp(plan.made, UTC).astimezone().isoformat(" ", "seconds")
    took = f" in {plan.spent_seconds:.1f} s" if plan.spent_seconds else ""
    ago = f" ({about(now - plan.made)} ago)" if now - plan.made >= 60 else ""
    return f"{at}{took}{ago}"


def _age(plan: Plan) -> str:
    if plan.taken is None:
        taken = "as given" if plan.steps or plan.hosts else ""
    else:
        taken = f"taken {about(max(0.0, plan.made - plan.taken))} before"
    old = f"; old: {some([clean(each) for each in plan.stale])}" if plan.stale else ""
    return f"{taken}{old}"


def totals(plan: Plan, arrow: str) -> list[Row]:
    """The plan in numbers."""
    all_ = plan.totals
    bounced = f", {all_.bounces} of them by way of a third host ({all_.bounce_gib:.1f} GiB)" if all_.bounces else ""
    rows = [
        ("moves", f"{all_.moves}, {all_.gib:.1f} GiB{bounced}"),
        (
            "time",
            f"{about(all_.seconds)}, up to {all_.peak_concurrent} at once; one by one "
            f"{about(all_.serial_seconds)}; at best {about(all_.bound_seconds)}",
        ),
    ]
    rows = rows if all_.moves else []
    return [
        *rows,
        ("hot hosts", f"{all_.hot_before} {arrow} {all_.hot_after}"),
        ("cpu", spread(all_.cpu_before, all_.cpu_after, arrow)),
        ("memory", spread(all_.memory_before, all_.memory_after, arrow)),
    ]


def spread(before: Spread, after: Spread, arrow: str) -> str:
    """Largest, mean and deviation, before and after."""
    pairs = (("most", before.most, after.most), ("mean", before.mean, after.mean))
    told = [f"{name} {100 * had:.0f} {arrow} {100 * has:.0f} %" for name, had, has in pairs]
    return ", ".join([*told, f"deviation {100 * before.deviation:.1f} {arrow} {100 * after.deviation:.1f}"])


STEPS = ("step", "guest", "from", "to", "GiB", "start", "takes", "after", "why")


def step_row(step: Step) -> tuple[str, ...]:
    """One migration, under the headings ``STEPS``."""
    after = ",".join(map(str, step.after[:3])) + (",…" if len(step.after) > 3 else "")
    return (
        str(step.n),
        clean(step.domain),
        step.source,
        step.destination,
        gib(step.memory_mib),
        about(step.start),
        about(step.seconds),
        after,
        clean(step.why),
    )


def left_row(left: Left) -> tuple[str, str, str, str]:
    """A guest that stays: its name, its host, why, what would unblock it."""
    return clean(left.domain), left.host, f"{clean(left.why)} [{left.code}]", clean(left.unblock)


def impossible_line(found: Impossible) -> str:
    """What no plan can do, in a line."""
    way = f"; {clean(found.unblock)}" if found.unblock else ""
    return f"{clean(found.subject)}: {clean(found.why)} [{found.code}]{way}"


def gains(plan: Plan) -> str:
    """What stopping early would achieve; empty where that is nothing worth telling."""
    found: list[Gain] = []
    for share in SHARES:
        point = next((gain for gain in plan.gains if gain.moves and 1 - gain.excess_left >= share), None)
        if point is not None and point not in found and point.moves < plan.totals.moves:
            found.append(point)
    told = [f"{many(each.moves, 'move')} ({each.gib:.1f} GiB) {100 * (1 - each.excess_left):.0f} %" for each in found]
    return f"how much of the goal the first moves reach: {', '.join(told)}" if told else ""
