"""One libvirt connection per host, kept open for its life.

libvirt ties a migration to connections: a closed one drops the job that begin took, or kills the domain
that prepare made. So a connection is only ever replaced when it was found dead, and each one has a
generation, by which the driver knows whether what it began is still there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import libvirt
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_base, wait_exponential, wait_random

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import RetryPolicy, Watch
from worker.hypervisors.libvirt.errors import classed

log = logging.getLogger(__name__)
Result = TypeVar("Result")

KEEPALIVE_SECONDS = 5
KEEPALIVE_TRIES = 5

_loop_lock = threading.Lock()
_loop: threading.Thread | None = None


def _run_event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


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


def retrying(call: Callable[[], Result], policy: RetryPolicy, watch: Watch) -> Result:
    """Make a short call that changes nothing; a transient error is retried as the policy says.

    Raises the last ``HypervisorError``.
    """

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, HypervisorError) and state.next_action:
            watch.retrying(error, state.attempt_number, state.next_action.sleep)

    return Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, HypervisorError) and error.retry is Retry.TRANSIENT),
        stop=stop_after_attempt(policy.tries),
        wait=_Backoff(policy),
        before_sleep=tell,
        reraise=True,
    )(call)


class _Backoff(wait_base):
    """Exponential pauses with jitter; errors that ask for it get the slow ones."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        slow = isinstance(error, HypervisorError) and error.slow
        policy = self._policy
        initial, most = (policy.slow_initial, policy.slow_maximum) if slow else (policy.initial, policy.maximum)
        pause = wait_exponential(multiplier=initial, exp_base=policy.factor, max=most)(retry_state)
        return pause + wait_random(0, pause * policy.jitter)(retry_state)
