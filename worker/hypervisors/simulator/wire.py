"""Lines of JSON over a Unix socket: what clients, dispatchers and the control command speak.

A request is ``{"id": n, "op": name, ...}``, its reply ``{"id": n, "code": c, ...}``; an event has the
key ``event`` instead. Codes are unsigned.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]

LONGEST_LINE = 4 << 20
MOST_UNREAD = 32 << 20

_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def encode(message: Message) -> bytes:
    """One message as one line."""
    return _encoder.encode(message).encode() + b"\n"


class Lines(asyncio.Protocol):
    """One connection. Messages sent within one turn of the loop leave in one write."""

    def __init__(self, received: Callable[[Lines, Message], None], lost: Callable[[Lines], None]) -> None:
        self._received = received
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._unsent: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    @property
    def is_open(self) -> bool:
        """Whether the other side can still be written to."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, message: Message) -> None:
        """Send a message; nothing happens where the connection is closed."""
        self.send_line(encode(message))

    def send_line(self, line: bytes) -> None:
        """Send an encoded message."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(line)

    def close(self) -> None:
        """Close after what was sent has left."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut: what was not sent is dropped."""
        self._unsent.clear()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``; a line that is no JSON object ends the connection."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > LONGEST_LINE:
            self.abort()
            return
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                self.abort()
                return
            self._received(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = None
        self._lost(self)

    def _flush(self) -> None:
        transport, lines = self._transport, self._unsent
        if not lines:
            return
        self._unsent = []
        if transport is None or transport.is_closing():
            return
        transport.write(b"".join(lines))
        if transport.get_write_buffer_size() > MOST_UNREAD:
            transport.abort()
