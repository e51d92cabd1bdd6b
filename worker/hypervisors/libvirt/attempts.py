"""What this process began on a host, and over which connection.

So perform is made once at most, and never two finishes at the same time: libvirtd 9.0.0 dies of those.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from worker.errors import HypervisorError, Retry
from worker.hypervisors.libvirt.errors import refused


class _Step(StrEnum):
    BEGUN = "begun"
    PERFORMED = "performed"


class Attempts:
    """The attempts that have this host as their source or destination, by the domain's uuid.

    A connection is known by its generation: qemu's migration job does not outlive the connection that
    began it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[str, tuple[_Step, int]] = {}
        self._prepared: dict[str, int] = {}
        self._finishing: set[str] = set()

    def begun(self, uuid: str, generation: int) -> None:
        """Begin succeeded over this connection."""
        with self._lock:
            self._steps[uuid] = (_Step.BEGUN, generation)

    def claim_perform(self, uuid: str, generation: int) -> None:
        """Perform is about to be made. Raises ``HypervisorError`` where it must not be."""
        with self._lock:
            step, begun_over = self._steps.get(uuid, (None, 0))
            if step is _Step.PERFORMED:
                raise HypervisorError(
                    "perform was made already; a second one would let the guest run on here",
                    code="VIR_ERR_OPERATION_INVALID",
                    retry=Retry.VERIFY,
                    after=Retry.OPERATOR,
                )
            if step is None or begun_over != generation:
                raise refused(
                    "the connection that began this migration is gone, and libvirt's job with it; begin again",
                    code="VIR_ERR_OPERATION_INVALID",
                    retry=Retry.REPREPARE,
                )
            self._steps[uuid] = (_Step.PERFORMED, generation)

    def live(self, uuid: str, generation: int) -> bool:
        """Whether an attempt was begun over this connection and is not over."""
        with self._lock:
            return self._steps.get(uuid, (None, 0))[1] == generation

    def unmoved(self, uuid: str, generation: int) -> bool:
        """Whether an attempt was begun over this connection, and perform was never made."""
        with self._lock:
            return self._steps.get(uuid) == (_Step.BEGUN, generation)

    def prepared(self, uuid: str, generation: int) -> None:
        """Prepare succeeded over this connection."""
        with self._lock:
            self._prepared[uuid] = generation

    def waits(self, uuid: str, generation: int) -> bool:
        """Whether what waits for the end of an incoming migration was prepared over this connection."""
        with self._lock:
            return self._prepared.get(uuid) == generation

    def received(self, uuid: str) -> None:
        """Nothing waits any more for the end of an incoming migration."""
        with self._lock:
            self._prepared.pop(uuid, None)

    @contextmanager
    def finishing(self, uuid: str) -> Iterator[None]:
        """The one finish that runs. Raises ``HypervisorError`` where another one does."""
        with self._lock:
            if uuid in self._finishing:
                raise HypervisorError(
                    "another finish of this migration runs; look at both hosts when it has ended",
                    code="VIR_ERR_OPERATION_INVALID",
                    retry=Retry.VERIFY,
                    after=Retry.TRANSIENT,
                )
            self._finishing.add(uuid)
        try:
            yield
        finally:
            with self._lock:
                self._finishing.discard(uuid)

    def over(self, uuid: str) -> None:
        """The attempt has ended."""
        with self._lock:
            self._steps.pop(uuid, None)
