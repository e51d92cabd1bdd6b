"""One libvirt connection per host, kept open for its life.

libvirt ties a migration to connections: a closed one drops the job that begin took, or kills the domain
that prepare made. So a connection is only ever replaced when it was found dead, and each one has a
generation, by which the driver knows whether what it began is still there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from worker.errors import HypervisorError, Retry
from worker.hypervisors import profile_for
from worker.hypervisors.libvirt.credentials import Credentials, without_questions
from worker.hypervisors.libvirt.errors import calling, classed
from worker.hypervisors.libvirt.features import Features, profile_of

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 5
KEEPALIVE_TRIES = 5
OPEN_SECONDS = 30.0
"""How long a daemon may take to answer a new connection: keepalive does not watch before it is open."""

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


JobCompleted = Callable[[libvirt.virConnect, libvirt.virDomain, Mapping[str, Any], object], None]
"""What is called with the statistics of every job that ends, by libvirt's event loop."""


class Connection:
    """The connection to one host: opened on first use, made anew when found dead."""

    def __init__(self, name: str, uri: str, completed: JobCompleted) -> None:
        self._name, self._uri, self._completed = name, uri, completed
        self._lock = threading.Lock()
        self._connection: libvirt.virConnect | None = None
        self._listening: int | None = None
        self._opening: _Opening | None = None
        self._generation = 0
        self.profile = profile_for(uri)
        """The flag profile: what the URI's scheme says, and once connected what libvirt says."""
        self.features = Features()
        """What the host says that it can do, once connected."""

    def get(self) -> tuple[libvirt.virConnect, int]:
        """The living connection and its generation. Raises ``HypervisorError`` where none can be made."""
        with self._lock:
            if self._connection is not None and not self._connection.isAlive():
                log.warning("host %s: the connection to libvirt was lost", self._name)
                self._drop()
            if self._connection is None:
                self._connection = self._opened()
                self._generation += 1
            return self._connection, self._generation

    def _opened(self) -> libvirt.virConnect:
        """A new connection, and who is at its other end."""
        _start_event_loop()
        # An opening that nobody waits for any more is waited for again, not made twice.
        opening, self._opening = self._opening or _Opening(self._name, self._uri), None
        if not opening.done.wait(OPEN_SECONDS):
            self._opening = opening
            raise HypervisorError(
                f"the libvirt daemon of host {self._name} has not answered for {OPEN_SECONDS:g} s; "
                "see whether it hangs, and restart it",
                code="VIR_ERR_NO_CONNECT",
                retry=Retry.TRANSIENT,
                untouched=True,
            )
        connection = opening.result()
        try:
            self._meet(connection)
        except BaseException:
            _close(self._name, connection)
            raise
        return connection

    def _meet(self, connection: libvirt.virConnect) -> None:
        try:
            connection.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_TRIES)
        except libvirt.libvirtError as error:
            log.debug("host %s: no keepalive: %s", self._name, classed(error, effect=False))  # no daemon, no need
        self.profile = profile_of(calling(connection.getType, effect=False), self._name)
        try:
            self.features = Features.of(calling(connection.getCapabilities, effect=False))
        except ET.ParseError:
            log.warning("host %s: its capabilities cannot be read; nothing is refused for them", self._name)
        self._listening = self._listen(connection)

    def _listen(self, connection: libvirt.virConnect) -> int | None:
        """Ask to be told of every job that ends (``VIR_DOMAIN_EVENT_ID_JOB_COMPLETED``)."""
        kind = libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED
        try:
            number: int = connection.domainEventRegisterAny(None, kind, self._completed, None)
        except libvirt.libvirtError as error:
            log.debug("host %s: no word of jobs that end: %s", self._name, classed(error, effect=False))
            return None
        return number

    def close(self) -> None:
        """Disconnect. Never raises."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        listening, self._listening = self._listening, None
        if connection is not None:
            _close(self._name, connection, listening)


class _Opening:
    """``virConnectOpenAuth`` in a thread of its own: a daemon that hangs would hold its caller for ever."""

    def __init__(self, name: str, uri: str) -> None:
        self._name, self._uri = name, uri
        self._credentials = Credentials(name)
        self._outcome: Callable[[], libvirt.virConnect]
        self.done = threading.Event()
        threading.Thread(target=self._run, name="libvirt-open", daemon=True).start()

    def _run(self) -> None:
        try:
            connection = libvirt.openAuth(without_questions(self._uri), self._credentials.request, 0)
            self._outcome = lambda: connection
        except BaseException as error:
            failure = self._credentials.explained(error)
            self._outcome = lambda: _raise(failure)
        finally:
            self.done.set()

    def result(self) -> libvirt.virConnect:
        """The connection. Raises ``HypervisorError``."""
        return self._outcome()


def _raise(error: BaseException) -> libvirt.virConnect:
    raise error


def _close(name: str, connection: libvirt.virConnect, listening: int | None = None) -> None:
    try:
        if listening is not None:
            connection.domainEventDeregisterAny(listening)  # as long as it is there, close closes nothing
    except libvirt.libvirtError as error:
        log.debug("host %s: deaf: %s", name, classed(error, effect=False))
    try:
        connection.close()
    except libvirt.libvirtError as error:
        log.debug("host %s: close: %s", name, classed(error, effect=False))
