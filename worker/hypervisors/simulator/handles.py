"""The client's job and virtual machine handles (``vz/sdk.py``: ``Job``, ``Vm``)."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from worker.hypervisors.simulator.codes import Code, describe
from worker.hypervisors.simulator.wire import Message
from worker.hypervisors.vz.sdk import PRL_ERR_TIMEOUT, Event, EventType, JobStatus, SdkError, VmState, signed

if TYPE_CHECKING:
    from worker.hypervisors.simulator.client import SimulatedServer

_ERROR_MESSAGE = 100507


def sdk_error(code: int) -> SdkError:
    """A synchronous function's failure."""
    return SdkError(signed(code), describe(code))


class SimulatedJob:
    """``sdk.Job``: finished when its reply is here."""

    def __init__(self, server: SimulatedServer, task: str = "") -> None:
        self._server = server
        self.task = task
        """The request's uuid at the dispatcher, of a migrate job."""
        self._done = threading.Event()
        self._reply: Message = {}

    def wait(self, msecs: int) -> int:
        """See ``sdk.Job``."""
        return 0 if self._done.wait(min(msecs / 1000, threading.TIMEOUT_MAX)) else PRL_ERR_TIMEOUT

    def get_status(self) -> JobStatus:
        """See ``sdk.Job``."""
        return JobStatus.FINISHED if self._done.is_set() else JobStatus.RUNNING

    def get_progress(self) -> int:
        """``PrlJob_GetProgress``: 100 for every dispatcher job, always (vz-sdk, finding 1)."""
        return 100

    def get_ret_code(self) -> int:
        """See ``sdk.Job``."""
        return signed(self._reply["code"] if self._done.is_set() else Code.UNINITIALIZED)

    def get_error(self) -> Event | None:
        """See ``sdk.Job``."""
        reply = self._reply
        if not self._done.is_set() or not reply["code"]:
            return None
        return Event(_ERROR_MESSAGE, "", signed(reply["code"]), reply.get("text", ""))

    def get_events(self) -> list[Event]:
        """See ``sdk.Job``."""
        return [Event(_ERROR_MESSAGE, "", signed(code), text) for code, text in self._reply.get("nested", ())]

    def get_vm(self) -> SimulatedVm:
        """See ``sdk.Job``."""
        return SimulatedVm(self._server, self._result("vm"))

    def get_vms(self) -> list[SimulatedVm]:
        """See ``sdk.Job``."""
        return [SimulatedVm(self._server, config) for config in self._result("vms")]

    def get_vm_state(self) -> VmState:
        """See ``sdk.Job``."""
        return VmState(self._result("state"))

    def get_perf_stats(self) -> Event:
        """See ``sdk.Job``."""
        told = self._result("perf_stats")
        return Event(EventType.VM_PERFSTATS, told["vm"], params=told["counters"])

    def get_srv_config(self) -> SimulatedSrvConfig:
        """See ``sdk.Job``."""
        return SimulatedSrvConfig(**self._result("srv_config"))

    def get_session_uuid(self) -> str:
        """See ``sdk.Job``."""
        return str(self._result("session"))

    def get_running_tasks(self) -> list[str]:
        """``PrlLoginResponse_GetRunningTask*``: what the previous session left running."""
        return list(self._result("tasks"))

    def cancel(self) -> SimulatedJob:
        """See ``sdk.Job``."""
        return self._server.request({"op": "job_cancel", "task": self.task})

    def finish(self, reply: Message) -> None:
        """The reply is here (the reader thread)."""
        self._reply = reply
        self._done.set()

    def _result(self, key: str) -> Any:  # noqa: ANN401
        if not self._done.is_set():
            raise sdk_error(Code.OPERATION_PENDING)
        if key not in self._reply:
            code = self._reply["code"] or Code.INVALID_ARG
            raise SdkError(signed(code), self._reply.get("text") or describe(code))
        return self._reply[key]


@dataclass(frozen=True, slots=True)
class SimulatedSrvConfig:
    """``sdk.SrvConfig``."""

    cpu_count: int
    host_ram_mib: int


class SimulatedVm:
    """``sdk.Vm``."""

    def __init__(self, server: SimulatedServer, config: dict[str, Any]) -> None:
        self._server = server
        self._config = config

    @property
    def name(self) -> str:
        """See ``sdk.Vm``."""
        return str(self._config["name"])

    @property
    def uuid(self) -> str:
        """See ``sdk.Vm``."""
        return str(self._config["uuid"])

    @property
    def home_path(self) -> str:
        """See ``sdk.Vm``."""
        return str(self._config["home"])

    @property
    def ram_mib(self) -> int:
        """See ``sdk.Vm``."""
        return int(self._config["ram"])

    @property
    def cpu_count(self) -> int:
        """See ``sdk.Vm``."""
        return int(self._config["cpus"])

    def get_state(self) -> SimulatedJob:
        """See ``sdk.Vm``."""
        return self._request("get_state")

    def get_perf_stats(self, counters: str) -> SimulatedJob:
        """See ``sdk.Vm``."""
        return self._request("get_perf_stats", counters=counters)

    def migrate_with_rename_ex(
        self,
        target_host: str,
        target_port: int,
        target_session_id: str,
        target_name: str,
        target_home_path: str,
        migration_flags: int,
        reserved_flags: int,
        force_operation: bool,
    ) -> SimulatedJob:
        """See ``sdk.Vm``."""
        return self._request(
            "migrate",
            task=str(uuid4()),
            host=target_host,
            port=target_port,
            session=target_session_id,
            name=target_name,
            home=target_home_path,
            flags=migration_flags,
            reserved=reserved_flags,
            force=force_operation,
        )

    def migrate_cancel(self) -> SimulatedJob:
        """See ``sdk.Vm``."""
        return self._request("migrate_cancel")

    def start_ex(self, mode: int) -> SimulatedJob:
        """See ``sdk.Vm``."""
        return self._request("start", mode=mode)

    def pause(self, acpi: bool) -> SimulatedJob:
        """See ``sdk.Vm``."""
        return self._request("pause", acpi=acpi)

    def stop_ex(self, mode: int, flags: int) -> SimulatedJob:
        """See ``sdk.Vm``."""
        return self._request("stop", mode=mode, flags=flags)

    def delete(self) -> SimulatedJob:
        """See ``sdk.Vm``."""
        return self._request("delete")

    def unregister(self) -> SimulatedJob:
        """See ``sdk.Vm``."""
        return self._request("unregister")

    def _request(self, op: str, **arguments: object) -> SimulatedJob:
        return self._server.request({"op": op, "uuid": self.uuid, **arguments})
