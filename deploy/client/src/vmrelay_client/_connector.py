"""What the client needs of a way to ask the relay. Times are seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

from vmrelay_client.types import Batch, CancelAnswer, ControlAnswer, Event, Migration

Arguments = Mapping[str, Any]
BatchKind = Literal["drain", "rebalance"]


class Connector(Protocol):
    """One way to ask the relay. Every method raises ``Unavailable`` where it cannot be asked."""

    def submit(self, arguments: Arguments, key: str | None) -> Migration:
        """Ask for a migration; returns once the request is taken. Raises ``Rejected`` where that shows at once."""

    def cancel(self, migration: str, requested_by: str, seconds: float) -> CancelAnswer:
        """Ask a migration to stop. Raises ``Rejected``, and ``Unavailable`` where no answer came within ``seconds``."""

    def look(self, migration: str) -> Migration:
        """How it stands now."""

    def follow(self, migration: str, deadline: float | None) -> Iterator[Event]:
        """Its events to its end. Raises ``TimedOut`` at ``deadline``, a time of ``now``."""

    def submit_batch(self, kind: BatchKind, arguments: Arguments, key: str | None) -> Batch:
        """Ask for a batch; returns once the request is taken. Raises ``Rejected`` where that shows at once."""

    def look_batch(self, batch: str) -> Batch:
        """How it stands now."""

    def control(self, arguments: Arguments, seconds: float) -> ControlAnswer:
        """Steer a batch. Raises as ``cancel``."""

    def now(self) -> float:
        """A clock that only goes forward."""

    def pause(self, seconds: float) -> None:
        """Let time pass."""

    def close(self) -> None:
        """Give back connections."""
