"""``vmrelay web`` as a process: it listens, serves, and drains when it is told to stop."""

from __future__ import annotations

import signal
import socket
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from worker import starting
from worker.errors import SettingsError, Unavailable
from worker.runtime import Runtime
from worker.web.access import is_local
from worker.web.app import create
from worker.web.desk import Desk

logger = structlog.get_logger(__name__)

DRAIN_SECONDS = 20
"""How long requests may take to end once the process is told to stop."""
KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep idle connections (nginx: 60), so that none is closed in a proxy's hands."""


def listener(address: str, port: int) -> socket.socket:
    """A socket that listens. Raises ``Unavailable`` (``port-taken``), and ``SettingsError`` for no address of ours."""
    try:
        family, _, _, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # With its protocol named: asyncio sets TCP_NODELAY on no other, and each answer would wait 40 ms for an ACK.
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as wrong:
        raise SettingsError(f"web.address {address} is no address: {wrong.strerror}") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(where)
        found.listen(1024)
    except OSError as taken:
        found.close()
        raise Unavailable(
            f"the web API cannot be served on {address}:{port} ({taken.strerror}); stop what listens there, or choose "
            "another place with web.address and web.port, or --address and --port",
            code="port-taken",
        ) from None
    return found


def url_of(listening: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class Server(uvicorn.Server):
    """Ends streams at once when it is told to stop, and lets requests end."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: nothing new is taken, and what has begun is answered."""
        app = self.config.app
        if isinstance(app, FastAPI):
            desk: Desk = app.state.desk
            desk.streams.closing.set()
        await super().shutdown(sockets)


def run(parts: Runtime) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``SettingsError``, and ``Unavailable`` where the port is taken."""
    web = parts.settings.web
    app = create(parts)
    listening = listener(web.address, web.port)
    config = uvicorn.Config(
        app,
        access_log=False,  # the gate writes one, without what is secret
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        lifespan="on",
    )
    # uvicorn raises the signal that stopped it once more, for whoever else heeds it: nobody does.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _heard)
    logger.info("serving", url=url_of(listening), tokens=bool(web.tokens_file))
    if not is_local(web.address):
        logger.warning("whoever is on the way can read tokens: put a server that speaks TLS in front of this one")
    starting.ready()
    Server(config).run(sockets=[listening])
    logger.info("stopped")


def _heard(_number: int, _frame: FrameType | None) -> None:
    pass
