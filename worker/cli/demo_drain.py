"""``vmrelay demo --libvirt --drain``: one of three real libvirt hosts is emptied, and gets its guests back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.cli.demo_guests import beat_problems, place_problems
from worker.cli.demo_stage import Guest, Stage, new_folder, remove, require, set_stage, silences
from worker.cli.exits import FAILED

HOSTS = ALPHA, BETA, GAMMA = "alpha", "beta", "gamma"
DRAINED = BETA
SLOTS = 2
GUESTS = tuple(
    Guest(f"{what}-{number}", host, memory, dirty)
    for number, host in enumerate(HOSTS, 1)
    for what, memory, dirty in (("web", 32, 2), ("mail", 48, 4), ("db", 64, 8), ("batch", 96, 4))
)
COMMAND_SECONDS = 240.0
"""How long a drain or a return may take on a slow machine; usually some seconds."""


def demo() -> int:
    """The whole demo; the exit code. Removes everything at the end, however that comes."""
    require()
    folder = new_folder()
    try:
        click.echo(f"{len(HOSTS)} libvirt hosts, session daemons of an unprivileged user, with {len(GUESTS)} guests:")
        stage = set_stage(folder, HOSTS, GUESTS, SLOTS)
        for host in HOSTS:
            told = ", ".join(f"{guest.name} ({guest.memory_mib} MiB)" for guest in GUESTS if guest.host == host)
            click.echo(f"  {host:<6} {told}")
        return FAILED if _on_relay(stage) else 0
    finally:
        remove(folder)


def _on_relay(stage: Stage) -> list[str]:
    from worker.cli.demo_relay import Relay, stopping, use

    use(stage.config, stage.folder / "state")
    with stopping(Relay(stage.folder / "state", "--no-procfile", "--no-web", "--exit-with-parent")) as relay:
        wrong = _run(stage)
        if wrong:
            click.echo(f"\nThe log ends with\n{relay.tail()}", err=True)
    return wrong


def _run(stage: Stage) -> list[str]:
    from worker.cli.demo_report import console, verdict

    screen, home = console(), {guest.name: guest.host for guest in GUESTS}
    quiet: dict[str, Mapping[str, float]] = {}
    wrong: list[str] = []
    for command in (("drain", DRAINED), ("hosts", "return", DRAINED)):
        with silences(stage) as longest:
            wrong += _command(*command)
            stage.await_beats()
        quiet[command[-2]] = longest
        found = _say_places(screen, stage)
        wrong += drained_problems(found, home) if command[0] == "drain" else place_problems(found, home)
        if wrong:
            break
    wrong += _say_beats(screen, stage, quiet)
    well = f"{DRAINED} was empty and has its guests back; no guest was restarted or missed a beat."
    return verdict(screen, wrong, well)


def _say_places(screen: Console, stage: Stage) -> Mapping[str, Mapping[str, bool]]:
    found = stage.look()
    screen.print(Text("\nWhere they are now, as the hosts themselves say:"))
    for host in stage.uris:
        told = [f"{guest}{'' if on[host] else ' (does not run)'}" for guest, on in found.items() if host in on]
        screen.print(Text(f"  {host:<6} {', '.join(told) or 'no domain'}"))
    return found


def _say_beats(screen: Console, stage: Stage, quiet: Mapping[str, Mapping[str, float]]) -> list[str]:
    table = Table(title="Heartbeats: longest silence between two beats", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("guest", "home", *quiet, "beats", "restarts", "repeats", "missing"):
        table.add_column(heading, justify="left" if heading in ("guest", "home") else "right")
    beats = {guest.name: stage.beats(guest.name) for guest in GUESTS}
    for guest in GUESTS:
        seen = beats[guest.name]
        gaps = [f"{longest[guest.name]:.3f} s" for longest in quiet.values()]
        numbers = (seen.beats, seen.restarts, seen.repeats, seen.missing)
        table.add_row(guest.name, guest.host, *gaps, *map(str, numbers))
    screen.print(table)
    return beat_problems(beats)


def drained_problems(found: Mapping[str, Mapping[str, bool]], home: Mapping[str, str]) -> list[str]:
    """Guests that are not on one host alone after the drain; ``found`` is what the hosts say. Pure."""
    allowed = {name: [host for host, runs in on.items() if runs and host != DRAINED] for name, on in found.items()}
    wanted = {name: host if host != DRAINED else "".join(allowed.get(name, [])[:1]) for name, host in home.items()}
    return place_problems(found, {name: host or f"any host but {DRAINED}" for name, host in wanted.items()})


def _command(*arguments: str) -> list[str]:
    """Run one of vmrelay's commands as an operator would, on this terminal; what is wrong with its end."""
    from worker.cli.up_plan import own_command

    click.echo(f"\n$ vmrelay {' '.join(arguments)}")
    done = subprocess.run([*own_command(), *arguments], env=os.environ, timeout=COMMAND_SECONDS, check=False)
    return [f"'vmrelay {' '.join(arguments)}' ended with {done.returncode}"] if done.returncode else []
