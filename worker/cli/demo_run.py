"""The demo's migrations, carried out on a relay that is up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from worker.cli import client
from worker.cli.demo_live import Live, follow
from worker.cli.demo_moves import Guest, Move, plan, problems
from worker.cli.demo_report import console, count, metrics_urls, say_errors, say_migrations, scrape, verdict
from worker.cli.up_plan import SIMULATED
from worker.contract import CANCEL, MIGRATE
from worker.hypervisors.simulator.control import ask
from worker.journal import Record
from worker.runtime import runtime

RUN_SECONDS = 180.0
"""How long the demo's migrations may take on a slow machine; usually half a minute."""


def run() -> list[str]:
    """Migrate, look, count. Prints everything, and returns what is not as it must be.

    Raises ``Unavailable`` where the migrations do not end.
    """
    parts, screen = runtime(), console()
    urls = metrics_urls(parts.settings, parts.journal)
    before = scrape(urls.values())
    moves = {move.id: move for move in plan(look())}
    _arm(moves.values())
    records = _migrate(screen, moves)
    say_migrations(screen, records.values())
    say_errors(screen, records.values())
    wrong = _say_where(screen, moves, records)
    wrong += count(screen, before, list(urls.values()), list(records.values()))
    return verdict(screen, wrong, f"All {len(moves)} migrations ended as they should; no guest was restarted.")


def look() -> list[Guest]:
    """Every virtual machine on every host, asked of the simulators themselves, now."""
    return [
        Guest(vm["uuid"], vm["name"], name, vm["state"], vm["boot_id"], vm["boots"], vm["heartbeat"])
        for name in runtime().inventory
        for vm in ask(_socket(name), "show")["vms"]
    ]


def _socket(host: str) -> Path:
    return Path(runtime().inventory[host].settings.uri.removeprefix(SIMULATED))


def _arm(moves: Iterable[Move]) -> None:
    for move in moves:
        if move.fault:
            ask(_socket(move.before.host), "fault", fault=move.fault)


def _migrate(screen: Console, moves: Mapping[str, Move]) -> dict[str, Record]:
    labels = {ident: f"{m.before.name}: {m.before.host} → {m.destination}" for ident, m in moves.items()}
    width = max(map(len, labels.values()))
    screen.print(Text(f"{len(moves)} migrations, all asked for at once:"))
    for ident, move in moves.items():
        screen.print(Text(f"  {labels[ident]:<{width}}  {move.story.what}"))
    screen.print()
    to_cancel = {ident for ident, move in moves.items() if move.story.cancel}
    with Live(screen, labels) as live:

        def listen(ident: str, kind: str, data: dict[str, Any]) -> None:
            live(ident, kind, data)
            if kind == "progress" and ident in to_cancel:
                to_cancel.discard(ident)
                client.enqueue(CANCEL, {"migration": ident, "requested_by": "demo"})

        for ident, move in moves.items():
            client.enqueue(MIGRATE, move.request, ident)
        names = {ident: move.before.name for ident, move in moves.items()}
        ended = follow(runtime().journal, names, RUN_SECONDS, listen)
    return {ident: ended[ident] for ident in moves}


def _say_where(screen: Console, moves: Mapping[str, Move], records: Mapping[str, Record]) -> list[str]:
    """Ask the hosts where every virtual machine is; returns what is wrong."""
    found = look()
    wrong: list[str] = []
    screen.print(Text("\nWhere they are now, as the hosts themselves say:"))
    for ident, move in moves.items():
        copies = [guest for guest in found if guest.uuid == move.before.uuid]
        amiss = problems(move, records.get(ident), copies)
        for copy in copies:
            found_so = "WRONG" if amiss else "ok, never restarted"
            place = f"{copy.name:<9} {copy.state:<7} on {copy.host:<6} boot {copy.boot_id[:8]}"
            screen.print(
                Text(f"  {place} beats {move.before.heartbeat} → {copy.heartbeat}: {found_so}"), soft_wrap=True
            )
        wrong += [f"{move.before.name}: {line}" for line in amiss]
    return wrong
