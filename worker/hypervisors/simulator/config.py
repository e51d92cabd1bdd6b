"""The simulator's TOML file: hosts, virtual machines, faults, and how fast time passes."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal
from uuid import NAMESPACE_DNS, UUID, uuid5

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from worker.errors import SettingsError
from worker.hypervisors.simulator.codes import natural_step

STATE_DIR_VARIABLE = "VMRELAY_SIMULATOR_STATE_DIR"
LONGEST_SOCKET_PATH = 107
DEFAULT_PORT = 64000
CPU_PERCENT = 25.0

GuestState = Literal["running", "paused", "stopped"]
Side = Literal["source", "destination"]
FaultKind = Literal["fail", "cut-link", "drop-session", "crash", "delay", "hang", "noise"]


def _code(value: object) -> object:
    return int(value, 0) & 0xFFFFFFFF if isinstance(value, str) else value


ResultCode = Annotated[int, BeforeValidator(_code), Field(ge=0, le=0xFFFFFFFF)]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class _Model(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


class SimulatedHost(_Model):
    """One host of the simulation."""

    address: str = ""
    """Under which other hosts name it in a migration URI; its name always works too."""
    port: int = Field(default=DEFAULT_PORT, ge=1, le=65535)
    cpus: int = Field(default=16, ge=1)
    memory_mib: int = Field(default=65536, ge=1)
    """What the host says that it has; more guests than fit are not refused (QEMU's memory may be overcommitted)."""
    cpu_model: str = "generic"
    disk_free_gib: float = Field(default=1000, ge=0)
    storage: str = "shared"
    """Hosts with the same storage see each other's shared disks."""
    min_security_level: int = Field(default=0, ge=0, le=2)
    socket: str = ""
    """Path of the Unix socket, relative to the state directory; ``<host>.sock`` where not given."""


class SimulatedVm(_Model):
    """A virtual machine that exists when its host starts for the first time."""

    name: str = Field(min_length=1, max_length=255)
    host: HostName
    uuid: UUID | None = None
    """Derived from the name where not given."""
    memory_mib: int = Field(default=1024, ge=1, le=64 << 20)
    cpus: int = Field(default=2, ge=1)
    cpu_percent: float = Field(default=CPU_PERCENT, ge=0, le=100)
    """How much of its CPUs it uses while it runs."""
    disk_gib: float = Field(default=10, ge=0)
    dirty_mib_per_second: float = Field(default=10, ge=0)
    state: GuestState = "running"
    shared: bool = True
    """Its disks lie on its host's storage, which other hosts may see too."""
    linked_clone: bool = False
    remote_device: bool = False
    snapshots: bool = False

    @property
    def plain_uuid(self) -> str:
        """Lower case, without braces."""
        return str(self.uuid or uuid5(NAMESPACE_DNS, f"{self.name}.vm.vmrelay"))


class Fault(_Model):
    """Something that goes wrong on one host, a number of times."""

    host: HostName
    kind: FaultKind
    count: int = Field(default=1, ge=1)
    after: int = Field(default=0, ge=0)
    """So many matches pass first."""
    step: int = Field(default=0, ge=0, le=12)
    """Step of the migration (1 to 12); 0 where the kind or the code decides."""
    side: Side = "source"
    """The role in which ``host`` meets the fault."""
    op: str = "migrate"
    """The request that is hit, as the wire names it: ``login``, ``get_vm_config``...; no step then. Kinds:
    ``fail``, ``delay``, ``hang``, ``crash`` (of the dispatcher), ``cut-link`` and ``drop-session`` (of the client)."""
    vm: str = ""
    """Only for the virtual machine of this name, or, where a request names no other, of this uuid."""
    code: ResultCode = 0x80000009
    text: str = ""
    nested: list[ResultCode] = []
    seconds: float = Field(default=0, ge=0)
    """How long a delay is, in simulated seconds."""

    @model_validator(mode="after")
    def _step_by_kind(self) -> Fault:
        if self.step == 0:
            by_kind = {"fail": natural_step(self.code), "crash": 10, "cut-link": 9, "hang": 10, "noise": 7}
            drop = 4 if self.side == "destination" else 9
            object.__setattr__(self, "step", by_kind.get(self.kind, drop))
        return self


class SimulatorConfig(_Model):
    """The whole file. ``state_dir`` is absolute once loaded."""

    clock_scale: float = Field(default=20, gt=0, le=100_000)
    instant: bool = False
    """No artificial delay at all, and no fsync: for benchmarks."""
    dont_resume: Literal["as-coded", "as-documented"] = "as-coded"
    """What PVMT_DONT_RESUME_VM does: today's dispatcher lets the guest run (vz-sdk, finding 7)."""
    bandwidth_mib: float = Field(default=1000, gt=0)
    """MiB per second that a host sends, shared by the migrations that leave it."""
    compression_ratio: float = Field(default=1.5, ge=1)
    auto_converge: bool = True
    state_dir: Path = Path("simulator")
    hosts: dict[HostName, SimulatedHost] = Field(min_length=1)
    vms: list[SimulatedVm] = []
    faults: list[Fault] = []

    @model_validator(mode="after")
    def _consistent(self) -> SimulatorConfig:
        for kind, names in (("vm", [v.host for v in self.vms]), ("fault", [f.host for f in self.faults])):
            for name in names:
                if name not in self.hosts:
                    raise ValueError(f"a {kind} names the host {name}, which is not among hosts")
        seen: set[str] = set()
        for vm in self.vms:
            for key in (vm.name, vm.plain_uuid):
                if key in seen:
                    raise ValueError(f"two virtual machines are called {key}")
                seen.add(key)
        return self

    def host(self, name: str) -> SimulatedHost:
        """The host of this name; ``SettingsError`` where the file has none."""
        if name not in self.hosts:
            raise SettingsError(f"the simulator's file has no host {name}; it has {', '.join(self.hosts)}")
        return self.hosts[name]

    def resolve(self, address: str) -> str | None:
        """The host's name for a name or address, ``None`` where there is none."""
        if address in self.hosts:
            return address
        return next((name for name, host in self.hosts.items() if host.address == address), None)

    def socket_path(self, name: str) -> Path:
        """Where the host's dispatcher listens."""
        path = self.state_dir / (self.host(name).socket or f"{name}.sock")
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise SettingsError(
                f"the socket path {path} is longer than {LONGEST_SOCKET_PATH} bytes; "
                "choose a shorter state directory (--state-dir)"
            )
        return path


def load(file: Path, state_dir: Path | None = None) -> SimulatorConfig:
    """Read and check the file.

    The state directory comes from the argument, else from the environment
    (``VMRELAY_SIMULATOR_STATE_DIR``), else from the file, relative to the file's own directory.
    Raises ``SettingsError``.
    """
    try:
        raw = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the simulator's file {file} cannot be read: {error}") from error
    from_environment = os.environ.get(STATE_DIR_VARIABLE)
    if state_dir is None and from_environment:
        state_dir = Path(from_environment)
    try:
        config = SimulatorConfig.model_validate(raw)
    except ValidationError as error:
        details = "; ".join(".".join(str(part) for part in item["loc"]) + ": " + item["msg"] for item in error.errors())
        raise SettingsError(f"the simulator's file {file} is wrong: {details}") from error
    directory = state_dir if state_dir is not None else file.parent / config.state_dir
    return config.model_copy(update={"state_dir": Path(os.path.abspath(directory))})
