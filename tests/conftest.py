"""Fixtures that every layer of tests shares."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest
import redis
from libvirt_lab import Lab, Stage, load_heartbeat, open_stage, two_hosts

from worker.embedded import EmbeddedRedis

# Whoever starts the tests in the background may leave SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["skips"]  # tests/support/skips.py


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One embedded server for the whole run. Whoever stops or kills one asks for ``private_redis``."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The URL of the shared server, which holds nothing when the test begins."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[Callable[..., EmbeddedRedis]]:
    """Start servers that belong to this test alone; takes what ``EmbeddedRedis`` takes but the directory.

    Each call starts one in a new directory; all end with the test.
    """
    with ExitStack() as servers:
        count = 0

        def start(**options: object) -> EmbeddedRedis:
            nonlocal count
            count += 1
            server = EmbeddedRedis(tmp_path / f"redis-{count}", **options)  # type: ignore[arg-type]
            return servers.enter_context(server)

        yield start


@pytest.fixture(scope="session")
def heartbeat() -> ModuleType:
    """The module deploy/lab/heartbeat.py."""
    return load_heartbeat()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two real libvirt hosts, alpha and beta, for the whole run."""
    yield from two_hosts("--tls")


@pytest.fixture
def stage(lab: Lab, heartbeat: ModuleType) -> Iterator[Stage]:
    """Connected drivers of both hosts; the test's guests are removed afterwards."""
    yield from open_stage(lab, heartbeat)


@pytest.fixture(scope="session")
def netns_lab() -> Iterator[Lab]:
    """Two hosts, alpha and beta, each in namespaces of its own, for the whole run: mark the test ``netns``."""
    yield from two_hosts("--netns", "--tls")


@pytest.fixture
def netns_stage(netns_lab: Lab, heartbeat: ModuleType) -> Iterator[Stage]:
    """Connected drivers of both hosts; the test's guests are removed afterwards. Mark the test ``netns``."""
    yield from open_stage(netns_lab, heartbeat)
