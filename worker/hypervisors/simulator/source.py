"""The dispatcher's task behind one migrate job: its life, its cancel, its end (vz-sdk 3.2, 3.3).

What it does between is in ``migration.py``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from worker.hypervisors.simulator.codes import Code, TaskError
from worker.hypervisors.simulator.config import Fault
from worker.hypervisors.simulator.directory import Guest
from worker.hypervisors.simulator.link import Link, LinkLost
from worker.hypervisors.simulator.node import ENTERED, Node, Session, crash, refusal
from worker.hypervisors.simulator.wire import Message
from worker.hypervisors.vz.sdk import EventType

CANCEL_SLICE = 10.0
"""Simulated seconds after which a wait for the target's answer notices a cancel at the latest."""


class Outgoing(ABC):
    """One migrate job, from the moment the dispatcher has taken it on."""

    def __init__(self, node: Node, session: Session, message: Message, guest: Guest) -> None:
        self.node = node
        self.session = session
        self.request_id = message["id"]
        self.task = str(message["task"])
        self.guest = guest
        self.old_state = guest.state
        self.step = 0
        self.is_cancelled = False
        self._message = message
        self._flags = int(message["flags"])
        self._work: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._is_locked = self._is_shown = self._is_switched = self._is_noisy = False
        self._is_interruptible = True

    def begin(self) -> None:
        """Start the task."""
        self.node.outgoing[self.task] = self
        self._work = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """Ask the task to stop; it is told of success at once and stops later (vz-sdk 3.3)."""
        if self.is_cancelled or self.step == 12:
            return
        self.is_cancelled = True
        if 4 <= self.step <= 8:
            delay = self.node.clock.real(CANCEL_SLICE)
            asyncio.get_running_loop().call_later(delay, self._interrupt)
        else:
            self._interrupt()

    def _interrupt(self) -> None:
        if self._is_interruptible and self._work is not None:
            self._work.cancel()

    async def _run(self) -> None:
        failure: TaskError | None = None
        try:
            await self._migrate()
        except TaskError as error:
            failure = error
        except asyncio.CancelledError:
            failure = TaskError(Code.OPERATION_WAS_CANCELED)
        self._end(failure)

    @abstractmethod
    async def _migrate(self) -> None:
        """All steps. Raises ``TaskError`` with the code that the job is to end with."""

    async def _enter(self, step: int) -> None:
        """Go to the next step, where a cancel is noticed and faults may wait."""
        self.step = step
        if self.is_cancelled and self._is_interruptible:
            raise TaskError(Code.OPERATION_WAS_CANCELED)
        for fault in self.node.faults.at_step("source", step, self.guest.name):
            await self._suffer(fault)

    async def _suffer(self, fault: Fault) -> None:
        match fault.kind:
            case "delay":
                await self.node.clock.sleep(fault.seconds)
            case "hang":
                await asyncio.Event().wait()
            case "crash":
                crash()
            case "drop-session":
                self.node.end_session(self.session)
                self.session.connection.abort()
            case "noise":
                self.node.noisy += not self._is_noisy
                self._is_noisy = True
            case "cut-link" if self.step < 12:  # by then nobody needs the link
                if self._link is not None:
                    self._link.abort()
                raise LinkLost
            case "fail":
                raise TaskError(fault.code, fault.text, fault.nested)

    def _end(self, failure: TaskError | None) -> None:
        node = self.node
        if failure is not None:
            self._roll_back()
        node.migrations["out" if failure is None else "failed"] += 1
        if self._is_locked:
            node.locks.release(self.guest.uuid)
        node.noisy -= self._is_noisy
        del node.outgoing[self.task]
        reply = {"id": self.request_id, "code": 0} if failure is None else refusal(self.request_id, failure)
        self.session.connection.send(reply)

    def _roll_back(self) -> None:
        """Whatever failed: the old state comes back, unless the guest may run on the target."""
        node, guest = self.node, self.guest
        if self._link is not None:
            self._link.abort()
        if self._is_shown:
            node.migrating.discard(guest.uuid)
            if not self._is_switched and guest.state != self.old_state:
                guest.enter(self.old_state)
                node.directory.save(guest)
            node.emit_state(guest)
            node.emit(ENTERED[guest.state], guest.uuid)
        node.emit(EventType.VM_MIGRATE_CANCELLED, guest.uuid)
