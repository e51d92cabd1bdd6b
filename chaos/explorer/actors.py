"""The real tasks, one effect at a time.

A task of an agent is run from its beginning until it asks for an effect that has no answer yet: a script of the
journal, a call of the hypervisor, a look. With the answer it is run again, one effect further. So the explorer stops
it, crashes it and lets others go first between any two effects, and nothing of its code is written down twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

from celery.exceptions import Ignore

from chaos.explorer.ledger import DESTINATION, IDENT, PREFIX, SOURCE, UUID
from tasks import attempt, conclusion, dispatch, phases, reconcile, results, visit, watch, work
from worker.contract import RECOVER, Baton, canonical
from worker.errors import Cancelled, HypervisorError, RelayError, Retry
from worker.hypervisors.base import Begun, Domain, DomainState, Finished, Measured, Move, Performed, Phase, Prepared
from worker.hypervisors.flags import MigrateFlag
from worker.journal import Journal, Record
from worker.journal.record import from_hash
from worker.running import Running

recover = import_module("tasks.recover")  # the package gives that name to the task
NOW, LATE = 1000.0, 2000.0
"""Redis's clock: no time has passed since the last step that knew it, or more than anybody waits."""
Request = tuple[Any, ...]
END: Request = ("end",)
SIDES = ("source", "destination")
HOSTS = (SOURCE, DESTINATION)


class Task(NamedTuple):
    """A task that an agent has begun."""

    host: int
    phase: str
    text: str
    token: str
    incarnation: str
    now: float
    log: tuple[Any, ...] = ()
    """The answers to its effects so far."""


class _Suspended(BaseException):
    """The task asks for an effect that has no answer yet."""

    def __init__(self, request: Request) -> None:
        self.request = request


class _Run:
    """One run of a task against the answers that it got so far."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._at = 0
        self.handed: tuple[str, str] = ("", "")

    def __call__(self, *request: Any) -> Any:  # noqa: ANN401 - whatever the effect answers
        if self._at == len(self.task.log):
            raise _Suspended(request)
        answer = self.task.log[self._at]
        self._at += 1
        if isinstance(answer, tuple) and answer and answer[0] == "error":
            _, code, retry, after = answer
            raise HypervisorError("it failed", code=code, retry=Retry(retry), after=Retry(after))
        if answer == ("cancelled",):
            raise Cancelled("cancelled")
        return answer


class _Journal(Journal):
    """The real methods over scripts that are effects."""

    def __init__(self, run: _Run) -> None:
        self.prefix = PREFIX
        self._effect = run

    def _run(self, name: str, *args: str | int | float | bytes) -> list[Any]:
        now = NOW if name == "claim" else self.now()
        known = [_rebased(str(arg), now) for arg in args]
        if name == "advance":
            self._effect.handed = known[2], known[3]
        answer = self._effect("script", name, *known)
        return [list(item) if isinstance(item, tuple) else item for item in answer]

    def now(self) -> float:
        return self._effect.task.now

    def agents(self, hosts: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401
        names = tuple(hosts)
        alive = self._effect("agents")
        return {name: {"incarnation": alive[HOSTS.index(name)]} for name in names if alive[HOSTS.index(name)]}

    def record(self, ident: str) -> Record | None:
        raw = dict(self._effect("record"))
        return from_hash(ident, raw) if raw else None

    def baton(self, ident: str) -> str:
        return str(dict(self._effect("record")).get("baton", ""))


class _Hypervisor:
    """A driver whose calls are effects; what they do is in the models."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    def _domain(self, *request: str | bool) -> Domain:
        return Domain("web", UUID, DomainState(self._run(*request)))

    def begin(self, move: Move, watch: object) -> Begun:
        return Begun("<domain/>", b"begun", paused=bool(self._run("begin")))

    def prepare(self, move: Move, xml: str, cookie: bytes, watch: object) -> Prepared:
        self._run("prepare")
        return Prepared("tcp://beta", b"prepared")

    def perform(self, move: Move, xml: str, uri: str, cookie: bytes, watch: object) -> Performed:
        self._run("perform")
        return Performed(b"performed")

    def finish(self, move: Move, cookie: bytes, cancelled: bool, watch: object) -> Finished:
        return Finished(self._domain("finish", cancelled), b"finished")

    def confirm(self, move: Move, cookie: bytes, cancelled: bool, watch: object) -> Domain:
        return self._domain("confirm", cancelled)

    def follow(self, move: Move, watch: object) -> Domain:
        return self._domain("follow")

    def release(self, move: Move) -> Domain:
        return self._domain("release")

    def measured(self, move: Move) -> Measured:
        return Measured()

    def inspect(self, uuid: str) -> Domain:
        return self._domain("inspect")

    def resume(self, uuid: str) -> Domain:
        return self._domain("resume")

    def abort(self, uuid: str) -> None:
        self._run("abort")

    def remove(self, uuid: str) -> None:
        self._run("remove")


