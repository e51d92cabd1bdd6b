"""The recovery tables: every cell of (stage) x (what the source shows) x (what the destination shows).

The first row that fits decides, and the last one of each table fits all that is left. Why a cell is so was
seen on real hosts (docs/architecture.md, section 5), or follows from what libvirt and the dispatcher do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from tasks.recovery import Do, Interrupted, Row, Shown, Side, Stage, Table

EVERY = frozenset(Stage)
UNMOVED, PERFORMING, PERFORMED, FINISHING, FINISHED, UNDOING = Stage
MOVING = EVERY - {UNMOVED}
AFTER_PERFORM = frozenset({PERFORMED, FINISHING, FINISHED})
BEFORE_FINISH = frozenset({UNMOVED, PERFORMING, PERFORMED, UNDOING})

ANY = frozenset(Shown)
ABSENT, RUNNING, PAUSED, PAUSED_OUT, PAUSED_IN = (
    Shown.ABSENT,
    Shown.RUNNING,
    Shown.PAUSED,
    Shown.PAUSED_OUT,
    Shown.PAUSED_IN,
)
MIGRATING, UNKNOWN, OTHER_NAME, UNREACHABLE = Shown.MIGRATING, Shown.UNKNOWN, Shown.OTHER_NAME, Shown.UNREACHABLE
STOPPED = frozenset({Shown.SHUTOFF, Shown.CRASHED})
HELD = frozenset({PAUSED, PAUSED_OUT})
ARRIVING = frozenset({MIGRATING, PAUSED_IN})
NOT_THERE = frozenset({ABSENT, *STOPPED, *ARRIVING})
"""A destination that has nothing, or not all of it."""


def row(
    stages: Stage | Iterable[Stage],
    sources: Shown | Iterable[Shown],
    destinations: Shown | Iterable[Shown],
    do: Do,
    why: str,
    *,
    side: Side | None = None,
    paused: bool | None = None,
    cancel: bool | None = None,
) -> Row:
    """A row, written short."""

    def stage_set(one: Stage | Iterable[Stage]) -> frozenset[Stage]:
        return frozenset({one}) if isinstance(one, Stage) else frozenset(one)

    def shown_set(one: Shown | Iterable[Shown]) -> frozenset[Shown]:
        return frozenset({one}) if isinstance(one, Shown) else frozenset(one)

    return Row(stage_set(stages), shown_set(sources), shown_set(destinations), do, why, side, paused, cancel)


def cells() -> Iterator[tuple[Interrupted, Shown, Shown]]:
    """Every cell of a table."""
    for stage, source, destination, paused, cancel in product(Stage, Shown, Shown, (False, True), (False, True)):
        yield Interrupted("", stage, paused=paused, cancel=cancel), source, destination


def deciding(*rows: Row) -> tuple[Row, ...]:
    """Those of the rows that decide a cell: what the rows before leave nothing of is left out."""
    left = dict.fromkeys(cells())
    kept = []
    for one in rows:
        decided = [cell for cell in left if one.fits(*cell)]
        for cell in decided:
            del left[cell]
        if decided:
            kept.append(one)
    return tuple(kept)


UNSEEN = (
    row(UNMOVED, RUNNING, UNREACHABLE, Do.LET_RUN, "it runs on its source, and perform was never called"),
    row(EVERY, UNREACHABLE, ANY, Do.WAIT, "the source cannot be seen", side=Side.SOURCE),
    row(EVERY, ANY, UNREACHABLE, Do.WAIT, "the destination cannot be seen", side=Side.DESTINATION),
    row(EVERY, UNKNOWN, ANY, Do.ASK, "the source cannot tell: each side may hold a part of the guest"),
    row(EVERY, ANY, UNKNOWN, Do.ASK, "the destination cannot tell: each side may hold a part of the guest"),
    row(EVERY, {RUNNING, OTHER_NAME}, {RUNNING, OTHER_NAME}, Do.ASK, "it runs on both sides: stop one at once"),
    row(MOVING, ABSENT, OTHER_NAME, Do.MOVED, "it runs on the destination, under another name; the source let go"),
    row(EVERY, ANY, OTHER_NAME, Do.ASK, "the destination runs it under a name that is not this migration's"),
    row(EVERY, OTHER_NAME, ABSENT, Do.LET_RUN, "it runs on its source, renamed, and nowhere else"),
    row(EVERY, OTHER_NAME, ANY, Do.ASK, "it was renamed on its source, and the destination has something too"),
    row(EVERY, PAUSED_IN, ANY, Do.ASK, "it is arriving on its source: somebody else moves it"),
)
"""What holds whoever moves the guest: unseen sides, two running copies, and copies that are not this migration's."""

