"""A client for the tests of applications: no relay, no Redis, and a clock that stands still unless it is moved on.

    client = FakeClient()
    client.fail("web-2", code="VIR_ERR_OPERATION_FAILED")
    migration = client.migrate("web-1", "beta", requested_by="anna")
    client.advance(60)
    assert client.status(migration.id).state == "succeeded"
    assert client.requests[0].arguments["requested_by"] == "anna"

``wait`` and ``events`` move the clock on themselves, so no test waits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from vmrelay_client._client import Client
from vmrelay_client._connector import Arguments, BatchKind
from vmrelay_client._fake_course import Asked, Script, Step, course, ended
from vmrelay_client._ids import SCOPE, id_of
from vmrelay_client._waiting import looks
from vmrelay_client.errors import IdempotencyConflict, Rejected, TimedOut, Unavailable
from vmrelay_client.types import Batch, CancelAnswer, ControlAnswer, Event, Migration, Problem

FOREVER = 86400.0
"""So many seconds of the fake's clock are waited without a timeout for what never ends."""


@dataclass(frozen=True)
class Request:
    """Something that was asked for."""

    kind: Literal["migrate", "cancel", "drain", "rebalance", "control"]
    id: str
    """Of the migration or the batch."""
    arguments: Mapping[str, Any]


class FakeClient(Client):
    """The client without a relay. What is not scripted succeeds, nine steps and ten seconds after it was asked for.

    ``like`` says when a refusal and a key used twice show: ``celery`` shows them in ``status`` and not at all, ``http``
    raises at once.
    """

    def __init__(self, *, like: Literal["celery", "http"] = "celery", scope: str = SCOPE) -> None:
        self._memory = _Memory(like == "http", scope)
        super().__init__(self._memory)

    @property
    def requests(self) -> list[Request]:
        """All that was asked for, in its order; what was refused is among it."""
        return list(self._memory.requests)

    # -- what shall become of things --------------------------------------------------------------

    def fail(self, domain: str, code: str = "VIR_ERR_OPERATION_FAILED", message: str = "") -> None:
        """Migrations of this domain fail after perform."""
        self._memory.scripts[domain] = Script("failed", code, message)

    def refuse(self, domain: str, code: str = "unknown-domain", message: str = "") -> None:
        """Migrations of this domain are rejected."""
        self._memory.scripts[domain] = Script("rejected", code, message)

    def leave_in_doubt(self, domain: str, message: str = "") -> None:
        """Migrations of this domain are in doubt after perform, until ``settle``."""
        self._memory.scripts[domain] = Script("in-doubt", "in-doubt", message)

    def keep_running(self, domain: str) -> None:
        """Migrations of this domain stay in perform until they are cancelled."""
        self._memory.scripts[domain] = Script("running")

    def succeed(self, domain: str) -> None:
        """Migrations of this domain succeed again."""
        self._memory.scripts.pop(domain, None)

    def settle(self, migration: str, outcome: Literal["succeeded", "failed"]) -> None:
        """An operator settles a migration that is in doubt."""
        self._memory.settle(migration, outcome)

    def plan_batches(self, *, moved: int = 2, failed: int = 0, skipped: int = 0, left: tuple[str, ...] = ()) -> None:
        """What becomes of the batches that are asked for from now on; ``left`` are the domains that stay."""
        self._memory.fates = (moved, failed, skipped, left)

    def refuse_batches(self, code: str = "draining", message: str = "") -> None:
        """Batches that are asked for from now on are rejected."""
        self._memory.batch_refusal = Problem(code, message or f"refused with {code}, as the test wants it")

    def go_away(self) -> None:
        """From now on the relay cannot be asked: everything raises ``Unavailable``."""
        self._memory.away = True

    def come_back(self) -> None:
        """The relay can be asked again."""
        self._memory.away = False

    def advance(self, seconds: float) -> None:
        """Move the clock on."""
        self._memory.clock += seconds


