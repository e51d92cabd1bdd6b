"""What the demo moves, and what must come of it: decisions only."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.errors import Unavailable
from worker.hypervisors.simulator.config import SimulatedVm
from worker.journal import Record

SHUTTING_DOWN = "0x80000404"
"""``PRL_ERR_DISP_SHUTDOWN_IN_PROCESS``: transient, nothing was touched."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A virtual machine as its simulated host shows it at one moment."""

    uuid: str
    name: str
    host: str
    state: str
    boot_id: str
    boots: int
    heartbeat: int


@dataclass(frozen=True, slots=True)
class Story:
    """One migration of the demo, as it is meant."""

    vm: str
    """The name in ``deploy/demo/simulator.toml``; its uuid follows from it."""
    home: str
    away: str
    """Where it goes; ``home`` where it is there already (a demo that is run again)."""
    what: str
    options: Mapping[str, bool] = field(default_factory=dict)
    rename: str = ""
    failures: int = 0
    """Transient SDK failures that are injected."""
    cancel: bool = False
    outcome: str = "succeeded"
    paused: bool = False


STORIES = (
    Story("web-1", "alpha", "beta", "cancelled in mid-perform", cancel=True, outcome="cancelled"),
    Story("cache-1", "alpha", "gamma", "the SDK's job fails twice, for now", failures=2),
    Story("web-2", "alpha", "gamma", "gets a new name on the way", rename="web-two"),
    Story("db-1", "alpha", "beta", "left paused there (--suspend)", options={"paused": True}, paused=True),
    Story("batch-1", "alpha", "beta", "writes much"),
    Story("parked-1", "alpha", "gamma", "was paused by its user", paused=True),
    Story("mail-1", "beta", "alpha", "comes the other way"),
    Story("build-1", "beta", "gamma", "between the other two"),
    Story("metrics-1", "gamma", "alpha", "asks for what vz cannot", options={"compressed": False}, outcome="rejected"),
)


@dataclass(frozen=True, slots=True)
class Move:
    """A story with the facts of this run."""

    id: str
    story: Story
    before: Guest
    destination: str
    new_name: str

    @property
    def request(self) -> dict[str, Any]:
        """The arguments of ``vmrelay.v1.migrate``."""
        asked: dict[str, Any] = {"domain": self.before.name, "destination": self.destination}
        if self.story.options:
            asked["options"] = dict(self.story.options)
        if self.new_name != self.before.name:
            asked["params"] = {"destination_name": self.new_name}
        return asked | {"requested_by": "demo", "reason": self.story.what}

    @property
    def fault(self) -> dict[str, Any] | None:
        """What the source is told to get wrong."""
        if not self.story.failures:
            return None
        return {"kind": "fail", "code": SHUTTING_DOWN, "count": self.story.failures, "vm": self.before.name}


def plan(guests: Sequence[Guest]) -> list[Move]:
    """The moves of this run. Raises ``Unavailable`` where the demo's VMs are not all there."""
    by_uuid = {guest.uuid: guest for guest in guests}
    moves = []
    for story in STORIES:
        guest = by_uuid.get(SimulatedVm(name=story.vm, host=story.home).plain_uuid)
        if guest is None:
            raise Unavailable(
                f"the demo's virtual machine {story.vm} is on none of the hosts; remove the state directory"
            )
        destination = story.home if guest.host == story.away else story.away
        renamed = story.vm if story.rename == guest.name else story.rename
        moves.append(Move(str(uuid.uuid4()), story, guest, destination, renamed or guest.name))
    return moves


def problems(move: Move, record: Record | None, copies: Sequence[Guest]) -> list[str]:
    """Everything about a move that is not as it must be; ``copies`` is what the hosts show afterwards."""
    story, before = move.story, move.before
    if record is None:
        return ["there is no record of it"]
    wrong = []
    if record.outcome != story.outcome:
        wrong.append(f"its outcome is {record.outcome or record.state}, not {story.outcome}: {record.error}")
    if story.failures and record.retries != story.failures:
        wrong.append(f"{record.retries} retries, not {story.failures}")
    moved = story.outcome == "succeeded"
    if moved and [run.name for run in record.phases] != ["begin", "prepare", "perform", "finish", "confirm"]:
        wrong.append("not all five phases are on record")
    if story.outcome == "rejected" and record.phases:
        wrong.append("a refused request touched a host")
    if len(copies) != 1:
        return [*wrong, f"{len(copies)} copies of it: on {', '.join(copy.host for copy in copies) or 'no host'}"]
    now = copies[0]
    wanted = {
        "host": move.destination if moved else before.host,
        "name": move.new_name if moved else before.name,
        "state": "paused" if moved and story.paused else before.state,
        "boot_id": before.boot_id,
        "boots": before.boots,
    }
    wrong += [
        f"{key} is {getattr(now, key)}, not {value}" for key, value in wanted.items() if getattr(now, key) != value
    ]
    if now.heartbeat < before.heartbeat:
        wrong.append("its heartbeat went back")
    return wrong
