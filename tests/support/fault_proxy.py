"""A TCP proxy that breaks connections in the ways in which networks and servers do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

CHUNK = 65536


class Link:
    """One client's connection and the server's end of it; a thread for each direction."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client, self._server = client, server
        self.silent = False
        for source, sink, up in ((client, server, True), (server, client, False)):
            threading.Thread(target=self._pump, args=(source, sink, up), daemon=True).start()

    def cut(self) -> None:
        """Close both ends."""
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if self.silent:
                    continue
                if up and self._proxy.forbids(data):
                    break
                sink.sendall(data)
        if not self.silent:
            self.cut()
            self._proxy.forget(self)


class FaultProxy:
    """Listens on a port of its own and passes everything on to ``target``, a port of 127.0.0.1."""

    def __init__(self, target: int) -> None:
        self.target = target
        """Where new connections lead; may be changed at any time."""
        self.forbidden: Callable[[bytes], bool] = lambda _: False
        """A connection on which a client says such a thing is cut before the server hears it."""
        self.refusals = 0
        """How often that has happened."""
        self._links: set[Link] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The URL that Celery and redis-py take."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Close every connection; new ones pass."""
        for link in self._taken():
            link.cut()

    def silence(self) -> None:
        """Nothing passes on the connections that there are, and nobody is told; new ones pass."""
        with self._lock:
            for link in self._links:
                link.silent = True

    def forbids(self, data: bytes) -> bool:
        """Whether a client says what is forbidden."""
        found = self.forbidden(data)
        self.refusals += found
        return found

    def forget(self, link: Link) -> None:
        """A connection is gone."""
        with self._lock:
            self._links.discard(link)

    def _taken(self) -> set[Link]:
        with self._lock:
            links, self._links = self._links, set()
        return links

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._links.add(Link(self, client, server))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
