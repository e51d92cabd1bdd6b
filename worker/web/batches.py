"""The routes of batches: rebalances, lists and plans, and what steers them."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from worker.asking import refuse_control
from worker.contract import BATCH, CONTROL, REBALANCE, BatchRequest, BulkRequest, RebalanceRequest
from worker.contract.idempotency import ident_of
from worker.contract.shown import Batch, BatchItem, BatchState, MoveState, Page
from worker.web.access import Operate, View, Who
from worker.web.desk import (
    BatchId,
    Cursor,
    Desk,
    IdempotencyKey,
    LastEventId,
    Limit,
    Queued,
    TheDesk,
    Traceparent,
    problems,
    shown,
    traced,
)
from worker.web.migrations import LOCAL_SCOPE
from worker.web.problems import Denied
from worker.web.streams import EventStream, resumed, told

router = APIRouter(prefix="/v1", tags=["batches"])
PATH = "/batches"


class Control(BaseModel):
    """A word to a batch."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["pause", "resume", "cancel", "retry"]
    abort: bool = False
    """With ``cancel``: also cancel the migrations that run."""


class Controlled(BaseModel):
    """What came of it."""

    batch: str
    answer: Literal["ok", "same"]
    state: str


# -- asking for one ---------------------------------------------------------------------------------------------


@router.post(PATH, status_code=202, response_model=Batch | Queued, responses=problems(409, 413, 415))
async def batch(
    desk: TheDesk,
    who: Operate,
    request: Request,
    wish: BatchRequest,
    idempotency_key: IdempotencyKey = None,
    traceparent: Traceparent = None,
) -> Response:
    """Carry out a list of moves, or a plan."""
    return await begun(desk, who, request, BATCH, wish, idempotency_key, traceparent)


@router.post("/rebalances", status_code=202, response_model=Batch | Queued, responses=problems(409, 413, 415))
async def rebalance(
    desk: TheDesk,
    who: Operate,
    request: Request,
    wish: RebalanceRequest,
    idempotency_key: IdempotencyKey = None,
    traceparent: Traceparent = None,
) -> Response:
    """Plan on live loads which guests go where, and move them. It is a batch."""
    return await begun(desk, who, request, REBALANCE, wish, idempotency_key, traceparent)


async def begun(
    desk: Desk, who: Who, request: Request, task: str, wish: BulkRequest, key: str | None, traceparent: str | None
) -> Response:
    """Ask for a batch, and wait until there is one or it is refused; as queued where nobody answers."""
    derived = ident_of(who.name or LOCAL_SCOPE, key) if key else f"b-{uuid.uuid4().hex[:12]}"
    ident = wish.batch or derived
    arguments = (
        wish.model_dump(mode="json", exclude_unset=True)
        | {"requested_by": who.requester(wish.requested_by), "batch": ident}
        | traced(type(wish), wish, traceparent)
    )
    headers = {"Location": f"{router.prefix}{PATH}/{ident}"}
    # The task has an id of its own: under the batch's, nothing would be answered before the batch is over.
    if await desk.answer(task, arguments) is None:
        await to_thread.run_sync(desk.remember, ident)
        return shown(request, Queued(id=ident).model_dump(), 202, headers)
    found = await to_thread.run_sync(desk.batch, ident)
    return shown(request, found.document(), 202, headers)


# -- looking at them ----------------------------------------------------------------------------------------------


@router.get(PATH, response_model=Page[Batch], responses=problems())
def every(
    desk: TheDesk,
    _: View,
    request: Request,
    state: Annotated[list[BatchState] | None, Query(max_length=6, description="In one of these.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Batches, newest first."""
    batches, follows = desk.book.batch_page(state or (), limit, cursor)
    return shown(request, {"items": [batch.document() for batch in batches], "next": follows})


@router.get(PATH + "/{batch}/items", response_model=Page[BatchItem], responses=problems(404))
def items(
    desk: TheDesk,
    _: View,
    request: Request,
    ident: BatchId,
    state: MoveState | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """The moves of a batch, by number."""
    moves, follows = desk.book.item_page(desk.batch(ident).id, state or "", limit, cursor)
    return shown(request, {"items": [move.document() for move in moves], "next": follows})


@router.get(PATH + "/{batch}", response_model=Batch | Queued, responses=problems(404))
def one(desk: TheDesk, _: View, request: Request, ident: BatchId) -> Response:
    """One batch, without its moves."""
    try:
        document = desk.batch(ident).document()
    except Denied:
        if not desk.is_queued(ident):
            raise
        document = Queued(id=ident).model_dump()
    return shown(request, document)


@router.get(
    PATH + "/{batch}/events",
    responses=problems(404) | {200: {"content": {"text/event-stream": {}}}, 204: {"description": "All was told"}},
    response_class=Response,
)
def events(desk: TheDesk, who: View, ident: BatchId, last_event_id: LastEventId = None) -> Response:
    """What happens to it, as server-sent events; the stream ends after the event ``finished``."""
    after, book = resumed(last_event_id), desk.book
    if not desk.is_queued(ident):
        over = desk.batch(ident).state == "finished"
        if over and not book.batch_events(ident, after):
            return Response(status_code=204)

    def goes_on() -> bool:
        batch = book.batch(ident)
        return desk.access.holds(who) and (batch.state != "finished" if batch else desk.is_queued(ident))

    key = book._key("b", ident, "events")
    return EventStream(desk.streams, lambda: told(desk.watch, key, after, "finished", goes_on))


# -- acting on one ------------------------------------------------------------------------------------------------


@router.post(PATH + "/{batch}/control", response_model=Controlled, responses=problems(404, 409, 413, 415))
async def control(desk: TheDesk, who: Operate, request: Request, ident: BatchId, wish: Control) -> Response:
    """Pause it, resume it, cancel it, or ask anew for what failed in it."""
    await to_thread.run_sync(desk.batch, ident)
    arguments = wish.model_dump() | {"batch": ident, "requested_by": who.requester("")}
    answer = await desk.ask(CONTROL, arguments)
    refuse_control(wish.action, ident, answer["answer"], answer["state"])
    return shown(request, answer)
