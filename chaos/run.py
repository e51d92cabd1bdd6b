"""One cell from its guest's creation to the verdict."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field

import redis

from chaos.cells import ENTRY, Cell, Fault, When
from chaos.faults import killed, second, strike
from chaos.judge import Watch, is_over, is_whole, ran_once, wrongs
from chaos.moments import Walk
from chaos.stage import Guest, NotReached, Stage, until
from worker.errors import RelayError

ASK_AGAIN_SECONDS = 6.0
"""A client that hears nothing of its request asks again so long after everything serves, under the same id."""
BACK_SECONDS = 30.0


@dataclass
class Result:
    """How a cell ended."""

    cell: Cell
    wrongs: list[str] = field(default_factory=list)
    """Why it failed; empty where it did not."""
    outcome: str = ""
    attempts: int = 0
    recoveries: int = 0
    settle_seconds: float | None = None
    """From the fault's end until the record was terminal, ``AsyncResult`` showed it and the guest was in one place."""
    serve_seconds: float | None = None
    """Of these, until all agents and the scheduler served again; ``None`` where it had settled before."""
    still_seconds: float = 0.0
    """For how long at most no copy of the guest ran."""
    asked_again: bool = False
    """The request itself was lost before any process took it, so its client sent it once more."""
    died: list[str] = field(default_factory=list)
    """Processes that died although nobody killed them."""

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return not self.wrongs


def run(stage: Stage, cell: Cell, number: int, patience: float) -> Result:
    """Run one cell; ``patience`` is how many seconds the migration may take to settle."""
    result = Result(cell)
    deaths = len(stage.keeper.deaths)
    try:
        stage.await_ready()
        guest = stage.new_guest(number, cell.extra == "paused")
        _judged(stage, cell, guest, patience, result)
        if result.passed:
            _back(stage, guest, result)
            stage.remove_guest(guest)
    except (NotReached, RelayError, redis.RedisError) as error:
        result.wrongs.append(f"{type(error).__name__}: {error}")
    except Exception:  # a mistake in here is a failed cell; the others go on
        result.wrongs.append(traceback.format_exc())
    result.died = stage.keeper.deaths[deaths:]
    # An agent that is being started while its Redis or its host is away ends, as it says, and is started again.
    starting = killed(stage, cell.fault) if cell.then else ()
    died = sorted(set(result.died) - set(starting))
    result.wrongs += [f"{name} died, and nobody had killed it" for name in died]
    return result


def _judged(stage: Stage, cell: Cell, guest: Guest, patience: float, result: Result) -> None:
    before = stage.outcomes()
    walk = Walk(stage, guest)
    with Watch(stage, guest) as watch:
        try:
            walk.to(*_moment(cell))
            if cell.extra == "cancel":
                stage.cancel(walk.ident)
            ended = strike(stage, cell, walk)
            if cell.then:
                ended = second(stage, cell, walk)
            result.settle_seconds = _settle(stage, guest, walk, ended, patience, result)
        finally:
            walk.go_on()
    stage.await_hosts()
    result.still_seconds = watch.still_seconds
    result.wrongs += watch.seen + wrongs(stage, guest, walk.ident, before, cell.fault == Fault.REDIS_LOST_ALL)
    if cell.fault in (Fault.DUPLICATE, Fault.LOSS):
        result.wrongs += ran_once(stage, walk.ident)
    if (record := stage.record(walk.ident)) is not None:
        result.outcome, result.attempts = record.outcome or record.state, record.attempt
        result.recoveries = len(stage.events(walk.ident, "recovering"))


def _moment(cell: Cell) -> tuple[str, str, str]:
    """Where the walk is to stop, and whose message it is to catch on the way."""
    catch = cell.hop if cell.fault in (Fault.DUPLICATE, Fault.LOSS) else ""
    if cell.fault == Fault.DUPLICATE and cell.when == When.AFTER:
        return cell.hop, When.BEFORE, catch  # goes on to the end from there
    if cell.hop == ENTRY and cell.when == When.DURING:
        return "perform", When.DURING, catch  # a request is dealt with as long as its migration lasts
    return cell.hop, cell.when, catch


def _settle(stage: Stage, guest: Guest, walk: Walk, ended: float, patience: float, result: Result) -> float | None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        now = time.monotonic()
        try:
            if is_over(stage, walk.ident) and is_whole(stage, guest):
                return max(now - ended, 0.0)
            if result.serve_seconds is None and stage.serves():
                result.serve_seconds = max(now - ended, 0.0)
            served = result.serve_seconds is not None and now - ended - result.serve_seconds > ASK_AGAIN_SECONDS
            if served and not result.asked_again and stage.record(walk.ident) is None:
                stage.migrate(guest, stage.hosts[1], walk.ident)
                result.asked_again = True
        except redis.RedisError:
            pass  # it is being started again
        time.sleep(0.01)
    result.wrongs.append(f"did not settle in {patience:g} s after the fault's end")
    return None


def _back(stage: Stage, guest: Guest, result: Result) -> None:
    """The same guest can be migrated again: to the other host, wherever it is now."""
    (here,) = stage.copies(guest)
    there = next(host for host in stage.hosts if host != here)
    stage.await_ready()
    until(lambda: list(stage.journal.find_domain(guest.name, stage.hosts)) == [here], f"{guest.name} is published")
    ident = stage.migrate(guest, there)
    try:
        until(lambda: is_over(stage, ident), f"the following migration to {there}", BACK_SECONDS)
    except NotReached as late:
        result.wrongs.append(f"{late}: {stage.told(ident)}")
        return
    record = stage.record(ident)
    copies = stage.copies(guest)
    if record is None or record.outcome != "succeeded" or list(copies) != [there]:
        result.wrongs.append(f"the following migration: {stage.told(ident)}")
    elif copies[there] != guest.copy:
        result.wrongs.append(f"after the following migration the guest is {copies[there]}, and was {guest.copy}")
