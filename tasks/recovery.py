"""What is to be done about an interrupted attempt: pure decisions over what the journal says and both hosts show.

The tables are data (``recovery_tables.py``); this is what they are made of, and how a cell is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from worker.contract import Baton, Recovering
from worker.hypervisors.base import Domain, DomainState, Phase
from worker.hypervisors.flags import MigrateFlag

FRESH_SECONDS = 5.0
"""A look is good for so long; nothing is resumed or removed on an older one."""
PATIENCE_SECONDS = 120.0
"""So long what should pass by itself is looked at again; then an operator is asked."""
MOST_ROUNDS = 8
"""So often an attempt is made to go on; then an operator is asked."""


class Side(StrEnum):
    """One of the two hosts of a migration."""

    SOURCE = "source"
    DESTINATION = "destination"

    @property
    def other(self) -> Side:
        """The other one."""
        return Side.DESTINATION if self is Side.SOURCE else Side.SOURCE


class Stage(StrEnum):
    """How far an attempt was, as the journal tells it."""

    UNMOVED = "unmoved"
    """Perform was never claimed: the destination cannot run the guest."""
    PERFORMING = "performing"
    """Perform was claimed, and how it ended is not known."""
    PERFORMED = "performed"
    """Perform went well; finish was never claimed."""
    FINISHING = "finishing"
    """Finish was claimed to let the guest run, and is not known to have gone well."""
    FINISHED = "finished"
    """Finish went well: the guest has run on the destination."""
    UNDOING = "undoing"
    """Perform failed or was cancelled, and finish was never claimed to let the guest run."""


class Shown(StrEnum):
    """What one side shows of the domain: ``base.DomainState``, and what only a relay sees."""

    ABSENT = "absent"
    RUNNING = "running"
    PAUSED = "paused"
    PAUSED_OUT = "paused-out"
    PAUSED_IN = "paused-in"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    MIGRATING = "migrating"
    UNKNOWN = "unknown"
    """The host answers, and cannot tell: post-copy that failed."""
    OTHER_NAME = "other-name"
    """Running, under a name that the migration did not give it."""
    UNREACHABLE = "unreachable"
    """Its agent is away, or its hypervisor does not answer."""


class Do(StrEnum):
    """What is done about a cell."""

    LOOK = "look"
    """Look at that side: what is known of it is missing or old."""
    AGAIN = "look-again"
    """The hypervisors are still at it: look at both sides again in a moment."""
    WAIT = "wait"
    """Wait for that side's host; nothing is guessed."""
    ADOPT = "adopt"
    """The move goes on without its agent: watch it to its end."""
    ABORT = "abort"
    """Stop the running move; what it leaves is undone."""
    FINISH = "finish"
    """Go on with finish: the destination has the whole guest."""
    FINISH_CANCELLED = "finish-cancelled"
    """Go on with finish(cancelled): the destination drops what it received."""
    LET_RUN = "confirm-cancelled"
    """Go on with confirm(cancelled): the source has the guest and keeps it; then the next attempt, or the end."""
    RESUME_SOURCE = "resume-source"
    """The guest stands still on its source and is nowhere else: let it run on there."""
    REMOVE_SOURCE = "remove-source"
    """The guest is on the destination: end the source's copy, as confirm would have."""
    REMOVE_DESTINATION = "remove-destination"
    """The source has the guest: forget the stopped remains on the destination."""
    MOVED = "moved"
    """It is over: the destination has the guest, the source let go."""
    DIED = "died"
    """It is over: the guest does not run anywhere, and did not since it was last seen on its source."""
    ASK = "ask-operator"
    """No rule is safe: an operator looks."""


CHAIN = frozenset({Do.FINISH, Do.FINISH_CANCELLED, Do.LET_RUN})
"""What ordinary phases do: the chain goes on there."""
SIDE_OF = {
    Do.ADOPT: Side.SOURCE,
    Do.ABORT: Side.SOURCE,
    Do.RESUME_SOURCE: Side.SOURCE,
    Do.REMOVE_SOURCE: Side.SOURCE,
    Do.REMOVE_DESTINATION: Side.DESTINATION,
}
"""Where an action is done, where that matters."""


@dataclass(frozen=True, slots=True)
class View:
    """One look at one side."""

    shown: Shown
    at: float
    """When, in seconds of Redis's clock."""
    busy: str = ""
    """The phase that this side's agent is still in, of this very attempt."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What the journal says of an attempt that nobody carries on."""

    table: str
    """Which table: ``table_of``."""
    stage: Stage
    paused: bool = False
    """The guest is to arrive paused: its user had paused it, or asked for that."""
    cancel: bool = False
    """Somebody wants the migration to stop."""
    still: float = 0.0
    """Since when both sides show what they show, in seconds of Redis's clock."""
    rounds: int = 0
    """So often the chain was made to go on already."""


@dataclass(frozen=True, slots=True)
class Action:
    """What is to be done, and why."""

    do: Do
    why: str
    side: Side | None = None
    """Where, if it is not all the same."""


@dataclass(frozen=True, slots=True)
class Row:
    """Cells that have one answer. The first row that fits decides."""

    stages: frozenset[Stage]
    sources: frozenset[Shown]
    destinations: frozenset[Shown]
    do: Do
    why: str
    side: Side | None = None
    paused: bool | None = None
    """Only for guests that were (or were not) paused by their user."""
    cancel: bool | None = None
    """Only where somebody wants (or nobody wants) it to stop."""

    def fits(self, case: Interrupted, source: Shown, destination: Shown) -> bool:
        """Whether this row speaks of that cell."""
        return (
            case.stage in self.stages
            and source in self.sources
            and destination in self.destinations
            and self.paused in (None, case.paused)
            and self.cancel in (None, case.cancel)
        )


