"""Real libvirt hosts of ``deploy/lab`` and guests on them: started, watched, looked at, removed."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType

from worker.errors import Unavailable

LAB = Path(__file__).resolve().parents[2] / "deploy" / "lab"
BEAT_SECONDS = 30.0
"""How long to wait for a guest's next beats: it is emulated, and the machine may be busy."""
SAMPLE_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest of the lab, as it is started."""

    name: str
    host: str
    memory_mib: int
    dirty_mib: int
    """So much memory it dirties in a second."""


@dataclass(frozen=True, slots=True)
class Beats:
    """A guest's serial line as a whole; ``deploy/lab/heartbeat.py`` says what the words mean."""

    beats: int
    restarts: int
    repeats: int
    missing: int
    unbroken: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """Hosts, guests, and where everything of them lies."""

    folder: Path
    uris: Mapping[str, str]
    serials: Mapping[str, Path]
    """Where each guest beats."""
    heartbeat: ModuleType

    @property
    def config(self) -> Path:
        """The inventory that names these hosts."""
        return self.folder / "vmrelay.toml"

    def beats(self, guest: str) -> Beats:
        """What the guest's serial line says now."""
        seen = self.heartbeat.read(self.serials[guest])
        return Beats(**{field.name: getattr(seen, field.name) for field in fields(Beats)})

    def await_beats(self) -> None:
        """Wait for a few new beats of every guest. Raises ``Unavailable`` where none come."""
        before = {guest: self.beats(guest).beats for guest in self.serials}
        deadline = time.monotonic() + BEAT_SECONDS
        for guest, beats in before.items():
            while self.beats(guest).beats < beats + 3:
                if time.monotonic() > deadline:
                    raise Unavailable(f"{guest} does not beat: no line in {self.serials[guest]} for {BEAT_SECONDS:g} s")
                time.sleep(0.02)

    def look(self) -> dict[str, dict[str, bool]]:
        """Ask every host, over connections of our own: for each guest the hosts that know it, and which run it."""
        import libvirt

        found: dict[str, dict[str, bool]] = {guest: {} for guest in self.serials}
        for host, uri in self.uris.items():
            connection = libvirt.open(uri)
            try:
                for domain in connection.listAllDomains():
                    found.setdefault(domain.name(), {})[host] = bool(domain.isActive())
            finally:
                connection.close()
        return found


def require() -> None:
    """Raises ``Unavailable`` where the lab or libvirt-python is missing."""
    if not (LAB / "up").is_file():
        raise Unavailable(f"{LAB} is missing: it is part of the source, not of the wheel; run this from a checkout")
    if importlib.util.find_spec("libvirt") is None:
        raise Unavailable("libvirt-python is missing; run 'make demo-libvirt', which installs it")


def new_folder() -> Path:
    """A new folder with a path that is short enough for sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="vmrelay-"))
    # Started by root, the hosts run as another user, who must be able to pass through.
    folder.chmod(0o711)
    return folder


def set_stage(folder: Path, hosts: Sequence[str], guests: Iterable[Guest], slots: int) -> Stage:
    """Start hosts and guests below ``folder``, and write an inventory of them.

    ``slots`` many migrations may leave and enter a host at once. Returns when every guest beats.
    """
    from worker.embedded import free_port

    lines = _lab("up", "-d", folder / "lab", *hosts).splitlines()
    uris = dict(line.split(" ", 1) for line in lines)
    redis = f'redis_url = "redis://127.0.0.1:{free_port()}/0"\nembedded_redis = true\nstate_dir = "state"\n'
    quick = "poll_seconds = 0.1\ninventory_seconds = 0.5\n"
    inventory = "".join(
        f'\n[hosts.{name}]\nuri = "{uri}"\nmax_outgoing = {slots}\nmax_incoming = {slots}\n'
        for name, uri in uris.items()
    )
    (folder / "vmrelay.toml").write_text(redis + quick + inventory)
    stage = Stage(folder, uris, {guest.name: _started(folder, guest) for guest in guests}, _heartbeat())
    stage.await_beats()
    return stage


def _started(folder: Path, guest: Guest) -> Path:
    options = ("-m", str(guest.memory_mib), "-r", str(guest.dirty_mib))
    return Path(_lab("guest", folder / "lab", guest.host, guest.name, *options).strip())


def _lab(name: str, *arguments: str | Path) -> str:
    """What one of the lab's commands prints. Raises ``Unavailable`` with what it says is wrong."""
    command = [str(LAB / name), *map(str, arguments)]
    # A session of its own: on Ctrl-C it is told by us, and cleans up.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise Unavailable(f"deploy/lab/{name} ended with {process.returncode}: {err.strip()}")
    return out


def _heartbeat() -> ModuleType:
    spec = importlib.util.spec_from_file_location("heartbeat", LAB / "heartbeat.py")
    if spec is None or spec.loader is None:
        raise Unavailable(f"{LAB / 'heartbeat.py'} cannot be loaded")
    module = sys.modules["heartbeat"] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


def remove(folder: Path) -> None:
    """Remove hosts, guests and folder; nobody interrupts that."""
    with _undisturbed():
        if (folder / "lab" / "lab").exists():
            _lab("down", folder / "lab")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def silences(stage: Stage) -> Iterator[dict[str, float]]:
    """Watch all serial lines meanwhile: for how long each guest was silent at most, in seconds."""
    ended, longest = threading.Event(), dict.fromkeys(stage.serials, 0.0)

    def watch() -> None:
        seen = {guest: (path.stat().st_size, time.monotonic()) for guest, path in stage.serials.items()}
        while not ended.wait(SAMPLE_SECONDS):
            for guest, path in stage.serials.items():
                size, changed = seen[guest]
                new, now = path.stat().st_size, time.monotonic()
                longest[guest] = max(longest[guest], now - changed)
                if new != size:
                    seen[guest] = (new, now)

    watcher = threading.Thread(target=watch, name="heartbeats", daemon=True)
    watcher.start()
    try:
        yield longest
    finally:
        ended.set()
        watcher.join()
