"""Rolls: hosts that are drained one after the other, each waited for, and filled again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from worker.journal.scripting import Scripts

OPEN = ("running", "stopped")
STATES = (*OPEN, "cancelled", "finished")
STEPS = ("drain", "wait", "return")
NUMBERS = ("at", "tries", "version", "created", "changed", "ended")


@dataclass(frozen=True, slots=True)
class Roll:
    """One roll as the journal keeps it. Times are milliseconds of Redis's clock."""

    id: str
    hosts: tuple[str, ...]
    state: str = "running"
    """``running``, ``stopped`` (somebody has to say that it may go on), ``cancelled`` or ``finished``."""
    at: int = 0
    """Which of the hosts it is at, from 0."""
    step: str = "drain"
    """``drain``, ``wait`` (until the drained host is ready) or ``return``."""
    tries: int = 1
    """How often this step of this host was begun: each time is a batch of its own."""
    incarnation: str = ""
    """The host's agent when its drain ended."""
    why: str = ""
    """Why it stopped, or who cancelled it."""
    notes: tuple[str, ...] = ()
    """Who did not come home."""
    request: dict[str, Any] = field(default_factory=dict)
    """As it was asked for."""
    version: int = 0
    """Counts its steps: who decides says which one it read."""
    created: int = 0
    changed: int = 0
    ended: int = 0

    @property
    def host(self) -> str:
        """The host that it is at; the last one when it is over."""
        return self.hosts[min(self.at, len(self.hosts) - 1)]

    @property
    def batch(self) -> str:
        """The batch of this step, whether it exists or not: deterministic, so beginning it twice is harmless."""
        return batch_of(self.id, "return" if self.step == "return" else "drain", self.host, self.tries)

    @property
    def is_over(self) -> bool:
        """Whether nothing follows."""
        return self.state not in OPEN

    def document(self) -> dict[str, Any]:
        """As users see it."""
        return {
            "id": self.id,
            "state": self.state,
            "hosts": list(self.hosts),
            "done": list(self.hosts[: self.at]),
            "host": None if self.is_over else self.host,
            "step": None if self.is_over else self.step,
            "batch": None if self.is_over else self.batch,
            "why": self.why or None,
            "notes": list(self.notes),
            "wait": self.request.get("wait"),
            "back": self.request.get("back"),
            "requested_by": self.request.get("requested_by", ""),
            "reason": self.request.get("reason", ""),
            "created": self.created / 1000,
            "ended": self.ended / 1000 if self.ended else None,
        }


def batch_of(roll: str, step: str, host: str, tries: int) -> str:
    """The id of a roll's batch: ``<roll>.drain.<host>``, and ``….<tries>`` from the second on."""
    return f"{roll}.{step}.{host}" + (f".{tries}" if tries > 1 else "")


class Rolls(Scripts):
    """Rolls, and the steps that they take."""

    def begin_roll(self, ident: str, hosts: tuple[str, ...], request: Mapping[str, Any]) -> list[str]:
        """Note a new roll (``roll-begin.lua``): ``OK``, ``SAME``, or ``BUSY``, the other roll and the host it has."""
        fields = {"state": "running", "at": 0, "step": "drain", "tries": 1, "request": json.dumps(request)}
        told = json.dumps({"hosts": hosts})
        answer = self._run("roll-begin", ident, json.dumps(fields), json.dumps(hosts), "begun", told)
        return [str(word) for word in answer]

    def step_roll(
        self, found: Roll, fields: Mapping[str, Any], kind: str, told: Mapping[str, Any], keep_seconds: int
    ) -> bool:
        """Take a step; false where the roll has taken another one since it was read (``roll-step.lua``)."""
        flat = {
            name: json.dumps(value) if isinstance(value, (tuple, list)) else value for name, value in fields.items()
        }
        keep = keep_seconds if fields.get("state", found.state) not in OPEN else ""
        answer = self._run("roll-step", found.id, found.version, json.dumps(flat), kind, json.dumps(told), keep)
        return bool(answer[0] == "OK")

    def roll(self, ident: str) -> Roll | None:
        """One roll, or ``None``."""
        raw = self.client.hgetall(self._key("roll", ident))
        return _from_hash(ident, raw) if raw else None

    def open_rolls(self) -> list[str]:
        """The ids of those that are not over, oldest first."""
        return [str(ident) for ident in self.client.zrange(self._key("rolls"), 0, -1)]

    def rolls(self) -> list[Roll]:
        """All that are remembered, newest first."""
        idents = self.open_rolls() + self.client.zrange(self._key("rolled"), 0, -1)
        found = [roll for ident in idents if (roll := self.roll(ident))]
        return sorted(found, key=lambda roll: roll.created, reverse=True)

    def roll_events(
        self, ident: str, after: str = "0", block_seconds: float | None = None
    ) -> list[tuple[str, str, dict[str, Any]]]:
        """A roll's events after a stream id: (id, type, data). Waits for one where asked to."""
        block = max(1, int(block_seconds * 1000)) if block_seconds else None  # 0 would be for ever
        answer = self.client.xread({self._key("roll", ident, "events"): after}, block=block)
        entries = cast(list[tuple[str, dict[str, str]]], answer[0][1] if answer else [])
        return [(at, entry["type"], json.loads(entry["data"])) for at, entry in entries]


def _from_hash(ident: str, raw: Mapping[str, str]) -> Roll:
    known: dict[str, Any] = {name: raw[name] for name in ("state", "step", "incarnation", "why") if name in raw}
    known |= {name: int(raw[name]) for name in NUMBERS if name in raw}
    known |= {name: tuple(json.loads(raw[name])) for name in ("hosts", "notes") if raw.get(name)}
    return Roll(ident, request=json.loads(raw.get("request") or "{}"), **known)
