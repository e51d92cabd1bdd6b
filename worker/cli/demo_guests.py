"""What the libvirt demo moves, and what must come of it: decisions only."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.cli.demo_stage import Beats, Guest
from worker.hypervisors.base import Phase
from worker.journal import Record

HOSTS = HOME, AWAY = "alpha", "beta"
GUESTS = (
    Guest("web-1", HOME, 64, 4),
    Guest("mail-1", HOME, 96, 8),
    Guest("db-1", HOME, 128, 16),
    Guest("batch-1", HOME, 192, 8),
)
BANDWIDTH = {"web-1": 16, "mail-1": 32, "db-1": 48, "batch-1": 1}
"""MiB/s for each guest, so that there is something to see; on one machine a move would be over at once."""
CANCELLED = "batch-1"
"""Its first move is cancelled in mid-perform: it dirties memory faster than that bandwidth copies it."""


@dataclass(frozen=True, slots=True)
class Move:
    """One migration of the demo, as it is meant."""

    id: str
    guest: str
    source: str
    destination: str
    cancel: bool = False

    @property
    def request(self) -> dict[str, Any]:
        """The arguments of ``vmrelay.v1.migrate``."""
        return {
            "domain": self.guest,
            "destination": self.destination,
            "params": {"bandwidth": BANDWIDTH[self.guest]},
            "requested_by": "demo",
        }

    @property
    def label(self) -> str:
        """In a few words."""
        return f"{self.guest}: {self.source} → {self.destination}"


def rounds() -> tuple[list[Move], list[Move]]:
    """All guests there at once, then those that went all back at once."""
    there = [_move(guest.name, HOME, AWAY, guest.name == CANCELLED) for guest in GUESTS]
    return there, [_move(move.guest, AWAY, HOME) for move in there if not move.cancel]


def _move(guest: str, source: str, destination: str, cancel: bool = False) -> Move:
    return Move(str(uuid.uuid4()), guest, source, destination, cancel)


def record_problems(move: Move, record: Record) -> list[str]:
    """What the journal says of a move that is not as it must be."""
    wanted = "cancelled" if move.cancel else "succeeded"
    if record.outcome != wanted:
        return [f"{move.label}: {record.outcome or record.state}, not {wanted}: {record.error}"]
    phases = [run.name for run in record.phases]
    if phases != list(Phase):
        return [f"{move.label}: the phases on record are {', '.join(phases)}"]
    stopped = [run.name for run in record.phases if run.error]
    if move.cancel and stopped != ["perform"]:
        return [f"{move.label}: cancelled in {', '.join(stopped) or 'no phase'}, not in perform"]
    return []


def place_problems(found: Mapping[str, Mapping[str, bool]], wanted: Mapping[str, str]) -> list[str]:
    """Where a guest is not on one host alone, running; ``found`` is what the hosts say, ``wanted`` a host for each."""
    wrong = []
    for guest, host in wanted.items():
        running = [name for name, runs in found.get(guest, {}).items() if runs]
        if running != [host]:
            wrong.append(f"{guest} runs on {' and '.join(running) or 'no host'}, not on {host}")
        elif left := [name for name in found[guest] if name != host]:
            wrong.append(f"a copy of {guest} was left on {' and '.join(left)}")
    strangers = sorted(set(found) - set(wanted))
    return wrong + [f"nobody knows where {name} comes from" for name in strangers]


def beat_problems(beats: Mapping[str, Beats]) -> list[str]:
    """Guests that were restarted, ran twice, or missed a beat."""
    return [
        f"the heartbeat of {guest} is broken: {seen.restarts} restarts, {seen.repeats} repeats, {seen.missing} missing"
        for guest, seen in beats.items()
        if not seen.unbroken
    ]


def last_places(moves: Sequence[Move]) -> dict[str, str]:
    """Where each guest must be after these moves, one after the other."""
    places = {guest.name: guest.host for guest in GUESTS}
    return places | {move.guest: move.destination for move in moves if not move.cancel}
