"""What recovery decides from: looks at both sides, the stage of the chain, the table of the driver."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recovery_cells import NOW, told

from tasks.recovery import (
    FRESH_SECONDS,
    MOST_ROUNDS,
    Do,
    Interrupted,
    Shown,
    Side,
    Stage,
    View,
    decide,
    shown,
    stage_of,
    state_of,
    table_of,
)
from tasks.recovery_tables import TABLES
from worker.contract import Baton, ErrorInfo
from worker.hypervisors.base import Domain, DomainState
from worker.hypervisors.flags import MigrateFlag

OPERATORS = {
    # What one crash can leave (docs/architecture.md, section 5; vz-sdk 3.4), and must not need a human.
    "qemu": [
        *product([Stage.UNMOVED], [Shown.RUNNING], [Shown.ABSENT, Shown.PAUSED_IN]),
        *product([Stage.PERFORMING], [Shown.RUNNING, Shown.MIGRATING, Shown.PAUSED_OUT], [Shown.ABSENT]),
        *product([Stage.PERFORMING], [Shown.RUNNING, Shown.MIGRATING, Shown.PAUSED_OUT], [Shown.PAUSED_IN]),
        *product([Stage.PERFORMED, Stage.FINISHING], [Shown.PAUSED_OUT], [Shown.ABSENT, Shown.PAUSED_IN]),
        *product([Stage.FINISHING, Stage.FINISHED], [Shown.PAUSED_OUT, Shown.SHUTOFF, Shown.ABSENT], [Shown.RUNNING]),
        *product([Stage.UNDOING], [Shown.RUNNING, Shown.PAUSED_OUT], [Shown.ABSENT, Shown.PAUSED_IN]),
        *product([Stage.UNMOVED, Stage.PERFORMING], [Shown.SHUTOFF, Shown.CRASHED], [Shown.ABSENT]),
        *product([Stage.FINISHED], [Shown.PAUSED_OUT, Shown.ABSENT], [Shown.SHUTOFF]),
    ],
    "vz": [
        *product([Stage.UNMOVED], [Shown.RUNNING], [Shown.ABSENT]),
        *product([Stage.PERFORMING], [Shown.RUNNING], [Shown.ABSENT, Shown.SHUTOFF, Shown.MIGRATING]),
        *product([Stage.PERFORMING], [Shown.MIGRATING], [Shown.ABSENT, Shown.SHUTOFF, Shown.MIGRATING, Shown.RUNNING]),
        *product([Stage.PERFORMING], [Shown.PAUSED], [Shown.ABSENT, Shown.RUNNING, Shown.MIGRATING]),
        *product([Stage.PERFORMING, Stage.PERFORMED, Stage.FINISHING], [Shown.SHUTOFF, Shown.ABSENT], [Shown.RUNNING]),
        *product([Stage.PERFORMED, Stage.FINISHING, Stage.FINISHED], [Shown.ABSENT], [Shown.SHUTOFF, Shown.RUNNING]),
        *product([Stage.PERFORMING], [Shown.SHUTOFF], [Shown.ABSENT]),
    ],
}


@pytest.mark.parametrize("table", OPERATORS)
def test_what_one_crash_leaves_needs_no_human(table: str) -> None:
    """Everything that was seen after a single crash has an answer other than an operator."""
    for (stage, source, destination), cancel in product(OPERATORS[table], (False, True)):
        case = Interrupted(table, stage, cancel=cancel, still=NOW)
        action = decide(case, View(source, NOW), View(destination, NOW), NOW)
        assert action.do is not Do.ASK, told((case, source, destination), action)


def views() -> st.SearchStrategy[View | None]:
    """Looks of any age, with and without an agent that is still at it."""
    made = st.builds(View, st.sampled_from(Shown), st.floats(0, 2000), st.sampled_from(["", "", "perform", "finish"]))
    return st.none() | made


CASES = st.builds(
    Interrupted,
    st.sampled_from(sorted(TABLES)),
    st.sampled_from(Stage),
    st.booleans(),
    st.booleans(),
    st.floats(0, 2000),
    st.integers(0, 2 * MOST_ROUNDS),
)


@given(CASES, views(), views(), st.floats(0, 2000))
def test_nothing_is_done_without_having_seen_both_sides(
    case: Interrupted, source: View | None, destination: View | None, now: float
) -> None:
    """A side that was not seen in the last seconds, or whose agent is still at it, is looked at or waited for."""
    action = decide(case, source, destination, now)
    fresh = [view is not None and now - view.at <= FRESH_SECONDS for view in (source, destination)]
    busy = [seen is not None and view.busy for view, seen in zip((source, destination), fresh, strict=True) if view]
    if not all(fresh):
        assert action.do in {Do.LOOK, Do.WAIT}
        if action.do is Do.LOOK:
            unseen = {side for side, known in zip(Side, fresh, strict=True) if not known}
            assert action.side in unseen
    elif any(busy):
        assert action.do is Do.WAIT
    else:
        assert action.do is not Do.LOOK
    if action.do not in {Do.LOOK, Do.AGAIN, Do.WAIT}:
        assert all(fresh)
        assert not any(busy)


@given(CASES, st.sampled_from(Shown), st.sampled_from(Shown), st.floats(0, 2000), st.floats(0, FRESH_SECONDS / 2))
def test_fresh_views_decide_whatever_their_age_is(
    case: Interrupted, source: Shown, destination: Shown, now: float, age: float
) -> None:
    """The table's answer depends on what both sides show, not on which was looked at first."""
    at_once = decide(case, View(source, now), View(destination, now), now)
    assert decide(case, View(source, now - age), View(destination, now), now) == at_once
    assert decide(case, View(source, now), View(destination, now - age), now) == at_once


