"""Settings of every vmrelay process: environment over ``vmrelay.toml`` over defaults.

The file is ``$VMRELAY_CONFIG``, else the first of ``./vmrelay.toml``, ``~/.config/vmrelay/vmrelay.toml``
and ``/etc/vmrelay/vmrelay.toml``. Any setting can be given as ``VMRELAY_<NAME>``.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from worker.errors import SettingsError
from worker.settings.outside import WebhookSettings, WebSettings
from worker.settings.places import HOST_NAME, HostSettings, NetworkSettings, RuleSettings
from worker.settings.policies import AdmissionSettings, AttemptSettings, PlanningSettings, RetrySettings, StallSettings

__all__ = [
    "CONFIG_VARIABLE",
    "HOST_NAME",
    "AdmissionSettings",
    "AttemptSettings",
    "HostSettings",
    "NetworkSettings",
    "PlanningSettings",
    "RetrySettings",
    "RuleSettings",
    "Settings",
    "StallSettings",
    "WebSettings",
    "WebhookSettings",
    "config_file",
    "current",
    "load",
]

CONFIG_VARIABLE = "VMRELAY_CONFIG"


class Settings(BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(
        defer_build=True, env_prefix="VMRELAY_", env_nested_delimiter="__", extra="forbid"
    )

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

    web: WebSettings = WebSettings()
    """See ``[web]``."""
    webhooks: dict[str, WebhookSettings] = Field(default_factory=dict)
    """See ``[webhooks.NAME]``."""

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

    @model_validator(mode="after")
    def _webhooks(self) -> Settings:
        import re

        for name, webhook in self.webhooks.items():
            if not re.match(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$", name):
                raise ValueError(f"'{name}' is no name for a webhook: 40 letters, digits, '_' and '-' at most")
            if unknown := [host for host in webhook.hosts if host not in self.hosts]:
                raise ValueError(f"webhooks.{name}.hosts: the inventory has no {', '.join(unknown)}")
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
    for webhook in settings.webhooks.values():
        webhook.secret_file = (beside / webhook.secret_file).absolute()
        webhook.ca_file = webhook.ca_file and (beside / webhook.ca_file).absolute()
    if settings.web.tokens_file:
        settings.web.tokens_file = (beside / settings.web.tokens_file.expanduser()).absolute()
    for host in settings.hosts.values():
        host.uri = host.uri.replace("{state_dir}", str(settings.state_dir))
    return settings


@cache
def current() -> Settings:
    """The settings of this process, read once."""
    return load()
