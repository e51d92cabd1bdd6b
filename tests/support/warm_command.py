"""``vmrelay`` without its start: half a second of imports is paid once, and each command is a fork of that process.

Tests that run dozens of commands spend most of their time in importing the same modules. ``warm`` starts one process
that has imported them and reads nothing else: no settings, no environment. Each command runs in a child of its own with
the caller's arguments, environment, folder and files, and ends with its exit code; only what ``.venv/bin/vmrelay`` and
the imports do is left out, which other tests show.
"""

from __future__ import annotations

import array
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from worker.leash import leashed

IMPORTED = (
    "celery.backends.redis",
    "celery.worker",
    "kombu.transport.redis",
    "rich.progress",
    "rich.table",
    "structlog.dev",
    "worker.asking",
    "worker.cli.client",
    "worker.cli.main",
    "worker.contract",
    "worker.journal",
    "worker.overview",
    "worker.runtime",
)
# What is called instead of the command; as small as Python can be started. Hands its files over, and waits.
_CALLER = """#!{python} -IS
import array, json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
files = array.array("i", (0, 1, 2)).tobytes()
connection.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
connection.sendall(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode() + b"\\n")
code = connection.makefile().readline()
sys.exit(int(code) if code else "the command vanished")
"""


@contextmanager
def warm() -> Iterator[Path]:
    """A ``vmrelay`` that starts at once, for as long as the block lasts: its path."""
    with TemporaryDirectory(prefix="vmrelay-") as name:
        folder = Path(name)
        command = folder / "vmrelay"
        address = str(folder / "socket")
        command.write_text(_CALLER.format(python=sys.executable, address=address))
        command.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(64)
            server = subprocess.Popen(
                leashed([sys.executable, __file__, str(listening.fileno())]),
                pass_fds=[listening.fileno()],
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        try:
            yield command
        finally:
            server.kill()
            server.wait()


def serve(listening: socket.socket) -> None:
    """Import what commands import, then fork for each caller."""
    select.select([listening], [], [])  # perhaps nobody calls
    for name in IMPORTED:
        importlib.import_module(name)
    assert "worker.app" not in sys.modules, "made of the settings when it is imported: those of each command"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            attend(connection)
            return
        connection.close()


def attend(connection: socket.socket) -> None:
    """One command, and its exit code to the caller; where the caller is gone the command is ended."""
    files = array.array("i")
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(3 * files.itemsize))
    files.frombytes(ancillary[0][2])
    words, environment, folder = json.loads(connection.makefile().readline())
    command = os.fork()
    if command == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["vmrelay", *words]
        importlib.import_module("worker.cli.main").main()  # ends this process
    for file in files:
        os.close(file)
    ended = os.pidfd_open(command)
    if connection in select.select([connection, ended], [], [])[0]:
        os.kill(command, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with suppress(OSError):  # nobody waits for it any more
        connection.sendall(f"{code}\n".encode())


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
