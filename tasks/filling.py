"""What a batch is to move: planned and written down, in threads of the leading scheduler that hold up no round.

Planning takes seconds, in a process of its own. Whoever is killed meanwhile has changed nothing: another leader plans
again, and a plan that comes for a batch that has gone on is dropped (``batch-adopt.lua``). Writing the moves down is
the same whoever does it, and how often.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import redis
import structlog

from tasks import bulk, cordons
from tasks.homes import Homecoming, coming_home
from worker import fleet, planning
from worker.contract import Plan, Problem
from worker.contract.plans import Left
from worker.errors import RelayError
from worker.journal.batch import Batch, Item
from worker.journal.batches import CHUNK
from worker.runtime import Runtime
from worker.scheduler import on_round

logger = structlog.get_logger(__name__)

MOST_THREADS = 4
"""So many batches are planned or written down at once; others wait."""
MOST_LEFT = 1000
"""So many guests that a plan leaves where they are are named with the batch; its moves name them all."""

_busy: dict[str, threading.Thread] = {}


@on_round
def fill_batches(parts: Runtime) -> None:
    """Begin to plan, or to write down, what is to be."""
    for ident in [ident for ident, thread in _busy.items() if not thread.is_alive()]:
        del _busy[ident]
    for batch in parts.journal.open_batches():
        if wanted(batch) and batch.id not in _busy and len(_busy) < MOST_THREADS:
            thread = threading.Thread(target=_work, args=(parts, batch.id), name=f"fill-{batch.id}", daemon=True)
            _busy[batch.id] = thread
            thread.start()


def wanted(batch: Batch) -> bool:
    """Whether a batch is to be planned or written down. Pure. One that is cancelled is written down to its end: its
    receipt names every move."""
    return batch.state == "planning" or (batch.state == "cancelling" and not batch.complete)


def _work(parts: Runtime, ident: str) -> None:
    try:
        fill(parts, ident)
    except redis.RedisError as lost:
        logger.warning("batch not filled: Redis does not answer", batch=ident, error=type(lost).__name__)
    except Exception as error:  # the next round tries again; one batch that cannot be dealt with stops no other
        logger.warning("batch not filled", batch=ident, error=f"{type(error).__name__}: {error}"[:500])
        threading.Event().wait(1)


def fill(parts: Runtime, ident: str) -> None:
    """Plan a batch where it has to be, write down its moves, and let it begin."""
    journal = parts.journal
    batch = journal.batch(ident)
    if batch is None or not wanted(batch):
        return
    if batch.kind == "drain" or (batch.plans == 0 and batch.filled == 0):
        open_or_close(parts, batch)  # a drain that is retried may have been opened since
    if batch.expected is None:
        plan(parts, batch)
        batch = journal.batch(ident)
    if batch is None or batch.expected is None:
        return
    write(parts, batch)
    while journal.items_again(ident):
        pass
    if state := journal.begin_batch(ident, {}):
        logger.info("batch", batch=ident, state=state)


def open_or_close(parts: Runtime, batch: Batch) -> None:
    """Nothing is sent any more to a host that is drained; one that gets its guests back takes them."""
    for host in batch.hosts:
        if batch.kind == "drain":
            parts.journal.cordon(host, batch.requested_by, batch.reason, batch.id)
            cordons.turn_away_from(parts, host)
        elif batch.kind == "return":
            parts.journal.uncordon(host)


def write(parts: Runtime, batch: Batch) -> None:
    """Write down the moves that are not yet, some at a time; harmless where somebody else does the same."""
    written: int | None = batch.filled
    if batch.expected == written:
        return
    items = bulk.items(parts.journal.filling_of(batch.id), batch.base)
    while written is not None and written < (batch.expected or 0):
        at = written - batch.base
        written = parts.journal.add_items(batch.id, items[at : at + CHUNK])


# -- planning -----------------------------------------------------------------------------------------------


def plan(parts: Runtime, batch: Batch) -> bool:
    """Make a plan and give it to the batch; false where that has gone on meanwhile."""
    home = coming_home(parts, batch) if batch.kind == "return" else Homecoming()
    stay = [] if batch.renew else parts.journal.items_in(batch.id, "failed")
    stay += parts.journal.items_in(batch.id, "cancelled")
    try:
        goal = bulk.goal_of(batch, parts.settings.planning, home.targets)
        problem = fleet.problem(parts.settings, parts.inventory, parts.journal, goal)
        found = planning.make(pinned(problem, stay), parts.settings.planning.process_mib)
    except RelayError as wrong:
        logger.warning("no plan", batch=batch.id, code=wrong.code, error=wrong.message[:500])
        why = f"no plan could be made: {wrong.message} [{wrong.code}]"
        notes = [*batch.notes, why]
        return parts.journal.adopt_plan(batch, "", 0, {"exhausted": "1", "notes": notes}, {"why": why})
    found = found.model_copy(update={"left": (*_news(found.left, stay), *map(Left.model_validate, home.left))})
    items = bulk.items_of_plan(found)
    adopted = parts.journal.adopt_plan(batch, found.model_dump_json(), len(items), adopted_fields(found), _told(found))
    logger.info("planned", batch=batch.id, plan=found.id, status=found.status, moves=len(found.steps), used=adopted)
    return adopted


def pinned(problem: Problem, stay: Sequence[Item]) -> Problem:
    """The problem with every guest left where it is whose migration in this batch failed or was cancelled. Pure."""
    why = {item.uuid or item.domain: f"its migration was not made: {item.why}"[:500] for item in stay}
    guests = tuple(
        guest.model_copy(update={"pinned": told})
        if (told := why.get(guest.id) or why.get(guest.name)) and not guest.pinned
        else guest
        for guest in problem.guests
    )
    return problem.model_copy(update={"guests": guests})


def _news(left: Iterable[Left], stay: Iterable[Item]) -> Iterator[Left]:
    """Of whom a plan leaves where they are, those of whom the batch does not say anyway why they stay."""
    known = {name for item in stay for name in (item.uuid or item.domain, item.domain)}
    return (each for each in left if each.guest not in known and each.domain not in known)


def adopted_fields(found: Plan) -> dict[str, Any]:
    """What a batch keeps of its plan besides the moves. Pure."""
    notes = [*found.notes, *(f"{each.subject}: {each.why} [{each.code}]" for each in found.impossible[:MOST_LEFT])]
    if found.stale:
        notes.append(f"planned with old loads: {'; '.join(found.stale)}"[:500])
    if found.status == "nothing-to-do":
        notes.insert(0, "nothing to do")
    left = [each.model_dump(mode="json") for each in (*found.left, *found.stuck)][:MOST_LEFT]
    return {"notes": notes, "left": left, "seconds": str(found.totals.seconds)}


def _told(found: Plan) -> dict[str, Any]:
    left = len(found.left) + len(found.stuck)
    return {
        "plan": found.id,
        "status": found.status,
        "moves": len(found.steps),
        "left": left,
        "seconds": found.totals.seconds,
        "why": f"{len(found.steps)} moves, {left} left where they are",
    }
