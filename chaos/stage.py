"""A relay of real processes that is there to be killed: Redis, agents, a scheduler, and hosts below them."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import redis
from celery import Celery

from chaos.keeper import Keeper
from worker.contract import CANCEL, MIGRATE, SCHEDULER_QUEUE
from worker.embedded import answers, find_server, free_port, server_command
from worker.journal import Journal, Record, connect
from worker.seal import ensure_key

Value = TypeVar("Value")

ROOT = Path(__file__).resolve().parents[1]
"""The processes run the code beside this package."""
READY_SECONDS = 60.0
REACH_SECONDS = 20.0
"""How long a moment is waited for."""
LOOK_SECONDS = 0.005
LEASE_SECONDS = 3.0
SETTINGS = f"""
redis_url = "{{url}}"
state_dir = "{{folder}}"
lease_seconds = {LEASE_SECONDS}
poll_seconds = 0.05
inventory_seconds = 0.3
drain_seconds = 5
task_events = false
[retry]
initial = 0.05
maximum = 0.2
slow_initial = 0.05
slow_maximum = 0.2
[attempts]
initial = 0.1
limit = 0.3
maximum = 3
"""
"""Pauses of retries and attempts are short here: they would be part of the seconds to settle."""


class NotReached(Exception):
    """What was waited for did not come true."""


def until(condition: Callable[[], Value], what: str, seconds: float = REACH_SECONDS) -> Value:
    """Wait until a condition is true; its value. A Redis that is away counts as not yet. Raises ``NotReached``."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(redis.RedisError):
            if value := condition():
                return value
        if time.monotonic() > deadline:
            raise NotReached(f"{what}: did not come true in {seconds:g} s")
        time.sleep(LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class Copy:
    """One host's copy of the guest, as it truly is: not what the relay believes."""

    state: str
    """``running``, ``paused`` or ``stopped``."""
    boots: int = 0
    """How often it was started; a guest that only moves keeps the number."""
    boot: str = ""
    """Names this run of the guest; another one means that it was started again."""


@dataclass(frozen=True, slots=True)
class Guest:
    """The guest of one cell."""

    name: str
    uuid: str
    state: str
    copy: Copy
    """As it was before anything happened."""


class Stage(ABC):
    """A relay over two hosts. Subclasses bring the hosts, the guests on them, and the eyes that see these."""

    hosts: ClassVar[tuple[str, ...]] = ("alpha", "beta")
    keeper_class: ClassVar[type[Keeper]] = Keeper

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        folder.mkdir(parents=True, exist_ok=True)
        ensure_key(folder / "seal.key")
        (folder / "redis").mkdir(mode=0o700)
        (folder / "vmrelay.toml").write_text(SETTINGS.format(url=self.url, folder=folder) + self.inventory())
        # What is started again starts as it is installed elsewhere: with its bytecode.
        environment = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith("VMRELAY_") and name != "PYTHONDONTWRITEBYTECODE"
        }
        environment |= {"VMRELAY_CONFIG": str(folder / "vmrelay.toml"), "PYTHONPATH": str(ROOT)}
        self.keeper = self.keeper_class(folder, environment)
        self.journal = Journal(connect(self.url))
        self.celery = Celery("chaos", broker=self.url, backend=self.url)
        self.tail: int | None = None
        """Where the append-only file is to be cut before Redis starts the next time."""
        self.forgotten = 0
        """How many bytes the last cut took away."""

    # -- what a subclass brings ---------------------------------------------------------------------

    @abstractmethod
    def inventory(self) -> str:
        """The ``[hosts.NAME]`` part of the settings."""

    @abstractmethod
    def start_hosts(self) -> None:
        """Have the keeper start the hosts."""

    @abstractmethod
    def await_hosts(self) -> None:
        """Wait until all hosts answer."""

    @abstractmethod
    def host_process(self, host: str) -> str:
        """The keeper's name of the process that stands for a host."""

    @abstractmethod
    def new_guest(self, cell_number: int, paused: bool) -> Guest:
        """A guest on the first host."""

    @abstractmethod
    def remove_guest(self, guest: Guest) -> None:
        """Forget a guest, wherever it is."""

    @abstractmethod
    def copies(self, guest: Guest) -> dict[str, Copy]:
        """The true copies of a guest by host, also of hosts that do not serve now."""

    @abstractmethod
    def leftovers(self, guest: Guest) -> list[str]:
        """What hosts still hold of a migration that is over: jobs, locks."""

    @abstractmethod
    def hold_copying(self, guest: Guest) -> Callable[[], bool]:
        """Have the next perform stand still half way; the answer tells whether it does."""

    # -- life ---------------------------------------------------------------------------------------

    def agent_command(self, host: str) -> list[str]:
        """The command that runs a host's agent."""
        return [sys.executable, "-m", "worker.cli.main", "agent", host]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; returns when all of it serves."""
        command = server_command(find_server(), self.folder / "redis", self.port, "everysec")
        self.keeper.add("redis", command, self._cut_tail)
        self.start_hosts()
        self.await_hosts()
        until(lambda: answers(self.port), "Redis answers", READY_SECONDS)
        for host in self.hosts:
            self.keeper.add(f"agent-{host}", self.agent_command(host))
        self.keeper.add("scheduler", [sys.executable, "-m", "worker.cli.main", "scheduler"])
        self.await_ready()

    def stop(self) -> None:
        """End everything."""
        self.keeper.stop()
        self.celery.close()
        self.journal.client.close()

    def await_ready(self) -> None:
        """Wait until the hosts answer, and agents and scheduler consume their queues."""
        self.await_hosts()
        until(self.serves, "agents and scheduler are ready", READY_SECONDS)

    def serves(self) -> bool:
        """Whether agents and scheduler, those of now, wait for messages."""
        names = [*self.hosts, "scheduler"]
        cards = self.journal.agents(names)
        owned = all(cards.get(name, {}).get("pid") == self.keeper.pid(self.process(name)) != 0 for name in names)
        return owned and len(self._blocked()) >= len(names)

    @staticmethod
    def queue(name: str) -> str:
        """The queue of a host or of the scheduler."""
        return SCHEDULER_QUEUE if name == "scheduler" else f"host.{name}"

    @staticmethod
    def process(name: str) -> str:
        """The keeper's name of whoever consumes the queue of a host or of the scheduler."""
        return name if name == "scheduler" else f"agent-{name}"

    # -- messages -----------------------------------------------------------------------------------

    def hold(self, name: str, *, delivered: bool) -> None:
        """Stop the consumer of a queue: of a host or of the scheduler.

        The next message stays in the queue, or (``delivered``, for about a second) leaves it for the stopped
        process, which then has it without knowing.
        """
        client = self.journal.client
        if delivered:
            self._unblock()
            until(lambda: len(self._blocked()) > len(self.hosts), "all consumers wait for messages")
        self.keeper.freeze(self.process(name))
        if not delivered:
            # Redis would hand the next message to the stopped process. Consumers that run ask again at once.
            self._unblock()
        client.ping()

    def release(self, name: str) -> None:
        """Let a stopped consumer go on."""
        self.keeper.thaw(self.process(name))

    def _blocked(self) -> list[str]:
        clients = cast(list[dict[str, str]], self.journal.client.client_list())
        return [found["id"] for found in clients if found["cmd"] in ("brpop", "blmove") and "b" in found["flags"]]

    def _unblock(self) -> None:
        for client in self._blocked():
            self.journal.client.client_unblock(int(client))

    def messages(self, name: str) -> list[tuple[str, str]]:
        """What waits for a host or the scheduler: the list it is in (one for each priority), and the message."""
        queue, client = self.queue(name), self.journal.client
        keys = [queue, *client.scan_iter(f"{queue}\x06*")]
        return [(key, message) for key in keys for message in cast(list[str], client.lrange(key, 0, -1))]

    # -- Redis --------------------------------------------------------------------------------------

    def _log_file(self) -> Path:
        return max((self.folder / "redis" / "appendonlydir").glob("*.incr.aof"))

    def mark(self) -> int:
        """How long the append-only file is: what was journaled so far."""
        return self._log_file().stat().st_size

    def _cut_tail(self) -> None:
        if self.tail is not None:
            self.forgotten = self.mark() - self.tail
            os.truncate(self._log_file(), self.tail)
            self.tail = None

    # -- migrations ---------------------------------------------------------------------------------

    def migrate(self, guest: Guest, destination: str, ident: str = "") -> str:
        """Ask for a migration, as any application does; its id."""
        ident = ident or str(uuid.uuid4())
        arguments = {"domain": guest.name, "destination": destination}
        self.celery.send_task(MIGRATE, kwargs=arguments, task_id=ident, queue=SCHEDULER_QUEUE)
        return ident

    def cancel(self, ident: str) -> None:
        """Ask for a migration to stop."""
        self.celery.send_task(CANCEL, kwargs={"migration": ident}, queue=SCHEDULER_QUEUE)

    def record(self, ident: str) -> Record | None:
        """What the journal says."""
        return self.journal.record(ident)

    def in_phase(self, ident: str, phase: str, step: str) -> None:
        """Wait until a phase is queued or running. Raises ``NotReached``."""

        def there() -> bool:
            record = self.record(ident)
            return record is not None and (record.phase, record.step) == (phase, step)

        try:
            until(there, f"{phase} is {step}")
        except NotReached as late:
            raise NotReached(f"{late}; the journal says {self.told(ident)}") from None

    def told(self, ident: str) -> str:
        """Where a migration is, in one line."""
        with suppress(redis.RedisError):
            record = self.record(ident)
            if record is None:
                return "nothing of it"
            where = " ".join(word for word in (record.state, record.outcome, record.phase, record.step) if word)
            return f"{where}, attempt {record.attempt}" + (f": {record.error}" if record.error else "")
        return "nothing: Redis does not answer"

    def events(self, ident: str, kind: str) -> list[dict[str, Any]]:
        """The data of a migration's events of one kind."""
        return [data for _, told, data in self.journal.events(ident) if told == kind]

    def outcomes(self) -> int:
        """How many outcomes were counted so far."""
        return sum(map(int, cast(dict[str, str], self.journal.client.hgetall("vmrelay:outcomes")).values()))

    def result(self, ident: str) -> str:
        """What ``AsyncResult`` shows as the state of a migration."""
        raw = cast(str | None, self.journal.client.get(f"celery-task-meta-{ident}"))
        return str(json.loads(raw)["status"]) if raw else "PENDING"
