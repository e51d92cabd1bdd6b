"""The recovery tables are safe, cell by cell: judged by what actions do to two copies of a guest, not row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recovery_cells import NOW, Cell, table_cells, told

from tasks.recovery import (
    CHAIN,
    MOST_ROUNDS,
    PATIENCE_SECONDS,
    SIDE_OF,
    Do,
    Interrupted,
    Shown,
    Side,
    Stage,
    View,
    decide,
)
from tasks.recovery_tables import TABLES, deciding

EXECUTES = {Shown.RUNNING, Shown.OTHER_NAME}
STANDS = {Shown.PAUSED, Shown.PAUSED_OUT}
NO_GUEST = {Shown.ABSENT, Shown.SHUTOFF, Shown.CRASHED}
STOPPED = {Shown.SHUTOFF, Shown.CRASHED}
UNSEEN = {Shown.UNREACHABLE, Shown.UNKNOWN}
ON_ARRIVAL = {Shown.PAUSED_IN, Shown.MIGRATING}
WHOLE_BY_NOW = {Stage.PERFORMED, Stage.FINISHING, Stage.FINISHED}
PASSIVE = {Do.LOOK, Do.AGAIN, Do.WAIT, Do.ASK}
"""These change nothing on either side."""


# -- what must be true of both sides before an action is safe ---------------------------------------------------


def may_abort(case: Interrupted, source: Shown, destination: Shown) -> bool:
    """Stopping a move keeps the source's copy: the destination must not have the guest already."""
    return source is Shown.MIGRATING and destination in NO_GUEST | ON_ARRIVAL and case.stage is not Stage.FINISHED


def may_finish(case: Interrupted, source: Shown, destination: Shown) -> bool:
    """The destination starts the guest: the source must not execute it, and the destination must have all of it."""
    if case.table == "vz" and destination is Shown.RUNNING:
        return source is Shown.ABSENT and case.paused  # there finish only pauses what arrived running
    if case.table == "qemu-offline":
        return destination is Shown.PAUSED_IN and source in NO_GUEST
    if destination not in ON_ARRIVAL:
        return False
    if source is Shown.MIGRATING:  # post-copy: it executes on the destination, and finish waits for its memory
        return case.stage is Stage.PERFORMED
    copied = source is Shown.PAUSED_OUT or source is Shown.ABSENT or case.stage in WHOLE_BY_NOW
    return destination is Shown.PAUSED_IN and source in STANDS | NO_GUEST and copied


def may_drop(case: Interrupted, source: Shown, destination: Shown) -> bool:
    """The destination forgets what it received: the source must have the guest, or the destination never all of it."""
    has_it = source in EXECUTES | STANDS or (case.table == "qemu-offline" and source in STOPPED)
    never_whole = case.stage in (Stage.UNMOVED, Stage.UNDOING) and source in STOPPED
    # Of a guest that is stopped there finish(cancelled) drops only what a killed daemon left of a finish.
    killed = (case.table, case.stage, source) == ("qemu", Stage.FINISHING, Shown.PAUSED_OUT)
    return (destination is Shown.PAUSED_IN and (has_it or never_whole)) or (destination in STOPPED and killed)


def may_let_run(case: Interrupted, source: Shown, destination: Shown) -> bool:
    """The source keeps the guest, and may resume it: the destination has no live copy."""
    if destination is Shown.UNREACHABLE:  # nothing can have been started there, and what executes here is the guest
        return case.stage is Stage.UNMOVED and source is Shown.RUNNING
    offline = case.table == "qemu-offline" and source in STOPPED
    stale = case.stage is Stage.FINISHED and source in STANDS
    return destination in NO_GUEST and (source in EXECUTES | STANDS or offline) and not stale


def may_resume(case: Interrupted, source: Shown, destination: Shown) -> bool:
    """The source's copy starts to execute: it is the newest one there is, and the only one."""
    never_ran = destination is Shown.ABSENT or case.stage in (Stage.UNMOVED, Stage.PERFORMING, Stage.UNDOING)
    return source in STANDS and destination in NO_GUEST and never_ran and case.stage is not Stage.FINISHED


def may_remove_source(case: Interrupted, source: Shown, destination: Shown) -> bool:
    """The source's copy ends: it does not execute, and the destination has accepted the guest.

    After the switch to post-copy it shows migrating, or unknown where its job is gone; ``release`` looks whether
    it has been emptied.
    """
    if source in (Shown.MIGRATING, Shown.UNKNOWN):
        return case.table != "vz" and case.stage in WHOLE_BY_NOW and destination is Shown.RUNNING
    accepted = (
        destination is Shown.RUNNING
        or (destination is Shown.PAUSED and (case.paused or source in STOPPED or case.stage in WHOLE_BY_NOW))
        or (destination in STOPPED and case.stage is Stage.FINISHED)
    )
    return source in STANDS | STOPPED and accepted and (case.stage is not Stage.UNMOVED or source is Shown.PAUSED_OUT)


