"""One batch as the journal keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATES = ("planning", "planned", "running", "paused", "cancelling", "finished")
STOPPED = "stopped"
"""The code of a guest that is left behind and does not run: a drained host may be switched off all the same."""
KINDS = ("list", "plan", "rebalance", "drain", "return")


@dataclass(frozen=True, slots=True)
class Item:
    """One move of a batch, and what became of it."""

    n: int
    """From 1."""
    domain: str
    uuid: str = ""
    source: str = ""
    """Empty where the request did not say: wherever it is when its turn comes."""
    destination: str = ""
    after: tuple[int, ...] = ()
    """It starts when these have been made."""
    planned: str = ""
    """Why the plan has it."""
    state: str = "waiting"
    """``waiting`` (for others or for its turn), ``asked`` (it has a migration), ``moved``, ``failed``, ``skipped``, or
    ``replaced`` (a later plan of the same batch does without it; not counted)."""
    migration: str = ""
    """Its id: ``<batch>.<n>``, and ``<batch>.<n>.<try>`` when it is asked again."""
    left: bool = False
    """The plan leaves it where it is, for the reason that ``code`` and ``why`` tell: skipped from the start."""
    code: str = ""
    """Why it failed or was skipped, as a stable code."""
    why: str = ""
    """The same in words."""

    @property
    def asked_text(self) -> str:
        """As the journal keeps what is to be moved: JSON."""
        told = {
            "domain": self.domain,
            "uuid": self.uuid,
            "source": self.source,
            "destination": self.destination,
            "after": list(self.after),
            "planned": self.planned,
        } | ({"left": self.code, "why": self.why} if self.left else {})
        return json.dumps({name: value for name, value in told.items() if value})

    def document(self) -> dict[str, Any]:
        """As users see it."""
        return {
            "n": self.n,
            "domain": self.domain,
            "uuid": self.uuid or None,
            "source": self.source or None,
            "destination": self.destination or None,
            "after": list(self.after),
            "planned": self.planned or None,
            "state": self.state,
            "migration": self.migration or None,
            "code": self.code or None,
            "why": self.why or None,
        }


def item_of(n: int, asked: str, fate: str | None) -> Item:
    """The move that two fields of the journal describe: what was asked for, and what became of it."""
    told = json.loads(asked)
    became = json.loads(fate) if fate else {}
    return Item(
        n=n,
        domain=told["domain"],
        uuid=told.get("uuid", ""),
        source=told.get("source", ""),
        destination=told.get("destination", ""),
        after=tuple(told.get("after", ())),
        planned=told.get("planned", ""),
        state=became.get("state", "waiting"),
        migration=became.get("migration", ""),
        left="left" in told,
        code=became.get("code", ""),
        why=became.get("why", ""),
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """What the journal says of a batch, without its items. Times are milliseconds of Redis's clock."""

    id: str
    kind: str
    state: str
    hosts: tuple[str, ...] = ()
    """Those that are drained or returned to."""
    priority: str = "normal"
    requested_by: str = ""
    reason: str = ""
    traceparent: str = ""
    """The trace that the request belongs to; its migrations do, too."""
    request: dict[str, Any] = field(default_factory=dict)
    """As it was asked for, without its moves or its plan."""
    hold: bool = False
    """It waits for ``resume`` once it is planned."""
    abort: bool = False
    """It is cancelled with what runs of it."""
    total: int = 0
    """How many moves it has; those that a later plan replaced are not counted."""
    moved: int = 0
    failed: int = 0
    skipped: int = 0
    asked: int = 0
    """Migrations that are queued or run now, or are in doubt."""
    in_doubt: tuple[str, ...] = ()
    """Migrations of it that an operator has to look at; it does not finish before."""
    replans: int = 0
    """How often it has planned anew because of what happened."""
    plans: int = 0
    """How many plans it has had."""
    exhausted: bool = False
    """It plans no more: planning failed."""
    renew: bool = False
    """It plans for what failed, too: somebody wants that tried again."""
    seconds: float = 0
    """How long the last plan expects to take."""
    notes: tuple[str, ...] = ()
    left: tuple[dict[str, Any], ...] = ()
    """What could not be moved, and why: ``Left`` documents of the last plan, and what a last look showed."""
    filled: int = 0
    """The number of the last move that is written, those that were replaced included."""
    expected: int | None = None
    """The number of the last move to be written; ``None`` while it is planned."""
    base: int = 0
    """The moves of the last plan come after this one."""
    digest: str = field(default="", repr=False)
    """The fingerprint of the request."""
    revision: int = 0
    """Goes up with everything that a receipt follows from."""
    created: int = 0
    started: int = 0
    last: int = 0
    """When a move of it ended last."""
    ended: int = 0

    @property
    def done(self) -> int:
        """How many moves are over."""
        return self.moved + self.failed + self.skipped

    @property
    def staying(self) -> tuple[dict[str, Any], ...]:
        """Of what is left, the guests that are not stopped: where a drain ended without any, its hosts are empty."""
        return tuple(left for left in self.left if left["code"] != STOPPED)

    @property
    def waiting(self) -> int:
        """How many have not been asked for yet."""
        return max(self.total - self.done - self.asked, 0)

    @property
    def complete(self) -> bool:
        """Whether all its moves are written."""
        return self.expected is not None and self.filled == self.expected

    def document(self) -> dict[str, Any]:
        """As users see it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "hosts": list(self.hosts),
            "priority": self.priority,
            "requested_by": self.requested_by,
            "reason": self.reason,
            "total": self.total,
            "moved": self.moved,
            "failed": self.failed,
            "skipped": self.skipped,
            "asked": self.asked,
            "waiting": self.waiting,
            "in_doubt": list(self.in_doubt),
            "replans": self.replans,
            "planned_seconds": self.seconds or None,
            "notes": list(self.notes),
            "left": list(self.left),
            "traceparent": self.traceparent or None,
            "created": self.created / 1000 if self.created else None,
            "started": self.started / 1000 if self.started else None,
            "ended": self.ended / 1000 if self.ended else None,
        }


def batch_of(ident: str, raw: Mapping[str, str], asked: int, doubts: tuple[str, ...]) -> Batch:
    """The batch that ``HGETALL`` returned, with what its other keys tell."""

    def count(name: str) -> int:
        return int(raw.get(name) or 0)

    return Batch(
        id=ident,
        kind=raw.get("kind", ""),
        state=raw.get("state", ""),
        hosts=tuple(json.loads(raw.get("hosts") or "[]")),
        priority=raw.get("priority") or "normal",
        requested_by=raw.get("requested_by", ""),
        reason=raw.get("reason", ""),
        traceparent=raw.get("traceparent", ""),
        request=json.loads(raw.get("request") or "{}"),
        hold=raw.get("hold") == "1",
        abort=raw.get("abort") == "1",
        total=count("total"),
        moved=count("moved"),
        failed=count("failed"),
        skipped=count("skipped"),
        asked=asked,
        in_doubt=doubts,
        replans=count("replans"),
        plans=count("plans"),
        exhausted=raw.get("exhausted") == "1",
        renew=raw.get("renew") == "1",
        seconds=float(raw.get("seconds") or 0),
        notes=tuple(json.loads(raw.get("notes") or "[]")),
        left=tuple(json.loads(raw.get("left") or "[]")),
        filled=count("filled"),
        expected=int(raw["expected"]) if raw.get("expected") else None,
        base=count("base"),
        digest=raw.get("digest", ""),
        revision=count("revision"),
        created=count("created"),
        started=count("started"),
        last=count("last"),
        ended=count("ended"),
    )
