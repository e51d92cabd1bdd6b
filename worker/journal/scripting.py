"""The journal's Redis client and its Lua scripts (``scripts/``)."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import MasterDownError, ReadOnlyError
from redis.retry import Retry

from worker.errors import Unavailable
from worker.journal.trouble import trouble

BEGINNINGS = frozenset({"create", "admit", "refuse", "tune", "batch-create", "batch-adopt", "batch-add"})
"""The scripts that begin something. A full Redis (``noeviction``) refuses them, and they are called again later."""
SHARED = ("common", "slots", "queue", "homes", "batches", "webhooks", "ending")
"""What stands in front of every script, in this order (``scripts/shared/``)."""
GOES_ON = "redis.call('DEL', KEYS[1] .. 'nothing')\n"
"""In front of every other script, so that what has begun can end, and make room, while Redis is full.

Redis refuses a script that would take memory at its first write and not afterwards, since it never leaves one half
done; so a first write that takes none lets the others pass. Seen on Valkey 9.1; ``scriptVerifyOOM`` of Redis 7 and
``luaRedisGenericCommand`` of Redis 6 say the same.
"""


def connect(url: str) -> redis.Redis:
    """A client for the journal: short time-outs, few and quick retries, text answers."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,
        socket_timeout=5,
        socket_connect_timeout=5,
        socket_keepalive=True,
        health_check_interval=15,
        # A replica answers so after a failover: another connection may lead to the master.
        retry_on_error=[ReadOnlyError, MasterDownError],
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
    )


class Scripts:
    """A client, a key prefix, and the scripts by name."""

    def __init__(self, client: redis.Redis, prefix: str = "vmrelay:") -> None:
        # redis-py annotates every answer as a union over protocols, encodings and async.
        self.client: Any = client
        self.prefix = prefix
        folder = files("worker.journal").joinpath("scripts")
        common = "".join(folder.joinpath("shared", f"{part}.lua").read_text(encoding="utf-8") for part in SHARED)
        named = {item.name.removesuffix(".lua"): item for item in folder.iterdir() if item.name.endswith(".lua")}
        self._scripts = {
            name: client.register_script(
                common + ("" if name in BEGINNINGS else GOES_ON) + item.read_text(encoding="utf-8")
            )
            for name, item in named.items()
        }

    def _run(self, name: str, *args: str | int | float | bytes) -> list[Any]:
        return cast(list[Any], self._scripts[name](keys=[self.prefix], args=list(args)))

    def _key(self, *parts: str) -> str:
        return self.prefix + ":".join(parts)

    def clock_offset(self) -> float:
        """How many seconds this machine's clock is ahead of Redis's; at most half a round trip wrong."""
        before = time.time()
        seconds, micros = self.client.time()
        return (before + time.time()) / 2 - float(seconds) - float(micros) / 1e6

    def load(self) -> None:
        """Store the scripts in Redis, so that pipelines may name them. Raises ``Unavailable``."""
        try:
            for script in self._scripts.values():
                self.client.script_load(script.script)
        except redis.RedisError as lost:
            raise unavailable(lost) from None


def unavailable(lost: redis.RedisError) -> Unavailable:
    """What a process that cannot begin without Redis says."""
    code = trouble(lost) or "redis-error"
    return Unavailable(f"Redis does not answer ({lost}); start it or set VMRELAY_REDIS_URL", code=code)