def test_the_side_that_can_tell_more_is_looked_at_first() -> None:
    """Before perform that is the source; afterwards the destination, which may have the guest."""
    for stage in Stage:
        first = Side.SOURCE if stage is Stage.UNMOVED else Side.DESTINATION
        assert decide(Interrupted("qemu", stage), None, None, NOW).side is first


def baton(**more: object) -> Baton:
    """A baton with nothing special in it."""
    known: dict[str, object] = {"migration": "m", "attempt": 1, "epoch": 1, "domain": "web", "uuid": "u"}
    return Baton.model_validate(known | {"source": "alpha", "destination": "beta", "flags": 1} | more)


def failed(phase: str, performed: bool) -> Baton:
    """A baton whose first error came from a phase."""
    return baton(performed=performed, error=ErrorInfo(code="broken", message="it broke", phase=phase))


@pytest.mark.parametrize(
    ("phase", "step", "stage"),
    [
        ("begin", "queued", Stage.UNMOVED),
        ("begin", "running", Stage.UNMOVED),
        ("prepare", "queued", Stage.UNMOVED),
        ("prepare", "running", Stage.UNMOVED),
        ("perform", "queued", Stage.UNMOVED),
        ("perform", "running", Stage.PERFORMING),
        ("finish", "queued", Stage.PERFORMED),
        ("finish", "running", Stage.FINISHING),
        ("confirm", "queued", Stage.FINISHED),
        ("confirm", "running", Stage.FINISHED),
    ],
)
def test_the_stage_follows_from_what_the_journal_had(phase: str, step: str, stage: Stage) -> None:
    """A phase that was claimed may have done its work, whoever claimed it."""
    assert stage_of(phase, step, baton(performed=phase in ("finish", "confirm"))) is stage


@pytest.mark.parametrize(
    ("failed_in", "performed", "stage"),
    [
        ("begin", False, Stage.UNMOVED),
        ("prepare", False, Stage.UNMOVED),
        ("perform", False, Stage.UNMOVED),
        ("perform", True, Stage.UNDOING),
        ("finish", True, Stage.FINISHING),
        ("confirm", True, Stage.FINISHED),
        ("recover", True, Stage.UNDOING),
    ],
)
def test_the_stage_after_a_failure_is_that_of_the_phase_that_failed(
    failed_in: str, performed: bool, stage: Stage
) -> None:
    """Whatever phase undoes it now: how far the guest may have come is told by the first error."""
    for phase, step in product(("finish", "confirm"), ("queued", "running")):
        assert stage_of(phase, step, failed(failed_in, performed)) is stage


@pytest.mark.parametrize("state", DomainState)
def test_every_state_of_a_domain_is_a_view_and_back(state: DomainState) -> None:
    """A view says what the host shows, and only a running guest's name matters."""
    domain = Domain(name="web", uuid="u", state=state)
    assert shown(domain, "web").value == state.value
    assert state_of(shown(domain, "web")) is state
    renamed = shown(domain, "www")
    assert renamed == (Shown.OTHER_NAME if state is DomainState.RUNNING else state)
    assert state_of(renamed) is state


def test_a_side_that_cannot_be_seen_has_no_known_state() -> None:
    """What is unreachable is not absent."""
    assert state_of(Shown.UNREACHABLE) is DomainState.UNKNOWN


@pytest.mark.parametrize(
    ("driver", "flags", "table"),
    [
        ("qemu", MigrateFlag.LIVE, "qemu"),
        ("qemu", MigrateFlag.LIVE | MigrateFlag.PEER2PEER, "qemu-p2p"),
        ("qemu", MigrateFlag.LIVE | MigrateFlag.TUNNELLED | MigrateFlag.PEER2PEER, "qemu-p2p"),
        ("qemu", MigrateFlag.OFFLINE, "qemu-offline"),
        ("vz", MigrateFlag.LIVE, "vz"),
        ("vz-libvirt", MigrateFlag.LIVE | MigrateFlag.PEER2PEER, "vz"),
    ],
)
def test_the_table_follows_from_who_moves_the_guest(driver: str, flags: int, table: str) -> None:
    """A daemon that does all of it leaves other things behind than the relay's own phases."""
    assert table_of(driver, flags) == table
