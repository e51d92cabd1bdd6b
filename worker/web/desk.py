"""What the routes share: the relay as they see it, asking it for something, and answers that can be asked for again."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, cast

from anyio import to_thread
from celery import Celery
from fastapi import Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel

from worker.app import create_app
from worker.asking import enqueue
from worker.contract.names import IDENT
from worker.errors import Unavailable
from worker.inventory import Inventory
from worker.journal import Journal, Record
from worker.journal.batch import Batch
from worker.runtime import Runtime
from worker.settings import WebSettings
from worker.web.access import Access
from worker.web.problems import Problem, unknown
from worker.web.streams import EVENT_ID, Streams
from worker.web.waiting import Watch

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
"""Version 00 of W3C's trace context."""
QUEUED_SECONDS = 86400
"""So long it is remembered that something was enqueued which no scheduler has taken yet."""


@dataclass(frozen=True)
class Desk:
    """Everything that a route needs."""

    parts: Runtime
    access: Access
    watch: Watch
    streams: Streams
    sender: Celery

    @property
    def book(self) -> Journal:
        """The journal."""
        return self.parts.journal

    @property
    def inventory(self) -> Inventory:
        """The hosts."""
        return self.parts.inventory

    @property
    def settings(self) -> WebSettings:
        """Those of the web API."""
        return self.parts.settings.web

    async def send(self, task: str, arguments: Mapping[str, Any], ident: str = "") -> str:
        """Enqueue a task; returns its id. Raises ``Unavailable``."""
        return await to_thread.run_sync(
            partial(enqueue, task, dict(arguments), ident or str(uuid.uuid4()), self.sender)
        )

    async def ask(self, task: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What a task answers. Raises ``Rejected`` with its code, and ``Unavailable`` where no scheduler answers."""
        answer = await self.answer(task, arguments)
        if answer is None:
            raise Unavailable(
                f"no scheduler has answered within {self.settings.accept_seconds:g} s; what was asked may be done when "
                "one does. Is one running? (vmrelay doctor)",
                code="no-scheduler",
            )
        return answer

    async def answer(self, task: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """The same; ``None`` where no scheduler answers in time."""
        return await self.watch.answer(await self.send(task, arguments), self.settings.accept_seconds)

    # -- what the path names: each raises ``Denied`` (404) where there is no such thing -------------------

    def record(self, ident: str) -> Record:
        """A migration."""
        found = self.book.record(ident) if IDENT.fullmatch(ident) else None
        if found is None:
            raise unknown("migration", ident)
        return found

    def batch(self, ident: str) -> Batch:
        """A batch."""
        found = self.book.batch(ident) if IDENT.fullmatch(ident) else None
        if found is None:
            raise unknown("batch", ident)
        return found

    def host(self, name: str) -> str:
        """A host."""
        if name not in self.inventory:
            raise unknown("host", name)
        return name

    # -- what is enqueued, and not in the journal yet -------------------------------------------------

    def remember(self, ident: str) -> None:
        """Somebody was told this id, and may look for it before a scheduler does."""
        self.book.client.set(self.book._key("queued", ident), "1", ex=QUEUED_SECONDS)

    def is_queued(self, ident: str) -> bool:
        """Whether an id is that of something enqueued which no scheduler has taken yet, as far as is remembered."""
        return bool(IDENT.fullmatch(ident)) and bool(self.book.client.exists(self.book._key("queued", ident)))


def desk_for(parts: Runtime) -> Desk:
    """The one for these parts. Raises ``SettingsError``."""
    web = parts.settings.web
    access, watch = Access(web), Watch(parts.journal)
    return Desk(parts, access, watch, Streams(web.streams), create_app(parts.settings, answers=False))


def _desk(request: Request) -> Desk:
    return cast(Desk, request.app.state.desk)


class Queued(BaseModel):
    """Enqueued; no scheduler has taken it yet."""

    id: str
    state: str = "queued"


# -- what routes take -----------------------------------------------------------------------------------------

TheDesk = Annotated[Desk, Depends(_desk)]
MigrationId = Annotated[str, Path(alias="migration", description="A migration's id.")]
BatchId = Annotated[str, Path(alias="batch", description="A batch's id.")]
HostName = Annotated[str, Path(alias="host", description="A host of the inventory.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern="^[!-~]+$",
        description="The same key with the same request, from the same token, is the same request: asked for once.",
    ),
]
Traceparent = Annotated[
    str | None,
    Header(description="W3C trace context, kept with what is asked for; one that is malformed is passed over."),
]
Limit = Annotated[int, Query(ge=1, le=200, description="So many at most.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the page before.")]
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", pattern=f"^{EVENT_ID.pattern}$", description="Go on after this one.")
]


# -- what routes answer ---------------------------------------------------------------------------------------


def shown(request: Request, document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document as JSON, with a tag; 304 where whoever asks has it already."""
    body = json.dumps(document, separators=(",", ":"), default=str).encode()
    tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    if status == 200 and tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(body, status, {"ETag": tag, **(headers or {})}, "application/json")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route as the OpenAPI document tells them; those that every route has are among them."""
    told = {
        400: "No HTTP that is understood",
        401: "A token is missing, or wrong",
        403: "The role does not allow it, or the page of another site asks",
        404: "Unknown",
        409: "How things stand does not allow it",
        413: "The request is too long",
        415: "The request is no JSON",
        422: "Refused",
        429: "Too many requests; see Retry-After",
        500: "Something is wrong inside vmrelay",
        503: "Redis or the scheduler is away; see Retry-After",
    }
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    every = {400, 401, 403, 422, 429, 500, 503, *statuses}
    return {
        status: {"description": told[status], "content": {"application/problem+json": {"schema": schema}}}
        for status in sorted(every)
    }


def traced(model: type[BaseModel], wish: BaseModel, header: str | None) -> dict[str, str]:
    """The trace that a request belongs to, where the header tells it and the body does not. Pure."""
    if header is None or not TRACEPARENT.fullmatch(header) or "traceparent" not in model.model_fields:
        return {}
    return {} if getattr(wish, "traceparent", None) else {"traceparent": header}
