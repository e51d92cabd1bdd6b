"""One simulated host: what its dispatcher knows and tells."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn
from uuid import uuid4

from worker.hypervisors.simulator.clock import Clock
from worker.hypervisors.simulator.codes import LOCKED_FOR, Code, TaskError, describe
from worker.hypervisors.simulator.config import SimulatorConfig
from worker.hypervisors.simulator.directory import Directory, Guest, guest_from
from worker.hypervisors.simulator.faults import Faults
from worker.hypervisors.simulator.wire import Lines, Message, encode
from worker.hypervisors.vz.sdk import PACF_CANCEL_TASK_ON_END_SESSION, EventType, VmState

if TYPE_CHECKING:
    from worker.hypervisors.simulator.link import Link
    from worker.hypervisors.simulator.source import Outgoing
    from worker.hypervisors.simulator.target import Incoming

LOCK_WAIT = 60.0
"""Simulated seconds after which a conflicting operation gives up (two slices of 30)."""
UNKNOWN_EVENT = 100999
LATE = 0.05
"""Real seconds by which a noisy dispatcher repeats its events."""
PARAMS = Mapping[str, str | int]

SHOWN = {"running": VmState.RUNNING, "paused": VmState.PAUSED, "stopped": VmState.STOPPED}
ENTERED = {
    "running": EventType.VM_STARTED,
    "paused": EventType.VM_PAUSED,
    "stopped": EventType.VM_STOPPED,
}


@dataclass(eq=False)
class Session:
    """One logged-in client. Its uuid is a bearer credential: never shown, never logged."""

    connection: Lines
    flags: int
    previous: str = ""
    uuid: str = field(default_factory=lambda: f"{{{uuid4()}}}")


class Locks:
    """Exclusive operations on virtual machines; in memory only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, str] = {}
        self._released = asyncio.Event()

    def held(self) -> dict[str, str]:
        """Uuid of the virtual machine -> operation."""
        return dict(self._held)

    async def acquire(self, uuid: str, operation: str) -> None:
        """Take the lock; wait for a holder about 60 s, then ``TaskError`` with ``VM_LOCKED_FOR_*``."""
        if uuid in self._held:
            await self._wait(uuid)
        self._held[uuid] = operation

    def hold(self, uuid: str, operation: str) -> None:
        """Take the lock whoever holds it (the control command)."""
        self._held[uuid] = operation

    def release(self, uuid: str) -> None:
        """Give it back; harmless where it is not held."""
        if self._held.pop(uuid, None) is not None:
            self._released.set()
            self._released = asyncio.Event()

    async def _wait(self, uuid: str) -> None:
        try:
            async with asyncio.timeout(self._clock.real(LOCK_WAIT)):
                while uuid in self._held:
                    await self._released.wait()
        except TimeoutError:
            raise TaskError(LOCKED_FOR[self._held[uuid]]) from None


class Node:
    """The state of one dispatcher."""

    def __init__(self, name: str, config: SimulatorConfig) -> None:
        self.name = name
        self.config = config
        self.host = config.host(name)
        self.clock = Clock(config.clock_scale, config.instant)
        self.directory = Directory(config.state_dir / f"{name}.jsonl", sync=not config.instant)
        self.faults = Faults()
        self.locks = Locks(self.clock)
        self.sessions: dict[str, Session] = {}
        self.outgoing: dict[str, Outgoing] = {}
        """Migrations that leave, by the uuid of the request."""
        self.incoming: dict[str, Incoming] = {}
        """Migrations that arrive, by the uuid of the virtual machine."""
        self.links: dict[str, list[Link]] = {}
        """Idle links to other dispatchers (instant mode only)."""
        self.migrating: set[str] = set()
        self.streams = 0
        """How many migrations share this host's bandwidth now."""
        self.noisy = 0
        self.stopping = False
        self.migrations = {"out": 0, "in": 0, "failed": 0}
        if self.directory.is_new:
            self._first_start()

    def _first_start(self) -> None:
        guests = [
            guest_from(vm, home_of(vm.plain_uuid), self.host.cpu_model)
            for vm in self.config.vms
            if vm.host == self.name
        ]
        self.directory.create(guests)
        for fault in self.config.faults:
            if fault.host == self.name:
                self.faults.arm(fault)

    def guest(self, uuid_in_braces: str) -> Guest:
        """The virtual machine of this uuid; ``TaskError`` where it is not here."""
        guest = None
        if uuid_in_braces[:1] == "{" and uuid_in_braces[-1:] == "}":
            guest = self.directory.get(uuid_in_braces[1:-1].lower())
        if guest is None:
            raise TaskError(Code.VM_UUID_NOT_FOUND)
        return guest

    def state(self, guest: Guest) -> VmState:
        """What the dispatcher shows: MIGRATING while it says so, else what QEMU does."""
        return VmState.MIGRATING if guest.uuid in self.migrating else SHOWN[guest.state]

    def emit(
        self,
        kind: int,
        uuid: str,
        params: PARAMS | None = None,
        *,
        code: int = 0,
        text: str = "",
        only: Session | None = None,
    ) -> None:
        """Tell every session (or only one) an event about a virtual machine."""
        receivers = list(self.sessions.values()) if only is None else [only]
        if not receivers:
            return
        message: Message = {"event": int(kind), "vm": f"{{{uuid}}}"}
        if params:
            message["params"] = params
        if code:
            message |= {"code": int(code), "text": text}
        line = encode(message)
        for session in receivers:
            session.connection.send_line(line)
        if self.noisy:
            self._make_noise(line, uuid, receivers)

    def _make_noise(self, line: bytes, uuid: str, receivers: list[Session]) -> None:
        """An unknown event, and the event once more, late: perhaps after the job's end."""
        unknown = encode({"event": UNKNOWN_EVENT, "vm": f"{{{uuid}}}"})
        loop = asyncio.get_running_loop()
        for session in receivers:
            session.connection.send_line(unknown)
            loop.call_later(LATE, session.connection.send_line, line)

    def emit_state(self, guest: Guest) -> None:
        """Tell the state that is shown now."""
        self.emit(EventType.VM_STATE_CHANGED, guest.uuid, {"vminfo_vm_state": int(self.state(guest))})

    def end_session(self, session: Session) -> None:
        """The client is gone: its uuid dies, and with flag 0x8 its tasks on this host are cancelled."""
        if self.sessions.pop(session.uuid, None) and session.flags & PACF_CANCEL_TASK_ON_END_SESSION:
            self.cancel_tasks(session)

    def cancel_tasks(self, session: Session | None = None) -> None:
        """Cancel the tasks of one session, or all of this host."""
        outgoing = [task for task in self.outgoing.values() if session in (None, task.session)]
        incoming = [task for task in self.incoming.values() if session in (None, task.session)]
        for task in outgoing:
            task.cancel()
        for arriving in incoming:
            arriving.cancel()

    def bandwidth(self) -> float:
        """Bytes per second for each of the migrations that leave now."""
        return self.config.bandwidth_mib * 2**20 / max(1, self.streams)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Take a share of the bandwidth."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1


def home_of(uuid: str) -> str:
    """The default home directory of a virtual machine."""
    return f"/vz/vmprivate/{uuid}"


def refusal(request_id: object, error: TaskError) -> Message:
    """The reply of a job that failed: its code, its error event, and the nested ones."""
    reply: Message = {"id": request_id, "code": error.code, "text": error.text}
    if error.nested:
        reply["nested"] = [[code, describe(code)] for code in error.nested]
    return reply


def crash() -> NoReturn:
    """Die as a dispatcher dies: no word to anyone."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit(1)