class _Running(Running):
    """What an agent has in hand, from its memory in the model."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self._run = run

    def busy_with(self, migration: str, besides: str) -> str:
        return str(self._run("busy", besides))

    def holding(self, migration: str, besides: str) -> str:
        return self.busy_with(migration, besides)

    def keep(self, phase: str, after: Baton) -> None:
        self._run("keep", after.attempt, str(phase), dispatch.text(after))

    def kept(self, phase: str, before: Baton, epoch: int | None = None) -> Baton | None:
        for attempt_, name, text in self._run("kept"):
            self._kept[IDENT, attempt_, name] = Baton.model_validate_json(text)
        return super().kept(phase, before, epoch)


class _Seal:
    """Nothing is sealed: states stay readable."""

    def seal(self, data: bytes, context: str) -> str:
        return data.decode()

    def open(self, text: str, context: str) -> bytes:
        return text.encode()


class _Silent:
    """A logger that says nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class Actors:
    """What each task of a migration asks for next."""

    def __init__(self, profile: str) -> None:
        self._profile = profile
        self._numbers: dict[Task, int] = {}
        self._requests: list[Request | None] = []
        self.tasks: list[Task] = []
        """Every task that was met, by number: numbers are quicker to compare than what it was told so far."""
        self._now: _Run
        self._settings = SimpleNamespace(attempts=SimpleNamespace(), keep_seconds=60)

    @property
    def runs(self) -> int:
        """How often code of the tasks was really run."""
        return sum(request is not None for request in self._requests)

    def number(self, task: Task) -> int:
        """The number of a task."""
        known = self._numbers.get(task)
        if known is None:
            known = self._numbers[task] = len(self.tasks)
            self.tasks.append(task)
            self._requests.append(None)
        return known

    def request(self, number: int) -> Request:
        """The effect that a task asks for next, or ``END``."""
        known = self._requests[number]
        if known is None:
            known = self._requests[number] = self._requested(self.tasks[number])
        return known

    def _requested(self, task: Task) -> Request:
        run = self._now = _Run(task)
        try:
            if task.phase == "start":
                journal = _Journal(run)
                if (record := journal.record(IDENT)) is not None:
                    reconcile.start(journal, None, record, "interrupted")  # type: ignore[arg-type]
            elif task.phase == RECOVER:
                recover.recover.run(json.loads(task.text))
            else:
                fake = SimpleNamespace(request=SimpleNamespace(chain=None))
                document = phases.run(fake, Phase(task.phase), json.loads(task.text))  # type: ignore[arg-type]
                if task.phase != Phase.CONFIRM:
                    run("publish", run.handed[0], canonical(document))
        except _Suspended as suspended:
            return suspended.request
        except (Ignore, RelayError):
            return END
        return END

    def _agent(self) -> Any:  # noqa: ANN401 - as much of an agent as the tasks use
        run = self._now
        return SimpleNamespace(
            host=SimpleNamespace(name=HOSTS[run.task.host], profile=self._profile),
            journal=_Journal(run),
            hypervisor=_Hypervisor(run),
            seal=_Seal(),
            settings=self._settings,
            incarnation=run.task.incarnation,
            may_claim=True,
            await_lease=lambda: True,
            draining=False,
            evicting=False,
            inventory=None,
            running=_Running(run),
            leaving=SimpleNamespace(over=lambda _: None),
            publish=lambda: None,
        )

    def _send(self, _: object, baton: dict[str, Any], phase: str) -> None:
        self._now("publish", str(phase), _rebased(canonical(baton), self._now.task.now))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Tasks ask this explorer for what they need, as long as the block lasts."""
        ids = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=self._now.task.token))

        def delivered(*_: object) -> None:
            raise Ignore

        replaced: list[tuple[object, str, Any]] = [
            (phases, "current", self._agent),
            (recover, "current", self._agent),
            (phases, "uuid", ids),
            (recover, "uuid", ids),
            (phases, "time", SimpleNamespace(perf_counter=lambda: 0.0)),
            (watch, "_waiting", lambda call, *args, **named: call(*args, **named)),
            (dispatch, "send", lambda hosts, baton, first=Phase.BEGIN: self._send(hosts, baton, first)),
            (dispatch, "send_recover", lambda hosts, baton: self._send(hosts, baton, RECOVER)),
            (dispatch, "shown", lambda *_, **__: ("", "", 0)),
            (dispatch, "shown_waiting", lambda *_, **__: ("", "", 0)),
            (results, "deliver", delivered),
            (results, "shown", lambda *_: ("", "", 0)),
            (attempt, "pause_before", lambda *_: 0.0),
            *((module, "logger", _Silent()) for module in (phases, recover, visit, conclusion, reconcile, watch, work)),
        ]
        with ExitStack() as stack:
            for where, name, value in replaced:
                stack.enter_context(mock.patch.object(where, name, value))
            yield


def _rebased(text: str, now: float) -> str:
    """A recovery's baton as if its clock said ``NOW``: only differences of times decide anything."""
    if now == NOW or '"recovery":{' not in text:
        return text
    document = json.loads(text)
    known = document["recovery"]
    for holder, name in ((known, "since"), (known, "still"), *((known.get(side), "at") for side in SIDES)):
        if holder and name in holder:
            holder[name] = max(0.0, holder[name] - now + NOW)
    return canonical(document)


def first_record(driver: str, attempts: int) -> Record:
    """The migration that is explored: a request that was accepted."""
    flags = MigrateFlag.LIVE | MigrateFlag.PERSIST_DEST
    flags |= MigrateFlag.UNDEFINE_SOURCE if driver == "qemu" else MigrateFlag.COMPRESSED
    return Record(
        id=IDENT,
        state="pending",
        domain="web",
        uuid=UUID,
        source=SOURCE,
        destination=DESTINATION,
        destination_name="web",
        driver=driver,
        flags=int(flags),
        attempts_allowed=attempts,
    )


def first_baton(record: Record) -> str:
    """What begin of the record's next attempt gets."""
    return dispatch.text(dispatch.first_baton(record))


__all__ = ["END", "HOSTS", "LATE", "NOW", "Actors", "Request", "Task", "conclusion", "first_baton", "first_record"]