def may_remove_destination(case: Interrupted, source: Shown, destination: Shown) -> bool:
    """Stopped remains of a guest that never ran there, and that the source has."""
    never_ran = case.stage not in (Stage.FINISHING, Stage.FINISHED)
    return source in EXECUTES | STANDS and destination in STOPPED and never_ran


def is_moved(case: Interrupted, source: Shown, destination: Shown) -> bool:
    """Over: nothing on the source can execute any more, and the destination has the guest, or had it for sure."""
    had_it = case.stage is Stage.FINISHED or (case.stage is not Stage.UNMOVED and source is Shown.ABSENT)
    there = destination in EXECUTES | {Shown.PAUSED} or (
        destination not in UNSEEN | {Shown.ABSENT, Shown.PAUSED_IN} and had_it
    )
    left_since = case.stage is Stage.FINISHED and source is destination is Shown.ABSENT  # finish's result is journaled
    return left_since or (there and (source is Shown.ABSENT or (source in STOPPED and case.stage is Stage.FINISHED)))


def has_died(case: Interrupted, source: Shown, destination: Shown) -> bool:
    """Over: neither side has more than a definition."""
    return source in NO_GUEST and destination in NO_GUEST and case.stage is not Stage.FINISHED


ALLOWED = {
    Do.ADOPT: lambda case, source, destination: source is Shown.MIGRATING,
    Do.ABORT: may_abort,
    Do.FINISH: may_finish,
    Do.FINISH_CANCELLED: may_drop,
    Do.LET_RUN: may_let_run,
    Do.RESUME_SOURCE: may_resume,
    Do.REMOVE_SOURCE: may_remove_source,
    Do.REMOVE_DESTINATION: may_remove_destination,
    Do.MOVED: is_moved,
    Do.DIED: has_died,
}


# -- what each action does to the pair, as the hypervisors do it -------------------------------------------------


def apply(action: Do, cell: Cell) -> tuple[Shown, Shown]:
    """Both sides after an action went well."""
    case, source, destination = cell
    arrived = Shown.PAUSED if case.paused else Shown.RUNNING
    kept = Shown.PAUSED if case.paused else Shown.RUNNING
    offline = case.table == "qemu-offline"
    match action:
        case Do.ABORT:
            return kept, destination if destination in STOPPED else Shown.ABSENT
        case Do.FINISH:
            return source, Shown.SHUTOFF if offline else arrived
        case Do.FINISH_CANCELLED:
            return source, Shown.ABSENT
        case Do.LET_RUN | Do.RESUME_SOURCE:
            return kept if source in STANDS else source, destination
        case Do.REMOVE_SOURCE:
            return Shown.ABSENT, destination
        case Do.REMOVE_DESTINATION:
            return source, Shown.ABSENT
        case _:
            return source, destination


def running(case: Interrupted, source: Shown, destination: Shown) -> int:
    """How many copies execute, at most: one that migrates executes on one of its two sides."""
    there = destination in EXECUTES or (destination is Shown.MIGRATING and case.table != "vz" and source in NO_GUEST)
    moving = source is Shown.MIGRATING and destination not in EXECUTES
    return (source in EXECUTES) + there + moving


def copies(case: Interrupted, source: Shown, destination: Shown) -> int:
    """How many sides have the guest itself, or (offline) its definition."""
    live = EXECUTES | STANDS | {Shown.MIGRATING, Shown.PAUSED_IN} | (STOPPED if case.table == "qemu-offline" else set())
    return (source in live) + (destination in live)


# -- the tests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_has_an_answer_with_a_reason(table: str) -> None:
    """No cell is left open, and each says why in a few words."""
    for cell, action in table_cells(table):
        assert action.why, told(cell, action)
        assert len(action.why) <= 120, told(cell, action)


@pytest.mark.parametrize("table", TABLES.values(), ids=str)
def test_every_row_decides_something(table: object) -> None:
    """A row that no cell reaches would be a rule that nobody follows."""
    rows = table.rows  # type: ignore[attr-defined]
    assert deciding(*rows) == rows


@pytest.mark.parametrize("table", TABLES)
def test_an_action_is_taken_only_where_both_sides_allow_it(table: str) -> None:
    """Each action has its own conditions on what both sides show; a row that breaks them is wrong."""
    for cell, action in table_cells(table):
        if action.do not in PASSIVE:
            assert ALLOWED[action.do](*cell), told(cell, action)


