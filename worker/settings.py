"""Settings of every vmrelay process: environment over ``vmrelay.toml`` over defaults.

The file is ``$VMRELAY_CONFIG``, else the first of ``./vmrelay.toml``, ``~/.config/vmrelay/vmrelay.toml``
and ``/etc/vmrelay/vmrelay.toml``. Any setting can be given as ``VMRELAY_<NAME>``.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from worker.errors import SettingsError
from worker.hypervisors.base import RetryPolicy
from worker.hypervisors.convergence import StallAction, StallPolicy

CONFIG_VARIABLE = "VMRELAY_CONFIG"
HOST_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"


class HostSettings(BaseModel):
    """One host of the inventory."""

    model_config = ConfigDict(extra="forbid")

    uri: str
    """Hypervisor URI: ``vzsim://SOCKET`` or any libvirt URI. ``{state_dir}`` is filled in."""
    address: str | None = None
    """Where other hosts send migration data, optionally with ``:port``; the host's name where not given."""
    peer_uri: str | None = None
    """Where other hosts' daemons reach this one's, for ``--p2p``; ``uri`` where that names a remote host."""
    max_outgoing: int = Field(default=2, ge=0, le=64)
    """So many migrations leave the host at once; others wait."""
    max_incoming: int = Field(default=2, ge=0, le=64)
    """So many arrive at once."""
    network: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,63}$")
    """The migration network that the host sends and receives over; ``[networks.NAME]`` limits it."""
    cordoned: bool = False
    """No migration is sent here. ``vmrelay hosts cordon`` says the same while everything runs."""
    labels: dict[str, str] = Field(default_factory=dict)
    """For people and for ``[rules.NAME]``; ``vmrelay hosts -o json`` shows them."""
    cpu_cores: float | None = Field(default=None, ge=0)
    """What planning takes the host to have, where that is not what its hypervisor says."""
    memory_mib: int | None = Field(default=None, ge=0)
    """The same of memory."""
    reserve_cpu_cores: float = Field(default=0, ge=0)
    """Planning keeps so much free of guests."""
    reserve_memory_mib: int = Field(default=0, ge=0)
    """Planning keeps so much free of guests."""
    mib_per_second: float = Field(default=1000, gt=0)
    """What the host's migration link carries; planned durations follow from it."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of the agent's ``/metrics``; 0 takes a free one."""


class RetrySettings(BaseModel):
    """Retries inside a phase (seconds)."""

    model_config = ConfigDict(extra="forbid")

    tries: int = Field(default=5, ge=1)
    """So often a call with a transient error is made again, unless the error's row allows fewer."""
    initial: float = Field(default=5.0, ge=0)
    """The first pause."""
    factor: float = Field(default=2.0, ge=1)
    """Each pause is so many times the one before."""
    maximum: float = Field(default=120.0, ge=0)
    """The longest pause, before jitter."""
    jitter: float = Field(default=0.2, ge=0, le=1)
    """Up to this share of a pause is added at random."""
    slow_initial: float = Field(default=30.0, ge=0)
    """The first pause after an error that takes long to go away (locks, shutdowns)."""
    slow_maximum: float = Field(default=600.0, ge=0)
    """The longest of those."""

    def policy(self) -> RetryPolicy:
        """The value that the drivers take."""
        return RetryPolicy(**self.model_dump())


class StallSettings(BaseModel):
    """When a running perform counts as stalled, and what is done about it."""

    model_config = ConfigDict(extra="forbid")

    action: StallAction = StallAction.REPORT
    """``report``, ``abort``, ``suspend``, ``postcopy`` or ``downtime``, where the request names none.

    Where the driver cannot steer a running perform or the flags do not allow post-copy, a stall is only reported.
    """
    rounds: int = Field(default=3, ge=1)
    """So many whole rounds of copying in a row that do not get nearer to the end."""
    no_data_seconds: float = Field(default=60.0, gt=0)
    """So long without a byte sent."""
    downtime_step_seconds: float = Field(default=0.3, gt=0)
    """The action ``downtime`` raises the downtime by so much at a time."""
    downtime_limit_seconds: float = Field(default=3.0, gt=0)
    """And so far at most."""

    def policy(self) -> StallPolicy:
        """The value that the drivers take."""
        return StallPolicy(**self.model_dump(exclude={"action"}))


class AttemptSettings(BaseModel):
    """New attempts of a whole migration after a transient failure (seconds)."""

    model_config = ConfigDict(extra="forbid")

    maximum: int = Field(default=3, ge=1)
    """So many attempts in all, where the request names no number."""
    initial: float = Field(default=10.0, ge=0)
    """The pause before the second attempt; up to a fifth is added at random."""
    factor: float = Field(default=2.0, ge=1)
    """Each pause is so many times the one before."""
    limit: float = Field(default=300.0, ge=0)
    """The longest pause."""


