"""What a dispatcher answers to a client: one method for each SDK call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from worker.hypervisors.simulator.codes import Code, TaskError
from worker.hypervisors.simulator.config import Fault, GuestState
from worker.hypervisors.simulator.directory import Guest
from worker.hypervisors.simulator.migration import Migration
from worker.hypervisors.simulator.node import ENTERED, Node, Session, crash, refusal
from worker.hypervisors.simulator.wire import Lines, Message
from worker.hypervisors.vz.sdk import EventType, SearchFlag, VmState

Answer = dict[str, Any] | None
"""What a request's reply says besides its code; ``None``: the reply comes later, or never."""


class Client:
    """One connection of an SDK client."""

    def __init__(self, node: Node, connection: Lines) -> None:
        self._node = node
        self._connection = connection
        self._session: Session | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._calls: dict[str, Callable[[Message], Answer]] = {
            "logoff": self._logoff,
            "get_vm_config": self._get_vm_config,
            "get_vm_list": self._get_vm_list,
            "get_state": self._get_state,
            "get_srv_config": self._get_srv_config,
            "get_perf_stats": self._get_perf_stats,
            "migrate": self._migrate,
            "migrate_cancel": self._migrate_cancel,
            "job_cancel": self._job_cancel,
            "attach": self._attach,
            "start": self._start,
            "pause": self._pause,
            "stop": self._stop,
            "delete": self._delete,
            "unregister": self._delete,
        }

    def receive(self, message: Message) -> None:
        """Answer a request, now or later."""
        node, op = self._node, str(message["op"])
        if node.faults and (fault := node.faults.at_request(op, self._name_of(message))) is not None:
            self._suffer(fault, message)
            return
        self._answer(message)

    def lost(self) -> None:
        """The connection ended, and the session with it."""
        if self._session is not None:
            self._node.end_session(self._session)

    def _answer(self, message: Message) -> None:
        try:
            answer = self._call(message)
        except TaskError as error:
            self._connection.send(refusal(message["id"], error))
            return
        if answer is not None:
            self._connection.send({"id": message["id"], "code": 0, **answer})

    def _call(self, message: Message) -> Answer:
        op = message["op"]
        if op == "login":
            return self._login(message)
        if self._session is None:
            raise TaskError(Code.USER_OPERATION_NOT_AUTHORISED)
        if op not in self._calls:
            raise TaskError(Code.UNRECOGNIZED_REQUEST)
        return self._calls[op](message)

    def _suffer(self, fault: Fault, message: Message) -> None:
        match fault.kind:
            case "delay":
                delay = self._node.clock.real(fault.seconds)
                asyncio.get_running_loop().call_later(delay, self._answer, message)
            case "cut-link" | "drop-session":
                self._connection.abort()
            case "hang":
                pass
            case "crash":
                crash()
            case _:
                raise TaskError(fault.code, fault.text, fault.nested)

    def _name_of(self, message: Message) -> str:
        """The name of the VM that a request is about; where it is not here, what it is searched by."""
        key = str(message.get("uuid") or message.get("search", "")).strip("{}")
        guest = self._node.directory.get(key.lower())
        return guest.name if guest is not None else key

    def _login(self, message: Message) -> Answer:
        node = self._node
        if node.stopping:
            raise TaskError(Code.DISP_SHUTDOWN_IN_PROCESS)
        if self._session is not None:
            raise TaskError(Code.ALREADY_CONNECTED_TO_DISPATCHER)
        if message["level"] < node.host.min_security_level:
            raise TaskError(Code.WRONG_CONNECTION_SECURITY_LEVEL)
        previous = str(message["previous"])
        self._session = session = Session(self._connection, int(message["flags"]), previous)
        node.sessions[session.uuid] = session
        lost = [task.task for task in node.outgoing.values() if task.session.uuid == previous]
        return {"session": session.uuid, "tasks": lost}

    def _logoff(self, _message: Message) -> Answer:
        self.lost()
        self._session = None
        return {}

    def _get_vm_config(self, message: Message) -> Answer:
        search, flags = str(message["search"]), int(message["flags"])
        guest = None
        if flags & SearchFlag.BY_UUID or not flags & SearchFlag.BY_NAME:
            try:
                guest = self._node.guest(search)
            except TaskError:
                if not flags & SearchFlag.BY_NAME:
                    raise
        if guest is None:
            guest = self._node.directory.by_name(search)
        if guest is None:
            raise TaskError(Code.VM_UUID_NOT_FOUND)
        return {"vm": _config(guest)}

    def _get_vm_list(self, _message: Message) -> Answer:
        return {"vms": [_config(guest) for guest in self._node.directory.all()]}

    def _get_state(self, message: Message) -> Answer:
        node = self._node
        return {"state": int(node.state(node.guest(message["uuid"])))}

    def _get_srv_config(self, _message: Message) -> Answer:
        host = self._node.host
        return {"srv_config": {"cpu_count": host.cpus, "host_ram_mib": host.memory_mib}}

    def _get_perf_stats(self, message: Message) -> Answer:
        guest = self._node.guest(message["uuid"])
        wanted, known = str(message["counters"]), _counters(guest)
        some = wanted.endswith("*")
        told = {name: n for name, n in known.items() if (name.startswith(wanted[:-1]) if some else name == wanted)}
        return {"perf_stats": {"vm": message["uuid"], "counters": told}}

    def _migrate(self, message: Message) -> Answer:
        node, session = self._node, self._session
        if message["reserved"] or not message["host"] or session is None:
            raise TaskError(Code.INVALID_ARG)
        Migration(node, session, message, node.guest(message["uuid"])).begin()
        return None

    def _migrate_cancel(self, message: Message) -> Answer:
        """Any session, on either node; where no migration of this VM runs, nobody ever answers."""
        uuid = str(message["uuid"]).strip("{}").lower()
        outgoing = (task for task in self._node.outgoing.values() if task.guest.uuid == uuid)
        task = next(outgoing, None) or self._node.incoming.get(uuid)
        if task is None:
            return None
        asyncio.get_running_loop().call_soon(task.cancel)
        return {}

    def _job_cancel(self, message: Message) -> Answer:
        task = self._node.outgoing.get(str(message["task"]))
        if task is None:
            raise TaskError(Code.TASK_NOT_FOUND)
        if task.session is not self._session:
            raise TaskError(Code.ACCESS_DENIED)
        asyncio.get_running_loop().call_soon(task.cancel)
        return {}

    def _attach(self, message: Message) -> Answer:
        """The first reply says that it worked; the migration's own reply follows on the same request."""
        task, session = self._node.outgoing.get(str(message["task"])), self._session
        if task is None:
            raise TaskError(Code.TASK_NOT_FOUND)
        if session is None or task.session.uuid != session.previous:
            raise TaskError(Code.ATTACH_TO_TASK_BAD_SESSION)
        task.session, task.request_id = session, message["id"]
        return {"more": True}

    def _start(self, message: Message) -> Answer:
        return self._enter(message, "running", (VmState.STOPPED, VmState.PAUSED))

    def _pause(self, message: Message) -> Answer:
        return self._enter(message, "paused", (VmState.RUNNING,))

    def _stop(self, message: Message) -> Answer:
        return self._enter(message, "stopped", (VmState.RUNNING, VmState.PAUSED))

    def _enter(self, message: Message, state: GuestState, allowed: tuple[VmState, ...]) -> Answer:
        guest = self._node.guest(message["uuid"])
        if self._node.state(guest) not in allowed:
            raise TaskError(Code.INVALID_ACTION_REQUESTED)
        enter(self._node, guest, state)
        return {}

    def _delete(self, message: Message) -> Answer:
        """``PrlVm_Delete`` and ``PrlVm_Unreg``: exclusive, so they wait for other operations."""
        self._node.guest(message["uuid"])
        self._later(self._deleted(message), message)
        return None

    async def _deleted(self, message: Message) -> None:
        node, op = self._node, message["op"]
        guest = node.guest(message["uuid"])
        await node.locks.acquire(guest.uuid, op)
        try:
            if node.state(node.guest(message["uuid"])) != VmState.STOPPED:
                raise TaskError(Code.INVALID_ACTION_REQUESTED)
            node.directory.remove(guest.uuid)
            node.emit(EventType.VM_DELETED if op == "delete" else EventType.VM_UNREGISTERED, guest.uuid)
        finally:
            node.locks.release(guest.uuid)

    def _later(self, work: Coroutine[Any, Any, None], message: Message) -> None:
        task = asyncio.get_running_loop().create_task(self._reply_after(work, message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _reply_after(self, work: Coroutine[Any, Any, None], message: Message) -> None:
        try:
            await work
        except TaskError as error:
            self._connection.send(refusal(message["id"], error))
        else:
            self._connection.send({"id": message["id"], "code": 0})


def enter(node: Node, guest: Guest, state: GuestState) -> None:
    """Change a guest's state, durably, and tell it."""
    if guest.state == state:
        return
    guest.enter(state)
    node.directory.save(guest)
    node.emit_state(guest)
    node.emit(ENTERED[state], guest.uuid)


def _counters(guest: Guest) -> dict[str, int]:
    """What QEMU tells of a guest; nothing where there is none."""
    if guest.state == "stopped":
        return {}
    each = int(guest.cpu_seconds() / guest.cpus * 1e9)
    return {f"guest.vcpu{n}.time": each for n in range(guest.cpus)} | {"guest.ram.balloon_actual": guest.memory_mib}


def _config(guest: Guest) -> dict[str, Any]:
    return {
        "name": guest.name,
        "uuid": f"{{{guest.uuid}}}",
        "home": guest.home,
        "ram": guest.memory_mib,
        "cpus": guest.cpus,
    }
