"""One libvirt connection per host, kept open for its life.

libvirt ties a migration to connections: a closed one drops the job that begin took, or kills the domain
that prepare made. So a connection is only ever replaced when it was found dead, and each one has a
generation, by which the driver knows whether what it began is still there.
"""

from __future__ import annotations

import logging
import threading
import time

import libvirt

from worker.hypervisors.libvirt.errors import classed

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 5
KEEPALIVE_TRIES = 5

_loop_lock = threading.Lock()
_loop: threading.Thread | None = None


def _run_event_loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            # Without the loop no keepalive would be answered and every connection would be given up.
            log.warning("libvirt's event loop stumbled: %s", classed(error, effect=False))
            time.sleep(1)


def _start_event_loop() -> None:
    """Start libvirt's event loop, once per process and before the first connection: keepalive needs it."""
    global _loop  # noqa: PLW0603 libvirt has one event loop per process
    with _loop_lock:
        if _loop is None:
            # The default handler prints every error to standard error, with whatever it quotes.
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            libvirt.virEventRegisterDefaultImpl()
            _loop = threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True)
            _loop.start()


class Connection:
    """The connection to one host: opened on first use, made anew when found dead."""

    def __init__(self, name: str, uri: str) -> None:
        self._name, self._uri = name, uri
        self._lock = threading.Lock()
        self._connection: libvirt.virConnect | None = None
        self._generation = 0

    def get(self) -> tuple[libvirt.virConnect, int]:
        """The living connection and its generation. Raises ``HypervisorError`` where none can be made."""
        with self._lock:
            if self._connection is not None and not self._connection.isAlive():
                log.warning("host %s: the connection to libvirt was lost", self._name)
                self._drop()
            if self._connection is None:
                self._connection = self._open()
                self._generation += 1
            return self._connection, self._generation

    def _open(self) -> libvirt.virConnect:
        _start_event_loop()
        try:
            connection = libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            raise classed(error, effect=False) from None
        try:
            connection.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_TRIES)
        except libvirt.libvirtError as error:
            log.debug("host %s: no keepalive: %s", self._name, error)  # drivers without a daemon
        return connection

    def close(self) -> None:
        """Disconnect. Never raises."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except libvirt.libvirtError as error:
                log.debug("host %s: close: %s", self._name, error)
