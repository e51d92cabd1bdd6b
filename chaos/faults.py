"""The faults: what is killed, sent twice, or taken away."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial

from chaos.cells import Cell, Fault, When
from chaos.moments import Walk
from chaos.stage import REACH_SECONDS, NotReached, Stage, until

DECIDED_SECONDS = 0.2
"""After so long a message that was taken has been claimed, or has not."""


def killed(stage: Stage, fault: str) -> tuple[str, ...]:
    """The processes, by the keeper's names, that a fault kills."""
    source, destination = stage.hosts
    return {
        Fault.SOURCE_AGENT: (stage.process(source),),
        Fault.DESTINATION_AGENT: (stage.process(destination),),
        Fault.BOTH_AGENTS: (stage.process(source), stage.process(destination)),
        Fault.SCHEDULER: ("scheduler",),
        Fault.REDIS: ("redis",),
        Fault.REDIS_LOST_SECOND: ("redis",),
        Fault.REDIS_LOST_ALL: ("redis",),
        Fault.SOURCE_HOST: (stage.host_process(source),),
        Fault.DESTINATION_HOST: (stage.host_process(destination),),
    }[Fault(fault)]


def strike(stage: Stage, cell: Cell, walk: Walk) -> float:
    """Let the cell's fault happen where the walk stands, and everything else go on.

    Returns the fault's end (monotonic clock): when the last killed process was started again, the second
    message was sent, or the lost one was taken away.
    """
    if cell.fault == Fault.DUPLICATE:
        return _send_again(stage, cell, walk)
    if cell.fault == Fault.LOSS:
        return _lose(stage, walk)
    if cell.fault == Fault.REDIS_LOST_SECOND:
        # Whatever stands still now has been journaled since the mark before; that is lost.
        stage.tail = walk.marks[-1 if cell.when == When.AFTER else -2]
    if cell.fault == Fault.REDIS_LOST_ALL:
        stage.tail = walk.marks[0]
    forgets, stage.forgotten = stage.tail is not None, 0
    ended = kill(stage, killed(stage, cell.fault), walk.go_on)
    if forgets and not stage.forgotten:
        raise NotReached("Redis forgot nothing: the cell is not what its name says")
    if cell.then in (Fault.DUPLICATE, Fault.LOSS) and stage.process(stage.hosts[1]) not in killed(stage, cell.fault):
        # The message that is to be caught is for the host that can tell more. Where its agent died as well, the
        # new one sends it to itself before it consumes.
        walk.hold(stage.hosts[1])
    return ended


def second(stage: Stage, cell: Cell, walk: Walk) -> float:
    """The cell's second fault, as soon as the recovery from the first one, or the next attempt, begins; its end."""
    until(lambda: _has_consequences(walk), "the recovery begins")
    if cell.then not in (Fault.DUPLICATE, Fault.LOSS):
        return kill(stage, killed(stage, cell.then), walk.go_on)
    record = stage.record(walk.ident)
    walk.hold(record.host if record is not None else stage.hosts[0])
    (queue, message), *_ = until(lambda: _recover_messages(walk), "the message of the recovery")
    if cell.then == Fault.LOSS:
        stage.journal.client.lrem(queue, 1, message)
    else:
        stage.journal.client.lpush(queue, message)
    walk.go_on()
    return time.monotonic()


def _has_consequences(walk: Walk) -> bool:
    return bool(walk.stage.events(walk.ident, "recovering") or walk.stage.events(walk.ident, "backoff"))


def _recover_messages(walk: Walk) -> list[tuple[str, str]]:
    waiting = [found for host in walk.stage.hosts for found in walk.stage.messages(host)]
    return [found for found in waiting if json.loads(found[1])["headers"]["task"].endswith(".recover")]


def kill(stage: Stage, names: tuple[str, ...], then: Callable[[], None] | None = None) -> float:
    """Kill these processes, call ``then``, and wait until the keeper has started them again; when that was."""
    stage.keeper.kill(*names)
    if then is not None:
        then()
    return max(until(partial(stage.keeper.restarted, name), f"{name} runs again") or 0.0 for name in names)


def _send_again(stage: Stage, cell: Cell, walk: Walk) -> float:
    """The walk's message once more: beside the first, into the running phase, or after the migration's end."""
    queue, message = walk.caught
    if cell.when == When.AFTER:
        walk.go_on()
        until(walk.has_ended, "the migration ends before its message comes again", REACH_SECONDS)
    stage.journal.client.lpush(queue, message)
    if cell.when != When.BEFORE:
        until(lambda: not stage.messages(walk.consumer(cell.hop)), "the second message is taken")
        time.sleep(DECIDED_SECONDS)
    ended = time.monotonic()
    walk.go_on()
    return ended


def _lose(stage: Stage, walk: Walk) -> float:
    queue, message = walk.caught
    stage.journal.client.lrem(queue, 1, message)
    ended = time.monotonic()
    walk.go_on()
    return ended
