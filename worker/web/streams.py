"""Server-sent events: what happens to one migration, or one batch, as it happens."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

import redis
from anyio import to_thread
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from worker import metrics
from worker.errors import Rejected
from worker.web.problems import Denied, problem_of
from worker.web.waiting import Happened, Watch

RETRY_MILLISECONDS = 2000
"""After so long a browser asks again for a stream that broke off."""
EVENT_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}", re.ASCII)
HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back until it has some kilobytes of them
)


@dataclass(eq=False)
class Streams:
    """Which streams are open, and whether there may be more. Shared by all that stream, the page's own too."""

    most: int
    open: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server stops: every stream ends at once."""

    @contextmanager
    def place(self) -> Iterator[None]:
        """Room for one stream, while the block lasts. Raises ``Denied`` (503)."""
        if self.open >= self.most or self.closing.is_set():
            raise Denied(503, "too-many-streams", f"{self.most} event streams are open, which is as many as may be")
        self.open += 1
        metrics.http_streams.set(self.open)
        try:
            yield
        finally:
            self.open -= 1
            metrics.http_streams.set(self.open)


class EventStream(Response):
    """Sends what ``source`` gives until that ends, the client goes, or the server stops.

    ``source`` gives blocks of bytes as ``event`` makes them. Takes its place when it begins to be sent, so that one
    that is never sent takes none.
    """

    def __init__(self, streams: Streams, source: Callable[[], AsyncIterator[bytes]]) -> None:
        super().__init__(status_code=200)
        self._streams = streams
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        scope["state"]["streams"] = True
        try:
            with self._streams.place():
                await self._serve(receive, send)
        except Denied as full:
            await problem_of(full)(scope, receive, send)

    async def _serve(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
        ends = [
            asyncio.create_task(self._send_all(send)),
            asyncio.create_task(_gone(receive)),
            asyncio.create_task(self._streams.closing.wait()),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            failed = ends[0].exception() if ends[0].done() else None
        finally:
            for each in ends:
                each.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        if failed is not None:
            raise failed
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        source = self._source()
        try:
            await send(_part(f"retry: {RETRY_MILLISECONDS}\n\n".encode()))
            async for block in source:
                await send(_part(block))
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()


def _part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def event(at: str, kind: str, data: dict[str, object]) -> bytes:
    """One event as it is sent: its id, its type, and both of them with its data as JSON. Pure."""
    told = json.dumps({"at": int(at.partition("-")[0]) / 1000, "type": kind} | data, separators=(",", ":"))
    return f"id: {at}\nevent: {kind}\ndata: {told}\n\n".encode()


PING = b": still there\n\n"
"""A comment: shows that the connection lives."""


def resumed(last_event_id: str | None) -> str:
    """After which event a stream goes on. Raises ``Rejected`` (``malformed``). Pure."""
    if not last_event_id:
        return "0"
    if not EVENT_ID.fullmatch(last_event_id):
        raise Rejected("Last-Event-ID is an event's id, as in 1763900000000-0", code="malformed")
    return last_event_id


async def told(watch: Watch, key: str, after: str, last: str, goes_on: Callable[[], bool]) -> AsyncGenerator[bytes]:
    """The events of a stream of the journal after an id, up to the first of the type ``last``.

    ``goes_on`` is asked in a thread when nothing has happened for long: whether there is anything more to wait for.
    """
    async with aclosing(watch.events(key, after)) as looks:
        async for happened in looks:
            if not happened:
                try:
                    if not await to_thread.run_sync(goes_on):
                        return
                except redis.RedisError:
                    pass  # nothing is known, so nothing is over
            yield b"".join(event(*each) for each in happened) or PING
            if ended_by(happened, last):
                return


def ended_by(happened: list[Happened], last: str) -> bool:
    """Whether an event of this type is the last of these. Pure."""
    return bool(happened) and happened[-1][1] == last