LAST = (row(EVERY, ANY, ANY, Do.ASK, "this was never seen, and no rule for it is known to be safe"),)

POSTCOPY = (
    row(
        AFTER_PERFORM,
        UNKNOWN,
        MIGRATING,
        Do.WAIT,
        "the destination still fetches memory (post-copy)",
        side=Side.DESTINATION,
    ),
    row(AFTER_PERFORM, UNKNOWN, RUNNING, Do.REMOVE_SOURCE, "post-copy is over: the destination has all of its memory"),
)
"""After the switch the source's job may be gone with its agent, and the guest goes on fetching all the same."""

QEMU = (
    row(EVERY, RUNNING, MIGRATING, Do.ASK, "it executes on both sides: stop one at once"),
    row(
        AFTER_PERFORM, MIGRATING, RUNNING, Do.REMOVE_SOURCE, "post-copy is over: the destination has all of its memory"
    ),
    row(EVERY, MIGRATING, RUNNING, Do.ASK, "it executes on both sides: stop one at once"),
    # The source executes it.
    row(EVERY, RUNNING, PAUSED_IN, Do.FINISH_CANCELLED, "it runs on its source; what waits on the destination goes"),
    row(EVERY, RUNNING, {ABSENT, *STOPPED}, Do.LET_RUN, "it runs on its source, and not on the destination"),
    # The source is copying it, or (post-copy) waits until the destination has everything.
    row(UNDOING, MIGRATING, NOT_THERE, Do.ABORT, "it is being undone, and still copied"),
    row(UNMOVED, MIGRATING, NOT_THERE, Do.ADOPT, "somebody else moves it, or Redis forgot that perform was called"),
    row(PERFORMING, MIGRATING, NOT_THERE, Do.ABORT, "somebody wants it to stop, and it is copied", cancel=True),
    row(PERFORMING, MIGRATING, {ABSENT, *STOPPED}, Do.ABORT, "it is copied to where nothing waits for it"),
    row(PERFORMING, MIGRATING, ARRIVING, Do.ADOPT, "the daemons go on copying without the agent"),
    row(PERFORMED, MIGRATING, ARRIVING, Do.FINISH, "it has been switched to post-copy"),
    row(FINISHING, MIGRATING, ARRIVING, Do.ADOPT, "the destination fetches what is missing (post-copy)"),
    row(FINISHED, MIGRATING, ARRIVING, Do.AGAIN, "the destination fetches what is missing (post-copy)"),
    row(AFTER_PERFORM, MIGRATING, {ABSENT, *STOPPED}, Do.AGAIN, "post-copy has lost its destination"),
    # The source has stopped it for the switch-over.
    row(EVERY, PAUSED_OUT, RUNNING, Do.REMOVE_SOURCE, "it runs on the destination; the source's copy is old"),
    row(FINISHED, PAUSED_OUT, PAUSED, Do.REMOVE_SOURCE, "it is on the destination; the source's copy is old"),
    row(MOVING, PAUSED_OUT, PAUSED, Do.REMOVE_SOURCE, "it arrived paused, as it was", paused=True),
    row(UNDOING, PAUSED_OUT, PAUSED_IN, Do.FINISH_CANCELLED, "perform failed: the destination's copy is not whole"),
    row(EVERY, PAUSED_OUT, PAUSED_IN, Do.FINISH, "all of it was copied, and it stands still on both sides"),
    row(UNMOVED, PAUSED_OUT, {ABSENT, *STOPPED}, Do.AGAIN, "perform was never called: somebody else is moving it"),
    row(
        FINISHED, PAUSED_OUT, ABSENT, Do.ASK, "it has run on the destination and is not there: newer than the source's"
    ),
    row(EVERY, PAUSED_OUT, ABSENT, Do.RESUME_SOURCE, "it stands still on its source and is nowhere else"),
    row(
        {UNMOVED, PERFORMING, UNDOING},
        PAUSED_OUT,
        STOPPED,
        Do.RESUME_SOURCE,
        "it stands still on its source and never ran elsewhere",
    ),
    row(FINISHED, HELD, STOPPED, Do.REMOVE_SOURCE, "it ran on the destination, and stopped there"),
    # A daemon that was killed in finish kills the guest when it starts again, unless it ran already
    # (qemuProcessRecoverMigrationIn): finish(cancelled) knows these remains, and leaves any others.
    row(FINISHING, PAUSED_OUT, STOPPED, Do.FINISH_CANCELLED, "the destination's daemon was killed before it ran there"),
    row(
        {PERFORMED, FINISHING},
        HELD,
        STOPPED,
        Do.ASK,
        "it may have run on the destination before it stopped, and its disks may be newer than the source's memory",
    ),
    row(EVERY, PAUSED_OUT, MIGRATING, Do.AGAIN, "the destination is not done yet"),
    # The source shows it paused by its user (or suspended so that it converges).
    row(MOVING, PAUSED, RUNNING, Do.REMOVE_SOURCE, "it runs on the destination"),
    row({FINISHING, FINISHED}, PAUSED, PAUSED, Do.REMOVE_SOURCE, "it is on the destination, paused since it arrived"),
    row(MOVING, PAUSED, PAUSED, Do.REMOVE_SOURCE, "it arrived paused, as it was", paused=True),
    row(AFTER_PERFORM, PAUSED, PAUSED_IN, Do.FINISH, "all of it was copied while it was paused"),
    row(BEFORE_FINISH, PAUSED, PAUSED_IN, Do.FINISH_CANCELLED, "it is whole on its source, where its user paused it"),
    row({*BEFORE_FINISH, FINISHING}, PAUSED, ABSENT, Do.LET_RUN, "it is on its source, paused, and nowhere else"),
    row(BEFORE_FINISH, PAUSED, STOPPED, Do.LET_RUN, "it is on its source, paused, and never ran elsewhere"),
    # The source has no guest any more, but a definition.
    row(MOVING, STOPPED, {RUNNING, PAUSED}, Do.REMOVE_SOURCE, "it is on the destination; the source has a definition"),
    row(AFTER_PERFORM, STOPPED, PAUSED_IN, Do.FINISH, "it died on its source: the destination has all of it"),
    row(PERFORMING, STOPPED, PAUSED_IN, Do.AGAIN, "it died on its source; the destination may have all of it, or not"),
    row({UNMOVED, UNDOING}, STOPPED, PAUSED_IN, Do.FINISH_CANCELLED, "the destination never had all of it"),
    row(BEFORE_FINISH, STOPPED, {ABSENT, *STOPPED}, Do.DIED, "it stopped on its source, and never ran elsewhere"),
    row(FINISHING, STOPPED, ABSENT, Do.DIED, "it stopped on its source, and the destination has nothing"),
    row(
        FINISHED, STOPPED, {*STOPPED, MIGRATING, PAUSED_OUT}, Do.MOVED, "it moved; what the destination shows is later"
    ),
    row(MOVING, STOPPED, MIGRATING, Do.AGAIN, "the destination is not done yet"),
    # The source has nothing.
    row(EVERY, ABSENT, RUNNING, Do.MOVED, "it runs on the destination, and the source let go"),
    row(MOVING, ABSENT, PAUSED, Do.MOVED, "it is on the destination, and the source let go"),
    row({PERFORMING, *AFTER_PERFORM}, ABSENT, PAUSED_IN, Do.FINISH, "the destination's is the only copy"),
    row(FINISHED, ABSENT, {MIGRATING, PAUSED_OUT}, Do.MOVED, "it moved; what the destination shows is later"),
    row(MOVING, ABSENT, STOPPED, Do.MOVED, "it is on the destination only, and stopped there"),
    row({PERFORMED, FINISHING}, ABSENT, MIGRATING, Do.AGAIN, "the destination is not done yet"),
    row(UNMOVED, ABSENT, ABSENT, Do.DIED, "somebody took it away before it moved"),
    row(FINISHED, ABSENT, ABSENT, Do.MOVED, "it moved, and has left the destination since"),
    row(MOVING, ABSENT, ABSENT, Do.DIED, "neither side has it any more"),
)

