"""The process: a Unix socket on which clients, other dispatchers and the control command meet."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from worker.errors import Unavailable
from worker.hypervisors.simulator import control
from worker.hypervisors.simulator.codes import Code, TaskError
from worker.hypervisors.simulator.config import SimulatorConfig
from worker.hypervisors.simulator.dispatch import Client
from worker.hypervisors.simulator.node import Node, refusal
from worker.hypervisors.simulator.target import Incoming
from worker.hypervisors.simulator.wire import Lines, Message
from worker.hypervisors.vz.sdk import EventType

log = logging.getLogger(__name__)

STOP_GRACE = 7.0
"""Simulated seconds that cancelled tasks get when the dispatcher stops; at most one real one."""


class Connections:
    """Who is at the other end of each connection, told from the first request."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._peers: dict[Lines, Client | Incoming] = {}

    def connect(self) -> Lines:
        """A new connection's protocol."""
        return Lines(self._received, self._lost)

    def _received(self, lines: Lines, message: Message) -> None:
        op = message.get("op")
        try:
            peer = self._peers.get(lines)
            if op == "control":
                lines.send(control.answer(self._node, message))
            elif op == "steps":
                if not isinstance(peer, Incoming):
                    self._peers[lines] = peer = Incoming(self._node, lines)
                peer.receive(message)
            else:
                if not isinstance(peer, Client):
                    self._peers[lines] = peer = Client(self._node, lines)
                peer.receive(message)
        except TaskError as error:
            lines.send(refusal(message.get("id"), error))
        except (KeyError, TypeError, ValueError, AttributeError):
            log.exception("%s: request %r is malformed", self._node.name, op)
            lines.send(refusal(message.get("id"), TaskError(Code.UNRECOGNIZED_REQUEST)))

    def _lost(self, lines: Lines) -> None:
        peer = self._peers.pop(lines, None)
        if peer is not None:
            peer.lost()

    def close(self) -> None:
        """Cut them all."""
        for lines in list(self._peers):
            lines.close()


def serve(name: str, config: SimulatorConfig, ready: Callable[[Path], None] | None = None) -> None:
    """Be the dispatcher of one host until SIGTERM or SIGINT.

    ``ready`` is called with the socket's path once clients can connect. Raises ``Unavailable`` where a
    simulator of this host runs already in the same state directory, ``SettingsError``.
    """
    path = config.socket_path(name)
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with OnlyOne(config.state_dir / f"{name}.lock", name):
        node = Node(name, config)
        try:
            asyncio.run(_serve(node, path, ready))
        finally:
            node.directory.close()


async def _serve(node: Node, path: Path, ready: Callable[[Path], None] | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    path.unlink(missing_ok=True)
    connections = Connections(node)
    mask = os.umask(0o077)
    try:
        server = await loop.create_unix_server(connections.connect, str(path), backlog=512)
    finally:
        os.umask(mask)
    log.info("%s: listening on %s", node.name, path)
    if ready is not None:
        ready(path)
    await stop.wait()
    await _stop(node)
    server.close()
    path.unlink(missing_ok=True)
    connections.close()
    log.info("%s: stopped", node.name)


async def _stop(node: Node) -> None:
    """The orderly stop: no new calls, running tasks cancelled, a short grace."""
    node.stopping = True
    if node.sessions:
        node.emit(EventType.DISP_SHUTDOWN, "")
    node.cancel_tasks()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(1.0, node.clock.real(STOP_GRACE))):
            while node.outgoing:
                await asyncio.sleep(0.01)


class OnlyOne:
    """Holds the host's lock file as long as the process lives."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._file: TextIO | None = None

    def __enter__(self) -> None:
        self._file = self._path.open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise Unavailable(
                f"a simulator of {self._name} runs already in {self._path.parent}; stop it first, or use "
                "another --state-dir",
                code="simulator-running",
            ) from error

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
