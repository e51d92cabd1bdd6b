"""Batches as they are asked for: checked, and journaled in one step. What follows is the leading scheduler's.

Nothing is planned or filled here: a request of ten thousand moves is one script and one text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import structlog

from tasks.hosts import refuse_drain, refuse_uncordon
from tasks.planner.check import outdated
from worker import fleet, metrics, planning
from worker.contract import BatchRequest, DrainRequest, Goal, Plan, ReturnRequest
from worker.contract.idempotency import MakesBatch, fingerprint, kind_of
from worker.errors import Rejected
from worker.journal.batch import Batch, Item
from worker.runtime import Runtime
from worker.settings import PlanningSettings

logger = structlog.get_logger(__name__)

Request = MakesBatch
LONGEST = 104
"""Characters of a batch's id: its migrations have the number of the move and of the try behind it."""
MOST_CHANGES = 5
"""So many differences are named where a plan is refused."""


def begin(parts: Runtime, ident: str, request: Request) -> tuple[str, str]:
    """Journal a batch: ``accepted`` or, where this request made it before, ``same``; and its state.

    Raises ``Rejected``: ``malformed``, ``unknown-host``, ``plan-outdated``, what speaks against draining or
    uncordoning, or ``batch-exists`` where the id is that of another batch or migration.
    """
    if len(ident) > LONGEST:
        raise Rejected(f"a batch's id has at most {LONGEST} characters", code="malformed")
    # What speaks against a batch that is there already is not asked: the answer is that it is there.
    replan = parts.journal.batch(ident) is None and _to_be_replanned(parts, request)
    filling, moves, more = _filling(request, replan)
    fields = {
        "kind": kind_of(request),
        "digest": fingerprint(request),
        "request": request.model_dump(mode="json", exclude={"moves", "plan", "traceparent"}, exclude_unset=True) | more,
        "hosts": list(getattr(request, "hosts", ())),
        "priority": str(request.priority),
        "requested_by": request.requested_by,
        "reason": request.reason,
        "traceparent": request.traceparent,
        "hold": "1" if request.hold else None,
    }
    told = {"kind": fields["kind"], "moves": moves, "by": request.requested_by}
    answer, state = parts.journal.create_batch(ident, fields, filling, moves, told)
    if answer == "EXISTS":
        logger.warning("another request under a known id", batch=ident, by=request.requested_by)
        metrics.conflicts.labels("batch").inc()
        raise Rejected(
            f"'{ident}' is the id of something else already; choose another id, or send the very same request to ask "
            "for that batch",
            code="batch-exists",
        )
    if answer == "OK":
        logger.info("batch", batch=ident, kind=fields["kind"], moves=moves)
        if isinstance(request, DrainRequest):  # at once: another drain of these hosts is refused from now on
            for host in request.hosts:
                parts.journal.cordon(host, request.requested_by, request.reason, ident)
    return ("same", state) if answer == "SAME" else ("accepted", "planning")


# -- what speaks against it, and what it is filled with ---------------------------------------------------


def _to_be_replanned(parts: Runtime, request: Request) -> bool:
    """Whether a plan has to be made anew before anything moves. Raises ``Rejected`` where something speaks against
    the request."""
    for name in dict.fromkeys(_hosts(request)):
        host = parts.inventory.host(name)
        if isinstance(request, ReturnRequest):
            refuse_uncordon(parts, host)
    if isinstance(request, DrainRequest):
        refuse_drain(parts, request.hosts)
    if not isinstance(request, BatchRequest) or request.plan is None:
        return False
    changed = _changed(parts, request.plan)
    if changed and request.on_change == "refuse":
        more = f" and {len(changed) - MOST_CHANGES} more" if len(changed) > MOST_CHANGES else ""
        raise Rejected(
            f"the plan no longer fits what runs where: {'; '.join(changed[:MOST_CHANGES])}{more}; make a new one, "
            "or ask with on_change=replan",
            code="plan-outdated",
        )
    return bool(changed)


def _hosts(request: Request) -> list[str]:
    if isinstance(request, BatchRequest):
        ends = [(move.source, move.destination) for move in request.moves]
        ends += [(step.source, step.destination) for step in request.plan.steps] if request.plan else []
        return [name for pair in ends for name in pair if name]
    return list(getattr(request, "hosts", ()))


def _changed(parts: Runtime, plan: Plan) -> list[str]:
    problem = fleet.problem(parts.settings, parts.inventory, parts.journal, plan.goal)
    return outdated(plan, problem)


def _filling(request: Request, replan: bool) -> tuple[str, int, dict[str, Any]]:
    """What the batch is filled with (empty where it is to be planned), how many moves, and what to remember."""
    if not isinstance(request, BatchRequest):
        return "", 0, {}
    if request.plan is None:
        moves = [move.model_dump(mode="json", exclude_defaults=True) for move in request.moves]
        return json.dumps({"moves": moves}), len(moves), {}
    goal = {"goal": request.plan.goal.model_dump(mode="json")}
    return ("", 0, goal) if replan else (request.plan.model_dump_json(), len(items_of_plan(request.plan)), goal)


def items(filling: str, base: int) -> list[Item]:
    """The moves that a batch is filled with; they come after number ``base``."""
    told = json.loads(filling)
    if "moves" not in told:
        return items_of_plan(Plan.model_validate(told), base)
    return [
        Item(
            n=n,
            domain=move["domain"],
            source=move.get("source") or "",
            destination=move["destination"],
            after=tuple(sorted({base + before for before in move.get("after", ())})),
        )
        for n, move in enumerate(told["moves"], base + 1)
    ]


def items_of_plan(plan: Plan, base: int = 0) -> list[Item]:
    """The moves of a plan in its order, and after them what it leaves where it is."""
    number = {step.n: n for n, step in enumerate(plan.steps, base + 1)}
    found = [
        Item(
            n=number[step.n],
            domain=step.domain,
            uuid=step.guest,
            source=step.source,
            destination=step.destination,
            after=tuple(sorted({number[before] for before in step.after})),
            planned=step.why,
        )
        for step in plan.steps
    ]
    for n, left in enumerate((*plan.left, *plan.stuck), base + len(found) + 1):
        found.append(Item(n, left.domain, left.guest, left.host, left=True, code=left.code, why=left.why))
    return found


# -- goals ------------------------------------------------------------------------------------------------


def goal_of(batch: Batch, settings: PlanningSettings, homes: Mapping[str, str]) -> Goal:
    """What a batch is planned for. Pure; ``homes`` are those of the guests that it brings back, by uuid."""
    wanted = Goal.model_validate({"kind": "balance"} | (batch.request.get("goal") or {}))
    if batch.kind == "plan":
        return wanted
    wanted = planning.filled(wanted, settings)
    if batch.kind == "drain":
        return wanted.model_copy(update={"kind": "drain", "hosts": batch.hosts})
    if batch.kind == "return":
        return wanted.model_copy(update={"kind": "place", "hosts": (), "targets": dict(homes)})
    return wanted