@dataclass
class _Batch:
    """A batch that was asked for: planned for a second, then one move a second while it is not paused."""

    shown: Batch
    fates: list[str]
    """What becomes of each move."""
    worked: float
    """When it was worked on last."""
    digest: str


class _Memory:
    """The connector of the fake."""

    def __init__(self, at_once: bool, scope: str) -> None:
        self.at_once, self.scope, self.clock, self.away = at_once, scope, 0.0, False
        self.requests: list[Request] = []
        self.scripts: dict[str, Script] = {}
        self.fates: tuple[int, int, int, tuple[str, ...]] = (2, 0, 0, ())
        self.batch_refusal: Problem | None = None
        self._moves: dict[str, tuple[Asked, list[Step]]] = {}
        self._batches: dict[str, _Batch] = {}
        self._asked_at = 0.0

    def _ask(self, kind: Any, ident: str, arguments: Arguments) -> None:  # noqa: ANN401 - a literal
        """Record what is asked. Raises ``Unavailable``, and what JSON does of what cannot travel."""
        json.dumps(dict(arguments), allow_nan=False)
        if self.away:
            raise Unavailable("the relay is away, as the test wants it")
        self._asked_at = self.clock
        self.requests.append(Request(kind, ident, dict(arguments)))

    def _ident(self, key: str | None) -> str:
        return id_of(key if key is not None else f"request-{len(self.requests) + 1}", self.scope)

    # -- migrations -------------------------------------------------------------------------------

    def submit(self, arguments: Arguments, key: str | None) -> Migration:
        ident = self._ident(key)
        self._ask("migrate", ident, arguments)
        known = self._moves.get(ident)
        if known is not None:
            if self.at_once and known[0].arguments != arguments:
                raise IdempotencyConflict("the key was used for another request before")
            return self.look(ident)
        script = self.scripts.get(str(arguments["domain"]), Script())
        asked = Asked(ident, dict(arguments), self.clock)
        steps = course(asked, script)
        if self.at_once and script.fate == "rejected":
            steps[-1].shown.raise_for_state()
        self._moves[ident] = (asked, steps)
        return steps[0].shown

    def look(self, migration: str) -> Migration:
        if self.away:
            raise Unavailable("the relay is away, as the test wants it")
        if migration not in self._moves:
            return Migration(migration, "waiting", text="not known", known=False)
        return self._past(migration)[-1].shown

    def _past(self, migration: str) -> list[Step]:
        return [step for step in self._moves[migration][1] if step.at <= self.clock]

    def follow(self, migration: str, deadline: float | None) -> Iterator[Event]:
        told = 0
        for _ in looks(self, lambda: self.look(migration), deadline, f"migration {migration}"):
            past = self._past(migration) if migration in self._moves else []
            for step in past[told:]:
                if step.event is not None:
                    yield step.event
            told = len(past)
            if past and past[-1].shown.over:
                return

    def cancel(self, migration: str, requested_by: str, seconds: float) -> CancelAnswer:
        self._ask("cancel", migration, {"requested_by": requested_by} if requested_by else {})
        if migration not in self._moves:
            raise Rejected(f"unknown migration '{migration}'", code="unknown-migration")
        asked, now = self._moves[migration][0], self.look(migration)
        if now.over:
            return CancelAnswer(migration, "over", now.state)
        if now.phase in ("finish", "confirm"):
            return CancelAnswer(migration, "too-late", now.phase)
        waits = now.state == "waiting"
        why = Script("failed", "cancelled", f"{asked.arguments['domain']} stays on {asked.source}: it was cancelled")
        self._end(migration, ended(asked, self.clock + (0 if waits else 1), "cancelled", why))
        return CancelAnswer(migration, "ended" if waits else "asked", "" if waits else "active")

    def settle(self, migration: str, outcome: Literal["succeeded", "failed"]) -> None:
        if self.look(migration).state != "in-doubt":
            raise ValueError(f"migration {migration} is not in doubt")
        self._end(migration, ended(self._moves[migration][0], self.clock, outcome))

    def _end(self, migration: str, step: Step) -> None:
        asked = self._moves[migration][0]
        self._moves[migration] = (asked, [*self._past(migration), step])

    # -- batches ----------------------------------------------------------------------------------

    def submit_batch(self, kind: BatchKind, arguments: Arguments, key: str | None) -> Batch:
        ident, digest = self._ident(key), json.dumps([kind, dict(arguments)], sort_keys=True)
        self._ask(kind, ident, arguments)
        if ident in self._batches:
            if self.at_once and self._batches[ident].digest != digest:
                raise IdempotencyConflict("the key was used for another request before")
            return self.look_batch(ident)
        moved, failed, skipped, left = self.fates
        fates = ["moved"] * moved + ["failed"] * failed + ["skipped"] * skipped
        document = {"id": ident, "kind": kind, "left": [{"domain": domain} for domain in left]}
        shown = Batch(ident, "planning", total=len(fates), document=document)
        if self.batch_refusal is not None:
            shown = Batch(ident, "rejected", error=self.batch_refusal)
            if self.at_once:
                shown.raise_for_state()
        self._batches[ident] = _Batch(shown, fates, self.clock, digest)
        if arguments.get("hold") and not shown.over:
            self._batches[ident].shown = replace(shown, state="planned")
        return Batch(ident, "waiting", known=False)

    def look_batch(self, batch: str) -> Batch:
        if self.away:
            raise Unavailable("the relay is away, as the test wants it")
        if batch not in self._batches:
            return Batch(batch, "waiting", known=False)
        self._work(self._batches[batch])
        return self._batches[batch].shown

    def _work(self, batch: _Batch) -> None:
        """Do what was to be done since it was looked at last."""
        while batch.shown.state in ("planning", "running", "cancelling") and batch.worked + 1 <= self.clock:
            batch.worked += 1
            shown = batch.shown
            done = shown.moved + shown.failed + shown.skipped
            if shown.state == "running" and done < shown.total:
                fate = batch.fates[done]
                shown = replace(shown, **{fate: getattr(shown, fate) + 1})
                done += 1
            elif shown.state == "cancelling":
                shown = replace(shown, skipped=shown.total - shown.moved - shown.failed)
                done = shown.total
            batch.shown = replace(shown, state="finished" if done == shown.total else "running")
        if batch.shown.state in ("planned", "paused", "finished", "rejected"):
            batch.worked = self.clock

    def control(self, arguments: Arguments, seconds: float) -> ControlAnswer:
        ident, action = str(arguments["batch"]), arguments["action"]
        self._ask("control", ident, arguments)
        if ident not in self._batches:
            raise Rejected(f"unknown batch '{ident}'", code="unknown-batch")
        before, batch = self.look_batch(ident), self._batches[ident]
        follows = {"pause": "paused", "resume": "running", "cancel": "cancelling", "retry": "running"}[action]
        answer = "ok"
        if action == "retry":
            answer = "over" if before.state != "finished" else "ok" if before.failed else "none"
            batch.fates = [fate for fate in batch.fates if fate != "failed"] + ["moved"] * before.failed
            before = replace(before, failed=0) if answer == "ok" else before
        elif before.over or before.state == "cancelling":
            answer = "over"
        elif before.state == follows:
            answer = "same"
        if answer == "ok":
            batch.shown = replace(before, state=follows)  # type: ignore[arg-type]
        return ControlAnswer(ident, answer, batch.shown.state)

    # -- time -------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.clock

    def pause(self, seconds: float) -> None:
        self.clock += seconds
        if self.clock - self._asked_at > FOREVER:
            raise TimedOut("what is waited for never ends in this test; give a timeout")

    def close(self) -> None:
        pass
