"""What must hold: never two running copies, never a second start; at the end one copy, one outcome, no leftovers."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from chaos.cells import PHASES
from chaos.stage import Copy, Guest, Stage

LOOK_SECONDS = 0.02
OUTCOMES = ("succeeded", "failed", "cancelled")
STATUS = {"succeeded": "SUCCESS", "failed": "FAILURE", "cancelled": "FAILURE", "rejected": "FAILURE"}
"""What ``AsyncResult`` shows in the end."""


@dataclass
class Watch:
    """Looks at the guest's true copies again and again, from before the first message to the end of the cell."""

    stage: Stage
    guest: Guest
    seen: list[str] = field(default_factory=list)
    """What must never be, each kind once."""
    still_seconds: float = 0.0
    """For how long at most no copy ran."""

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        began = ran = time.monotonic()
        while not self._ended.wait(LOOK_SECONDS):
            copies, now = self.stage.copies(self.guest), time.monotonic()
            if running(copies) or self.guest.state != "running":
                ran = now
            self.still_seconds = max(self.still_seconds, now - ran)
            if len(running(copies)) > 1 and len(running(self.stage.copies(self.guest))) > 1:
                # A second look: the guest may have moved between one host's answer and the other's.
                self._tell("two running copies", now - began)
            if any(copy.boots > self.guest.copy.boots for copy in copies.values()):
                self._tell("the guest was started again", now - began)
            if running(copies) and self.guest.state == "paused":
                self._tell("a guest that its user had paused runs", now - began)

    def _tell(self, what: str, at: float) -> None:
        if not any(line.startswith(what) for line in self.seen):
            self.seen.append(f"{what}, {at:.2f} s after the cell's beginning")


def running(copies: dict[str, Copy]) -> list[str]:
    """The hosts on which a copy runs."""
    return [host for host, copy in copies.items() if copy.state == "running"]


def is_whole(stage: Stage, guest: Guest) -> bool:
    """Whether the guest is in exactly one place, in the state in which it was."""
    copies = list(stage.copies(guest).values())
    return [copy.state for copy in copies] == [guest.state]


def is_over(stage: Stage, ident: str) -> bool:
    """Whether the migration is terminal, and ``AsyncResult`` shows it."""
    record = stage.record(ident)
    return record is not None and record.state == "ended" and stage.result(ident) == STATUS.get(record.outcome)


def wrongs(stage: Stage, guest: Guest, ident: str, outcomes_before: int, forgotten: bool = False) -> list[str]:
    """What is wrong at the end of a migration, each in one line.

    ``forgotten``: Redis lost all of it but the request, which was dealt with once more. That may have been
    rejected, and what was forgotten may have moved the guest.
    """
    record = stage.record(ident)
    if record is None or record.state != "ended":
        found = [f"the migration is not terminal: {stage.told(ident)}"]
    else:
        found = ended_wrongs(stage, ident, record.outcome, outcomes_before)
        place = stage.hosts[1] if record.outcome == "succeeded" else stage.hosts[0]
        if record.outcome not in (*OUTCOMES, "rejected" if forgotten else ""):
            found.append(f"the outcome is '{record.outcome}'")
        if list(stage.copies(guest)) != [place] and not (forgotten and record.outcome == "rejected"):
            found.append(f"{record.outcome}, but not on {place}")
    if not is_whole(stage, guest):
        found.append(f"the guest is not in exactly one place: {_shown(stage.copies(guest))}")
    return found + held(stage, guest, ident) + stage.leftovers(guest)


def ended_wrongs(stage: Stage, ident: str, outcome: str, outcomes_before: int) -> list[str]:
    """What is wrong with how a migration's end was told."""
    found = []
    if (status := stage.result(ident)) != STATUS.get(outcome):
        found.append(f"AsyncResult shows {status} of a migration that {outcome}")
    if (ends := len(stage.events(ident, "ended"))) != 1:
        found.append(f"{ends} events tell of its end")
    if (counted := stage.outcomes() - outcomes_before) != 1:
        found.append(f"{counted} outcomes were counted")
    return found


def ran_once(stage: Stage, ident: str) -> list[str]:
    """What is wrong where nothing but a message came twice or was lost: each phase is claimed once, in order."""
    claimed = [event["phase"] for event in stage.events(ident, "phase")]
    return [] if claimed == list(PHASES) else [f"claimed were {', '.join(claimed)}"]


def held(stage: Stage, guest: Guest, ident: str) -> list[str]:
    """Slots and locks that a migration still has."""
    found = [
        f"{host} still has its slot '{direction}'"
        for host in stage.hosts
        for direction in ("out", "in")
        if stage.journal.client.sismember(f"vmrelay:slots:{host}:{direction}", ident)
    ]
    if (holder := stage.journal.holder(guest.uuid)) is not None:
        found.append(f"migration {holder} still holds the domain")
    return found


def _shown(copies: dict[str, Copy]) -> str:
    return ", ".join(f"{copy.state} on {host}" for host, copy in copies.items()) or "nowhere"
