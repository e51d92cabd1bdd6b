"""The connection from a source dispatcher to a target dispatcher, as the source uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from worker.hypervisors.simulator.codes import Code, TaskError
from worker.hypervisors.simulator.wire import Lines, Message


class LinkLost(TaskError):
    """The connection between the dispatchers broke: nobody knows what the other side still did."""

    def __init__(self) -> None:
        super().__init__(Code.OPERATION_WAS_CANCELED, "The connection to the target dispatcher was lost.")


class Refused(TaskError):
    """The target answered a step with an error. ``step`` is the number of that step."""

    def __init__(self, reply: Message) -> None:
        super().__init__(reply["code"], reply.get("text", ""), reply.get("nested", ()))
        self.step = int(reply.get("step", 0))


class Link:
    """One request at a time; ``on_lost`` is called when the connection breaks."""

    def __init__(self) -> None:
        self.on_lost: Callable[[], None] | None = None
        self._lines = Lines(self._received, self._lost)
        self._waiting: asyncio.Future[Message] | None = None

    @classmethod
    async def open(cls, path: Path, timeout: float) -> Link:
        """Connect; ``TaskError`` where the dispatcher does not listen."""
        link = cls()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().create_unix_connection(lambda: link._lines, str(path))
        except (OSError, TimeoutError) as error:
            raise TaskError(Code.CANT_CONNECT_TO_DISPATCHER_ITERATIVELY) from error
        return link

    @property
    def is_open(self) -> bool:
        """Whether the connection is still there."""
        return self._lines.is_open

    async def request(self, message: Message, timeout: float) -> None:
        """Have the target do steps.

        Raises ``Refused`` with what the target says, ``LinkLost``, or ``TaskError(TIMEOUT)`` when it
        is silent for ``timeout`` real seconds.
        """
        if not self.is_open:
            raise LinkLost
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(timeout, self._silent)
        self._lines.send(message)
        try:
            reply = await self._waiting
        finally:
            timer.cancel()
            self._waiting = None
        if reply["code"]:
            raise Refused(reply)

    def abort(self) -> None:
        """Cut the connection; ``on_lost`` is not called."""
        self.on_lost = None
        self._lines.abort()

    def _received(self, _lines: Lines, message: Message) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(message)

    def _silent(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(TaskError(Code.TIMEOUT))

    def _lost(self, _lines: Lines) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(LinkLost())
        elif self.on_lost is not None:
            self.on_lost()
