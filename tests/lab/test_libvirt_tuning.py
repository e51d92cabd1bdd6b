"""What an operator may change about a running perform, and post-copy, on real libvirt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from libvirt_lab import LIVE
from steered import BUSY, busy_guest, steered

from worker.errors import Cancelled, Retry
from worker.hypervisors.base import DomainState, Stop
from worker.hypervisors.convergence import Convergence, StallAction, StallKind, Tuning, TuningKind
from worker.hypervisors.flags import MigrateFlag as Flag

if TYPE_CHECKING:
    from libvirt_lab import Guest, Stage

pytestmark = pytest.mark.lab

POSTCOPY = LIVE | int(Flag.POSTCOPY)
ARRIVED = (DomainState.ABSENT, DomainState.RUNNING)


@pytest.mark.parametrize(
    ("kind", "value"), [(TuningKind.DOWNTIME, 20_000), (TuningKind.SPEED, 512)], ids=["downtime", "speed"]
)
def test_a_wish_brings_the_end(stage: Stage, kind: TuningKind, value: int) -> None:
    """A guest that would be copied for ever moves when more downtime or more bandwidth is given."""
    guest, wish = busy_guest(stage, f"tuned-{kind}"), Tuning("t-1", kind, value)
    watch = steered(stage, wish, rounds=1)
    watch.due = lambda _: bool(watch.stalls)
    stage.migrate(guest.move(params=BUSY))
    assert watch.answers == [(wish, None)]
    assert stage.states(guest.uuid) == ARRIVED
    guest.beats_on()


def test_what_is_allowed_counts(stage: Stage) -> None:
    """Downtime that somebody else allowed meanwhile is what the verdict judges by."""
    guest, watch = stage.guest("allowed", memory=16, rate=16), steered(stage, rounds=1)
    with stage.by_hand("alpha", guest.uuid) as domain:
        domain.migrateSetMaxDowntime(400)
        watch.stopping = lambda: Stop.CANCEL if watch.stalls else None
        move = guest.move(params={"bandwidth": 8})
        with pytest.raises(Cancelled):
            stage.up_to_perform(move)
        stage.drop(move)
    assert "allowed 0.4 s" in watch.stalls[0][0].reason


def test_refusals(stage: Stage) -> None:
    """libvirt's refusal of a wish comes back with its code and class, and copying goes on."""
    guest = busy_guest(stage, "obstinate")
    wishes = [
        Tuning("t-1", TuningKind.POSTCOPY),
        Tuning("t-2", TuningKind.SPEED, 1 << 44),
        Tuning("t-3", TuningKind.SPEED, 17),
    ]
    watch = steered(stage, *wishes)
    watch.due = lambda progress: progress.iteration > 0
    watch.stopping = lambda: Stop.CANCEL if len(watch.answers) == 3 and watch.seen[-1].iteration > 1 else None
    move = guest.move(params=BUSY)
    with pytest.raises(Cancelled):
        stage.up_to_perform(move)
    stage.drop(move)
    errors = {wish.id: error for wish, error in watch.answers}
    assert errors["t-1"] is not None
    assert (errors["t-1"].code, errors["t-1"].retry) == ("VIR_ERR_OPERATION_INVALID", Retry.OPERATOR)
    assert errors["t-2"] is not None
    assert (errors["t-2"].code, errors["t-2"].retry) == ("VIR_ERR_OVERFLOW", Retry.PERMANENT)
    assert errors["t-3"] is None
    guest.beats_on()


def test_postcopy_after_precopy_refused(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Where libvirt refuses the switch after the first round that is logged, once, and the guest moves without."""
    guest, watch = busy_guest(stage, "unswitched"), steered(stage)
    watch.wishes = [Tuning("t-1", TuningKind.DOWNTIME, 20_000)]
    watch.due = lambda progress: progress.iteration > 3
    stage.migrate(guest.move(params=BUSY, convergence=Convergence(postcopy_after_precopy=True)))
    assert len([record for record in caplog.records if "post-copy" in record.message]) == 1
    assert stage.states(guest.uuid) == ARRIVED
    guest.beats_on()


def arrive_by_postcopy(stage: Stage, guest: Guest, **convergence: Any) -> None:
    """All phases of a move that would not end by copying first; the guest arrives with every beat."""
    stage.migrate(guest.move(POSTCOPY, params=BUSY, convergence=Convergence(**convergence)))
    assert stage.states(guest.uuid) == ARRIVED
    guest.beats_on()


@pytest.mark.netns
def test_postcopy_by_wish(netns_stage: Stage) -> None:
    """An operator's wish switches to post-copy, with a speed of its own."""
    wishes = [Tuning("t-1", TuningKind.POSTCOPY_SPEED, 64), Tuning("t-2", TuningKind.POSTCOPY)]
    guest, watch = busy_guest(netns_stage, "wished"), steered(netns_stage, *wishes)
    arrive_by_postcopy(netns_stage, guest)
    assert watch.answers == [(wish, None) for wish in wishes]


@pytest.mark.netns
def test_postcopy_by_stall(netns_stage: Stage) -> None:
    """With POSTCOPY a guest that does not converge is switched over."""
    guest, watch = busy_guest(netns_stage, "switched"), steered(netns_stage)
    arrive_by_postcopy(netns_stage, guest, on_stall=StallAction.POSTCOPY)
    [(stall, action, detail)] = watch.stalls
    assert (stall.kind, action) == (StallKind.NOT_CONVERGING, StallAction.POSTCOPY)
    assert detail == "the guest runs on at its destination and fetches the rest from there"


@pytest.mark.netns
def test_postcopy_by_timeout(netns_stage: Stage) -> None:
    """When the time is up the guest is switched over."""
    guest, watch = busy_guest(netns_stage, "timed"), steered(netns_stage)
    arrive_by_postcopy(netns_stage, guest, timeout_seconds=0.5, on_timeout=StallAction.POSTCOPY)
    assert [(stall.kind, action) for stall, action, _ in watch.stalls] == [(StallKind.TIMEOUT, StallAction.POSTCOPY)]


@pytest.mark.netns
def test_postcopy_after_precopy(netns_stage: Stage) -> None:
    """After the first round the guest is switched over, and no verdict was needed for that."""
    guest, watch = busy_guest(netns_stage, "once-round"), steered(netns_stage)
    arrive_by_postcopy(netns_stage, guest, postcopy_after_precopy=True)
    assert not watch.stalls
    assert max(progress.iteration for progress in watch.seen if not progress.postcopy) == 2
