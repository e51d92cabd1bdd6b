"""What a Redis says of itself, judged: does it keep what the journal writes, and does it take it? Pure.

``vmrelay doctor`` shows these findings, and the scheduler's gauge ``vmrelay_redis_persists`` follows one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

OLDEST = (6, 2)
"""The oldest Redis that knows every command of the journal (``LMOVE``, ``BLMOVE``)."""
ALMOST_FULL = 0.8
"""From this share of ``maxmemory`` on it is time to do something."""


class Result(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """vmrelay works, less safely or less well than it should."""
    FAILED = "failed"
    """vmrelay does not work, or forgets migrations when Redis is restarted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    result: Result
    detail: str
    """What was seen."""
    advice: str = ""
    """What to do; empty where nothing is to be done."""


Info = Mapping[str, Any]
"""What ``INFO`` answers (``redis.Redis.info``)."""


def judged(info: Info, appendfsync: str = "") -> list[Finding]:
    """Everything that is to be said of a Redis; ``appendfsync`` is its setting, where it may be read."""
    return [_version(info), _role(info), _persistence(info, appendfsync), _eviction(info), _memory(info)]


def persists(info: Info) -> bool:
    """Whether what is written now would be there after a crash of Redis, but for the last second."""
    return _persistence(info, "").result is Result.OK


def _version(info: Info) -> Finding:
    name = "Valkey" if info.get("valkey_version") else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version", "unknown"))
    known = str(info.get("redis_version", "0")).split(".")
    if tuple(int(part) for part in known[:2] if part.isdigit()) >= OLDEST:
        return Finding("redis", Result.OK, f"{name} {version}")
    needed = ".".join(map(str, OLDEST))
    return Finding(
        "redis", Result.FAILED, f"{name} {version} lacks commands", f"run Redis {needed} or newer, or Valkey"
    )


def _role(info: Info) -> Finding:
    if info.get("role", "master") != "master":
        where = f"{info.get('master_host')}:{info.get('master_port')}"
        return Finding(
            "role",
            Result.FAILED,
            f"it is a replica of {where} and takes no writes",
            "let redis_url name an address that leads to the master, also after a failover",
        )
    return Finding("role", Result.OK, f"master, {info.get('connected_slaves', 0)} replicas")


def _persistence(info: Info, appendfsync: str) -> Finding:
    def found(result: Result, detail: str, advice: str = "") -> Finding:
        return Finding("persistence", result, detail, advice)

    if not info.get("aof_enabled"):
        detail = "no append-only file: a crash of Redis loses what was written since its last snapshot"
        return found(Result.FAILED, detail, "set appendonly yes, and appendfsync everysec or always")
    if info.get("aof_last_write_status", "ok") != "ok":
        detail = "the append-only file could not be written"
        return found(Result.FAILED, detail, "look at Redis's log and at the free space of its disk")
    if info.get("rdb_last_bgsave_status", "ok") != "ok" or info.get("aof_last_bgrewrite_status", "ok") != "ok":
        detail = "the last snapshot or rewrite failed; Redis may soon refuse writes"
        return found(Result.WARNING, detail, "look at Redis's log, the free space of its disk, vm.overcommit_memory")
    if appendfsync == "no":
        detail = "append-only file without fsync: a crash of the machine loses up to half a minute"
        return found(Result.WARNING, detail, "set appendfsync everysec or always")
    return found(Result.OK, f"append-only file, appendfsync {appendfsync or 'unknown'}")


def _eviction(info: Info) -> Finding:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        return Finding("eviction", Result.OK, "noeviction")
    detail = f"maxmemory-policy is {policy}: Redis may forget a migration, or that one holds a domain"
    return Finding("eviction", Result.FAILED, detail, "set maxmemory-policy noeviction")


def _memory(info: Info) -> Finding:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    advice = "raise maxmemory, or lower keep_seconds"
    if not limit:
        return Finding("memory", Result.OK, f"{used / 2**20:.0f} MiB used, no limit")
    detail = f"{used / 2**20:.0f} of {limit / 2**20:.0f} MiB used"
    if used >= limit:
        return Finding("memory", Result.FAILED, f"full, {detail}: no new migration is taken (maxmemory)", advice)
    if used >= ALMOST_FULL * limit:
        return Finding("memory", Result.WARNING, f"almost full, {detail}", advice)
    return Finding("memory", Result.OK, detail)
