"""The Virtuozzo SDK as the driver sees it: one method for each SDK function it calls.

Names, argument order and return shapes mirror the SDK (``PrlVm_MigrateWithRenameEx`` becomes
``Vm.migrate_with_rename_ex``). Synchronous functions return their value or raise ``SdkError``;
asynchronous ones return a ``Job`` that the caller waits for in slices, as ``PrlJob_Wait`` wants it.
Return codes are signed 32-bit integers as in C: a failure is negative. ``unsigned()`` shows them as the
headers do. The simulator implements this protocol (``simulator/client.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Protocol


def signed(code: int) -> int:
    """``PRL_RESULT`` as the C int it is: ``0x80000015`` becomes a negative number."""
    code &= 0xFFFFFFFF
    return code - 2**32 if code >= 2**31 else code


def unsigned(code: int) -> int:
    """``PRL_RESULT`` as the headers write it."""
    return code & 0xFFFFFFFF


PRL_ERR_SUCCESS = 0
PRL_ERR_TIMEOUT = signed(0x80000015)
PRL_ERR_UNINITIALIZED = signed(0x80000007)
PRL_ERR_NO_DATA = signed(0x80000014)

PACF_NON_INTERACTIVE_MODE = 0x4
PACF_CANCEL_TASK_ON_END_SESSION = 0x8
PSL_HIGH_SECURITY = 2
PVMT_DONT_RESUME_VM = 0x4000
PVMT_UNCOMPRESSED = 0x200000
PVMT_DONT_CREATE_DISK = 0x800000
DEFAULT_PORT = 64000
PSM_VM_START = 0x800


class SearchFlag(IntFlag):
    """``PGVC_*``: how ``PrlSrv_GetVmConfig`` searches."""

    BY_UUID = 0x800
    BY_NAME = 0x1000


class VmState(IntEnum):
    """``VIRTUAL_MACHINE_STATE``."""

    UNKNOWN = 0
    STOPPED = 0x30000001
    STARTING = 0x30000002
    RESTORING = 0x30000003
    RUNNING = 0x30000004
    PAUSED = 0x30000005
    SUSPENDING = 0x30000006
    STOPPING = 0x30000007
    COMPACTING = 0x30000008
    SUSPENDED = 0x30000009
    SNAPSHOTING = 0x3000000A
    RESETTING = 0x3000000B
    PAUSING = 0x3000000C
    CONTINUING = 0x3000000D
    MIGRATING = 0x3000000E
    DELETING = 0x3000000F
    RESUMING = 0x30000010
    SUSPENDING_SYNC = 0x30000011
    RECONNECTING = 0x30000012
    MOUNTED = 0x30000013


class JobStatus(IntEnum):
    """``PRL_JOB_STATUS``."""

    UNKNOWN = 0
    RUNNING = 0xD0000001
    FINISHED = 0xD0000002


class EventType(IntEnum):
    """``PRL_EVENT_TYPE``, those that matter here; an event may carry any other number."""

    VM_STATE_CHANGED = 100001
    VM_CONFIG_CHANGED = 100002
    VM_CREATED = 100004
    VM_ADDED = 100005
    VM_DELETED = 100006
    VM_STARTED = 100007
    VM_STOPPED = 100008
    VM_SUSPENDED = 100012
    VM_PAUSED = 100019
    VM_UNREGISTERED = 100026
    VM_MIGRATE_STARTED = 100030
    VM_MIGRATE_CANCELLED = 100031
    VM_MIGRATE_FINISHED = 100032
    VM_MIGRATE_PROGRESS_CHANGED = 100033
    DISP_CONNECTION_CLOSED = 100403
    DISP_SHUTDOWN = 100404
    VM_MESSAGE = 100502
    VM_PERFSTATS = 100901


@dataclass(frozen=True, slots=True)
class Event:
    """A ``PHT_EVENT``: also the shape of a job's error and of the items in its result."""

    type: int
    issuer_id: str = ""
    """For migration events the VM's uuid in braces."""
    err_code: int = 0
    err_string: str = ""
    params: Mapping[str, str | int] = field(default_factory=dict)
    """By name: ``progress_changed``, ``vminfo_vm_state``, ``migrate_is_source`` ("true"/"false")."""


