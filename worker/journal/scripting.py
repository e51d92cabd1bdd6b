"""The journal's Redis client and its Lua scripts (``scripts/``)."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from worker.errors import Unavailable


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
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
    )


class Scripts:
    """A client, a key prefix, and the scripts by name."""

    def __init__(self, client: redis.Redis, prefix: str = "vmrelay:") -> None:
        # redis-py annotates every answer as a union over protocols, encodings and async.
        self.client: Any = client
        self.prefix = prefix
        folder = files("worker.journal").joinpath("scripts")
        common = folder.joinpath("common.lua").read_text(encoding="utf-8")
        self._scripts = {
            item.name.removesuffix(".lua"): client.register_script(common + item.read_text(encoding="utf-8"))
            for item in folder.iterdir()
            if item.name.endswith(".lua") and item.name != "common.lua"
        }

    def _run(self, name: str, *args: str | int | float) -> list[Any]:
        return cast(list[Any], self._scripts[name](keys=[self.prefix], args=list(args)))

    def _key(self, *parts: str) -> str:
        return self.prefix + ":".join(parts)

    def load(self) -> None:
        """Store the scripts in Redis, so that pipelines may name them. Raises ``Unavailable``."""
        try:
            for script in self._scripts.values():
                self.client.script_load(script.script)
        except redis.RedisError as lost:
            raise Unavailable(f"Redis does not answer ({lost}); start it or set VMRELAY_REDIS_URL") from None
