"""A migration that the dispatcher carries on without the session that ordered it, watched from another one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from worker.errors import HypervisorError
from worker.hypervisors.base import Domain, DomainState, Move, Stop, Watch
from worker.hypervisors.vz.connection import Connection, Limits, Look
from worker.hypervisors.vz.events import Events, Tracker

log = logging.getLogger(__name__)

BETWEEN = (DomainState.PAUSED, DomainState.SHUTOFF, DomainState.UNKNOWN)
"""What a source shows between the switch-over and its end too, and a dispatcher that has just started."""
REST_SECONDS = 3.0
"""The source is at its end where it has shown one of these for so long: each step takes a part of a second."""


def follow(
    connection: Connection, events: Events, move: Move, watch: Watch, limits: Limits, poll_seconds: float
) -> Domain:
    """Watch over the move until the source shows how it ended; see ``base.Hypervisor.follow``."""
    deadline = None if move.deadline_seconds is None else time.monotonic() + move.deadline_seconds

    def stop() -> Stop | None:
        late = deadline is not None and time.monotonic() > deadline
        return watch.stop() or (Stop.DEADLINE if late else None)

    with events.following(move.uuid) as tracker:
        first = connection.look(move.uuid).domain
        if first.state is not DomainState.MIGRATING and first.state not in BETWEEN:
            return first
        seen = unattended(connection, move.uuid, watch, stop, tracker, limits, poll_seconds, _at_rest(tracker))
    if seen is None:
        return connection.look(move.uuid).domain  # which says why it cannot be looked at
    return seen.domain


def unattended(
    connection: Connection,
    uuid: str,
    watch: Watch,
    stop: Callable[[], Stop | None],
    tracker: Tracker,
    limits: Limits,
    poll_seconds: float,
    is_over: Callable[[DomainState], bool],
) -> Look | None:
    """Look until it is over, or the VM has not shown as migrating for too long; cancel where asked to stop.

    Returns the last look; ``None`` where there was none.
    """
    give_up, asked, last = time.monotonic() + limits.settle, False, None
    while time.monotonic() < give_up:
        watch.progress(tracker.progress)
        try:
            last = connection.look(uuid)
        except HypervisorError:
            log.debug("the dispatcher cannot be reached", exc_info=True)
            last = None
            time.sleep(poll_seconds)
            continue
        if is_over(last.domain.state):
            break
        if stop() is not None and last.vm is not None and not asked:
            last.vm.migrate_cancel()  # never answered where nothing runs: not waited for
            give_up, asked = time.monotonic() + limits.stop, True
        elif last.domain.state is DomainState.MIGRATING and not asked:
            give_up = time.monotonic() + limits.settle
        time.sleep(poll_seconds)
    return last


def _at_rest(tracker: Tracker) -> Callable[[DomainState], bool]:
    """Whether the source's part is over, asked at each look."""
    since = time.monotonic()

    def is_over(state: DomainState) -> bool:
        nonlocal since
        if state is DomainState.MIGRATING:
            since = time.monotonic()
            return False
        return state not in BETWEEN or tracker.ended or time.monotonic() - since > REST_SECONDS

    return is_over
