"""Settings of hosts, of the networks between them, and of what belongs where."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

HOST_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"


class HostSettings(BaseModel):
    """One host of the inventory."""

    model_config = ConfigDict(defer_build=True, extra="forbid")

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


class NetworkSettings(BaseModel):
    """A migration network."""

    model_config = ConfigDict(defer_build=True, extra="forbid")

    max_migrations: int = Field(ge=0)
    """So many migrations use it at once."""


class RuleSettings(BaseModel):
    """What planning has to keep, for all domains that a name or a pattern fits."""

    model_config = ConfigDict(defer_build=True, extra="forbid")

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
