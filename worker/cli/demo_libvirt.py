"""``vmrelay demo --libvirt``: a real guest between two real libvirt hosts, there and back, twice."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from worker.cli.exits import FAILED
from worker.errors import Unavailable
from worker.journal import Record

LAB = Path(__file__).resolve().parents[2] / "deploy" / "lab"
GUEST = "guest-1"
ROUTE = ("beta", "alpha", "beta", "alpha")
"""Where the guest goes, one after the other; it starts on alpha."""
MOVE_SECONDS = 90.0
BEAT_SECONDS = 30.0
"""How long to wait for the guest's next beats: it is emulated, and the machine may be busy."""
SAMPLE_SECONDS = 0.005


def demo(keep: bool) -> int:
    """The whole demo; the exit code. Removes everything at the end, or with ``keep`` says how to."""
    _require()
    folder = Path(tempfile.mkdtemp(prefix="vmrelay-"))  # short: the paths of sockets below may not be long
    # Started by root, the hosts run as another user, who must be able to pass through.
    folder.chmod(0o711)
    kept = False
    try:
        stage = _set_stage(folder)
        wrong = _on_relay(stage, keep)
        kept = keep and not wrong
    finally:
        if not kept:
            with _undisturbed():
                _remove(folder)
    return FAILED if wrong else 0


def _require() -> None:
    if not (LAB / "up").is_file():
        raise Unavailable(f"{LAB} is missing: it is part of the source, not of the wheel; run this from a checkout")
    if importlib.util.find_spec("libvirt") is None:
        raise Unavailable("libvirt-python is missing; run 'make demo-libvirt', which installs it")


# -- the stage --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """Two hosts, a guest on the first, and where everything of them lies."""

    folder: Path
    uris: Mapping[str, str]
    serial: Path
    heartbeat: ModuleType

    @property
    def config(self) -> Path:
        """The inventory that names these hosts."""
        return self.folder / "vmrelay.toml"

    def beats(self) -> Any:  # noqa: ANN401 - a Heartbeat of deploy/lab/heartbeat.py
        """What the guest's serial line says now."""
        return self.heartbeat.read(self.serial)

    def await_beats(self) -> None:
        """Wait for a few new beats. Raises ``Unavailable`` where none come."""
        before, deadline = self.beats().beats, time.monotonic() + BEAT_SECONDS
        while self.beats().beats < before + 3:
            if time.monotonic() > deadline:
                raise Unavailable(f"{GUEST} does not beat: no line in {self.serial} for {BEAT_SECONDS:g} s")
            time.sleep(0.05)


def _set_stage(folder: Path) -> Stage:
    from worker.embedded import free_port

    click.echo("two libvirt hosts, session daemons of an unprivileged user:")
    lines = _lab("up", "-d", folder / "lab", "alpha", "beta").splitlines()
    uris = dict(line.split(" ", 1) for line in lines)
    for name, uri in uris.items():
        click.echo(f"  {name:<6} {uri}")
    stage = Stage(folder, uris, Path(_lab("guest", folder / "lab", "alpha", GUEST).strip()), _heartbeat())
    hosts = "".join(f'\n[hosts.{name}]\nuri = "{uri}"\n' for name, uri in uris.items())
    redis = f'redis_url = "redis://127.0.0.1:{free_port()}/0"\nembedded_redis = true\nstate_dir = "state"\n'
    stage.config.write_text(redis + hosts)
    stage.await_beats()
    click.echo(f"  {GUEST} runs on alpha and beats on {stage.serial}\n")
    return stage


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
    import sys

    spec = importlib.util.spec_from_file_location("heartbeat", LAB / "heartbeat.py")
    if spec is None or spec.loader is None:
        raise Unavailable(f"{LAB / 'heartbeat.py'} cannot be loaded")
    module = sys.modules["heartbeat"] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