class AdmissionSettings(BaseModel):
    """Who starts next, and how many run at once."""

    model_config = ConfigDict(extra="forbid")

    max_migrations: int | None = Field(default=None, ge=0)
    """So many run at once in all; no limit besides the hosts' and networks' where not given."""
    urgent_slots: int = Field(default=0, ge=0)
    """So many slots of each host and direction are left to urgent migrations, where a host has more than that."""
    heavy_memory_gib: float = Field(default=128, gt=0)
    """A guest takes one slot more for each so much memory (never more than its hosts have)."""
    heavy_dirty_mib_per_second: float = Field(default=1000, gt=0)
    """And one more for each so much memory that it writes in a second."""
    half_life_seconds: float = Field(default=60, gt=0)
    """How soon past migrations no longer count against a batch or a requester in sharing slots."""
    ageing_seconds: float = Field(default=900, gt=0)
    """What waits longer, while others with a claim to the same hosts start, has slots kept free for it."""


class NetworkSettings(BaseModel):
    """A migration network."""

    model_config = ConfigDict(extra="forbid")

    max_migrations: int = Field(ge=0)
    """So many migrations use it at once."""


class RuleSettings(BaseModel):
    """What planning has to keep, for all domains that a name or a pattern fits."""

    model_config = ConfigDict(extra="forbid")

    domains: list[str] = Field(min_length=1)
    """Names; ``*`` and ``?`` stand for any text and any character."""
    kind: Literal["apart", "together", "among", "pinned", "requires"]
    """``apart``: on different hosts; ``together``: on one host; ``among``: all within one of ``parts``, or on hosts
    that share ``label``; ``pinned``: never moved by a plan; ``requires``: only on hosts with ``labels``."""
    label: str = ""
    """Hosts with the same value of this label count as one with ``apart``, and are one part with ``among``."""
    parts: list[list[str]] = Field(default_factory=list)
    """With ``among``: sets of hosts, instead of a label."""
    labels: dict[str, str] = Field(default_factory=dict)
    """With ``requires``."""
    reason: str = ""
    """Shown where the rule keeps a domain from being moved."""

    @model_validator(mode="after")
    def _whole(self) -> RuleSettings:
        needed = {"among": self.parts or self.label, "requires": self.labels}
        if not needed.get(self.kind, True):
            what = "parts or a label" if self.kind == "among" else "labels"
            raise ValueError(f"a rule of the kind {self.kind} needs {what}")
        return self


class PlanningSettings(BaseModel):
    """Defaults of rebalancing and draining."""

    model_config = ConfigDict(extra="forbid")

    ceiling_points: float = Field(default=10, ge=0, le=100)
    """How far above the mean of all hosts, in percentage points, a host may be before it is relieved."""
    most_percent: float = Field(default=95, gt=0, le=100)
    """No guest is sent to a host that would then use more than this of its memory."""
    price_per_move_gib: float = Field(default=1, ge=0)
    """What a migration costs besides its memory, as if it moved so many GiB more."""
    plan_seconds: float = Field(default=5, gt=0, le=600)
    """How long the search for a better plan may take."""
    load_seconds: float = Field(default=10, gt=0)
    """How often an agent measures what its guests use."""
    load_window_seconds: float = Field(default=900, gt=0)
    """Over how long; the 95th percentile is planned with."""
    process_mib: int = Field(default=2048, ge=256)
    """How much memory the process that plans may take."""
    replans: int = Field(default=3, ge=0)
    """How often a batch plans anew, because a move failed or a drained host has other guests, before it ends."""


