"""A real HTTP receiver of webhooks, which answers as a test wants."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECRET = b"0123456789abcdef-shared"
Answer = Callable[["Handler"], None]


def secret_file(path: Path, secret: bytes = SECRET, mode: int = 0o600) -> Path:
    """A file with what sender and receiver share."""
    path.write_bytes(secret)
    path.chmod(mode)
    return path


@dataclass
class Got:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The document."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def type(self) -> str:
        """What it tells."""
        return str(self.message["type"])

    @property
    def of(self) -> str:
        """The id of what it tells of."""
        found = self.message.get("migration") or self.message.get("batch") or {}
        return str(found.get("id", ""))

    @property
    def id(self) -> str:
        """Of the delivery."""
        return self.headers["Vmrelay-Delivery"]


@dataclass
class Receiver:
    """Where messages come in, and what is done with the next ones; 204 where nothing else is said."""

    url: str
    got: list[Got] = field(default_factory=list)
    script: deque[Answer] = field(default_factory=deque)
    always: Answer | None = None
    let_go: threading.Event = field(default_factory=threading.Event)

    def told(self, of: str) -> list[str]:
        """What it was told of one migration or batch, in order."""
        return [got.type for got in self.got if got.of == of]


class Handler(BaseHTTPRequestHandler):
    """Takes a request down, and answers."""

    receiver: Receiver

    def do_POST(self) -> None:
        """One message."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.receiver.got.append(Got(self.path, dict(self.headers), body))
        answer = self.receiver.script.popleft() if self.receiver.script else self.receiver.always or status(204)
        answer(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def status(code: int, **headers: str) -> Answer:
    """Answer with this status."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for name, text in ({"Content-Length": "0"} | headers).items():
            handler.send_header(name.replace("_", "-"), text)
        handler.end_headers()

    return answer


def hang(handler: Handler) -> None:
    """Say nothing until the test is over."""
    handler.receiver.let_go.wait(60)
    handler.close_connection = True


def cut(handler: Handler) -> None:
    """Close the connection in the middle of the answer's first line."""
    handler.wfile.write(b"HTTP/1.1 2")
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def dribble(handler: Handler) -> None:
    """Answer a byte at a time, each of them soon enough."""
    try:
        while not handler.receiver.let_go.wait(0.05):
            handler.wfile.write(b"X")
    except OSError:
        pass
    handler.close_connection = True


class Server(ThreadingHTTPServer):
    """Whoever hangs up on us is no error."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""


@contextmanager
def receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a free port, over TLS where a context is given."""
    handler = type("Handler", (Handler,), {})
    server = Server(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if context is not None else "http"
    handler.receiver = Receiver(f"{scheme}://127.0.0.1:{server.server_port}/hook?a=b")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield handler.receiver
    finally:
        handler.receiver.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
