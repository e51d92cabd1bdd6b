"""``make bench-libvirt``: the relay beside ``virsh migrate``, on the same guest between the same two hosts.

Both sides take turns: each pair moves the guest there and back, once by virsh and once by the relay, and every other
pair begins with the relay, so that each side goes each way equally often. Total time and downtime are what the
destination's libvirt says of the completed job (``virDomainGetJobStats``), the same for both. The guest travels at the
speed of a 1 Gbit/s network: without a limit both sides measure how fast this machine hands out fresh memory, which
varies by a factor of ten from one migration to the next. Only the ratios of the medians mean something on another
machine. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import libvirt

from bench.stage import HOSTS, Stage, libvirt_stage
from worker.journal import Record

LAB = Path(__file__).resolve().parents[1] / "deploy" / "lab"
GUEST = "guest"
PATIENCE_SECONDS = 120
GOALS = {"total_seconds": 1.02, "downtime_seconds": 1.10}


@dataclass(frozen=True)
class Run:
    """One migration, in seconds."""

    total_seconds: float
    downtime_seconds: float
    wall_seconds: float
    """From the request to its outcome, as whoever asked sees it."""


def lab(command: str, *words: str | Path) -> str:
    """What one of the lab's commands prints."""
    done = subprocess.run([str(LAB / command), *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"deploy/lab/{command}: {done.stderr.strip()}")
    return done.stdout.strip()


def completed(uri: str) -> dict[str, int]:
    """The destination's statistics of the job that brought the guest."""
    connection = libvirt.open(uri)
    try:
        keep = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
        stats: dict[str, int] = connection.lookupByName(GUEST).jobStats(keep)
        return stats
    finally:
        connection.close()


def limit(uri: str, speed: int) -> None:
    """Let the guest leave this host at so many MiB/s (``virsh migrate-setspeed``), whoever moves it."""
    connection = libvirt.open(uri)
    try:
        connection.lookupByName(GUEST).migrateSetMaxSpeed(speed, 0)
    finally:
        connection.close()


def measured(move: Callable[[str, str], object], source: str, destination: str, uris: dict[str, str]) -> Run:
    """Move the guest and read what the destination says of it."""
    started = time.perf_counter()
    move(source, destination)
    wall = time.perf_counter() - started
    stats = completed(uris[destination])
    return Run(stats["time_elapsed"] / 1000, stats["downtime"] / 1000, wall)


def by_virsh(uris: dict[str, str]) -> Callable[[str, str], None]:
    """A way to move the guest."""

    def move(source: str, destination: str) -> None:
        options = ("--live", "--persistent", "--undefinesource", GUEST, uris[destination])
        done = subprocess.run(
            ["virsh", "-q", "-c", uris[source], "migrate", *options], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"virsh migrate: {done.stderr.strip()}")

    return move


def by_relay(running: Stage, records: list[Record]) -> Callable[[str, str], None]:
    """The other way; its records are kept."""
    from worker.app import app

    def move(source: str, destination: str) -> None:
        ident = str(uuid.uuid4())
        arguments = {"domain": GUEST, "source": source, "destination": destination}
        app.send_task("vmrelay.v1.migrate", kwargs=arguments, task_id=ident, queue="scheduler")
        records.append(_ended(running, ident))
        if records[-1].outcome != "succeeded":
            raise SystemExit(f"the relay: {records[-1].error}")

    return move


def _ended(running: Stage, ident: str) -> Record:
    deadline, after = time.monotonic() + PATIENCE_SECONDS, "0"
    while time.monotonic() < deadline:
        for at, kind, _ in running.journal.events(ident, after, 0.2):
            after = at
            record = running.journal.record(ident) if kind == "ended" else None
            if record:
                return record
    raise SystemExit(f"migration {ident} did not end in {PATIENCE_SECONDS} s")


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {PATIENCE_SECONDS} s")
        time.sleep(0.05)


def _known(running: Stage, host: str, other: str) -> None:
    """Wait until the agents have seen where the guest is: the scheduler judges by what they publish."""

    def states(name: str) -> list[str]:
        return [vm["state"] for vm in running.journal.domains(name) if vm["name"] == GUEST]

    _await(lambda: states(host) == ["running"] and not states(other), f"the agents see the guest on {host}")


def _filled(serial: Path, memory: int, rate: int) -> None:
    """Wait until the guest has written to all of its memory: empty pages cost a migration nothing."""
    beats = 20 * memory // rate if rate else 0
    _await(lambda: serial.read_text(errors="replace").count("\n") > beats, "the guest has written to its memory")


def pairs(number: int, speed: int, uris: dict[str, str], running: Stage, records: list[Record]) -> dict[str, list[Run]]:
    """All runs by side. The guest starts and ends on the first host."""
    sides = {"virsh": by_virsh(uris), "relay": by_relay(running, records)}
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    for turn in range(-1, number):  # the first one warms up
        order = list(sides) if turn % 2 else list(reversed(sides))
        for (source, destination), side in zip(((HOSTS), tuple(reversed(HOSTS))), order, strict=True):
            _known(running, source, destination)
            if speed:
                limit(uris[source], speed)
            run = measured(sides[side], source, destination, uris)
            if turn >= 0:
                runs[side].append(run)
        if turn >= 0:
            latest = ", ".join(
                f"{side} {runs[side][-1].total_seconds:.3f} s, down {runs[side][-1].downtime_seconds:.3f} s"
                for side in sides
            )
            print(f"pair {turn + 1}: {latest}", flush=True)
        else:
            records.clear()
    return runs


def medians(runs: Sequence[Run]) -> dict[str, float]:
    """Of each figure."""
    return {field.name: statistics.median(getattr(run, field.name) for run in runs) for field in fields(Run)}


def profile(records: Sequence[Record]) -> str:
    """Where a migration through the relay spends its time: medians over the records, in milliseconds."""
    lines = ["of the relay's migrations, in ms (medians):  waiting in the queue, then at work"]
    for position, name in enumerate(run.name for run in records[0].phases):
        phases = [record.phases[position] for record in records]
        queued = statistics.median(phase.queued_seconds for phase in phases) * 1000
        worked = statistics.median(phase.seconds for phase in phases) * 1000
        lines.append(f"  {name:<8} {queued:8.1f} {worked:8.1f}")
    return "\n".join(lines)


def main() -> int:
    """Run and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench-libvirt", description=__doc__)
    parser.add_argument("--pairs", type=int, default=20, help="pairs of migrations, one by each side")
    parser.add_argument("--speed", type=int, default=110, help="MiB/s between the hosts, 0 for what the machine gives")
    parser.add_argument("--memory", type=int, default=256, help="the guest's memory in MiB")
    parser.add_argument("--rate", type=int, default=32, help="MiB of memory that it dirties in a second")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="vmr-", dir="/tmp"))  # short: sockets lie below
    folder.chmod(0o711)
    records: list[Record] = []
    try:
        uris = dict(line.split()[:2] for line in lab("up", "-d", folder / "lab", *HOSTS).splitlines())
        inventory = "".join(f'[hosts.{name}]\nuri = "{uri}"\n' for name, uri in uris.items())
        size = ("-m", str(options.memory), "-r", str(options.rate))
        serial = Path(lab("guest", folder / "lab", HOSTS[0], GUEST, *size))
        _filled(serial, options.memory, options.rate)
        with libvirt_stage(folder, inventory, HOSTS) as running:
            runs = pairs(options.pairs, options.speed, uris, running, records)
    finally:
        if (folder / "lab").exists():
            lab("down", folder / "lab")
        shutil.rmtree(folder, ignore_errors=True)
    print(profile(records))
    middle = {side: medians(found) for side, found in runs.items()}
    ratios = {name: round(middle["relay"][name] / middle["virsh"][name], 3) for name in middle["relay"]}
    for name, goal in GOALS.items():
        print(f"{name}: ratio {ratios[name]}, goal {goal}: {'met' if ratios[name] <= goal else 'not met'}")
    figures = {
        "pairs": options.pairs,
        "total_ratio": ratios["total_seconds"],
        "downtime_ratio": ratios["downtime_seconds"],
        "wall_ratio": ratios["wall_seconds"],
        **{side: {name: round(value, 4) for name, value in found.items()} for side, found in middle.items()},
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
