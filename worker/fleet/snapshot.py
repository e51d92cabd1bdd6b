"""What the journal knows of all hosts at one moment, in a few round trips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.inventory import Inventory
from worker.journal import Journal
from worker.loads import HostLoad


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one host."""

    agent: Mapping[str, Any] | None = None
    domains: Sequence[Mapping[str, Any]] = ()
    """As published: name, uuid, state, memory_bytes."""
    at: int | None = None
    """When its agent began to look at them (Redis's clock, milliseconds)."""
    load: HostLoad | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """The migration that holds a guest: nobody else may move it."""

    migration: str
    state: str
    """``pending``, ``active``, ``backoff`` or ``in-doubt``."""
    source: str
    destination: str
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All hosts at one moment."""

    now: float
    """Redis's clock, seconds."""
    hosts: Mapping[str, Seen] = field(default_factory=dict)
    holders: Mapping[str, Holder] = field(default_factory=dict)
    """By the guest's uuid."""
    cordons: Mapping[str, str] = field(default_factory=dict)
    """The hosts that take nothing, besides those that the settings name; by whom and why."""
    homes: Mapping[str, str] = field(default_factory=dict)
    """By uuid: the host that a guest was drained from."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    """How many migrations may run at once, as ``Journal.limits`` tells it; the settings' where nothing is told."""


def take(journal: Journal, inventory: Inventory) -> Snapshot:
    """Read what agents have published of these hosts, and which migrations hold their guests.

    Raises ``redis.RedisError``.
    """
    seen = {name: Seen(**known) for name, known in journal.seen(inventory).items()}
    uuids = {str(domain["uuid"]) for host in seen.values() for domain in host.domains}
    return Snapshot(
        now=journal.now(),
        hosts=seen,
        holders={uuid: Holder(**told) for uuid, told in journal.holders(uuids).items()},
        cordons={host: cordon.words for host, cordon in journal.cordons().items()},
        homes={home.uuid: home.host for home in journal.homes()},
        limits=journal.limits(inventory.terms),
    )
