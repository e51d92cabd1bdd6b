"""One cell on real hosts, from a guest that beats to the verdict."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

import libvirt
import redis

from chaos.cells import Cell, When
from chaos.faults import kill
from chaos.judge import OUTCOMES, ended_wrongs, held, is_over
from chaos.libvirt_cells import PEER_TO_PEER, End, end_of
from chaos.libvirt_faults import killed, strike
from chaos.libvirt_heart import SLACK_SECONDS, Heart, reported_seconds
from chaos.libvirt_stage import LibvirtStage
from chaos.moments import Walk
from chaos.run import BACK_SECONDS, Result
from chaos.stage import Guest, NotReached, until
from worker.errors import RelayError

LOOK_SECONDS = 0.05
BEAT_SECONDS = 10.0


@dataclass
class LibvirtResult(Result):
    """How a cell ended; ``still_seconds`` is the longest silence of the guest's heart."""

    reported_seconds: float = 0.0
    """For how long at most the guest stood still, as the journal tells it."""
    end: End = End.ONE_PLACE
    crashed: tuple[str, ...] = ()
    """Daemons of libvirt's that died by themselves: one more fault, and all else must hold in spite of it."""


def run(stage: LibvirtStage, cell: Cell, number: int, patience: float) -> LibvirtResult:
    """Run one cell; ``patience`` is how many seconds the migration may take to settle."""
    result = LibvirtResult(cell, end=end_of(cell))
    deaths = len(stage.keeper.deaths)
    try:
        stage.await_ready()
        guest = stage.new_guest(number, paused=False)
        _judged(stage, cell, guest, patience, result)
        if result.passed and result.end is End.ONE_PLACE:
            _home(stage, guest, result)
        elif result.passed:
            stage.remove_guest(guest)
    except (NotReached, RelayError, redis.RedisError, libvirt.libvirtError, OSError) as error:
        result.wrongs.append(f"{type(error).__name__}: {error}")
    result.died = stage.keeper.deaths[deaths:]
    # An agent that is being started while its host's daemon is away ends, as it says, and is started again.
    starting = killed(stage, cell.fault) if cell.then else ()
    result.crashed = tuple(sorted(name for name in set(result.died) if name.startswith("libvirtd-")))
    died = sorted(set(result.died) - set(starting) - set(result.crashed))
    result.wrongs += [f"{name} died, and nobody had killed it" for name in died]
    return result


def _judged(stage: LibvirtStage, cell: Cell, guest: Guest, patience: float, result: LibvirtResult) -> None:
    before = stage.outcomes()
    walk = Walk(stage, guest)
    with Heart(stage, guest) as heart:
        try:
            stage.slowly = (cell.hop, cell.when) == ("perform", When.DURING)
            stage.peer_to_peer = cell.extra == PEER_TO_PEER
            if stage.peer_to_peer:
                _meet_copying(stage, guest, walk)
            else:
                walk.to(cell.hop, cell.when)
            if cell.extra == "cancel":
                stage.cancel(walk.ident)
            ended = strike(stage, guest, cell, walk)
            if cell.then:
                until(lambda: stage.events(walk.ident, "recovering"), "the recovery begins")
                ended = kill(stage, killed(stage, cell.then))
            result.settle_seconds = _settle(stage, guest, walk.ident, ended, patience, result)
            if result.end is End.ONE_PLACE:
                beats = stage.beats(guest.name)
                until(lambda: stage.beats(guest.name) > beats + 2, f"{guest.name} beats", BEAT_SECONDS)
        finally:
            stage.slowly = stage.peer_to_peer = False
            walk.go_on()
            _tell(stage, walk.ident, heart, result)
    result.wrongs += heart.wrongs + _wrongs(stage, guest, walk.ident, before, result)


def _meet_copying(stage: LibvirtStage, guest: Guest, walk: Walk) -> None:
    """Wait until the source's daemon copies the guest: its begin and prepare are over as soon as they begin."""
    walk.ident = stage.migrate(guest, stage.hosts[1])
    until(stage.hold_copying(guest), "the guest is copied half way")


