"""What a batch shows of itself, and what follows when it has come to the end of its plan: pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.results import RESULT_KEY, shown
from worker.app import app
from worker.contract import PROGRESS
from worker.hypervisors.base import DomainState
from worker.journal.batch import STOPPED, Batch, Item
from worker.journal.outcomes import Shown

MOST_NAMED = 1000
"""So many failed, and so many skipped moves are named in the result; the journal has them all."""
FREE = (DomainState.RUNNING, DomainState.PAUSED)
"""A guest in one of these can be moved."""
OFF = (DomainState.SHUTOFF, DomainState.CRASHED)


def counts(batch: Batch) -> str:
    """How it stands in a few words."""
    doubt = f", {len(batch.in_doubt)} in doubt" if batch.in_doubt else ""
    return f"{batch.moved} moved, {batch.failed} failed, {batch.skipped} skipped of {batch.total}{doubt}"


def progress_shown(batch: Batch) -> Shown:
    """The state of a batch under way, as ``celery-progress`` and Flower read it."""
    percent = 100 * batch.done // batch.total if batch.total else 0
    meta = {
        "current": batch.done,
        "total": batch.total,
        "percent": percent,
        "description": f"{batch.state}: {counts(batch)}",
        "batch": batch.document(),
    }
    result: dict[str, Any] = {
        "status": PROGRESS,
        "result": meta,
        "traceback": None,
        "children": [],
        "date_done": None,
        "task_id": batch.id,
    }
    return RESULT_KEY + batch.id, json.dumps(result), int(app.conf.result_expires)


def receipt(batch: Batch, items: Sequence[Item]) -> dict[str, Any]:
    """What ``AsyncResult`` gives in the end: never an error, whatever became of the moves."""

    def those(state: str) -> list[dict[str, Any]]:
        return [item.document() for item in items if item.state == state][:MOST_NAMED]

    reasons = Counter((item.state, item.code) for item in items if item.state in ("failed", "skipped"))
    return batch.document() | {
        "summary": counts(batch),
        "reasons": [
            {"state": state, "code": code, "number": number} for (state, code), number in sorted(reasons.items())
        ],
        "failures": those("failed"),
        "skips": those("skipped"),
    }


def receipt_shown(batch: Batch, items: Sequence[Item]) -> Shown:
    """The same as the result back end keeps it."""
    return shown(batch.id, receipt(batch, items), batch.ended)


# -- the end of a plan ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a drained host when everything planned has ended."""

    host: str
    fresh: bool
    """Its domains were looked at after the last move ended."""
    away: str
    """Why nobody can look; empty where somebody does."""
    domains: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How often and how long."""

    replans: int
    look_seconds: float
    """So long a look at a drained host is waited for."""


@dataclass(frozen=True, slots=True)
class End:
    """What follows for a batch: another look, another plan (and why), or, where it is neither, its end."""

    wait: bool = False
    replan: str = ""


def end_of_plan(batch: Batch, undone: Sequence[Item], sights: Sequence[Sight], waited: float, most: Limits) -> End:
    """What follows for a batch that has nothing left to ask for and nothing that runs.

    ``undone``: the moves of it that failed, were left out by its plan, fitted only after others, or whose own
    migrations were cancelled.
    ``waited``: seconds since the last move ended.
    """
    if batch.kind == "list" or batch.state != "running":
        return End()
    again = batch.replans < most.replans and not batch.exhausted
    new = [item for item in undone if item.n > batch.base]
    if again and (cordoned := sum(item.code == "cordoned" for item in new)):
        return End(replan=f"{cordoned} moves were to hosts that were cordoned meanwhile")
    if again and (depends := sum(item.code == "depends" for item in new)):
        return End(replan=f"{depends} moves fitted only after others that were not made")
    if batch.kind == "drain":
        if waited < most.look_seconds and not all(sight.fresh for sight in sights):
            return End(wait=True)
        known = _by_guest(undone)
        arrived = [sight.host for sight in sights if sight.fresh for each in sight.domains if _arrived(each, known)]
        if again and arrived:
            return End(replan=f"{len(arrived)} more guests run on {', '.join(sorted(set(arrived)))}")
    goal = (batch.request.get("goal") or {}).get("kind", "balance")
    failed = sum(item.state == "failed" for item in new)
    if again and failed and batch.kind in ("rebalance", "plan") and goal in ("balance", "consolidate"):
        return End(replan=f"{failed} moves failed, and others may do instead")
    return End()


def _by_guest(items: Iterable[Item]) -> dict[str, Item]:
    """The last of the items of each guest, by uuid or, where that is not known, by name."""
    return {item.uuid or item.domain: item for item in items}


def _arrived(domain: Mapping[str, Any], known: Mapping[str, Item]) -> bool:
    return domain.get("state") in FREE and domain["uuid"] not in known and domain["name"] not in known


def left_of(batch: Batch, items: Iterable[Item], sights: Sequence[Sight]) -> tuple[list[dict[str, Any]], list[str]]:
    """Who stays where the batch did not want it, and why; and what is to be said of hosts that nobody could look at.

    Of a drain these are all that are on its hosts.
    """
    if batch.kind != "drain":
        return list(batch.left), list(batch.notes)
    planned = {left["guest"]: left for left in batch.left}
    undone = _by_guest(item for item in items if item.state in ("failed", "skipped"))
    unseen = [] if batch.state != "running" else [sight for sight in sights if not sight.fresh]
    left = [
        _why_left(batch, sight.host, domain, planned.get(domain["uuid"]), undone)
        for sight in sights
        if sight not in unseen
        for domain in sight.domains
    ]
    left += [each for each in batch.left if each["host"] in {sight.host for sight in unseen}]
    notes = [
        f"{sight.host} could not be looked at after the last move: {sight.away or 'its agent published nothing'}; "
        "what runs there is not known"
        for sight in unseen
    ]
    return left, [*batch.notes, *notes]


def _why_left(
    batch: Batch, host: str, domain: Mapping[str, Any], planned: Mapping[str, Any] | None, undone: Mapping[str, Item]
) -> dict[str, Any]:
    name, state = domain["name"], str(domain.get("state"))
    item = undone.get(domain["uuid"]) or undone.get(name)

    def left(code: str, why: str, unblock: str = "") -> dict[str, Any]:
        told = {"guest": domain["uuid"], "domain": name, "host": host, "code": code, "why": why[:500]}
        return told | {"unblock": unblock}

    if item and item.state == "failed":
        return left("failed", f"its migration failed: {item.why}", f"vmrelay batch retry {batch.id}")
    if state in OFF:
        return left(STOPPED, f"it is {state}; a drain moves guests, and starts or stops none", "move it with --offline")
    if planned:
        return dict(planned)
    if item:
        return left(item.code, item.why, f"vmrelay drain {host}")
    if state not in FREE:
        return left("state", f"it is {state}", "look at it: vmrelay hosts")
    if batch.state == "cancelling":
        return left("cancelled", "the drain was cancelled before anything was planned for it", f"vmrelay drain {host}")
    if batch.exhausted:
        return left("no-plan", "no plan could be made; the notes of the batch say why", f"vmrelay drain {host}")
    return left("arrived", "it was not there when the last plan was made", f"vmrelay drain {host}")
