"""One reader for all who look at the same page: it reads while anybody looks, and tells what has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import redis
import structlog

from worker.errors import Rejected
from worker.web.page.view import View, difference, item

READ_SECONDS = 0.5
"""Between two looks at the journal, however many watch."""
PATIENCE_SECONDS = 2.0
"""So long a page waits for a first look; Redis's own time limits are longer."""
BEAT_SECONDS = 3.0
"""At least so often everybody is told something: a browser that hears nothing says that what it shows is old."""

logger = structlog.get_logger(__name__)


class Hub:
    """One page's view, kept up to date while somebody watches."""

    def __init__(self, read: Callable[[], View], main: str = "page") -> None:
        """``read`` makes the view, in a thread; ``main`` is the item that tells of trouble with it."""
        self._read = read
        self._main = main
        self._view = View()
        self._version = 0
        self._at = float("-inf")
        self._viewers = 0
        self._task: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._news = asyncio.Condition()
        self._last_change: tuple[View, View, dict[str, Any]] | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody watches."""
        return not self._viewers

    @property
    def age(self) -> float:
        """Seconds since the view was last read, or told to be unreadable."""
        return time.monotonic() - self._at

    async def view(self) -> View:
        """The view as it is now, at most one pause old; what is at hand, where Redis lets it wait for long."""
        try:
            await asyncio.wait_for(self._refresh(), PATIENCE_SECONDS)
        except TimeoutError:
            return self._with_trouble("Redis does not answer: what follows is from before.")
        return self._view

    async def changes(self) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """A ``view`` first, then ``change`` after change, and a ``beat`` where there is none.

        Whoever is slow to take one gets the difference to the newest view with the next, however many came between.
        """
        async with self._watching():
            seen, version = await self.view(), self._version
            yield "view", seen.document()
            while True:
                await self._newer(version)
                if version == self._version:
                    yield "beat", {}
                    continue
                change = self._change(seen)
                seen, version = self._view, self._version
                yield "change", change

    def _change(self, seen: View) -> dict[str, Any]:
        """What has changed since a view; made once for all who saw that one."""
        if self._last_change is None or self._last_change[0] is not seen or self._last_change[1] is not self._view:
            self._last_change = (seen, self._view, difference(seen, self._view))
        return self._last_change[2]

    async def _newer(self, version: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_SECONDS), self._news:
                await self._news.wait_for(lambda: self._version != version)

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        self._viewers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(READ_SECONDS)
            await self._refresh()

    async def _refresh(self) -> None:
        """Read, unless somebody just has."""
        async with self._reading:
            if time.monotonic() - self._at < READ_SECONDS / 2:
                return
            view = await asyncio.to_thread(self._looked)
            self._at = time.monotonic()
            if difference(self._view, view):
                self._view, self._version = view, self._version + 1
                async with self._news:
                    self._news.notify_all()

    def _looked(self) -> View:
        """A fresh view; the last one with what is wrong, where it cannot be read."""
        try:
            return self._read()
        except Rejected as gone:
            why = f"{gone.message}: what follows is from before."
        except redis.RedisError as lost:
            logger.info("no look for the page", error=str(lost))
            why = "Redis does not answer: what follows is from before. What runs goes on, and is shown when it is back."
        except Exception:
            logger.exception("the page's view cannot be made")
            why = "This page cannot be made, see the log of vmrelay web; what follows is from before."
        return self._with_trouble(why)

    def _with_trouble(self, why: str) -> View:
        main = {**self._view.items.get(self._main, {}), **item(trouble=why)}
        return View({**self._view.items, self._main: main}, self._view.lists)
