"""What the dispatcher tells while it works: migration events, sorted by virtual machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from worker.hypervisors.base import Progress
from worker.hypervisors.vz.sdk import Event, EventType

FILES_SHARE = 10
"""Percent of the whole that the sweep over the bundle's files stands for; the rest is memory."""


class Tracker:
    """What the events say of one migration from this host. Written by the SDK's thread only."""

    def __init__(self) -> None:
        self.started = False
        """MIGRATE_STARTED was seen: from here on the dispatcher may have touched the VM."""
        self.progress = Progress(description="waiting")
        self.downtime_seconds: float | None = None
        self.transferred_bytes: int | None = None
        self.finished = threading.Event()
        self.ended = False
        """MIGRATE_FINISHED or MIGRATE_CANCELLED was seen: the dispatcher has done all that it does."""
        self._last = 0

    def take(self, event: Event) -> None:
        """Take in one event of this VM; unknown ones are no concern of ours."""
        match event.type:
            case EventType.VM_MIGRATE_STARTED if event.params.get("migrate_is_source") != "false":
                self.started = True
                self.progress = Progress(description="files", iteration=1)
            case EventType.VM_MIGRATE_PROGRESS_CHANGED:
                self._advance(event.params.get("progress_changed"))
            case EventType.VM_MIGRATE_FINISHED:
                self.downtime_seconds = _number(event, "downtime_ms", 1000)
                transferred = _number(event, "transferred_bytes", 1)
                self.transferred_bytes = None if transferred is None else int(transferred)
                self.ended = True
                self.finished.set()
            case EventType.VM_MIGRATE_CANCELLED:
                self.ended = True

    def _advance(self, value: str | int | None) -> None:
        """Two sweeps of 0 to 100, files and memory; within memory the value may fall."""
        if not isinstance(value, int) or not 0 <= value <= 100:
            return
        sweep = max(self.progress.iteration, 1)
        if sweep == 1 and value < self._last:
            sweep = 2
        self._last = value
        if sweep == 1:
            self.progress = Progress(value * FILES_SHARE // 100, iteration=1, description="files")
        else:
            percent = FILES_SHARE + value * (100 - FILES_SHARE) // 100
            self.progress = Progress(percent, iteration=2, description="memory")


class Events:
    """One host's event handler: hands each event to the tracker of its VM."""

    def __init__(self) -> None:
        self._trackers: dict[str, Tracker] = {}

    def handle(self, event: Event) -> None:
        """``PRL_EVENT_HANDLER_PTR``: never blocks."""
        tracker = self._trackers.get(event.issuer_id.strip("{}").lower())
        if tracker is not None:
            tracker.take(event)

    @contextmanager
    def following(self, uuid: str) -> Iterator[Tracker]:
        """A tracker of this VM for as long as the block lasts."""
        tracker = self._trackers[uuid] = Tracker()
        try:
            yield tracker
        finally:
            if self._trackers.get(uuid) is tracker:
                del self._trackers[uuid]


def _number(event: Event, name: str, divisor: int) -> float | None:
    value = event.params.get(name)
    return value / divisor if isinstance(value, int) and value >= 0 else None
