"""What a guest's heartbeat proves: that it was never started twice, and for how long it stood still."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from chaos.stage import Guest

if TYPE_CHECKING:
    from chaos.libvirt_stage import LibvirtStage

SAMPLE_SECONDS = 0.01
SLACK_SECONDS = 1.0
"""A heart beats twenty times a second where the machine is idle; on a busy one it may be late."""
Event = tuple[str, str, dict[str, Any]]


@dataclass
class Heart:
    """Listens to a guest from before the first message to the end of a cell."""

    stage: LibvirtStage
    guest: Guest
    still_seconds: float = 0.0
    """The longest silence."""
    wrongs: list[str] = field(default_factory=list)
    """What must never be; filled at the end."""

    def __enter__(self) -> Self:
        self._before = self._read()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="heart", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        after = self._read()
        for word, meaning in (
            ("repeats", "beats came twice: two copies ran, or an old one"),
            ("restarts", "times the guest began anew"),
            ("missing", "beats are missing"),
        ):
            if more := getattr(after, word) - getattr(self._before, word):
                self.wrongs.append(f"{more} {meaning}")

    def _read(self) -> Any:  # noqa: ANN401 - a class of deploy/lab/heartbeat.py
        return self.stage.heartbeat.read(self.stage.serial(self.guest.name))

    def _listen(self) -> None:
        path = self.stage.serial(self.guest.name)
        size, changed = path.stat().st_size, time.monotonic()
        while not self._ended.wait(SAMPLE_SECONDS):
            new, now = path.stat().st_size, time.monotonic()
            self.still_seconds = max(self.still_seconds, now - changed)
            if new != size:
                size, changed = new, now


def reported_seconds(events: Sequence[Event]) -> float:
    """For how long at most the guest may have stood still, as the journal tells it: the longest such time.

    It begins where perform ended well, or with perform where nobody knows how that ended, and it is over when
    finish has ended well, or else with the attempt.
    """
    longest, since = 0.0, None
    for at, kind, data in events:
        now = int(at.partition("-")[0]) / 1000
        phase, error = data.get("phase"), data.get("error")
        if (kind, phase) == ("phase", "perform") or (kind, phase, error) == ("phase-ended", "perform", None):
            since = now
        elif (kind, phase, error) == ("phase-ended", "finish", None) or kind in ("ended", "backoff"):
            longest, since = max(longest, now - since) if since else longest, None
    return longest
