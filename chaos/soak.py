"""Many migrations among simulated hosts, a share of them with a fault: none lost, duplicated or stuck, no growth.

Exit code 0 where that holds, 1 where not; see docs/chaos.md.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import redis
from kombu.exceptions import OperationalError

from chaos.judge import OUTCOMES, STATUS, running
from chaos.soak_faults import KINDS, Order, Saboteur
from chaos.soak_memory import WARM_MIGRATIONS, Growth, growth
from chaos.soak_stage import Observer, SoakStage
from chaos.stage import Guest, until

GUESTS = 24
STUCK_SECONDS = 90.0
ASK_AGAIN_SECONDS = 3.0
"""A client that hears nothing of its request for so long asks again, under the same id."""
LOOK_SECONDS = 0.05
TOLD_EVERY = 200
SETTLE_SECONDS = 30.0


@dataclass
class Flight:
    """One migration under way."""

    ident: str
    guest: Guest
    destination: str
    asked: float
    heard: bool = False
    """The journal has it."""


@dataclass
class Soak:
    """Every guest goes from host to host; the next move is asked for when the last has ended."""

    stage: SoakStage
    guests: list[Guest]
    saboteur: Saboteur
    observer: Observer
    dice: random.Random
    migrations: int
    faults: float
    outcomes: Counter[str] = field(default_factory=Counter)
    flying: dict[str, Flight] = field(default_factory=dict)
    stuck: list[str] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    at: dict[str, str] = field(default_factory=dict)
    """Where each guest is, by the outcomes."""
    asked: int = 0
    ended: int = 0

    def run(self) -> None:
        """Until all migrations have ended or are stuck."""
        idle = list(self.guests)
        self.at = {guest.name: next(iter(self.stage.copies(guest))) for guest in idle}
        while self.flying or (idle and self.asked < self.migrations):
            while idle and self.asked < self.migrations:
                self._start(idle.pop(0))
            with suppress(redis.RedisError):
                idle += [flight.guest for flight in list(self.flying.values()) if self._has_ended(flight)]
            self._find_stuck()
            time.sleep(LOOK_SECONDS)

    def _start(self, guest: Guest) -> None:
        here = self.at[guest.name]
        there = self.dice.choice([host for host in self.stage.hosts if host != here])
        ident = str(uuid.uuid4())
        self._ask(guest, there, ident)
        self.flying[ident] = Flight(ident, guest, there, time.monotonic())
        self.asked += 1
        if self.dice.random() < self.faults:
            self.saboteur.order(Order(self.dice.choice(KINDS), ident, guest, here, there))

    def _ask(self, guest: Guest, there: str, ident: str) -> None:
        """Ask until Redis has it; always under the same id, since an answer may be lost whose request was not."""
        while True:
            with suppress(redis.RedisError, OperationalError):
                self.stage.migrate(guest, there, ident)
                return
            time.sleep(LOOK_SECONDS)

    def _has_ended(self, flight: Flight) -> bool:
        record = self.stage.record(flight.ident)
        if record is None:
            if time.monotonic() - flight.asked > ASK_AGAIN_SECONDS * (1 + flight.heard):
                self._ask(flight.guest, flight.destination, flight.ident)
                flight.heard = True  # and wait twice as long
            return False
        if record.state != "ended" or (result := self.stage.result(flight.ident)) == "PENDING":
            return False
        if record.outcome in OUTCOMES and result != STATUS[record.outcome]:
            return False
        del self.flying[flight.ident]
        self.outcomes[record.outcome] += 1
        if record.outcome == "succeeded":
            self.at[flight.guest.name] = flight.destination
        self.ended += 1
        self.observer.ended = self.ended
        if (ends := len(self.stage.events(flight.ident, "ended"))) != 1:
            self.wrongs.append(f"{ends} events tell of the end of {flight.ident}")
        if self.ended % TOLD_EVERY == 0:
            print(f"{self.ended} ended: {dict(self.outcomes)}; faults: {sum(self.saboteur.done.values())}", flush=True)
        return True

    def _find_stuck(self) -> None:
        now = time.monotonic()
        for flight in [f for f in self.flying.values() if now - f.asked > STUCK_SECONDS]:
            del self.flying[flight.ident]
            self.stuck.append(f"{flight.guest.name} to {flight.destination}: {self.stage.told(flight.ident)}")

    def places(self) -> tuple[list[str], dict[str, str]]:
        """Guests that run nowhere, and guests that are or were in two places, with what was seen of them."""
        found = {guest.name: self.stage.copies(guest) for guest in self.guests}
        lost = [name for name, copies in found.items() if not running(copies)]
        twice = {name: f"it is on {' and '.join(copies)}" for name, copies in found.items() if len(copies) > 1}
        return lost, twice | self.observer.duplicated


def settled(soak: Soak) -> bool:
    """Whether every guest runs in exactly one place."""
    return not any(soak.places())


def memory(found: Mapping[str, Growth]) -> dict[str, object]:
    """What the last line says of it."""
    return {kind: asdict(one) | {"flat": one.flat} for kind, one in found.items()}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--migrations", type=int, default=2000)
    parser.add_argument("--faults", type=float, default=0.05, help="the share of migrations that meet one")
    parser.add_argument("--guests", type=int, default=GUESTS)
    parser.add_argument("--seed", type=int, default=0, help="of what goes wrong, and of who goes where")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="keep what was seen of memory, as JSON")
    parser.add_argument("--warm", type=int, default=WARM_MIGRATIONS, help="migrations that count as warm-up")
    return parser.parse_args()


def main() -> int:
    """Run and print; the last line is one JSON object."""
    options = parse()
    dice = random.Random(options.seed)  # noqa: S311 - chaos, no secret
    folder, began = Path(tempfile.mkdtemp(prefix="vmr-soak-")), time.monotonic()
    with SoakStage(folder / "0") as stage:
        guests = stage.new_guests(options.guests)
        before = stage.outcomes()
        observer, saboteur = Observer(stage, guests), Saboteur(stage, random.Random(options.seed + 1))  # noqa: S311
        soak = Soak(stage, guests, saboteur, observer, dice, options.migrations, options.faults)
        soak.run()
        saboteur.stop()
        stage.await_ready()
        with suppress(Exception):
            until(lambda: settled(soak), "every guest is in one place", SETTLE_SECONDS)
        observer.stop()
        lost, duplicated = soak.places()
        if (counted := stage.outcomes() - before) != soak.ended:
            soak.wrongs.append(f"{counted} outcomes were counted of {soak.ended} migrations")
        died = sorted(set(stage.keeper.deaths) - stage.mortal)
        soak.wrongs += [f"{name} died, and nobody had killed it" for name in died]
    if options.samples:
        options.samples.write_text(json.dumps(observer.samples))
    grown = growth(observer.samples, options.warm)
    for kind, one in grown.items():
        if one.flat is False:
            soak.wrongs.append(f"{kind} grows by {one.per_1000} MiB per 1000 migrations")
    wrongs = [f"lost: {name}" for name in lost] + [f"duplicated: {name}: {seen}" for name, seen in duplicated.items()]
    wrongs += [f"stuck: {told}" for told in soak.stuck] + soak.wrongs
    _show(soak, grown, wrongs)
    if wrongs:
        print(f"logs: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    told = {
        "migrations": soak.asked,
        "faults": sum(saboteur.done.values()),
        "lost": len(lost),
        "duplicated": len(duplicated),
        "stuck": len(soak.stuck),
        "outcomes": dict(soak.outcomes),
        "memory": memory(grown),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(told))
    return 1 if wrongs else 0


def _show(soak: Soak, grown: Mapping[str, Growth], wrongs: list[str]) -> None:
    print(f"faults: {dict(soak.saboteur.done)}")
    for kind, one in grown.items():
        if one.per_1000 is None:
            print(f"memory of {kind:<10} {one.start} to {one.end} MiB; no life was long enough to tell growth")
        else:
            print(
                f"memory of {kind:<10} {one.start} MiB after its warm-up, {one.end} MiB at the end, "
                f"{one.per_1000:+} MiB per 1000 migrations over {one.lives} lives; "
                f"{'flat' if one.flat else 'NOT flat'} (at most {one.limit:.1f})"
            )
    for line in wrongs:
        print(f"WRONG: {line}")


if __name__ == "__main__":
    sys.exit(main())