@pytest.mark.parametrize("table", TABLES)
def test_no_action_makes_a_second_running_copy(table: str) -> None:
    """What executes after an action executed before it, or nothing else does."""
    for cell, action in table_cells(table):
        before, after = running(*cell), running(cell[0], *apply(action.do, cell))
        assert after <= max(before, 1), told(cell, action)


@pytest.mark.parametrize("table", TABLES)
def test_no_action_takes_the_last_copy_away(table: str) -> None:
    """Where there was a guest there still is one; but for what was certainly never whole, or stopped by itself."""
    for cell, action in table_cells(table):
        case, source, destination = cell
        if action.do is Do.FINISH_CANCELLED and source in STOPPED and table != "qemu-offline":
            continue  # its only live part is on the destination, and never was all of it: may_drop says when
        if action.do is Do.REMOVE_SOURCE and destination in STOPPED:
            continue  # it ran on the destination and stopped there: the source's memory is old (may_remove_source)
        if copies(*cell):
            assert copies(case, *apply(action.do, cell)), told(cell, action)


@pytest.mark.parametrize("table", TABLES)
def test_an_unseen_side_stops_everything(table: str) -> None:
    """With a side that nobody sees nothing is changed and nothing is over, but for a guest that runs untouched."""
    for cell, action in table_cells(table):
        case, source, destination = cell
        if Shown.UNREACHABLE not in (source, destination):
            continue
        untouched = case.stage is Stage.UNMOVED and source is Shown.RUNNING
        assert action.do in {Do.WAIT} | ({Do.LET_RUN} if untouched else set()), told(cell, action)
        if action.do is Do.WAIT:
            assert (source if action.side is Side.SOURCE else destination) is Shown.UNREACHABLE, told(cell, action)


@pytest.mark.parametrize("table", TABLES)
def test_two_running_copies_are_for_a_human(table: str) -> None:
    """Where both sides execute the guest nothing is done but to raise the alarm."""
    for cell, action in table_cells(table):
        if cell[1] in EXECUTES and cell[2] in EXECUTES:
            assert action.do is Do.ASK, told(cell, action)


@pytest.mark.parametrize("table", TABLES)
def test_actions_are_done_on_their_own_side(table: str) -> None:
    """What changes a host is done by that host's agent."""
    for cell, action in table_cells(table):
        if action.do in SIDE_OF:
            assert action.side is SIDE_OF[action.do], told(cell, action)


@pytest.mark.parametrize("table", TABLES)
def test_what_passes_by_itself_is_not_waited_for_for_ever(table: str) -> None:
    """A cell that is looked at again is given to an operator in the end."""
    for cell, action in table_cells(table):
        if action.do is Do.AGAIN:
            late = NOW + PATIENCE_SECONDS + 1
            asked = decide(cell[0], View(cell[1], late), View(cell[2], late), late)
            assert asked.do is Do.ASK, told(cell, action)


@pytest.mark.parametrize("table", TABLES)
def test_what_comes_to_nothing_again_and_again_is_for_a_human(table: str) -> None:
    """The chain is not made to go on for ever."""
    for (case, source, destination), action in table_cells(table):
        if action.do in CHAIN:
            tired = replace(case, rounds=MOST_ROUNDS)
            assert decide(tired, View(source, NOW), View(destination, NOW), NOW).do is Do.ASK


@pytest.mark.parametrize("table", TABLES)
def test_a_guest_that_its_user_paused_is_not_resumed(table: str) -> None:
    """Recovery gives back what was: only libvirt's own pause is undone."""
    for cell, action in table_cells(table):
        if cell[0].paused and cell[1] is Shown.PAUSED:
            assert action.do is not Do.RESUME_SOURCE, told(cell, action)


@pytest.mark.parametrize("table", TABLES)
def test_actions_come_to_an_end(table: str) -> None:
    """From every cell a few actions that go well lead to an end, to a wait or to an operator: never in a circle."""
    ends = PASSIVE | {Do.MOVED, Do.DIED, Do.ADOPT, Do.LET_RUN, Do.REMOVE_SOURCE, Do.FINISH, Do.FINISH_CANCELLED}
    for cell, first in table_cells(table):
        case, views, action = cell[0], cell[1:], first
        for _ in range(3):
            if action.do in ends:
                break
            views = apply(action.do, (case, *views))
            if action.do is Do.RESUME_SOURCE and case.paused:
                break  # it was paused by its user, and stays so
            action = decide(case, View(views[0], NOW), View(views[1], NOW), NOW)
        else:
            pytest.fail(f"{told(cell, first)} then {views} {action}")
