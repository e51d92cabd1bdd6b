"""A scripted SDK in memory: for what cannot be made to happen on the simulator."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from worker.errors import HypervisorError
from worker.hypervisors.base import HostConfig, Move, Progress, RetryPolicy, Stop
from worker.hypervisors.vz.connection import Limits
from worker.hypervisors.vz.driver import VzHypervisor
from worker.hypervisors.vz.sdk import (
    PRL_ERR_TIMEOUT,
    PRL_ERR_UNINITIALIZED,
    Event,
    EventType,
    JobStatus,
    SdkError,
    VmState,
    signed,
)

UUID = "407e6e84-b2cd-5505-acd6-6cc15b293447"
FLAGS = 0x809
PAUSED = 0x20
LIMITS = Limits(answer=0.05, cancel=0.05, silence=0.05, stop=0.05, settle=0.05)
QUICK = RetryPolicy(tries=3, initial=0.001, maximum=0.001, slow_initial=0.002, slow_maximum=0.002)
MOVE = Move("web-1", UUID, FLAGS)


def progress_event(value: int, uuid: str = UUID) -> Event:
    """MIGRATE_PROGRESS_CHANGED."""
    return Event(EventType.VM_MIGRATE_PROGRESS_CHANGED, f"{{{uuid}}}", params={"progress_changed": value})


def started(uuid: str = UUID) -> Event:
    """MIGRATE_STARTED on the source."""
    return Event(EventType.VM_MIGRATE_STARTED, f"{{{uuid}}}", params={"migrate_is_source": "true"})


def ended(**params: int) -> Event:
    """MIGRATE_FINISHED."""
    return Event(EventType.VM_MIGRATE_FINISHED, f"{{{UUID}}}", params=params)


class FakeJob:
    """A job of so many slices; each ``wait`` runs one step, the last one the end."""

    def __init__(
        self,
        code: int = 0,
        *,
        text: str = "",
        nested: Sequence[Event] = (),
        steps: Sequence[Callable[[], object]] = (),
        end: Callable[[], object] = lambda: None,
        hangs: bool = False,
        result: Any = None,
        on_cancel: Callable[[FakeJob], FakeJob] | None = None,
    ) -> None:
        self.code, self.text, self.nested, self.end, self.hangs = code, text, nested, end, hangs
        self.steps = deque(steps)
        self._result, self._on_cancel = result, on_cancel
        self._over = code == 0x80000251
        """What the SDK could not send is finished at once."""

    def wait(self, msecs: int) -> int:
        if self.steps:
            self.steps.popleft()()
            return PRL_ERR_TIMEOUT
        if self.hangs:
            return PRL_ERR_TIMEOUT
        if not self._over:
            self._over = True
            self.end()
        return 0

    def get_status(self) -> JobStatus:
        return JobStatus.FINISHED if self._over else JobStatus.RUNNING

    def get_ret_code(self) -> int:
        return signed(self.code) if self._over else PRL_ERR_UNINITIALIZED

    def get_error(self) -> Event | None:
        return Event(100507, err_code=signed(self.code), err_string=self.text) if signed(self.code) < 0 else None

    def get_events(self) -> Sequence[Event]:
        return self.nested

    def get_vm(self) -> Any:
        return self._result

    get_vms = get_vm_state = get_session_uuid = get_perf_stats = get_srv_config = get_vm

    def cancel(self) -> FakeJob:
        return self._on_cancel(self) if self._on_cancel else FakeJob(0x80000092)


@dataclass
class FakeVm:
    """A VM and what was asked of it."""

    host: FakeHost
    name: str = "web-1"
    uuid: str = f"{{{UUID}}}"
    state: VmState = VmState.RUNNING
    home_path: str = "/vz/web-1"
    ram_mib: int = 1024
    cpu_count: int = 2

    def get_state(self) -> FakeJob:
        if self not in self.host.vms:
            return FakeJob(0x80000105)
        if self.host.states:
            self.state = self.host.states.popleft()
        return FakeJob(result=self.state)

    def get_perf_stats(self, counters: str) -> FakeJob:
        if self not in self.host.vms:
            return FakeJob(0x80000105)
        return FakeJob(result=Event(EventType.VM_PERFSTATS, self.uuid, params=self.host.counters))

    def migrate_with_rename_ex(self, *arguments: object) -> FakeJob:
        self.host.calls.append(("migrate", *arguments))
        return self.host.jobs.popleft()

    def migrate_cancel(self) -> FakeJob:
        self.host.calls.append(("migrate_cancel",))
        return self.host.jobs.popleft() if self.host.jobs else FakeJob(hangs=True)

    def start_ex(self, mode: int) -> FakeJob:
        return self._enter("start", VmState.RUNNING)

    def pause(self, acpi: bool) -> FakeJob:
        return self._enter("pause", VmState.PAUSED)

    def stop_ex(self, mode: int, flags: int) -> FakeJob:
        return self._enter("stop", VmState.STOPPED)

    def unregister(self) -> FakeJob:
        self.host.calls.append(("unregister",))
        self.host.vms.remove(self)
        return FakeJob()

    def delete(self) -> FakeJob:
        raise AssertionError("the driver never deletes files")

    def _enter(self, call: str, state: VmState) -> FakeJob:
        self.host.calls.append((call,))
        if call not in self.host.deaf:
            self.state = state
        return FakeJob()


@dataclass(frozen=True)
class FakeSrvConfig:
    """What a host has."""

    cpu_count: int = 8
    host_ram_mib: int = 32768


class FakeServer:
    """One connection."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self.session = f"{{{uuid4()}}}"
        self.alive = True
        host.sessions.append(self.session)

    def login_local_ex(self, previous: str, port: int, level: int, flags: int) -> FakeJob:
        self.host.calls.append(("login", previous, port, level, flags))
        return FakeJob(self.host.login_code, result=self.session)

    def logoff(self) -> FakeJob:
        self.alive = False
        return FakeJob()

    def is_connected(self) -> bool:
        return self.alive

    def reg_event_handler(self, handler: Callable[[Event], None]) -> None:
        self.host.calls.append(("register",))
        self.host.handlers.append(handler)

    def unreg_event_handler(self, handler: Callable[[Event], None]) -> None:
        self.host.handlers.remove(handler)

    def get_vm_config(self, search_id: str, flags: int) -> FakeJob:
        if self.host.next_look:
            return FakeJob(self.host.next_look.popleft())
        found = [vm for vm in self.host.vms if search_id in (vm.uuid, vm.name)]
        return FakeJob(result=found[0]) if found else FakeJob(0x80000105)

    def get_srv_config(self) -> FakeJob:
        self.host.calls.append(("srv_config",))
        return FakeJob(result=FakeSrvConfig())

    def get_vm_list_ex(self, flags: int) -> FakeJob:
        return FakeJob(result=list(self.host.vms))

    def close(self) -> None:
        self.alive = False


