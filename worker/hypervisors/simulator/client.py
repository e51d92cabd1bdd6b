"""The simulated dispatcher's client: the SDK protocol (``vz/sdk.py``) over the simulator's socket.

One reader thread for each connection takes replies and events as they come; event handlers run in it,
one by one, and must not wait for jobs. All objects may be used from many threads at once.
"""

from __future__ import annotations

import itertools
import json
import logging
import socket
import threading
from collections.abc import Callable

from worker.hypervisors.simulator.codes import Code, describe
from worker.hypervisors.simulator.handles import SimulatedJob, sdk_error
from worker.hypervisors.simulator.wire import Message, encode
from worker.hypervisors.vz.sdk import Event, EventType, signed

log = logging.getLogger(__name__)
Handler = Callable[[Event], None]


def connect(socket_path: str) -> SimulatedServer:
    """Connect to a simulated dispatcher; log in next. ``SdkError(0x80000249)`` where none listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(socket_path)
    except OSError as error:
        connection.close()
        raise sdk_error(Code.CANT_CONNECT_TO_DISPATCHER) from error
    return SimulatedServer(connection)


class SimulatedServer:
    """``sdk.Server``: one connection and its reader thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._numbers = itertools.count(1)
        self._jobs: dict[int, SimulatedJob] = {}
        self._handlers: list[Handler] = []
        self._sending = threading.Lock()
        self._handling = threading.RLock()
        self._is_open = True
        self._is_leaving = False
        self._reader = threading.Thread(target=self._read, name="sdk-reader", daemon=True)
        self._reader.start()

    def login_local_ex(self, prev_session_uuid: str, port: int, security_level: int, flags: int) -> SimulatedJob:
        """See ``sdk.Server``; ``port`` is ignored, as on Linux."""
        return self.request({"op": "login", "previous": prev_session_uuid, "level": security_level, "flags": flags})

    def logoff(self) -> SimulatedJob:
        """See ``sdk.Server``."""
        self._is_leaving = True
        return self.request({"op": "logoff"})

    def attach_to_lost_task(self, task: str) -> SimulatedJob:
        """``PrlSrv_AttachToLostTask``: the job ends with the attachment, then once more with the task."""
        return self.request({"op": "attach", "task": task})

    def is_connected(self) -> bool:
        """See ``sdk.Server``."""
        return self._is_open and not self._is_leaving

    def reg_event_handler(self, handler: Handler) -> None:
        """See ``sdk.Server``."""
        with self._handling:
            self._handlers.append(handler)

    def unreg_event_handler(self, handler: Handler) -> None:
        """See ``sdk.Server``: waits for a handler that runs now; harmless where it is not registered."""
        with self._handling:
            self._handlers = [known for known in self._handlers if known != handler]

    def get_vm_config(self, search_id: str, flags: int) -> SimulatedJob:
        """See ``sdk.Server``."""
        return self.request({"op": "get_vm_config", "search": search_id, "flags": flags})

    def get_srv_config(self) -> SimulatedJob:
        """See ``sdk.Server``."""
        return self.request({"op": "get_srv_config"})

    def get_vm_list_ex(self, flags: int) -> SimulatedJob:
        """See ``sdk.Server``."""
        return self.request({"op": "get_vm_list", "flags": flags})

    def close(self) -> None:
        """See ``sdk.Server``. Pending jobs end with ``PRL_ERR_WS_DISP_CONNECTION_CLOSED``."""
        self._is_leaving = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("the connection was closed already")
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def request(self, message: Message) -> SimulatedJob:
        """Send a request; where it cannot be sent the job is finished already."""
        job = SimulatedJob(self, str(message.get("task", "")))
        number = next(self._numbers)
        message["id"] = number
        line = encode(message)
        with self._sending:
            if self._is_open:
                self._jobs[number] = job
                try:
                    self._socket.sendall(line)
                except OSError:  # the reader notices too, and ends the jobs that were sent
                    self._jobs.pop(number, None)
                else:
                    return job
        job.finish(_failed(Code.NOT_CONNECTED_TO_DISPATCHER))
        return job

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb", buffering=1 << 16) as stream:
                for line in stream:
                    self._take(json.loads(line))
        except (OSError, ValueError):
            log.debug("the connection to the dispatcher broke", exc_info=True)
        self._lost()

    def _take(self, message: Message) -> None:
        if "event" in message:
            code = signed(message.get("code", 0))
            params = message.get("params", {})
            self._tell(Event(message["event"], message["vm"], code, message.get("text", ""), params))
            return
        more = message.get("more")
        job = self._jobs.get(message["id"]) if more else self._jobs.pop(message["id"], None)
        if job is not None:
            job.finish(message)

    def _tell(self, event: Event) -> None:
        with self._handling:
            for handler in self._handlers:
                try:
                    handler(event)
                except Exception:
                    log.exception("an event handler failed")

    def _lost(self) -> None:
        with self._sending:
            self._is_open = False
            jobs, self._jobs = list(self._jobs.values()), {}
            self._socket.close()
        for job in jobs:
            job.finish(_failed(Code.WS_DISP_CONNECTION_CLOSED))
        if not self._is_leaving:
            code = Code.WS_DISP_CONNECTION_CLOSED
            self._tell(Event(EventType.DISP_CONNECTION_CLOSED, "", signed(code), describe(code)))


def _failed(code: Code) -> Message:
    return {"code": int(code), "text": describe(code)}
