"""What a test makes listen: an ssh server, and a libvirt daemon that wants credentials. Both end with their test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from libvirt_lab import eventually

USER, PASSWORD = "mover", "not-a-secret-that-matters"


def needed(program: str) -> str:
    """The path of a program; the test is skipped where it is missing."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return path or pytest.skip(f"lab: {program} is missing (deploy/lab/install)")  # in CI a failure: skips.py


@contextmanager
def folder() -> Iterator[Path]:
    """A folder with a path short enough for sockets, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="door.", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@contextmanager
def process(*argv: str | Path, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with its test."""
    with log.open("wb") as out:
        started = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **environment},
        )
        try:
            yield started
        finally:
            started.terminate()
            started.wait(10)


@dataclass(frozen=True)
class Ssh:
    """A server that lets in one key, and what a client needs."""

    address: str
    key: Path
    stranger: Path
    """A key that it does not let in."""
    known_hosts: Path
    client: Path
    """``ssh`` that believes only this ``known_hosts``, whatever the user's own files say."""


@contextmanager
def ssh_server() -> Iterator[Ssh]:
    """Debian's sshd on a free port, for the user who runs the tests."""
    sshd = needed("sshd")
    needed("nc")
    separation = Path("/run/sshd")  # where a server of root's locks up its children
    made = os.geteuid() == 0 and not separation.exists()
    if made:
        separation.mkdir(mode=0o755)
    try:
        with folder() as home, socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
            for name in ("host", "key", "stranger"):
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
            shutil.copy(home / "key.pub", home / "authorized")
            kind, public, *_ = (home / "host.pub").read_text().split()
            (home / "known").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")
            (home / "client").write_text(
                f'#!/bin/sh\nexec ssh -F none -o UserKnownHostsFile={home}/known -o GlobalKnownHostsFile=none "$@"\n'
            )
            (home / "client").chmod(0o755)
            (home / "config").write_text(
                f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized\n"
                "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n"
                "PermitRootLogin prohibit-password\nPidFile none\nLogLevel ERROR\n"
            )
            probe.close()
            with process(sshd, "-D", "-e", "-f", home / "config", log=home / "log"):
                eventually(lambda: _answers(port), "the ssh server")
                address = f"{_user()}@127.0.0.1:{port}"
                yield Ssh(address, home / "key", home / "stranger", home / "known", home / "client")
    finally:
        if made:
            separation.rmdir()


def _answers(port: int) -> bool:
    with socket.socket() as door:
        return door.connect_ex(("127.0.0.1", port)) == 0


def _user() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def guarded_daemon() -> Iterator[str]:
    """The URI of a session daemon that wants the credentials of ``USER`` (SASL)."""
    with folder() as home:
        for name in ("h", "r", "c", "k", "s", "sasl"):
            (home / name).mkdir()
        (home / "conf").write_text('auth_unix_rw = "sasl"\n')
        (home / "sasl" / "libvirt.conf").write_text(f"mech_list: scram-sha-256\nsasldb_path: {home}/db\n")
        add = [needed("saslpasswd2"), "-p", "-f", home / "db", "-a", "libvirt", "-u", "lab", USER]
        subprocess.run(add, input=PASSWORD.encode(), check=True, capture_output=True)
        argv = ["libvirtd", "-f", home / "conf"]
        if os.geteuid() == 0:  # libvirtd of root's is the system's one
            subprocess.run(["chown", "-R", "nobody:", home], check=True)
            argv = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", *argv]
        xdg = {"RUNTIME_DIR": "r", "CONFIG_HOME": "c", "CACHE_HOME": "k", "DATA_HOME": "s"}
        environment = {f"XDG_{name}": str(home / sub) for name, sub in xdg.items()}
        environment |= {"HOME": str(home / "h"), "SASL_CONF_PATH": str(home / "sasl")}
        environment["PATH"] = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        with process(*argv, log=home / "log", **environment):
            door = home / "r/libvirt/libvirt-sock"
            eventually(door.exists, "the daemon's socket")
            yield f"qemu+unix:///session?socket={door}"