@dataclass(eq=False)
class FakeHost:
    """A dispatcher whose migrate jobs are scripted."""

    jobs: deque[FakeJob] = field(default_factory=deque)
    vms: list[FakeVm] = field(default_factory=list)
    states: deque[VmState] = field(default_factory=deque)
    """States that the next looks show, one after the other."""
    next_look: deque[int] = field(default_factory=deque)
    """Codes with which the next look-ups fail."""
    deaf: set[str] = field(default_factory=set)
    counters: dict[str, int | str] = field(default_factory=dict)
    """What the dispatcher tells of each VM's use."""
    calls: list[tuple[object, ...]] = field(default_factory=list)
    handlers: list[Callable[[Event], None]] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    servers: list[FakeServer] = field(default_factory=list)
    login_code: int = 0
    refusals: int = 0
    """So many connects fail."""

    def connect(self) -> FakeServer:
        if self.refusals:
            self.refusals -= 1
            raise SdkError(signed(0x80000249), "The dispatcher cannot be reached.")
        self.servers.append(FakeServer(self))
        return self.servers[-1]

    def add(self, state: VmState = VmState.RUNNING) -> FakeVm:
        self.vms.append(FakeVm(self, state=state))
        return self.vms[-1]

    def tell(self, *events: Event) -> None:
        for event in events:
            for handler in self.handlers:
                handler(event)

    def gone(self) -> None:
        """The migration succeeded: the source lets go."""
        self.vms.clear()
        self.tell(ended(downtime_ms=25, transferred_bytes=1000))

    def succeed(self, **about: Any) -> None:
        """Script a job that succeeds."""
        self.jobs.append(FakeJob(end=self.gone, **about))

    def fail(self, code: int, **about: Any) -> None:
        """Script a job that fails."""
        self.jobs.append(FakeJob(code, text="it went wrong", **about))

    def count(self, call: str) -> int:
        return sum(1 for made in self.calls if made[0] == call)

    def driver(self, name: str = "alpha", **about: Any) -> VzHypervisor:
        config = HostConfig(name, "vzsim:///x", about.pop("address", name), about.pop("retry", QUICK), 0.001)
        return VzHypervisor(config, self.connect, about.pop("limits", LIMITS))


class FakeWatch:
    """Remembers what it is told; stops on demand."""

    def __init__(self, stop: Stop | None = None) -> None:
        self.wish = stop
        self.seen: list[Progress] = []
        self.retries: list[tuple[str, int, float]] = []
        self.on_retry: Callable[[], object] = lambda: None

    def progress(self, progress: Progress) -> None:
        self.seen.append(progress)

    def stop(self) -> Stop | None:
        return self.wish

    def retrying(self, error: HypervisorError, number: int, delay_seconds: float) -> None:
        self.retries.append((error.code, number, delay_seconds))
        self.on_retry()
