"""Lines of many processes on one stream, each under its process's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

Write = Callable[[str, str], None]
"""Takes a process's name and one line of its output, without the line's end."""

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # ANSI foregrounds that read on dark and light


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether ``stream`` is a terminal on which nobody asked for plain text (no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


class Prefixer:
    """Writes ``name | line``, names padded to one width, one colour each where ``colour`` is true.

    A stream that nobody reads any more is forgotten: what it would have shown must not end what runs.
    """

    def __init__(self, stream: TextIO, names: Iterable[str], *, colour: bool = False) -> None:
        self._stream: TextIO | None = stream
        names = list(names)
        self._width = max(map(len, names), default=0)
        self._colours = dict(zip(names, _COLOURS * len(names), strict=False)) if colour else {}

    def __call__(self, name: str, line: str) -> None:
        if self._stream is None:
            return
        label = f"{name:<{self._width}} |"
        if number := self._colours.get(name):
            label = f"\x1b[{number}m{label}\x1b[0m"
        try:
            self._stream.write(f"{label} {line}\n")
            self._stream.flush()
        except (OSError, ValueError):  # gone, or closed
            self._stream = None
