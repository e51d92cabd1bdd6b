"""The rounds of batches: moves are asked for a few at a time, on what runs where then, until none is left.

Each round has a budget, so that thousands of moves hold up nobody else. Whatever is decided here is carried out by one
script that compares what was looked at with what is: whoever is killed when, the next leader goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import structlog

from tasks import admission, receipt
from worker import metrics
from worker.contract import MigrateRequest
from worker.errors import Rejected
from worker.journal.batch import KINDS, STATES, Batch, Item
from worker.journal.hosts import closed
from worker.runtime import Runtime
from worker.scheduler import on_round

logger = structlog.get_logger(__name__)

BUDGET_SECONDS = 0.05
"""A round asks for no more moves after so long."""
FED_AT_ONCE = 50
SHOWN_SECONDS = 1.0
"""So often what ``AsyncResult`` shows of a batch is renewed."""
LOOK_SECONDS, LOOKS = 5.0, 5
"""A drain waits for a look at its hosts so long, or so many times ``inventory_seconds``."""
LIMITS_SECONDS = 1.0
"""How often the limits are read that an operator may change meanwhile."""
STOPPED_SECONDS = 0.5
"""How often what a paused or cancelled batch has asked for is taken back."""

NONE_YET = {(kind, outcome): 0 for kind in KINDS for outcome in ("moved", "failed", "skipped")}
"""What is served before the first move of a kind has ended: of a counter that appears with it no rate sees that one."""


class Memory:
    """What one process remembers between rounds; nothing that could not be forgotten."""

    def __init__(self) -> None:
        self.turn = 0
        self.shown: dict[str, tuple[float, tuple[object, ...]]] = {}
        self.stopped: dict[str, float] = {}
        self.limits: dict[str, tuple[int, int]] = {}
        self.limited = -LIMITS_SECONDS

    def forget(self, open_: set[str]) -> None:
        """Keep only what belongs to batches that have not finished."""
        self.shown = {ident: value for ident, value in self.shown.items() if ident in open_}
        self.stopped = {ident: value for ident, value in self.stopped.items() if ident in open_}


_memory = Memory()


@on_round
def move_batches(parts: Runtime) -> None:
    """Move every batch on that has not finished, another one first in every round."""
    batches = parts.journal.open_batches()
    numbers = Counter(batch.state for batch in batches)
    for state in STATES[:-1]:
        metrics.batches.labels(state).set(numbers[state])
    metrics.batch_items.show(NONE_YET | parts.journal.item_outcomes())
    _memory.forget({batch.id for batch in batches})
    _memory.turn += 1
    first = _memory.turn % len(batches) if batches else 0
    until = time.monotonic() + BUDGET_SECONDS
    for batch in (*batches[first:], *batches[:first]):
        try:
            _move(parts, batch, until)
        except (KeyError, ValueError) as error:  # a batch of another version, say: the others must not wait for it
            logger.warning("batch not moved on", batch=batch.id, error=f"{type(error).__name__}: {error}"[:500])


def _move(parts: Runtime, batch: Batch, until: float) -> None:
    doomed, again = parts.journal.to_be_done(batch.id)
    if doomed or (batch.state == "cancelling" and batch.waiting):
        _while(lambda: parts.journal.skip_items(batch.id), until)
    if again:
        _while(lambda: parts.journal.items_again(batch.id), until)
    if batch.state in ("paused", "cancelling") and batch.asked and _due(batch):
        _take_back(parts, batch)
    if batch.state == "running" and batch.waiting:
        _feed(parts, batch, until)
    quiet = batch.complete and not batch.asked and not batch.waiting and not again
    if not (quiet and batch.state in ("running", "cancelling") and _ended(parts, batch)):
        _show(parts, batch)


def _while(step: Callable[[], int], until: float) -> None:
    """Take a step at least once, and again as long as there is something to do and time."""
    while step() and time.monotonic() < until:
        pass


def _show(parts: Runtime, batch: Batch) -> None:
    sight = (batch.revision, batch.asked, batch.state)
    at, before = _memory.shown.get(batch.id, (0.0, ()))
    now = time.monotonic()
    if sight != before and now - at >= SHOWN_SECONDS and (whole := parts.journal.batch(batch.id)):
        _memory.shown[batch.id] = (now, sight)
        parts.journal.show_batch(batch.id, receipt.progress_shown(whole))


# -- asking for moves ---------------------------------------------------------------------------------------


def _feed(parts: Runtime, batch: Batch, until: float) -> None:
    limits = _limits(parts)
    while time.monotonic() < until:
        fed = parts.journal.feedable(batch.id, limits, FED_AT_ONCE)
        for item, migration in fed:
            ask(parts, batch, item, migration)
            if time.monotonic() >= until:
                return
        if len(fed) < FED_AT_ONCE:
            return


def _limits(parts: Runtime) -> dict[str, tuple[int, int]]:
    """How many may leave and enter each host now."""
    now = time.monotonic()
    if now - _memory.limited >= LIMITS_SECONDS or _memory.limits.keys() != parts.inventory.keys():
        told = parts.journal.limits(parts.inventory.terms)["hosts"]
        _memory.limits = {name: (of["outgoing"]["limit"], of["incoming"]["limit"]) for name, of in told.items()}
        _memory.limited = now
    return _memory.limits


def ask(parts: Runtime, batch: Batch, item: Item, migration: str) -> None:
    """Ask for one move on what runs where now; a refusal is what became of it."""
    asked = {
        "domain": item.uuid or item.domain,
        "destination": item.destination,
        "priority": batch.priority,
        "requested_by": batch.requested_by,
        "reason": batch.reason or item.planned,
    } | {name: text for name, text in (("source", item.source), ("traceparent", batch.traceparent)) if text}
    try:
        request = MigrateRequest.parse(batch.request.get("migration", {}) | asked)
        record = admission.resolved(parts, migration, request)
        admission.submit(parts, replace(record, batch=batch.id, item=item.n))
    except Rejected as refusal:
        _refuse(parts, batch, item, migration, refusal)


def _refuse(parts: Runtime, batch: Batch, item: Item, migration: str, refusal: Rejected) -> None:
    """The record of a move that was refused when its turn came: the move has its final state in the same step."""
    fields: dict[str, str | int | float | None] = {
        "domain": item.domain,
        "uuid": item.uuid,
        "source": item.source,
        "destination": item.destination,
        "requested_by": batch.requested_by,
        "batch": batch.id,
        "item": item.n,
        "traceparent": batch.traceparent or None,
        "reason": refusal.code,
        "error": refusal.message[:2000],
        "driver": refusal.driver,
        "flags_label": refusal.flags,
    }
    told = {"outcome": "rejected", "reason": refusal.code, "error": refusal.message[:2000]}
    if parts.journal.refuse(migration, fields, parts.settings.keep_seconds, told):
        logger.info("rejected", migration=migration, batch=batch.id, code=refusal.code)
        return
    known = parts.journal.record(migration)
    if known is not None and (known.batch, known.item) != (batch.id, item.n):
        why = f"{migration} is the id of another migration; ask for {item.domain} in a batch of another name"
        parts.journal.settle_item(batch.id, item.n, "failed", "id-taken", why)


# -- taking back ----------------------------------------------------------------------------------------------


def _due(batch: Batch) -> bool:
    now = time.monotonic()
    if now - _memory.stopped.get(batch.id, 0.0) < STOPPED_SECONDS:
        return False
    _memory.stopped[batch.id] = now
    return True


def _take_back(parts: Runtime, batch: Batch) -> None:
    """What was asked for and nobody has started: waits again where the batch is paused, ends where it is cancelled.

    What runs of a batch that is cancelled ends as it does, unless that is to be cancelled, too.
    """
    for record in parts.journal.running_of(batch.id):
        if batch.state == "paused":
            parts.journal.withdraw(record.id)
        elif not record.cancel and (batch.abort or record.state in ("pending", "backoff")):
            parts.journal.cancel(record.id, f"batch {batch.id}", parts.settings.keep_seconds)


# -- the end ----------------------------------------------------------------------------------------------------


def _ended(parts: Runtime, brief: Batch) -> bool:
    """End a batch, or let it plan anew; false where it still waits for a look."""
    journal = parts.journal
    batch = journal.batch(brief.id)
    if batch is None or batch.revision != brief.revision:
        return False
    now = journal.now()
    undone = [item for part in ("failed", "depends", "cancelled") for item in journal.items_in(batch.id, part)]
    since = max(batch.last, batch.started, batch.created) / 1000
    limits = receipt.Limits(
        parts.settings.planning.replans, max(LOOK_SECONDS, LOOKS * parts.settings.inventory_seconds)
    )
    sights = _sights(parts, batch, since)
    follows = receipt.end_of_plan(batch, undone, sights, now - since, limits)
    if follows.wait:
        return False
    if follows.replan:
        if journal.replan_batch(batch, follows.replan):
            logger.info("batch", batch=batch.id, state="planning", why=follows.replan)
        return True
    items = journal.items(batch.id)
    left, notes = receipt.left_of(batch, items, sights)
    over = replace(batch, state="finished", ended=int(now * 1000), left=tuple(left), notes=tuple(notes))
    fields = {"ended": str(over.ended), "left": left, "notes": notes}
    shown = receipt.receipt_shown(over, items)
    if journal.finish_batch(batch, fields, parts.settings.keep_seconds, shown, {"why": receipt.counts(over)}):
        metrics.batch_seconds.labels(batch.kind).observe((over.ended - batch.created) / 1000)
        logger.info("batch", batch=batch.id, state="finished", summary=receipt.counts(over), left=len(over.left))
    return True


def _sights(parts: Runtime, batch: Batch, since: float) -> list[receipt.Sight]:
    if batch.kind != "drain":
        return []
    agents = parts.journal.agents(batch.hosts)
    return [
        receipt.Sight(
            host=host,
            fresh=parts.journal.looked_at(host) >= since,
            away=closed(agents.get(host)),
            domains=parts.journal.domains(host),
        )
        for host in batch.hosts
    ]