class Settings(BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(env_prefix="VMRELAY_", env_nested_delimiter="__", extra="forbid")

    redis_url: str = "redis://127.0.0.1:6379/0"
    """Broker, result back end and journal."""
    key_prefix: str = "vmrelay:"
    """In front of every key of the journal."""
    state_dir: Path = Path(".vmrelay")
    """Keys, sockets and data of embedded parts; relative to the configuration file."""
    seal_key_file: Path | None = None
    """32 random bytes that all agents share; ``<state_dir>/seal.key`` where not given."""

    embedded_redis: bool = False
    """``vmrelay up`` starts a Redis of its own at ``redis_url`` (development and demo only)."""
    simulator_file: Path | None = None
    """Describes the simulated hosts behind ``vzsim://`` URIs; relative to the configuration file."""

    keep_seconds: int = Field(default=7 * 86400, ge=1)
    """How long the record of an ended migration is kept."""
    lease_seconds: float = Field(default=15.0, gt=0)
    """An agent that does not renew its lease for so long no longer owns its host."""
    poll_seconds: float = Field(default=0.5, gt=0)
    """How often a running perform is looked at."""
    inventory_seconds: float = Field(default=2.0, gt=0)
    """How often an agent publishes which domains its host has."""
    perform_deadline_seconds: float | None = None
    """A perform that runs longer is aborted; no limit where not given."""
    drain_seconds: float = Field(default=3600.0, ge=0)
    """How long an agent that is told to stop waits for the migrations that touch its host; then it aborts them."""
    drain_abort_seconds: float = Field(default=30.0, ge=0)
    """How long aborting may take, until the agent ends all the same."""
    retry: RetrySettings = RetrySettings()
    """See ``[retry]``."""
    attempts: AttemptSettings = AttemptSettings()
    """See ``[attempts]``."""
    stall: StallSettings = StallSettings()
    """See ``[stall]``."""
    admission: AdmissionSettings = AdmissionSettings()
    """See ``[admission]``."""
    planning: PlanningSettings = PlanningSettings()
    """See ``[planning]``."""
    networks: dict[str, NetworkSettings] = Field(default_factory=dict)
    """See ``[networks.NAME]``."""
    rules: dict[str, RuleSettings] = Field(default_factory=dict)
    """See ``[rules.NAME]``."""

    metrics_address: str = "127.0.0.1"
    """Where ``/metrics`` of agents and schedulers is served."""
    scheduler_metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of the scheduler's ``/metrics``; 0 takes a free one."""
    scheduler_threads: int = Field(default=32, ge=2)
    """So many requests at once. A full pool would take the next one up to a second late."""
    task_events: bool = True
    """Celery events, for Flower and celery-exporter."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged, on standard error."""
    log_format: Literal["console", "json"] = "console"
    """Lines for people or one JSON object for each."""

    hosts: dict[str, HostSettings] = Field(default_factory=dict)
    """The inventory: see ``[hosts.NAME]``."""

    @field_validator("redis_url")
    @classmethod
    def _verified_tls(cls, url: str) -> str:
        if url.startswith("rediss://") and "ssl_cert_reqs=" not in url:
            raise ValueError(
                "a bare rediss:// URL does not verify certificates; add ?ssl_cert_reqs=required&ssl_ca_certs=FILE "
                "(or ssl_cert_reqs=none where that is what you want)"
            )
        if not url.startswith(("redis://", "rediss://", "unix://", "redis+socket://")):
            raise ValueError("write redis://HOST:PORT/DB, rediss://… or unix:///PATH")
        return url

    @model_validator(mode="after")
    def _host_names(self) -> Settings:
        import re

        for name in self.hosts:
            if not re.match(HOST_NAME, name):
                raise ValueError(f"'{name}' is no host name: letters, digits, '.', '_' and '-' only")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = config_file()
        file = [TomlConfigSettingsSource(settings_cls, path)] if path else []
        return (init_settings, env_settings, *file)

    @property
    def key_file(self) -> Path:
        """Where the seal key lies."""
        return self.seal_key_file or self.state_dir / "seal.key"


def config_file() -> Path | None:
    """The configuration file in force, or ``None``."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file():
            raise SettingsError(f"there is no configuration file {path}; {CONFIG_VARIABLE} or --config names it")
        return path
    places = (Path("vmrelay.toml"), Path("~/.config/vmrelay/vmrelay.toml"), Path("/etc/vmrelay/vmrelay.toml"))
    return next((p for p in (place.expanduser() for place in places) if p.is_file()), None)


def load(**overrides: object) -> Settings:
    """Read and check the settings; all errors at once.

    Raises ``SettingsError``.
    """
    try:
        settings = Settings(**cast(dict[str, Any], overrides))
    except ValidationError as wrong:
        lines = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in wrong.errors()]
        origin = config_file() or "the environment"
        raise SettingsError(f"the settings in {origin} are wrong: {'; '.join(lines)}") from None
    except ValueError as broken:
        raise SettingsError(f"{config_file()} cannot be read: {broken}") from None
    base = config_file()
    beside = base.parent if base else Path()
    if not settings.state_dir.is_absolute():
        root = Path() if "VMRELAY_STATE_DIR" in os.environ else beside
        # Without '..': sockets below it are named in URIs, and compared with them.
        settings.state_dir = Path(os.path.abspath(root / settings.state_dir))
    if settings.simulator_file and not settings.simulator_file.is_absolute():
        settings.simulator_file = (beside / settings.simulator_file).absolute()
    for host in settings.hosts.values():
        host.uri = host.uri.replace("{state_dir}", str(settings.state_dir))
    return settings


@cache
def current() -> Settings:
    """The settings of this process, read once."""
    return load()
