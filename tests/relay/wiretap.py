"""Everything that a Redis server is told, as its MONITOR shows it."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def _unescaped(text: bytes) -> bytes:
    def one(found: re.Match[bytes]) -> bytes:
        code = found[1]
        return bytes([int(code[1:], 16)]) if len(code) == 3 else ESCAPES.get(code, code)

    return re.sub(rb"\\(x[0-9a-f]{2}|.)", one, text)


class Wiretap:
    """The commands heard so far, each as its words."""

    def __init__(self, port: int, listener: Callable[[list[bytes]], None] | None) -> None:
        self.commands: list[list[bytes]] = []
        self._listener = listener
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(b"MONITOR\r\n")
        self._stream = self._socket.makefile("rb")
        assert self._stream.readline() == b"+OK\r\n"
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            for line in self._stream:
                words = [_unescaped(word) for word in QUOTED.findall(line)]
                self.commands.append(words)
                if self._listener is not None:
                    self._listener(words)
        except ConnectionError:
            return  # hanging up while the server still talks resets the connection

    def close(self) -> None:
        """Hang up."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._stream.close()
        self._socket.close()


@contextmanager
def wiretap(port: int, listener: Callable[[list[bytes]], None] | None = None) -> Iterator[Wiretap]:
    """Listen while the block runs; ``listener`` gets each command as it is heard."""
    tap = Wiretap(port, listener)
    try:
        yield tap
    finally:
        tap.close()
