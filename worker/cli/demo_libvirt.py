"""``vmrelay demo --libvirt``: several real guests between two real libvirt hosts, all there, then all back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.cli.demo_guests import (
    AWAY,
    BANDWIDTH,
    GUESTS,
    HOME,
    HOSTS,
    Move,
    beat_problems,
    last_places,
    place_problems,
    record_problems,
    rounds,
)
from worker.cli.demo_stage import LAB, Beats, Stage, new_folder, remove, require, set_stage, silences
from worker.cli.exits import FAILED
from worker.journal import Record

ROUND_SECONDS = 90.0
"""How long one round may take on a slow machine; usually a few seconds."""


def demo(keep: bool) -> int:
    """The whole demo; the exit code. Removes everything at the end, or with ``keep`` says how to."""
    require()
    folder, kept = new_folder(), False
    try:
        click.echo("two libvirt hosts, session daemons of an unprivileged user, and guests that beat:")
        stage = set_stage(folder, HOSTS, GUESTS, slots=len(GUESTS))
        for name, uri in stage.uris.items():
            click.echo(f"  {name:<8} {uri}")
        for guest in GUESTS:
            about = f"{guest.memory_mib:>3} MiB, dirties {guest.dirty_mib:>2} MiB/s"
            click.echo(f"  {guest.name:<8} on {guest.host}, {about}, moves with {BANDWIDTH[guest.name]} MiB/s")
        wrong = _on_relay(stage, keep)
        kept = keep and not wrong
    finally:
        if not kept:
            remove(folder)
    return FAILED if wrong else 0


def _on_relay(stage: Stage, keep: bool) -> list[str]:
    from worker.cli.demo_relay import Relay, use

    use(stage.config, stage.folder / "state")
    relay = Relay(stage.folder / "state", "--no-procfile", *(() if keep else ("--no-web", "--exit-with-parent")))
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


# -- the run ----------------------------------------------------------------------------------------


def _run(stage: Stage) -> list[str]:
    from worker.cli.demo_report import console, count, metrics_urls, say_errors, say_migrations, scrape, verdict
    from worker.runtime import runtime

    parts, screen = runtime(), console()
    urls = list(metrics_urls(parts.settings, parts.journal).values())
    before = scrape(urls)
    there, back = rounds()
    records: list[Record] = []
    quiet: list[Mapping[str, float]] = []
    for moves, title in ((there, f"all to {AWAY}"), (back, f"and back to {HOME}")):
        screen.print(Text(f"\n{len(moves)} migrations at once, {title}:"))
        with silences(stage) as longest:
            records += _round(screen, moves)
            stage.await_beats()
        quiet.append(longest)
        if wrong := _problems(moves, records[-len(moves) :]):
            break
    done = [*there, *back][: len(records)]
    screen.print()
    say_migrations(screen, records)
    say_errors(screen, records)
    wrong += _say_beats(screen, stage, quiet)
    wrong += _say_places(screen, stage, last_places(done))
    wrong += count(screen, before, urls, records)
    well = f"{len(GUESTS)} guests, {len(records)} migrations, one of them cancelled: no guest was restarted."
    return verdict(screen, wrong, well)


def _problems(moves: Sequence[Move], records: Sequence[Record]) -> list[str]:
    return [line for move, record in zip(moves, records, strict=True) for line in record_problems(move, record)]


def _round(screen: Console, moves: Sequence[Move]) -> list[Record]:
    """Ask for all moves at once and follow them to their end. On Ctrl-C those in flight are cancelled."""
    from worker.cli import client
    from worker.cli.demo_live import Live, follow
    from worker.contract import CANCEL, MIGRATE
    from worker.runtime import runtime

    def cancel(idents: Sequence[str]) -> None:
        for ident in idents:
            client.enqueue(CANCEL, {"migration": ident, "requested_by": "demo"})

    names = {move.id: move.guest for move in moves}
    to_cancel = {move.id for move in moves if move.cancel}
    with Live(screen, {move.id: move.label for move in moves}) as live:

        def listen(ident: str, kind: str, data: dict[str, Any]) -> None:
            live(ident, kind, data)
            if kind == "progress" and data["percent"] and ident in to_cancel:
                to_cancel.discard(ident)
                cancel([ident])

        try:
            for move in moves:
                client.enqueue(MIGRATE, move.request, move.id)
            ended = follow(runtime().journal, names, ROUND_SECONDS, listen)
        except (KeyboardInterrupt, SystemExit):
            click.echo("\nstopping; migrations in flight are cancelled first, a second Ctrl-C stops at once", err=True)
            cancel(list(names))
            raise
    return [ended[move.id] for move in moves]


# -- what came of it --------------------------------------------------------------------------------


def _say_beats(screen: Console, stage: Stage, quiet: Sequence[Mapping[str, float]]) -> list[str]:
    titles = (f"silence, to {AWAY}", f"to {HOME}")
    names = [field.name for field in fields(Beats) if field.name != "unbroken"]
    table = Table(title="Heartbeats: longest silence between two beats", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("guest", *titles[: len(quiet)], *names):
        table.add_column(heading, justify="left" if heading == "guest" else "right")
    found = {guest.name: stage.beats(guest.name) for guest in GUESTS}
    for guest, seen in found.items():
        gaps = [f"{longest[guest]:.3f} s" for longest in quiet]
        table.add_row(guest, *gaps, *(str(getattr(seen, name)) for name in names))
    screen.print(table)
    return beat_problems(found)


def _say_places(screen: Console, stage: Stage, wanted: Mapping[str, str]) -> list[str]:
    """Ask both hosts who runs what."""
    found = stage.look()
    screen.print(Text("Where they are now, as the hosts themselves say:"))
    for host in stage.uris:
        told = [f"{guest} ({'runs' if on[host] else 'does not run'})" for guest, on in found.items() if host in on]
        screen.print(Text(f"  {host:<6} {', '.join(told) or 'no domain'}"))
    return place_problems(found, wanted)


def _say_how_to_use_it(stage: Stage, pid: int) -> None:
    from worker.cli.demo import own_name

    command, guest = f"{own_name()} --config {stage.config}", GUESTS[0].name
    click.echo(
        f"\nEverything stays up (pid {pid}, log {stage.folder}/state/up.log). Try:\n"
        f"  {command} hosts --domains\n"
        f"  {command} migrate {guest} {AWAY} --wait\n"
        f"  {command} list\n"
        f"  {LAB}/heartbeat.py {stage.serials[guest]} --watch 5\n"
        f"Stop and remove it:\n"
        f"  kill {pid}; tail --pid={pid} -f /dev/null; {LAB}/down {stage.folder}/lab; rm -r {stage.folder}"
    )