P2P = (
    row(EVERY, RUNNING, PAUSED_IN, Do.AGAIN, "the source's daemon has given up; the destination's drops its part"),
    row(EVERY, {*HELD, ABSENT, *STOPPED}, PAUSED_IN, Do.AGAIN, "the source's daemon is between copying and the end"),
    row({PERFORMED, FINISHING}, MIGRATING, ARRIVING, Do.ADOPT, "the daemons are still at it"),
    row(FINISHING, PAUSED_OUT, STOPPED, Do.ASK, "it may have run on the destination before it stopped"),
)
"""Peer-to-peer the source's daemon finishes and confirms; what it leaves when it dies is as with QEMU otherwise."""

VZ = (
    row(
        {PERFORMING, PERFORMED, FINISHING, UNDOING},
        MIGRATING,
        NOT_THERE,
        Do.ABORT,
        "somebody wants it to stop, and the dispatchers still move it",
        cancel=True,
    ),
    row(UNDOING, MIGRATING, NOT_THERE, Do.ABORT, "it is being undone, and the dispatchers still move it"),
    row(EVERY, MIGRATING, ANY, Do.ADOPT, "the dispatchers go on without the agent"),
    # The source runs it.
    row(EVERY, RUNNING, ABSENT, Do.LET_RUN, "it runs on its source and is nowhere else"),
    row(UNMOVED, RUNNING, STOPPED, Do.LET_RUN, "it runs on its source, and perform was never called"),
    row(BEFORE_FINISH, RUNNING, STOPPED, Do.REMOVE_DESTINATION, "it runs on its source; the destination kept remains"),
    row(EVERY, RUNNING, ARRIVING, Do.AGAIN, "the destination is taking back what it received"),
    # The source has stopped it for the switch-over, or its user paused it: the SDK has one word for both.
    row(MOVING, HELD, RUNNING, Do.REMOVE_SOURCE, "it runs on the destination; the source's copy is old"),
    row(FINISHED, HELD, ABSENT, Do.ASK, "it was on the destination and is not there: newer than the source's"),
    row(EVERY, HELD, ABSENT, Do.LET_RUN, "it is paused on its source as before, and is nowhere else", paused=True),
    row(UNMOVED, HELD, {ABSENT, *STOPPED}, Do.LET_RUN, "its user paused it; perform was never called"),
    row(MOVING, HELD, ABSENT, Do.RESUME_SOURCE, "it stands still on its source and is nowhere else"),
    row(
        {PERFORMING, UNDOING},
        HELD,
        STOPPED,
        Do.REMOVE_DESTINATION,
        "it never ran on the destination, which kept remains",
    ),
    row(MOVING, HELD, PAUSED, Do.REMOVE_SOURCE, "it arrived paused, as it was", paused=True),
    row(FINISHED, HELD, PAUSED, Do.REMOVE_SOURCE, "it is on the destination; the source's copy is old"),
    row(FINISHED, HELD, STOPPED, Do.REMOVE_SOURCE, "it was on the destination, and stopped there"),
    row(EVERY, HELD, ARRIVING, Do.AGAIN, "the destination is not done yet"),
    # The source has a stopped stub.
    row(MOVING, STOPPED, {RUNNING, PAUSED}, Do.REMOVE_SOURCE, "it is on the destination; the source kept a stub"),
    row(EVERY, STOPPED, ARRIVING, Do.AGAIN, "the destination is not done yet"),
    row({*BEFORE_FINISH, FINISHING}, STOPPED, ABSENT, Do.DIED, "it stopped on its source, and is nowhere else"),
    row(FINISHED, STOPPED, STOPPED, Do.REMOVE_SOURCE, "it was on the destination, and stopped there"),
    row(BEFORE_FINISH, STOPPED, STOPPED, Do.DIED, "it is stopped on both sides"),
    # The source has nothing.
    row(
        MOVING - {FINISHED}, ABSENT, RUNNING, Do.FINISH, "it runs on the destination, and is to be paused", paused=True
    ),
    row(EVERY, ABSENT, RUNNING, Do.MOVED, "it runs on the destination, and the source let go"),
    row(MOVING, ABSENT, PAUSED, Do.MOVED, "it is on the destination, and the source let go"),
    row(EVERY, ABSENT, ARRIVING, Do.AGAIN, "the destination is not done yet"),
    row(FINISHED, ABSENT, PAUSED_OUT, Do.MOVED, "it moved; what the destination shows is later"),
    row(MOVING, ABSENT, STOPPED, Do.MOVED, "it is on the destination only, and stopped there"),
    row(UNMOVED, ABSENT, ABSENT, Do.DIED, "somebody took it away before it moved"),
    row(FINISHED, ABSENT, ABSENT, Do.MOVED, "it moved, and has left the destination since"),
    row(MOVING, ABSENT, ABSENT, Do.DIED, "neither side has it any more"),
)