def _tell(stage: LibvirtStage, ident: str, heart: Heart, result: LibvirtResult) -> None:
    if (record := stage.record(ident)) is not None:
        result.outcome, result.attempts = record.outcome or record.state, record.attempt
        result.recoveries = len(stage.events(ident, "recovering"))
    result.reported_seconds = reported_seconds(stage.journal.events(ident))
    result.still_seconds = heart.still_seconds if result.end is End.ONE_PLACE else 0.0


def _settle(
    stage: LibvirtStage, guest: Guest, ident: str, ended: float, patience: float, result: LibvirtResult
) -> float | None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        now = time.monotonic()
        with suppress(redis.RedisError, libvirt.libvirtError):
            if result.serve_seconds is None and stage.serves():
                result.serve_seconds = max(now - ended, 0.0)
            if is_over(stage, ident) and not _misplaced(stage, guest, ident, result):
                return max(now - ended, 0.0)
        time.sleep(LOOK_SECONDS)
    result.wrongs.append(f"did not settle in {patience:g} s after the fault's end")
    return None


def _wrongs(stage: LibvirtStage, guest: Guest, ident: str, outcomes_before: int, result: LibvirtResult) -> list[str]:
    """What is wrong at the end of a migration, each in one line."""
    record = stage.record(ident)
    if record is None or record.state != "ended":
        return [f"the migration is not terminal: {stage.told(ident)}", *_misplaced(stage, guest, ident, result)]
    found = [] if record.outcome in OUTCOMES else [f"the outcome is '{record.outcome}'"]
    found += ended_wrongs(stage, ident, record.outcome, outcomes_before) + held(stage, guest, ident)
    if result.still_seconds > (limit := result.reported_seconds + SLACK_SECONDS):
        found.append(f"the heart stood still for {result.still_seconds:.2f} s, {limit:.2f} s at most were reported")
    return found + _misplaced(stage, guest, ident, result) + stage.leftovers(guest)


def _misplaced(stage: LibvirtStage, guest: Guest, ident: str, result: LibvirtResult) -> list[str]:
    """What is wrong with where the guest is. Raises ``libvirtError`` where a host does not answer."""
    record = stage.record(ident)
    outcome = record.outcome if record else ""
    source, destination = stage.hosts
    place = destination if outcome == "succeeded" else source
    if result.end is not End.ONE_PLACE:
        place = source if result.end is End.DIED else destination
    state = "running" if result.end is End.ONE_PLACE else "shutoff"
    seen = {host: copy.state for host, copy in stage.copies(guest).items()}
    alive = stage.alive(guest)
    found = []
    if seen != {place: state}:
        found.append(f"{outcome or 'no outcome'}, and the guest is {seen or 'nowhere'}, not {state} on {place}")
    if alive != ([place] if state == "running" else []):
        found.append(f"the guest has processes on {', '.join(alive) or 'no host'}")
    return found


def _home(stage: LibvirtStage, guest: Guest, result: LibvirtResult) -> None:
    """The same guest can be migrated again: to the other host, and to the first one for the next cell."""
    home = stage.hosts[0]
    while True:
        (here,) = stage.copies(guest)
        there = next(host for host in stage.hosts if host != here)
        stage.await_ready()
        until(lambda here=here: list(stage.journal.find_domain(guest.name, stage.hosts)) == [here], "it is published")  # type: ignore[misc]
        with Heart(stage, guest) as heart:
            ident = stage.migrate(guest, there)
            until(lambda ident=ident: is_over(stage, ident), f"the following migration to {there}", BACK_SECONDS)  # type: ignore[misc]
            beats = stage.beats(guest.name)
            until(lambda beats=beats: stage.beats(guest.name) > beats, f"{guest.name} beats", BEAT_SECONDS)  # type: ignore[misc]
        record, seen = stage.record(ident), {host: copy.state for host, copy in stage.copies(guest).items()}
        if record is None or record.outcome != "succeeded" or seen != {there: "running"} or heart.wrongs:
            told = "; ".join((stage.told(ident), f"the guest is {seen}", *heart.wrongs))
            result.wrongs.append(f"the following migration to {there}: {told}")
            return
        if there == home:
            return
