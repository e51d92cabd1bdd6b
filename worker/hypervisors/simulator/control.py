"""The control channel: what `vmrelay simulator show | fault | vm` asks a running simulator."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from worker.errors import Rejected, Unavailable
from worker.hypervisors.simulator.codes import LOCKED_FOR
from worker.hypervisors.simulator.config import Fault, SimulatedVm
from worker.hypervisors.simulator.directory import Guest, guest_from
from worker.hypervisors.simulator.dispatch import enter
from worker.hypervisors.simulator.node import Node, home_of
from worker.hypervisors.simulator.wire import Message, encode
from worker.hypervisors.vz.sdk import EventType

PATIENCE = 10.0
"""Real seconds that the command waits for an answer."""


def ask(path: Path, action: str, **arguments: object) -> dict[str, Any]:
    """Ask the simulator that listens at ``path``.

    Raises ``Unavailable`` where none answers, ``Rejected`` with what it objects to.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(path))
            connection.sendall(encode({"op": "control", "action": action, **arguments}))
            with connection.makefile("rb") as stream:
                line = stream.readline()
    except OSError as error:
        raise Unavailable(
            f"no simulator answers at {path} ({error}); start it with `vmrelay simulator HOST`",
            code="simulator-down",
        ) from error
    if not line:
        raise Unavailable(f"the simulator at {path} hung up", code="simulator-down")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise Rejected(answer["error"])
    return answer


def answer(node: Node, message: Message) -> Message:
    """The simulator's part of ``ask``."""
    action = _ACTIONS.get(str(message.get("action")))
    if action is None:
        return {"error": f"the simulator knows no action {message.get('action')!r}"}
    try:
        return action(node, message)
    except ValidationError as error:
        return {"error": "; ".join(f"{item['loc']}: {item['msg']}" for item in error.errors())}
    except LookupError as error:
        return {"error": str(error.args[0])}


def _show(node: Node, _message: Message) -> Message:
    return {
        "host": node.name,
        "pid": os.getpid(),
        "clock_scale": node.clock.scale,
        "instant": node.clock.instant,
        "sessions": len(node.sessions),
        "migrations": node.migrations,
        "locks": node.locks.held(),
        "outgoing": [{"vm": task.guest.name, "step": task.step} for task in node.outgoing.values()],
        "incoming": [task.guest.name for task in node.incoming.values() if task.guest is not None],
        "faults": node.faults.show(),
        "vms": [
            {
                "name": guest.name,
                "uuid": guest.uuid,
                "state": node.state(guest).name.lower(),
                "guest": guest.state,
                "boot_id": guest.boot_id,
                "boots": guest.boots,
                "heartbeat": guest.heartbeat(),
                "memory_mib": guest.memory_mib,
                "cpus": guest.cpus,
                "cpu_percent": guest.cpu_percent,
                "dirty_mib_per_second": guest.dirty_mib_per_second,
            }
            for guest in node.directory.all()
        ],
    }


def _fault(node: Node, message: Message) -> Message:
    node.faults.arm(Fault.model_validate({"host": node.name, **message["fault"]}))
    return {"faults": node.faults.show()}


def _faults(node: Node, _message: Message) -> Message:
    return {"faults": node.faults.show()}


def _clear(node: Node, _message: Message) -> Message:
    node.faults.clear()
    return {"faults": []}


def _drop_sessions(node: Node, _message: Message) -> Message:
    """Drop every client's connection now."""
    sessions = list(node.sessions.values())
    for session in sessions:
        node.end_session(session)
        session.connection.abort()
    return {"dropped": len(sessions)}


def _vm_create(node: Node, message: Message) -> Message:
    vm = SimulatedVm.model_validate({"host": node.name, **message["vm"]})
    if node.directory.by_name(vm.name) is not None or node.directory.get(vm.plain_uuid) is not None:
        raise LookupError(f"{node.name} has a virtual machine {vm.name} already")
    guest = guest_from(vm, home_of(vm.plain_uuid), node.host.cpu_model)
    node.directory.save(guest)
    node.emit(EventType.VM_ADDED, guest.uuid)
    return {"uuid": guest.uuid}


def _vm_delete(node: Node, message: Message) -> Message:
    guest = _named(node, message)
    if guest.uuid in node.migrating:
        raise LookupError(f"{guest.name} is being migrated")
    node.directory.remove(guest.uuid)
    node.emit(EventType.VM_DELETED, guest.uuid)
    return {"uuid": guest.uuid}


def _vm_state(node: Node, message: Message) -> Message:
    guest = _named(node, message)
    if guest.uuid in node.migrating:
        raise LookupError(f"{guest.name} is being migrated")
    if message["state"] not in ("running", "paused", "stopped"):
        raise LookupError("a state is running, paused or stopped")
    enter(node, guest, message["state"])
    return {"uuid": guest.uuid}


def _vm_lock(node: Node, message: Message) -> Message:
    """Hold an exclusive operation on a virtual machine; an empty one gives it back."""
    guest, operation = _named(node, message), str(message["operation"])
    if operation and operation not in LOCKED_FOR:
        raise LookupError(f"an operation is one of {', '.join(LOCKED_FOR)}")
    if operation:
        node.locks.hold(guest.uuid, operation)
    else:
        node.locks.release(guest.uuid)
    return {"uuid": guest.uuid}


def _named(node: Node, message: Message) -> Guest:
    guest = node.directory.by_name(str(message["name"]))
    if guest is None:
        raise LookupError(f"{node.name} has no virtual machine {message['name']}")
    return guest


_ACTIONS: dict[str, Callable[[Node, Message], Message]] = {
    "show": _show,
    "fault": _fault,
    "faults": _faults,
    "clear": _clear,
    "drop-sessions": _drop_sessions,
    "vm-create": _vm_create,
    "vm-delete": _vm_delete,
    "vm-state": _vm_state,
    "vm-lock": _vm_lock,
}
