"""What ``vmrelay up`` starts, and in which order: made from the settings and the Procfile."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from worker.cli.exits import FAILED, REFUSED
from worker.embedded import answers, find_server, server_command
from worker.errors import RelayError, SettingsError, Unavailable
from worker.hypervisors.simulator import config as simulation
from worker.hypervisors.simulator.control import ask
from worker.procfile import parse_procfile
from worker.runtime import Runtime
from worker.settings import Settings
from worker.supervise import Child

SIMULATED = "vzsim://"
REDIS_SECONDS = 60.0
"""How long the embedded Redis may take: it reads its file before it answers."""
START_SECONDS = 60.0
"""How long one of vmrelay's own processes may take on a slow machine."""
WEB = "web"
STOP_SECONDS = 30.0
"""How long a process may take to end once it has nothing left to wait for."""

Pid = Callable[[str], int | None]
"""The process id of a child that runs, by its name."""


def own_command() -> list[str]:
    """How this program starts itself."""
    script = Path(sys.executable).with_name("vmrelay")
    # -P: a folder 'tasks' or 'worker' in the current directory must not hide ours.
    return [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-P", "-m", "worker.cli.main"]


def groups(
    parts: Runtime, procfile: Path | None, say: Callable[[str], None], pid: Pid, *, serve: bool = False
) -> list[list[Child]]:
    """The children in starting order; they stop in reverse: what asks first, then agents, Redis last.

    With ``serve`` the web API is one of them, where that can be. Raises ``SettingsError``, and ``Unavailable`` where
    Redis or its port is not to be had.
    """
    mine = [simulators(parts), [scheduler(parts, pid)], [agent(parts, name, pid) for name in parts.inventory]]
    covered = {role(child.argv[len(own_command()) :]) for group in mine for child in group} | {(WEB,)}
    more = others(procfile, covered) if procfile else []
    api = web(parts, say, {child.name for child in more}) if serve else []
    return [redis_server(parts, say), *mine, api, more]


# -- Redis ------------------------------------------------------------------------------------------


def redis_server(parts: Runtime, say: Callable[[str], None]) -> list[Child]:
    """The embedded Redis, unless the settings want none or one answers already."""
    settings = parts.settings
    if not settings.embedded_redis:
        try:
            parts.journal.client.ping()
        except redis.RedisError as lost:
            raise Unavailable(
                f"Redis does not answer at {shown(settings.redis_url)} ({lost}); start it, set VMRELAY_REDIS_URL, or "
                "set embedded_redis = true for one of vmrelay's own",
                code="redis-unavailable",
            ) from None
        return []
    port = embedded_port(settings.redis_url)
    if answers(port):
        say(f"a Redis answers on port {port} already and is used; it is not stopped with the rest")
        return []
    if _listens("127.0.0.1", port):
        raise Unavailable(
            f"port {port} of redis_url is taken by something that is no Redis (or wants a password); stop that, or "
            "choose another port with VMRELAY_REDIS_URL",
            code="port-taken",
        )
    directory = settings.state_dir / "redis"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    argv = [*server_command(find_server(), directory, port), "--loglevel", "warning"]
    return [
        Child(
            "redis",
            argv,
            ready=lambda: answers(port),
            ready_within=REDIS_SECONDS,
            hopeless=(1,),  # it has said why: its file is broken, or the port is taken now
            grace=STOP_SECONDS,
        )
    ]


def embedded_port(url: str) -> int:
    """Where the embedded Redis listens. Raises ``SettingsError`` where it cannot be at ``url``."""
    parsed = urlsplit(url)
    if parsed.scheme != "redis" or parsed.hostname not in ("127.0.0.1", "localhost") or parsed.password:
        raise SettingsError(
            f"embedded_redis listens on 127.0.0.1 without a password, and redis_url is {shown(url)}; "
            "write redis://127.0.0.1:PORT/0 or set embedded_redis = false"
        )
    return parsed.port or 6379


def shown(url: str) -> str:
    """A URL without user and password."""
    parsed = urlsplit(url)
    return parsed._replace(netloc=parsed.netloc.rpartition("@")[2]).geturl()


# -- vmrelay's own processes ------------------------------------------------------------------------


def simulators(parts: Runtime) -> list[Child]:
    """One for each simulated host, where the settings say what is simulated."""
    settings = parts.settings
    if settings.simulator_file is None:
        return []
    state_dir = simulator_dir(settings)
    known = simulation.load(settings.simulator_file, state_dir)
    children = []
    for name, host in parts.inventory.items():
        if not host.settings.uri.startswith(SIMULATED):
            continue
        path = Path(host.settings.uri.removeprefix(SIMULATED))
        if known.socket_path(name) != path:
            raise SettingsError(
                f"host {name} has the URI {host.settings.uri}, and its simulator listens at {known.socket_path(name)}; "
                f'write uri = "{SIMULATED}{{state_dir}}/simulator/{name}.sock"'
            )
        where = ["--config", str(settings.simulator_file), "--state-dir", str(state_dir), "--exit-with-parent"]
        children.append(_own(f"simulator-{name}", ["simulator", name, *where], _simulated(path), STOP_SECONDS))
    return children


def simulator_dir(settings: Settings) -> Path:
    """Where the simulators that ``vmrelay up`` starts keep sockets and virtual machines."""
    return settings.state_dir / "simulator"


def _simulated(path: Path) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            ask(path, "faults")
        except RelayError:
            return False
        return True

    return ready


def scheduler(parts: Runtime, pid: Pid) -> Child:
    """The scheduler; ready when one leads, be it another one."""

    def ready() -> bool:
        leader = _lease(parts, "scheduler")
        if leader is None:
            return False
        elsewhere = leader["node"] != socket.gethostname()
        # A killed one holds its lease for some seconds more, and does nothing.
        return elsewhere or leader["pid"] == pid("scheduler") or Path(f"/proc/{leader['pid']}").exists()

    return _own("scheduler", ["scheduler"], ready, STOP_SECONDS)


def agent(parts: Runtime, name: str, pid: Pid) -> Child:
    """The agent of one host; when it stops, it waits for the migrations in flight.

    It is ready when it holds the lease and says where its metrics are: then the host is open, too.
    """

    def ready() -> bool:
        holder = _lease(parts, name)
        return holder is not None and holder["pid"] == pid(f"agent-{name}") and bool(holder["metrics_port"])

    # It waits for a lease that nobody renews before it gives up and says whose it is.
    patience = START_SECONDS + 1.2 * parts.settings.lease_seconds
    settings = parts.settings
    hurry = settings.drain_abort_seconds + STOP_SECONDS
    mine = _own(f"agent-{name}", ["agent", name], ready, settings.drain_seconds + hurry, patience)
    return replace(mine, hurry=hurry)


def web(parts: Runtime, say: Callable[[str], None], names: Collection[str]) -> list[Child]:
    """The web API and its page, unless the extra is missing or its port is taken: everything else works without."""
    settings = parts.settings.web
    if missing := [name for name in ("fastapi", "jinja2", "uvicorn") if find_spec(name) is None]:
        say(f"no web API and no page: the extra 'web' is not installed ({missing[0]}); pip install 'vmrelay[web]'")
        return []
    if settings.port and not _free(settings.address, settings.port):
        say(
            f"no web API and no page: {settings.address}:{settings.port} is taken by something else; stop that and "
            "start 'vmrelay web', or choose another port with VMRELAY_WEB__PORT"
        )
        return []
    ready = partial(_listens, settings.address, settings.port) if settings.port else None
    # A Procfile beside the inventory may be somebody's whose own application is called so.
    return [replace(_own(f"vmrelay-{WEB}" if WEB in names else WEB, [WEB], lambda: True, STOP_SECONDS), ready=ready)]


def web_url(parts: Runtime, children: Sequence[Sequence[Child]]) -> str:
    """Where the page is that these children serve; empty where none does, or its port is not known before."""
    settings = parts.settings.web
    serves = any(list(child.argv) == [*own_command(), WEB] for group in children for child in group)
    return f"http://{_reached(settings.address)}:{settings.port}/" if serves and settings.port else ""


def _reached(address: str) -> str:
    """Where to reach what listens at an address on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host


def _free(address: str, port: int) -> bool:
    """Whether somebody could listen there; an address that is none is left to whoever will."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address, port))
        except OSError as why:
            return why.errno != errno.EADDRINUSE
    return True


def _listens(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((_reached(address).strip("[]"), port), 1):
        return True
    return False


def _lease(parts: Runtime, name: str) -> Mapping[str, Any] | None:
    try:
        return parts.journal.agents([name]).get(name)
    except redis.RedisError:
        return None


def _own(
    name: str, words: Sequence[str], ready: Callable[[], bool], grace: float, ready_within: float = START_SECONDS
) -> Child:
    # Exit codes on purpose: the process has said what is wrong, and would say it again.
    hopeless = (FAILED, REFUSED)
    return Child(name, [*own_command(), *words], {}, ready, ready_within=ready_within, hopeless=hopeless, grace=grace)


# -- the Procfile -----------------------------------------------------------------------------------


def others(procfile: Path, covered: set[tuple[str, ...]]) -> list[Child]:
    """What the Procfile names and the inventory does not. Raises ``SettingsError``."""
    try:
        commands = parse_procfile(procfile.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as broken:
        raise SettingsError(f"{procfile} cannot be read: {broken}") from None
    except ValueError as broken:
        raise SettingsError(f"{procfile}: {broken}") from None
    return [
        Child(name, words, cwd=procfile.absolute().parent, grace=STOP_SECONDS)
        for name, words in commands.items()
        if Path(words[0]).name != "vmrelay" or role(words[1:]) not in covered
    ]


def role(words: Sequence[str]) -> tuple[str, ...]:
    """What a vmrelay command line is: its command and, for those that have one, its host."""
    plain = [word for word in words if not word.startswith("-")]
    if plain[:2] == ["simulator", "run"]:
        plain.remove("run")
    return tuple(plain[: 2 if plain[:1] in (["agent"], ["simulator"]) else 1])
