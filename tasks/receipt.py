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
from worker.journal.batch import Batch, Item
from worker.journal.outcomes import Shown

MOST_NAMED = 1000
"""So many failed, and so many skipped moves are named in the result; the journal has them all."""
FREE = (DomainState.RUNNING, DomainState.PAUSED)
"""A guest in one of these can be moved."""


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
class End:
    """What follows: another look, another plan (and why), or the end, with what is left where."""

    wait: bool = False
    replan: str = ""
    left: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def end_of_plan(batch: Batch, undone: Sequence[Item], sights: Iterable[Sight], waited: float, most: Limits) -> End:
    """What follows for a batch that has nothing left to ask for and nothing that runs.

    ``undone``: the moves of it that failed or were skipped. ``waited``: seconds since the last move ended.
    """
    new = [item for item in undone if item.n > batch.base]
    again = batch.state == "running" and batch.kind != "list" and batch.replans < most.replans and not batch.exhausted
    depends = [item for item in new if item.code == "depends"]
    if again and depends:
        return End(replan=f"{len(depends)} moves fitted only after others that were not made")
    if batch.kind != "drain":
        goal = (batch.request.get("goal") or {}).get("kind", "balance")
        failed = [item for item in new if item.state == "failed"]
        if again and failed and batch.kind in ("rebalance", "plan") and goal in ("balance", "consolidate"):
            return End(replan=f"{len(failed)} moves failed, and others may do instead")
        return End(left=batch.left, notes=batch.notes)
    if batch.state != "running":
        return End(left=batch.left, notes=batch.notes)
    seen = list(sights)
    late = waited >= most.look_seconds
    if not late and any(not sight.fresh for sight in seen):
        return End(wait=True)
    told = {item.uuid or item.domain: item for item in undone}
    arrived = [
        (sight.host, domain)
        for sight in seen
        if sight.fresh
        for domain in sight.domains
        if _movable(domain) and domain["uuid"] not in told and domain["name"] not in told
    ]
    if again and arrived:
        return End(replan=f"{len(arrived)} more guests run on {', '.join(sorted({host for host, _ in arrived}))}")
    return End(left=tuple(_left(batch, seen, told)), notes=(*batch.notes, *_unseen(seen)))


@dataclass(frozen=True, slots=True)
class Limits:
    """How often and how long."""

    replans: int
    look_seconds: float
    """So long a look at a drained host is waited for."""


def _movable(domain: Mapping[str, Any]) -> bool:
    return domain.get("state") in FREE


def _unseen(sights: Iterable[Sight]) -> list[str]:
    return [
        f"{sight.host} could not be looked at after the last move: {sight.away or 'its agent published nothing'}; "
        "what runs there is not known"
        for sight in sights
        if not sight.fresh
    ]


def _left(batch: Batch, sights: Iterable[Sight], told: Mapping[str, Item]) -> Iterable[dict[str, Any]]:
    """Who is still on the drained hosts, and why; of a host that nobody could look at, what was known before."""
    known = {left["guest"]: left for left in batch.left}
    hosts = set()
    for sight in sights:
        if not sight.fresh:
            continue
        hosts.add(sight.host)
        for domain in sight.domains:
            yield _why_left(sight.host, domain, known.get(domain["uuid"]), told, batch)
    for left in batch.left:
        if left["host"] not in hosts and left["host"] in batch.hosts:
            yield left


def _why_left(
    host: str, domain: Mapping[str, Any], left: Mapping[str, Any] | None, told: Mapping[str, Item], batch: Batch
) -> dict[str, Any]:
    item = told.get(domain["uuid"]) or told.get(domain["name"])
    document = {"guest": domain["uuid"], "domain": domain["name"], "host": host, "unblock": ""}
    if item and item.state == "failed":
        again = f"vmrelay batch retry {batch.id}"
        return document | {"code": "failed", "why": f"its migration failed: {item.why}"[:500], "unblock": again}
    if left:
        return dict(left)
    if item:
        return document | {"code": item.code, "why": item.why[:500]}
    if not _movable(domain):
        why = f"it is {domain.get('state')}; a drain neither starts nor stops a guest"
        return document | {"code": "state", "why": why, "unblock": "start it, or move its definition with --offline"}
    again = f"vmrelay drain {host}"
    return document | {"code": "arrived", "why": "it was not there when the last plan was made", "unblock": again}