class SdkError(Exception):
    """A synchronous SDK function failed. ``code`` is signed."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} (0x{unsigned(code):08x})")
        self.code = code
        self.text = text


class Job(Protocol):
    """A ``PHT_JOB``."""

    def wait(self, msecs: int) -> int:
        """``PrlJob_Wait``: 0 when finished, ``PRL_ERR_TIMEOUT`` when not yet."""

    def get_status(self) -> JobStatus:
        """``PrlJob_GetStatus``."""

    def get_ret_code(self) -> int:
        """``PrlJob_GetRetCode``; ``PRL_ERR_UNINITIALIZED`` while unfinished."""

    def get_error(self) -> Event | None:
        """``PrlJob_GetError``; ``None`` where the SDK says ``PRL_ERR_NO_DATA``."""

    def get_events(self) -> Sequence[Event]:
        """``PrlJob_GetResult`` of a failed job: its nested events (precondition causes)."""

    def get_vm(self) -> Vm:
        """``PrlJob_GetResult``, parameter 0 of a ``PrlSrv_GetVmConfig`` job."""

    def get_vms(self) -> Sequence[Vm]:
        """``PrlJob_GetResult``, all parameters of a ``PrlSrv_GetVmListEx`` job."""

    def get_vm_state(self) -> VmState:
        """``PrlJob_GetResult`` of a ``PrlVm_GetState`` job, ``PrlVmInfo_GetState``."""

    def get_perf_stats(self) -> Event:
        """``PrlJob_GetResult``, parameter 0 of a ``PrlVm_GetPerfStats`` job: an event with a counter in each parameter.

        ``guest.vcpu0.time`` and so on: CPU time in nanoseconds. ``guest.ram.balloon_actual``: MiB. A VM that does not
        run has none.
        """

    def get_srv_config(self) -> SrvConfig:
        """``PrlJob_GetResult``, parameter 0 of a ``PrlSrv_GetSrvConfig`` job."""

    def get_session_uuid(self) -> str:
        """``PrlJob_GetResult`` of a login job, ``PrlLoginResponse_GetSessionUuid``: with braces."""

    def cancel(self) -> Job:
        """``PrlJob_Cancel``: only from the session that owns the job."""


class Vm(Protocol):
    """A ``PHT_VIRTUAL_MACHINE``. The getters show the configuration at the time of the look-up."""

    @property
    def name(self) -> str:
        """``PrlVmCfg_GetName``."""

    @property
    def uuid(self) -> str:
        """``PrlVmCfg_GetUuid``: with braces."""

    @property
    def home_path(self) -> str:
        """``PrlVmCfg_GetHomePath``."""

    @property
    def ram_mib(self) -> int:
        """``PrlVmCfg_GetRamSize``, MiB."""

    @property
    def cpu_count(self) -> int:
        """``PrlVmCfg_GetCpuCount``."""

    def get_state(self) -> Job:
        """``PrlVm_GetState``."""

    def get_perf_stats(self, counters: str) -> Job:
        """``PrlVm_GetPerfStats`` of the counters with this name; ``*`` at its end stands for any text."""

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
    ) -> Job:
        """``PrlVm_MigrateWithRenameEx``: "" keeps name and directory, port 0 is 64000."""

    def migrate_cancel(self) -> Job:
        """``PrlVm_MigrateCancel``: never answers where no migration of this VM runs."""

    def start_ex(self, mode: int) -> Job:
        """``PrlVm_StartEx``: also lets a paused VM run on."""

    def pause(self, acpi: bool) -> Job:
        """``PrlVm_Pause``."""

    def stop_ex(self, mode: int, flags: int) -> Job:
        """``PrlVm_StopEx``; mode 0 kills."""

    def delete(self) -> Job:
        """``PrlVm_Delete`` of a stopped VM with all its files."""

    def unregister(self) -> Job:
        """``PrlVm_Unreg`` of a stopped VM; its files stay."""


class SrvConfig(Protocol):
    """A ``PHT_SERVER_CONFIG``."""

    @property
    def cpu_count(self) -> int:
        """``PrlSrvCfg_GetCpuCount``."""

    @property
    def host_ram_mib(self) -> int:
        """``PrlSrvCfg_GetHostRamSize``, MiB."""


class Server(Protocol):
    """A ``PHT_SERVER`` and the connection of one logged-in client."""

    def login_local_ex(self, prev_session_uuid: str, port: int, security_level: int, flags: int) -> Job:
        """``PrlSrv_LoginLocalEx``."""

    def logoff(self) -> Job:
        """``PrlSrv_Logoff``."""

    def is_connected(self) -> bool:
        """``PrlSrv_IsConnected``."""

    def reg_event_handler(self, handler: Callable[[Event], None]) -> None:
        """``PrlSrv_RegEventHandler``: called from the SDK's own thread, must not block."""

    def unreg_event_handler(self, handler: Callable[[Event], None]) -> None:
        """``PrlSrv_UnregEventHandler``."""

    def get_vm_config(self, search_id: str, flags: int) -> Job:
        """``PrlSrv_GetVmConfig`` by ``{uuid}`` or name (``SearchFlag``)."""

    def get_srv_config(self) -> Job:
        """``PrlSrv_GetSrvConfig``."""

    def get_vm_list_ex(self, flags: int) -> Job:
        """``PrlSrv_GetVmListEx``."""

    def close(self) -> None:
        """``PrlHandle_Free``: drops the connection where it is still open."""
