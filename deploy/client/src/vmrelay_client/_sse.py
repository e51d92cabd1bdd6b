"""Server-sent events, read from lines (the WHATWG's HTML standard, section 9.2): pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """One event as it was sent; ``id`` is the last one that was sent up to it."""

    event: str
    data: str
    id: str


def frames(lines: Iterable[bytes]) -> Iterator[Frame]:
    """The events in lines that end with LF or CRLF. One that the end of the stream cuts is dropped."""
    event, ident = "", ""
    data: list[str] = []
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            if data:
                yield Frame(event or "message", "\n".join(data), ident)
            event, data = "", []
            continue
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            ident = value
