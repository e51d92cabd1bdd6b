"""The routes of migrations."""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from worker.contract import CANCEL, MIGRATE, RESOLVE, RETRY, TUNE, MigrateRequest, ResolveRequest, TuneRequest
from worker.contract.idempotency import fingerprint, ident_of
from worker.contract.names import HostName, Ident, Name, Text
from worker.contract.shown import Migration, Outcome, Page, State
from worker.errors import Rejected
from worker.hypervisors.convergence import TuningKind
from worker.journal import Record
from worker.journal.lists import Filters
from worker.web.access import Admin, Operate, View
from worker.web.desk import (
    Cursor,
    Desk,
    IdempotencyKey,
    LastEventId,
    Limit,
    MigrationId,
    Queued,
    TheDesk,
    Traceparent,
    problems,
    shown,
    traced,
)
from worker.web.problems import Denied
from worker.web.streams import EventStream, resumed, told

router = APIRouter(prefix="/v1/migrations", tags=["migrations"])
LOCAL_SCOPE = "local"
"""Of idempotency keys, where nobody needs a token."""


class Answer(BaseModel):
    """What came of a wish about a migration."""

    migration: str
    """Its id; of a retry that of the new one."""
    answer: str
    detail: str = ""


class Tuning(BaseModel):
    """A wish for a running perform."""

    model_config = ConfigDict(extra="forbid")

    kind: TuningKind
    value: int | None = None
    """Milliseconds for ``set-downtime``, MiB/s for a speed; none for ``postcopy``."""


class Resolving(BaseModel):
    """What an operator knows of a migration that nobody carries on."""

    model_config = ConfigDict(extra="forbid")

    assume_dead: Name | None = None
    """One of its two hosts, which is powered off or fenced."""


# -- asking for one ---------------------------------------------------------------------------------------------


@router.post("", status_code=202, response_model=Migration | Queued, responses=problems(409, 413, 415))
async def migrate(
    desk: TheDesk,
    who: Operate,
    request: Request,
    wish: MigrateRequest,
    idempotency_key: IdempotencyKey = None,
    traceparent: Traceparent = None,
) -> Response:
    """Move a domain to another host. Answered once a scheduler has accepted or refused it, or as queued."""
    asked = MigrateRequest.parse(
        wish.model_dump(exclude_unset=True)
        | {"requested_by": who.requester(wish.requested_by)}
        | traced(MigrateRequest, wish, traceparent)
    )
    ident = ident_of(who.name or LOCAL_SCOPE, idempotency_key) if idempotency_key else ""
    known = await to_thread.run_sync(desk.book.record, ident) if ident else None
    if known is None:
        ident = await desk.send(MIGRATE, asked.model_dump(mode="json", exclude_unset=True), ident)
        if not await desk.watch.record(ident, desk.settings.accept_seconds):
            await to_thread.run_sync(desk.remember, ident)
            return shown(request, Queued(id=ident).model_dump(), 202, _location(ident))
        known = await to_thread.run_sync(desk.book.record, ident)
    return shown(request, accepted(known, ident, fingerprint(asked)), 202, _location(ident))


def accepted(record: Record | None, ident: str, mine: str) -> dict[str, Any]:
    """The document of a migration that was asked for. Raises ``Rejected`` where it was refused. Pure."""
    if record is None:  # it ended and was forgotten in between
        return Queued(id=ident).model_dump()
    if record.fingerprint not in ("", mine):
        raise Denied(
            422,
            "idempotency-conflict",
            f"this idempotency key was used for another request, which is migration {ident}; take a new one",
        )
    if record.outcome == "rejected":
        raise Rejected(record.error, code=record.reason)
    return record.document()


def _location(ident: str) -> dict[str, str]:
    return {"Location": f"{router.prefix}/{ident}"}


# -- looking at them ----------------------------------------------------------------------------------------------