def _remove(folder: Path) -> None:
    if (folder / "lab" / "lab").exists():
        _lab("down", folder / "lab")
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Nobody interrupts the removal, which takes a moment."""
    heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- the run ----------------------------------------------------------------------------------------


def _on_relay(stage: Stage, keep: bool) -> list[str]:
    from worker.cli.demo_relay import Relay, use

    use(stage.config, stage.folder / "state")
    relay = Relay(stage.folder / "state", "--no-procfile", *(() if keep else ("--exit-with-parent",)))
    kept = False
    try:
        relay.start()
        wrong = _run(stage)
        kept = keep and not wrong
    finally:
        if not kept:
            relay.stop()
    if wrong:
        click.echo(f"\nThe log ends with\n{relay.tail()}", err=True)
    if kept:
        _say_how_to_use_it(stage, relay.pid)
    return wrong


def _run(stage: Stage) -> list[str]:
    from worker.cli.demo_report import console, count, metrics_urls, say_errors, say_migrations, scrape, verdict
    from worker.runtime import runtime

    parts, screen = runtime(), console()
    urls = list(metrics_urls(parts.settings, parts.journal).values())
    before = scrape(urls)
    records: list[Record] = []
    gaps: list[float] = []
    for destination in ROUTE:
        with _silence(stage.serial) as longest:
            records.append(_move(screen, destination))
            stage.await_beats()
        gaps.append(longest())
        if records[-1].outcome != "succeeded":
            break
    say_migrations(screen, records)
    say_errors(screen, records)
    wrong = _say_beats(screen, stage, gaps)
    wrong += [f"{r.domain} to {r.destination}: {r.outcome}: {r.error}" for r in records if r.outcome != "succeeded"]
    wrong += [f"{r.domain} to {r.destination}: not all five phases" for r in records if len(r.phases) != 5]
    wrong += _say_where(screen, stage, ROUTE[-1])
    wrong += count(screen, before, urls, records)
    return verdict(screen, wrong, f"{GUEST} moved {len(records)} times and was never restarted.")


def _move(screen: Console, destination: str) -> Record:
    from worker.cli import client
    from worker.cli.demo_live import Live, follow
    from worker.contract import MIGRATE
    from worker.runtime import runtime

    ident = str(uuid.uuid4())
    with Live(screen, {ident: f"{GUEST} → {destination}"}) as live:
        client.enqueue(MIGRATE, {"domain": GUEST, "destination": destination, "requested_by": "demo"}, ident)
        return follow(runtime().journal, {ident: GUEST}, MOVE_SECONDS, live)[ident]


@contextmanager
def _silence(serial: Path) -> Iterator[Callable[[], float]]:
    """Watch the serial line meanwhile; afterwards the function says how long it was silent at most."""
    ended, longest = threading.Event(), [0.0]

    def look() -> None:
        size, changed = serial.stat().st_size, time.monotonic()
        while not ended.wait(SAMPLE_SECONDS):
            new, now = serial.stat().st_size, time.monotonic()
            longest[0] = max(longest[0], now - changed)
            if new != size:
                size, changed = new, now

    watcher = threading.Thread(target=look, name="heartbeat", daemon=True)
    watcher.start()
    try:
        yield lambda: longest[0]
    finally:
        ended.set()
        watcher.join()


def _say_beats(screen: Console, stage: Stage, gaps: list[float]) -> list[str]:
    seen = stage.beats()
    for destination, gap in zip(ROUTE, gaps, strict=False):
        screen.print(Text(f"  to {destination}: longest silence between two beats {gap:.3f} s"))
    counts = f"{seen.restarts} restarts, {seen.repeats} repeated, {seen.missing} missing"
    screen.print(
        Text(f"  heartbeat of {GUEST}: {seen.beats} beats counted without a break, the last is {seen.last}; {counts}")
    )
    return [] if seen.unbroken else [f"the heartbeat of {GUEST} is broken: {counts}"]


def _say_where(screen: Console, stage: Stage, wanted: str) -> list[str]:
    """Ask both hosts, over connections of our own, who runs the guest."""
    import libvirt

    running = []
    for name, uri in stage.uris.items():
        connection = libvirt.open(uri)
        try:
            domains = connection.listAllDomains()
            shown = (
                ", ".join(f"{d.name()} ({'runs' if d.isActive() else 'does not run'})" for d in domains) or "no domain"
            )
            running += [name for domain in domains if domain.name() == GUEST and domain.isActive()]
        finally:
            connection.close()
        screen.print(Text(f"  {name} itself says: {shown}"))
    return [] if running == [wanted] else [f"{GUEST} runs on {', '.join(running) or 'no host'}, not on {wanted}"]


def _say_how_to_use_it(stage: Stage, pid: int) -> None:
    from worker.cli.demo import own_name

    command = f"{own_name()} --config {stage.config}"
    click.echo(
        f"\nEverything stays up (pid {pid}, log {stage.folder}/state/up.log). Try:\n"
        f"  {command} hosts --domains\n"
        f"  {command} migrate {GUEST} beta --wait\n"
        f"  {command} list\n"
        f"  {LAB}/heartbeat.py {stage.serial} --watch 5\n"
        f"Stop and remove it:\n"
        f"  kill {pid}; tail --pid={pid} -f /dev/null; {LAB}/down {stage.folder}/lab; rm -r {stage.folder}"
    )
