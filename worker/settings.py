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
    cordoned: bool = False
    """No migration is sent here."""
    labels: dict[str, str] = Field(default_factory=dict)
    """For people; ``vmrelay hosts -o json`` shows them."""
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
        settings.state_dir = (root / settings.state_dir).absolute()
    if settings.simulator_file and not settings.simulator_file.is_absolute():
        settings.simulator_file = (beside / settings.simulator_file).absolute()
    for host in settings.hosts.values():
        host.uri = host.uri.replace("{state_dir}", str(settings.state_dir))
    return settings


@cache
def current() -> Settings:
    """The settings of this process, read once."""
    return load()
