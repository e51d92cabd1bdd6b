"""What an agent has in hand: which claims keep others away, and for how long results are kept."""

from __future__ import annotations

from contextlib import suppress

from worker.contract import RECOVER, Baton
from worker.running import MOST_KEPT, Running


def baton(**more: object) -> Baton:
    """A baton with nothing special in it."""
    known: dict[str, object] = {"migration": "m", "attempt": 1, "epoch": 1, "domain": "web", "uuid": "u"}
    return Baton.model_validate(known | {"source": "alpha", "destination": "beta", "flags": 1} | more)


def test_a_claim_that_was_not_won_holds_nobody_away() -> None:
    """Copies of one message that race for their claim are all registered; only the winner keeps the others away."""
    running = Running()
    with running.phase("first", "m", "perform"), running.phase("second", "m", "perform"):
        assert running.holding("m", "second") == ""
        running.won("first")
        assert running.holding("m", "second") == "perform"
        assert running.holding("m", "first") == ""  # nobody keeps himself away


def test_a_claim_holds_its_own_migration_only_and_only_while_it_lasts() -> None:
    """Another migration is free, and so is this one once the result is in the journal."""
    running = Running()
    with running.phase("first", "m", "perform"):
        running.won("first")
        assert "first" in running
        assert running.holding("other", "second") == ""
    assert "first" not in running
    assert running.holding("m", "second") == ""
    with running.phase("first", "m", "perform"):  # a token that was won once must be won anew
        assert running.holding("m", "second") == ""


def test_a_phase_that_fails_lets_go() -> None:
    """However a phase ends, its claim is no longer in hand."""
    running = Running()
    with suppress(RuntimeError), running.phase("first", "m", "perform"):
        running.won("first")
        raise RuntimeError("it broke")
    assert "first" not in running
    assert running.holding("m", "") == running.busy_with("m", "") == ""


def test_a_look_of_a_recovery_keeps_nobody_away() -> None:
    """The look before may not have ended when the next message comes, and it changes nothing, won or not."""
    running = Running()
    with running.phase("look", "m", RECOVER):
        running.won("look")
        assert running.holding("m", "") == running.busy_with("m", "") == ""
        with running.phase("first", "m", "finish"):
            running.won("first")
            assert running.holding("m", "") == running.busy_with("m", "") == "finish"


def test_what_is_registered_is_busy_won_or_not() -> None:
    """A claim on its way to Redis may be won there already."""
    running = Running()
    with running.phase("first", "m", "prepare"):
        assert running.busy_with("m", "second") == "prepare"
        assert running.busy_with("m", "first") == ""
        assert running.busy_with("other", "second") == ""
    assert running.busy_with("m", "second") == ""


def test_a_result_answers_for_its_own_phase_of_its_own_attempt() -> None:
    """What was done in one phase, attempt or migration says nothing about another one."""
    running, after = Running(), baton()
    running.keep("prepare", after)
    assert running.kept("prepare", baton()) is after
    assert running.kept("perform", baton()) is None
    assert running.kept("prepare", baton(attempt=2)) is None
    assert running.kept("prepare", baton(migration="other")) is None


def test_a_result_answers_only_in_its_own_epoch() -> None:
    """What was done before an epoch began is not taken for its result, but where that earlier epoch is asked for."""
    running, after = Running(), baton(epoch=1)
    running.keep("perform", after)
    assert running.kept("perform", baton(epoch=2)) is None
    assert running.kept("perform", baton(epoch=2), epoch=1) is after
    assert running.kept("perform", baton(epoch=1), epoch=2) is None


def test_a_result_answers_only_for_as_many_recoveries() -> None:
    """A recovery that lets the chain go on asks for the phase anew, in the same epoch too."""
    running, after = Running(), baton(recoveries=1)
    running.keep("finish", after)
    assert running.kept("finish", baton(recoveries=1)) is after
    assert running.kept("finish", baton(recoveries=0)) is None
    assert running.kept("finish", baton(recoveries=2)) is None
    assert running.kept("finish", baton(epoch=2, recoveries=2), epoch=1) is None


def test_the_last_result_of_a_phase_is_the_one_kept() -> None:
    """A phase that was done again is known by what it returned then."""
    running, again = Running(), baton(epoch=2)
    running.keep("finish", baton(epoch=1))
    running.keep("finish", again)
    assert running.kept("finish", baton(epoch=1)) is None
    assert running.kept("finish", baton(epoch=2)) is again


def test_the_oldest_results_go_first() -> None:
    """Memory has a bound; what was done last is what may be asked for."""
    running, extra = Running(), 3
    for attempt in range(MOST_KEPT + extra):
        running.keep("perform", baton(attempt=attempt))
    there = [attempt for attempt in range(MOST_KEPT + extra) if running.kept("perform", baton(attempt=attempt))]
    assert there == list(range(extra, MOST_KEPT + extra))


def test_a_result_that_was_kept_again_is_a_new_one() -> None:
    """The result of a phase that was done again goes when its turn comes anew, not with what it replaced."""
    running = Running()
    for attempt in range(MOST_KEPT):
        running.keep("perform", baton(attempt=attempt))
    running.keep("perform", baton(attempt=0, epoch=2))
    running.keep("perform", baton(attempt=MOST_KEPT))
    assert running.kept("perform", baton(attempt=0, epoch=2))
    assert running.kept("perform", baton(attempt=1)) is None