@router.get("", response_model=Page[Migration], responses=problems())
def every(
    desk: TheDesk,
    _: View,
    request: Request,
    state: Annotated[list[State] | None, Query(max_length=5, description="In one of these.")] = None,
    outcome: Outcome | None = None,
    host: Annotated[HostName | None, Query(description="They leave it or enter it.")] = None,
    domain: Annotated[Name | None, Query(description="Name or uuid.")] = None,
    batch: Ident | None = None,
    requested_by: Text | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Migrations, newest first."""
    filters = Filters(tuple(state or ()), outcome or "", host or "", domain or "", batch or "", requested_by or "")
    records, follows = desk.book.page(filters, limit, cursor)
    return shown(request, {"items": [record.document() for record in records], "next": follows})


@router.get("/{migration}", response_model=Migration | Queued, responses=problems(404))
def one(desk: TheDesk, _: View, request: Request, ident: MigrationId) -> Response:
    """One migration."""
    try:
        document = desk.record(ident).document()
    except Denied:
        if not desk.is_queued(ident):
            raise
        document = Queued(id=ident).model_dump()
    return shown(request, document)


@router.get(
    "/{migration}/events",
    responses=problems(404) | {200: {"content": {"text/event-stream": {}}}, 204: {"description": "All was told"}},
    response_class=Response,
)
def events(desk: TheDesk, who: View, ident: MigrationId, last_event_id: LastEventId = None) -> Response:
    """What happens to it, as server-sent events; the stream ends after the event ``ended``.

    204 where all of it was told already, so that browsers ask no more.
    """
    after, book = resumed(last_event_id), desk.book
    if not desk.is_queued(ident):
        over = desk.record(ident).state == "ended"
        if over and not book.events(ident, after):
            return Response(status_code=204)

    def goes_on() -> bool:
        record = book.record(ident)
        return desk.access.holds(who) and (record.state != "ended" if record else desk.is_queued(ident))

    key = book._key("m", ident, "events")
    return EventStream(desk.streams, lambda: told(desk.watch, key, after, "ended", goes_on))


# -- acting on one ------------------------------------------------------------------------------------------------


@router.post("/{migration}/cancel", response_model=Answer, responses=problems(404, 409))
async def cancel(desk: TheDesk, who: Operate, request: Request, ident: MigrationId) -> Response:
    """Stop it: the domain stays on its source. 409 where it is too late, or over."""
    answer = await _asked(desk, CANCEL, ident, who.requester(""))
    if answer["answer"] == "too-late":
        raise Rejected("too late: the guest is on its way to the destination; it ends as moved", code="too-late")
    if answer["answer"] == "over":
        raise Rejected(f"migration {ident} is over: {answer['detail']}", code="over")
    return shown(request, answer)


@router.post("/{migration}/tune", status_code=202, response_model=Answer, responses=problems(404, 409, 413, 415))
async def tune(desk: TheDesk, who: Operate, request: Request, ident: MigrationId, wish: Tuning) -> Response:
    """Change a running perform; the event ``tuned`` tells what became of it."""
    more = wish.model_dump(mode="json", exclude_none=True)
    TuneRequest.parse({"migration": "any", **more})
    return shown(request, await _asked(desk, TUNE, ident, who.requester(""), more), 202)


@router.post("/{migration}/retry", status_code=202, response_model=Answer, responses=problems(404, 409))
async def retry(desk: TheDesk, who: Operate, request: Request, ident: MigrationId) -> Response:
    """Ask for it again, with the same flags and parameters."""
    answer = await _asked(desk, RETRY, ident, who.requester(""))
    return shown(request, answer, 202, _location(answer["migration"]))


@router.post("/{migration}/resolve", status_code=202, response_model=Answer, responses=problems(404, 409, 413, 415))
async def resolve(
    desk: TheDesk, who: Admin, request: Request, ident: MigrationId, wish: Resolving | None = None
) -> Response:
    """Look at both hosts again and bring it to an end; events tell what was seen and done."""
    more = wish.model_dump(exclude_none=True) if wish else {}
    ResolveRequest.parse({"migration": "any", **more})
    return shown(request, await _asked(desk, RESOLVE, ident, who.requester(""), more), 202)


async def _asked(desk: Desk, task: str, ident: str, by: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    await to_thread.run_sync(desk.record, ident)
    return await desk.ask(task, {"migration": ident, "requested_by": by} | (more or {}))
