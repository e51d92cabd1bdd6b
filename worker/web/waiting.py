"""Waiting for Redis on behalf of many callers: one thread looks for all of them, a few times a second.

No request holds a thread or a connection while it waits for a scheduler's answer, and no event stream does. Redis's
own blocking reads would need a connection for each, or an interruption whenever somebody comes or goes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
import structlog
from anyio import CapacityLimiter, to_thread

from worker.asking import refusal_of
from worker.errors import Rejected
from worker.journal import Journal

logger = structlog.get_logger(__name__)

ANSWER_SECONDS = 0.02
"""How often is looked where somebody waits for an answer."""
STREAM_SECONDS = 0.1
"""How often is looked where there are only streams."""
HEARTBEAT_SECONDS = 15.0
"""After so long without an event a stream shows that it lives: proxies close what is silent."""
MOST_EVENTS = 200
"""So many events of one stream are read at a look."""
RESULTS = "celery-task-meta-"
"""Where Celery keeps a task's answer."""
Happened = tuple[str, str, dict[str, Any]]
"""An event: its id, its type, its data."""
Entry = tuple[str, Mapping[str, str]]
"""The same as Redis has it."""


@dataclass(eq=False, slots=True)
class _Question:
    """Somebody who waits for a key to be there."""

    key: str
    found: asyncio.Future[None]


@dataclass(eq=False, slots=True)
class _Listener:
    """Somebody who reads a stream of events."""

    key: str
    after: str
    news: asyncio.Event = field(default_factory=asyncio.Event)
    entries: list[Entry] = field(default_factory=list)


class Watch:
    """The one who looks. Belongs to one event loop; runs while somebody waits, and not longer."""

    def __init__(self, book: Journal) -> None:
        self._book = book
        self._questions: set[_Question] = set()
        self._listeners: set[_Listener] = set()
        self._limiter = CapacityLimiter(1)
        self._task: asyncio.Task[None] | None = None

    # -- those who wait -------------------------------------------------------------------------------

    async def key(self, key: str, seconds: float) -> bool:
        """Wait until a key is there; false where it was not in time. Raises ``redis.RedisError``."""
        question = _Question(key, asyncio.get_running_loop().create_future())
        self._questions.add(question)
        self._wake()
        try:
            await asyncio.wait_for(question.found, seconds)
        except TimeoutError:
            return False
        finally:
            self._questions.discard(question)
        return True

    async def record(self, ident: str, seconds: float) -> bool:
        """Wait until there is a record of a migration."""
        return await self.key(self._book._key("m", ident), seconds)

    async def answer(self, task: str, seconds: float) -> dict[str, Any] | None:
        """What a task answers; ``None`` where it did not in time. Raises ``Rejected`` with the task's own code."""
        if not await self.key(RESULTS + task, seconds):
            return None
        raw = await to_thread.run_sync(self._book.client.get, RESULTS + task)
        return answered(raw) if raw else None

    async def events(self, key: str, after: str) -> AsyncGenerator[list[Happened]]:
        """The events of a stream after an id, as they come, for ever; an empty list now and then, for a sign of life.

        While Redis is away nothing comes; afterwards it goes on where it was.
        """
        listener = _Listener(key, after)
        self._listeners.add(listener)
        try:
            while True:
                self._wake()
                try:
                    await asyncio.wait_for(listener.news.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield []
                    continue
                found, listener.entries = listener.entries, []
                listener.news.clear()
                yield [(at, entry["type"], json.loads(entry["data"] or "{}")) for at, entry in found]
        finally:
            self._listeners.discard(listener)

    # -- the one who looks ------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_on())

    async def _look_on(self) -> None:
        while self._questions or self._listeners:
            began = time.monotonic()
            questions = list(self._questions)
            listeners = [each for each in self._listeners if not each.entries]
            try:
                there, happened = await to_thread.run_sync(
                    self._look,
                    [each.key for each in questions],
                    [(each.key, each.after) for each in listeners],
                    limiter=self._limiter,
                )
            except Exception as lost:
                for question in questions:
                    if not question.found.done():
                        question.found.set_exception(lost)
                level = logger.debug if isinstance(lost, redis.RedisError) else logger.error
                level("no look", error=type(lost).__name__)
            else:
                _tell(questions, there, listeners, happened)
            pause = ANSWER_SECONDS if self._questions else STREAM_SECONDS
            await asyncio.sleep(max(pause - (time.monotonic() - began), pause / 4))

    def _look(
        self, keys: Sequence[str], streams: Sequence[tuple[str, str]]
    ) -> tuple[list[bool], Sequence[Sequence[Entry]]]:
        pipe = self._book.client.pipeline(transaction=False)
        for key in keys:
            pipe.exists(key)
        for key, after in streams:
            pipe.xrange(key, min=f"({after}", count=MOST_EVENTS)
        found = pipe.execute()
        return [bool(each) for each in found[: len(keys)]], found[len(keys) :]


def _tell(
    questions: Sequence[_Question],
    there: Sequence[bool],
    listeners: Sequence[_Listener],
    happened: Sequence[Sequence[Entry]],
) -> None:
    for question, found in zip(questions, there, strict=True):
        if found and not question.found.done():
            question.found.set_result(None)
    for listener, entries in zip(listeners, happened, strict=True):
        if entries:
            listener.after = entries[-1][0]
            listener.entries += entries
            listener.news.set()


def answered(raw: str) -> dict[str, Any]:
    """What a task's stored result says. Raises ``Rejected`` where that is a refusal. Pure."""
    told = json.loads(raw)
    result = told.get("result")
    if told.get("status") == "SUCCESS" and isinstance(result, dict):
        return result
    if isinstance(result, dict) and result.get("exc_type") == Rejected.__name__:
        message = result.get("exc_message") or [""]
        raise refusal_of(message if isinstance(message, str) else message[0])
    raise RuntimeError(f"a task was answered with {told.get('status')}")
