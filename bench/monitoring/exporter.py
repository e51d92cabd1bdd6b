"""Debian's redis_exporter beside a Redis, as a target of the job ``redis``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.embedded import free_port
from worker.leash import leashed

EXPORTER = Path("/usr/bin/prometheus-redis-exporter")
TARGETS = "redis-targets.json"
"""The file of targets that the committed configuration names, beside those of the relay."""


@contextmanager
def running_exporter(directory: Path, redis_url: str) -> Iterator[str]:
    """Export what this Redis says of itself; the address. ``directory`` is that of Prometheus's files."""
    directory.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    words = [str(EXPORTER), f"-redis.addr={redis_url}", f"-web.listen-address={address}"]
    with (directory / "redis-exporter.log").open("ab") as log:
        process = subprocess.Popen(leashed(words), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        (directory / TARGETS).write_text(json.dumps([{"targets": [address]}]))
        yield address
    finally:
        process.kill()
        process.wait()