OFFLINE = (
    row(FINISHED, {PAUSED, *STOPPED}, ABSENT, Do.ASK, "its definition was on the destination and is not there now"),
    row(EVERY, {RUNNING, PAUSED, *STOPPED}, ABSENT, Do.LET_RUN, "the source has it, and the destination nothing"),
    row(AFTER_PERFORM, STOPPED, PAUSED_IN, Do.FINISH, "the destination has its definition"),
    row(EVERY, {RUNNING, PAUSED, *STOPPED}, PAUSED_IN, Do.FINISH_CANCELLED, "the source has it"),
    row(FINISHED, STOPPED, STOPPED, Do.REMOVE_SOURCE, "the destination has its definition"),
    row(EVERY, STOPPED, STOPPED, Do.LET_RUN, "the source has it; the destination's definition may be an old one"),
    row({FINISHING, FINISHED}, STOPPED, {RUNNING, PAUSED}, Do.REMOVE_SOURCE, "it was started on the destination"),
    row({*AFTER_PERFORM, PERFORMING}, ABSENT, PAUSED_IN, Do.FINISH, "the destination's is the only definition"),
    row(UNMOVED, ABSENT, {ABSENT, *STOPPED}, Do.DIED, "somebody took it away before it moved"),
    row(EVERY, ABSENT, {RUNNING, PAUSED, *STOPPED}, Do.MOVED, "the destination has it, and the source let go"),
)

TABLES = {
    table.name: table
    for table in (
        Table("qemu", "QEMU through libvirt: the relay calls finish and confirm", (*POSTCOPY, *UNSEEN, *QEMU, *LAST)),
        Table(
            "qemu-p2p",
            "QEMU, peer-to-peer: the source's daemon does all of it",
            deciding(*POSTCOPY, *UNSEEN, *P2P, *QEMU, *LAST),
        ),
        Table("qemu-offline", "QEMU, OFFLINE: only a definition moves", (*UNSEEN, *OFFLINE, *LAST)),
        Table("vz", "Virtuozzo, by its SDK or through libvirt: the dispatchers do all of it", (*UNSEEN, *VZ, *LAST)),
    )
}
