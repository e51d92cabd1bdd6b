"""The target's part of a migration: what a dispatcher does with a virtual machine that arrives.

The source names the steps it wants done; each is answered before the next one is asked for, except in
instant mode, where all five come in one message. Numbers of steps are those of vz-sdk 3.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from worker.hypervisors.simulator.codes import Code, TaskError
from worker.hypervisors.simulator.config import Fault
from worker.hypervisors.simulator.directory import Guest
from worker.hypervisors.simulator.node import ENTERED, Node, Session, crash
from worker.hypervisors.simulator.wire import Lines, Message
from worker.hypervisors.vz.sdk import PVMT_DONT_RESUME_VM, EventType

AUTHORIZE, CHECK, START, SWITCH, FINISH = STEPS = (4, 5, 8, 10, 11)
CARRIED = (
    "uuid", "name", "home", "memory_mib", "cpus", "cpu_model", "disk_gib", "dirty_mib_per_second", "shared",
    "cpu_percent",
)  # fmt: skip
"""What the target is told of a guest's configuration."""
_AFTERWARDS = {("crash", START), ("cut-link", FINISH)}
"""Faults that strike when the step's work is done but not answered: leftovers, and a lost last answer."""


class Incoming:
    """A virtual machine that arrives over one link."""

    def __init__(self, node: Node, link: Lines) -> None:
        self.session: Session | None = None
        self.guest: Guest | None = None
        self.is_started = False
        self._node = node
        self._link = link
        self._is_noisy = False
        self._steps: dict[int, Callable[[Message], None]] = {
            AUTHORIZE: self._authorize,
            CHECK: self._check,
            START: self._start,
            SWITCH: self._switch,
            FINISH: self._finish,
        }

    def receive(self, message: Message) -> None:
        """Do the steps that the message names, answer once."""
        self._go_on(message, list(message["steps"]), [])

    def cancel(self) -> None:
        """Give up: the source learns it from the connection's end."""
        self._link.abort()

    def lost(self) -> None:
        """The connection ended: what has not been finished is taken back (vz-sdk, failure path on TD)."""
        node, guest = self._node, self.guest
        if guest is None:
            return
        self._forget(guest)
        if self.is_started:
            node.migrating.discard(guest.uuid)
            node.directory.remove(guest.uuid)
            node.emit(EventType.VM_DELETED, guest.uuid)
            node.emit(EventType.VM_MIGRATE_CANCELLED, guest.uuid)
            node.migrations["failed"] += 1

    def _go_on(self, message: Message, steps: list[int], faults: list[Fault], resumed: bool = False) -> None:
        """Work through the steps; after a delay this is called again with what is left."""
        name = str(message["vm"]["name"])
        while steps:
            step = steps[0]
            if not resumed:
                faults = self._node.faults.at_step("destination", step, name)
            resumed = False
            while faults and (faults[0].kind, step) not in _AFTERWARDS:
                fault = faults.pop(0)
                if fault.kind == "delay":
                    delay = self._node.clock.real(fault.seconds)
                    asyncio.get_running_loop().call_later(delay, self._go_on, message, steps, faults, True)
                    return
                if self._suffer(fault, message, step):
                    return
            try:
                if not self._link.is_open:
                    return
                self._steps[step](message)
            except TaskError as error:
                self._answer(message, step, error)
                return
            for fault in faults:
                if self._suffer(fault, message, step):
                    return
            steps.pop(0)
        self._answer(message, 0, None)

    def _suffer(self, fault: Fault, message: Message, step: int) -> bool:
        """Let the fault happen; true when nothing more is to be done with the message."""
        match fault.kind:
            case "crash":
                crash()
            case "cut-link":
                self.cancel()
            case "fail":
                self._answer(message, step, TaskError(fault.code, fault.text, fault.nested))
            case "drop-session":
                session = self.session or self._node.sessions.get(str(message["session"]))
                if session is not None:
                    self._node.end_session(session)
                    session.connection.abort()
                return False
            case "noise":
                self._node.noisy += not self._is_noisy
                self._is_noisy = True
                return False
        return True

    def _answer(self, message: Message, step: int, error: TaskError | None) -> None:
        reply: dict[str, Any] = {"id": message["id"], "code": 0}
        if error is not None:
            reply |= {"code": error.code, "text": error.text, "nested": error.nested, "step": step}
            self.lost()
        self._link.send(reply)

    def _authorize(self, message: Message) -> None:
        if self._node.stopping:
            raise TaskError(Code.DISP_SHUTDOWN_IN_PROCESS)
        if message["level"] < self._node.host.min_security_level:
            raise TaskError(Code.WRONG_CONNECTION_SECURITY_LEVEL)
        self.session = self._node.sessions.get(str(message["session"]))
        if self.session is None:
            raise TaskError(Code.DISP2DISP_WRONG_USER_SESSION_UUID)

    def _check(self, message: Message) -> None:
        node, vm = self._node, message["vm"]
        if self.session is None:
            raise TaskError(Code.USER_OPERATION_NOT_AUTHORISED)
        if node.stopping:
            raise TaskError(Code.DISP_SHUTDOWN_IN_PROCESS)
        if vm["uuid"] in node.incoming:
            raise TaskError(Code.VM_MIGRATE_VM_ALREADY_MIGRATE_ON_TARGET)
        if node.directory.get(vm["uuid"]) is not None:
            raise TaskError(Code.VM_ALREADY_REGISTERED_VM_UUID)
        self._check_reserved(vm)
        self._check_room(vm, message)
        self.guest = Guest(**{key: vm[key] for key in CARRIED if key in vm})
        node.incoming[self.guest.uuid] = self

    def _check_reserved(self, vm: Message) -> None:
        arriving = [task.guest for task in self._node.incoming.values() if task.guest is not None]
        names, homes = {guest.name for guest in arriving}, {guest.home for guest in arriving}
        if self._node.directory.by_name(vm["name"]) is not None or vm["name"] in names:
            raise TaskError(Code.VM_ALREADY_REGISTERED_VM_NAME)
        if vm["home"] in homes or self._node.directory.has_home(vm["home"]):
            raise TaskError(Code.VM_ALREADY_REGISTERED_VM_PATH)

    def _check_room(self, vm: Message, message: Message) -> None:
        host, causes = self._node.host, []
        if vm["cpus"] > host.cpus:
            causes.append(Code.VM_MIGRATE_NOT_ENOUGH_CPUS_ON_TARGET)
        if vm["cpu_model"] != host.cpu_model and not message["flags"] & PVMT_DONT_RESUME_VM:
            causes.append(Code.VM_MIGRATE_NON_COMPATIBLE_CPU_ON_TARGET)
        if not message["shared"] and vm["disk_gib"] > host.disk_free_gib:
            causes.append(Code.VM_MIGRATE_NOT_ENOUGH_DISK_SPACE_ON_TARGET)
        if causes:
            raise TaskError(Code.VM_MIGRATE_CHECKING_PRECONDITIONS_FAILED, nested=causes)

    def _start(self, _message: Message) -> None:
        node, guest = self._node, self._checked()
        node.migrating.add(guest.uuid)
        node.directory.save(guest)
        self.is_started = True
        node.emit(EventType.VM_ADDED, guest.uuid)
        node.emit(EventType.VM_MIGRATE_STARTED, guest.uuid, {"migrate_is_source": "false"})

    def _switch(self, message: Message) -> None:
        """The guest's last state arrives, and it runs here where it is to run."""
        node, guest = self._node, self._checked()
        state = message["state"]
        as_documented = node.config.dont_resume == "as-documented"
        if state == "running" and message["flags"] & PVMT_DONT_RESUME_VM and as_documented:
            state = "paused"
        guest.arrive(state, message["boot_id"], message["ran"])
        guest.boots = message["boots"]
        node.migrating.discard(guest.uuid)
        node.directory.save(guest)
        node.emit_state(guest)

    def _finish(self, message: Message) -> None:
        node, guest = self._node, self._checked()
        muted = message["flags"] & PVMT_DONT_RESUME_VM and message["state"] != "stopped"
        node.emit(EventType.VM_SUSPENDED if muted else ENTERED[guest.state], guest.uuid)
        node.emit(EventType.VM_MIGRATE_FINISHED, guest.uuid, message["measured"])
        node.migrations["in"] += 1
        self._forget(guest)

    def _checked(self) -> Guest:
        if self.guest is None:
            raise TaskError(Code.UNRECOGNIZED_REQUEST)
        return self.guest

    def _forget(self, guest: Guest) -> None:
        """No task of ours any more: the end of the connection changes nothing."""
        self.guest = None
        self.session = None
        if self._node.incoming.get(guest.uuid) is self:
            del self._node.incoming[guest.uuid]
        if self._is_noisy:
            self._node.noisy -= 1
            self._is_noisy = False