@dataclass(frozen=True, slots=True)
class Table:
    """All rows for one kind of migration, in order; together they cover every cell."""

    name: str
    about: str
    rows: tuple[Row, ...] = field(repr=False)

    def row(self, case: Interrupted, source: Shown, destination: Shown) -> Row:
        """The row that decides a cell."""
        return next(row for row in self.rows if row.fits(case, source, destination))


def decide(case: Interrupted, source: View | None, destination: View | None, now: float) -> Action:
    """What is to be done about an interrupted attempt, given the last look at each side (``None``: none yet).

    Looks that are older than ``FRESH_SECONDS`` count for nothing, so whatever is resumed or removed has been
    preceded by a fresh look at the other side.
    """
    from tasks.recovery_tables import TABLES

    for side, view in _in_order(case, source, destination):
        if view is None or now - view.at > FRESH_SECONDS:
            return Action(Do.LOOK, "nothing fresh is known of it", side)
        if view.busy:
            return Action(Do.WAIT, f"its agent is still in {view.busy}", side)
    assert source is not None  # noqa: S101  (both are fresh)
    assert destination is not None  # noqa: S101
    row = TABLES[case.table].row(case, source.shown, destination.shown)
    if row.do in CHAIN and case.rounds >= MOST_ROUNDS:
        return Action(Do.ASK, f"{row.why}; {case.rounds} recoveries in a row came to nothing")
    if row.do is Do.AGAIN and now - case.still > PATIENCE_SECONDS:
        return Action(Do.ASK, f"{row.why}; it has been so for {PATIENCE_SECONDS:.0f} s")
    return Action(row.do, row.why, row.side or SIDE_OF.get(row.do))


def _in_order(
    case: Interrupted, source: View | None, destination: View | None
) -> tuple[tuple[Side, View | None], tuple[Side, View | None]]:
    """Which side is looked at first: the one that can tell more."""
    sides = ((Side.DESTINATION, destination), (Side.SOURCE, source))
    return (sides[1], sides[0]) if case.stage is Stage.UNMOVED else sides


def table_of(driver: str, flags: int) -> str:
    """Which table an attempt is judged by: who moves the guest differs."""
    if driver != "qemu":
        return "vz"
    if flags & MigrateFlag.OFFLINE:
        return "qemu-offline"
    return "qemu-p2p" if flags & (MigrateFlag.PEER2PEER | MigrateFlag.TUNNELLED) else "qemu"


def stage_of(phase: str, step: str, baton: Baton) -> Stage:
    """How far an attempt was, from the phase that was interrupted (``running``) or not begun (``queued``)."""
    if baton.error is not None:
        return _stage_after_failure(baton)
    running = step == "running"
    match phase:
        case Phase.PERFORM:
            return Stage.PERFORMING if running else Stage.UNMOVED
        case Phase.FINISH:
            return Stage.FINISHING if running else Stage.PERFORMED
        case Phase.CONFIRM:
            return Stage.FINISHED
        case _:
            return Stage.UNMOVED


def _stage_after_failure(baton: Baton) -> Stage:
    assert baton.error is not None  # noqa: S101
    if not baton.performed:
        return Stage.UNMOVED
    failed = {Phase.FINISH: Stage.FINISHING, Phase.CONFIRM: Stage.FINISHED}
    return failed.get(Phase(baton.error.phase), Stage.UNDOING) if baton.error.phase in list(Phase) else Stage.UNDOING


def recovering(
    baton: Baton, phase: str, step: str, why: str, now: float, at: str, dead: Iterable[str] = (), by: str = ""
) -> Baton:
    """The baton with which the recovery of an interrupted attempt begins, at the host ``at``.

    One that was interrupted itself begins anew: what it saw is old, how far the attempt was is not.
    """
    before = baton.recovery
    stage = Stage(before.stage) if before else stage_of(phase, step, baton)
    started = before.since if before and not by else now
    where = before.host if before else host_of(baton, phase)
    told = Recovering(
        stage=stage,
        phase=before.phase if before else phase,
        host=where,
        why=before.why if before else why,
        epoch=before.epoch if before else baton.epoch,
        since=started,
        still=now,
        at=at,
        acted=before.acted if before else False,
        dead=sorted({*dead, *(before.dead if before else ())}),
        by=by or (before.by if before else ""),
    )
    # An operator who asks again has changed something: the count that ended in doubt is over.
    return baton.model_copy(update={"recovery": told} | ({"recoveries": 0} if by else {}))


def host_of(baton: Baton, phase: str) -> str:
    """Where a phase runs."""
    return baton.source if Phase(phase).on_source else baton.destination


def shown(domain: Domain, expected_name: str) -> Shown:
    """What a side shows, from a look at its host."""
    state = Shown(domain.state)
    if domain.state is DomainState.SHUTOFF and not domain.persistent:  # what libvirt leaves of an offline move: nothing
        return Shown.ABSENT
    if domain.state is DomainState.RUNNING and domain.name != expected_name:
        return Shown.OTHER_NAME
    return state


def state_of(view: Shown) -> DomainState:
    """The same as a state; what cannot be reached is ``UNKNOWN``."""
    if view is Shown.UNREACHABLE:
        return DomainState.UNKNOWN
    return DomainState.RUNNING if view is Shown.OTHER_NAME else DomainState(view)
