"""The stall verdict and what follows from it: judged from histories of samples, without any hypervisor."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.hypervisors.base import Progress
from worker.hypervisors.convergence import Convergence, Stall, StallAction, StallKind, StallPolicy
from worker.hypervisors.stall import LONGER, NEARER, REFUSALS, History, Told, react, settle, stalls

POLICY = StallPolicy(rounds=3, no_data_seconds=60.0, downtime_step_seconds=0.5, downtime_limit_seconds=2.0)
ALLOWED = 0.3
MIB = 1 << 20
RATES = st.floats(min_value=0.1, max_value=1e5)
DOWNTIMES = st.floats(min_value=ALLOWED * 1.01, max_value=1e4)
ROUNDS = st.integers(min_value=1, max_value=5)


def sample(iteration: int, dirty: float = 0.0, bandwidth: float = 10.0, downtime: float | None = None) -> Progress:
    """What is told in a round; rates in MiB/s."""
    return Progress(
        iteration=iteration,
        dirty_bytes_per_second=round(dirty * MIB),
        bandwidth_bytes_per_second=round(bandwidth * MIB),
        expected_downtime_seconds=downtime,
    )


def told(samples: list[Progress], policy: StallPolicy = POLICY, allowed: float = ALLOWED) -> History:
    """The history of samples half a second apart, each with more bytes sent than the one before."""
    history = History(policy)
    for number, progress in enumerate(samples):
        history = history.after(replace(progress, transferred_bytes=number), number / 2, allowed)
    return history


def verdict(samples: list[Progress], policy: StallPolicy = POLICY) -> Stall | None:
    """Whether they do not converge."""
    return next(iter(stalls(told(samples, policy))), None)


def rounds(*downtimes: float, dirty: float = 10.0, first: int = 2) -> list[Progress]:
    """A sample of each of so many rounds, with the first round before them."""
    return [sample(1), *(sample(first + n, dirty, downtime=downtime) for n, downtime in enumerate(downtimes))]


def test_numbers_in_words() -> None:
    """The verdict of a guest that dirties six times what is copied says so in numbers."""
    stall = verdict(rounds(6.4, 6.4, 6.4, 6.4, 6.4, 6.4, 6.4, dirty=64))
    assert stall == Stall(
        StallKind.NOT_CONVERGING,
        "after round 7: the guest dirties 64 MiB/s, 10 MiB/s are copied, expected downtime 6.4 s, allowed 0.3 s",
        iteration=8,
        dirty_bytes_per_second=64 * MIB,
        bandwidth_bytes_per_second=10 * MIB,
        expected_downtime_seconds=6.4,
    )


def test_as_recorded() -> None:
    """A trace of QEMU 7.2, whose guest dirties all it has in every round, gets the verdict after four rounds."""
    trace = [
        (1, 0, 8413380, None),
        (2, 2009, 8427600, 1.556),
        (2, 2009, 8330079, 1.574),
        (3, 1967, 8413380, 1.371),
        (3, 1967, 8413380, 1.371),
        (4, 2037, 8413380, 1.371),
        (4, 2037, 8089788, 1.426),
        (5, 2037, 8330079, 1.385),
        (6, 2046, 8413380, 1.371),
    ]
    samples = [Progress(0, 0, 0, pages * 4096, bandwidth, n, downtime) for n, pages, bandwidth, downtime in trace]
    assert [verdict(samples[:count]) is not None for count in range(len(samples) + 1)].index(True) == 9


def test_guest_that_calms_down_is_judged_anew() -> None:
    """One calm round ends the verdict, and as many rounds as before are needed for the next one."""
    busy = rounds(6, 6, 6, 6)
    assert verdict(busy)
    calm = [*busy, sample(6, 1, downtime=0.6)]
    assert not verdict(calm)
    again = [*calm, *(sample(7 + n, 20, downtime=6) for n in range(4))]
    assert not verdict(again[:-2])
    assert verdict(again)


@pytest.mark.parametrize("throttling", [True, False])
def test_throttling_has_its_chance(throttling: bool) -> None:
    """While QEMU slows the guest down further there is no verdict, with auto-converge not before it does its utmost."""
    history, judged = History(POLICY, throttling=throttling), []
    throttles = [0, 0, 20, 20, 20, 20, 20, 90, 90, 90, 99, 99, 99, 99]
    for number, percent in enumerate(throttles):
        progress = replace(sample(2 + number, 10, downtime=6), throttle_percent=percent, transferred_bytes=number)
        history = history.after(progress, number, ALLOWED)
        judged += [(percent, number) for _ in stalls(history)]
    assert judged == ([] if throttling else [(20, 5), (20, 6)]) + [(99, 13)]
    assert stalls(history)[0].reason.endswith(", its CPUs are throttled by 99 %")


def test_downtime_within_what_is_allowed_is_the_end() -> None:
    """However fast a guest dirties memory: where the expected downtime is allowed, QEMU is about to switch over."""
    assert not verdict(rounds(*[0.2] * 9, dirty=1000))


@given(st.lists(st.builds(sample, st.integers(0, 1), RATES, RATES, st.none() | DOWNTIMES)), ROUNDS)
def test_never_in_the_first_round(samples: list[Progress], count: int) -> None:
    """Whatever is told in the first round, nothing is judged before it is over."""
    assert not verdict(samples, replace(POLICY, rounds=count))


@given(st.lists(st.tuples(DOWNTIMES, st.floats(0, NEARER * 0.99), st.integers(1, 3)), max_size=20), ROUNDS)
def test_not_soon_where_less_is_dirtied_than_copied(told_rounds: list[tuple[float, float, int]], count: int) -> None:
    """Where each round dirties less than is copied there is no verdict for a long time, however estimates jump."""
    samples = [sample(1)]
    for number, (downtime, share, seen) in enumerate(told_rounds[: LONGER * count]):
        samples += [sample(2 + number, 10 * share, downtime=downtime)] * seen
    assert not verdict(samples, replace(POLICY, rounds=count))


@given(st.floats(0.01, 0.8), ROUNDS)
def test_rounds_that_cost_always_the_same(share: float, count: int) -> None:
    """A guest that dirties little, but whose rounds get no shorter, gets the verdict in the end."""
    told_rounds = rounds(*[0.4] * (LONGER * count + 1), dirty=10 * share)
    stall = verdict(told_rounds, replace(POLICY, rounds=count))
    assert stall is not None
    assert stall.reason.endswith(f"expected downtime 0.4 s, allowed 0.3 s, no less than {LONGER * count} rounds ago")
    assert not verdict(told_rounds[:-1], replace(POLICY, rounds=count))


@given(DOWNTIMES, st.floats(0.1, NEARER * 0.99), RATES, ROUNDS)
def test_never_for_a_converging_history(start: float, share: float, dirty: float, count: int) -> None:
    """Where the expected downtime falls from round to round there is no verdict, whatever the guest dirties."""
    samples = rounds(*(start * share**n for n in range(30)), dirty=dirty)
    assert not any(verdict(samples[:end], replace(POLICY, rounds=count)) for end in range(len(samples)))


@given(
    st.lists(st.sampled_from([1, 2, 7]), min_size=1, max_size=40),
    st.floats(1, 100),
    st.lists(st.floats(1.0, 1.05), min_size=40, max_size=40),
    ROUNDS,
)
def test_always_for_a_diverging_history(steps: list[int], share: float, noise: list[float], count: int) -> None:
    """A guest that never dirties less than is copied gets the verdict, after as many rounds as were seen."""
    number, samples = 2, [sample(1)]
    for step, jitter in zip(steps, noise, strict=False):
        samples.append(sample(number, 10 * share, downtime=2 * jitter))
        number += step
    assert (verdict(samples, replace(POLICY, rounds=count)) is not None) is (len(steps) > count)


@given(st.lists(st.tuples(st.floats(0, 20), DOWNTIMES), min_size=4, max_size=12), st.floats(1, 10))
def test_monotone_in_the_dirty_rate(told_rounds: list[tuple[float, float]], factor: float) -> None:
    """A guest that dirties more, all else alike, is judged no milder."""

    def judged(by: float) -> bool:
        return bool(
            verdict(
                [sample(1), *(sample(2 + n, rate * by + 0.1, downtime=d) for n, (rate, d) in enumerate(told_rounds))]
            )
        )

    assert judged(factor) or not judged(1)


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.1, 40)), min_size=1, max_size=30))
def test_no_data(told_bytes: list[tuple[int, float]]) -> None:
    """Silence is counted from the last byte that was seen to be sent, in any round."""
    history, now, sent, last = History(POLICY), 0.0, -1, 0.0
    for more, seconds in told_bytes:
        now += seconds
        if more or sent < 0:
            last = now
        sent = max(sent, 0) + more
        history = history.after(Progress(transferred_bytes=sent), now, ALLOWED)
        silent = now - last >= POLICY.no_data_seconds
        assert [stall.kind for stall in stalls(history)] == [StallKind.NO_DATA] * silent


STALL = Stall(StallKind.NOT_CONVERGING, "it dirties", iteration=5)
SILENCE = Stall(StallKind.NO_DATA, "nothing was sent", iteration=5)


@pytest.mark.parametrize("action", [action for action in StallAction if action is not StallAction.DOWNTIME])
def test_an_action_is_taken_once(action: StallAction) -> None:
    """A stall that lasts is answered once, as was wished."""
    wish = Convergence(on_stall=action)
    reaction = react(STALL, wish, POLICY, ALLOWED, None)
    assert reaction is not None
    assert reaction.action is action
    done = settle(STALL, reaction, False, None)
    assert react(replace(STALL, iteration=9), wish, POLICY, ALLOWED, done) is None


def test_downtime_goes_up_round_by_round_to_its_limit() -> None:
    """Each further round allows one step more; at the limit that is said, once."""
    wish, done, allowed, steps = Convergence(on_stall=StallAction.DOWNTIME), None, ALLOWED, []
    for iteration in range(5, 30):
        stall = replace(STALL, iteration=iteration)
        reaction = react(stall, wish, POLICY, allowed, done)
        if reaction is None:
            continue
        done = settle(stall, reaction, False, done)
        assert react(stall, wish, POLICY, allowed, done) is None  # not twice in a round
        allowed = reaction.downtime_seconds or allowed
        steps.append((reaction.action, round(allowed, 3)))
    raised = [(StallAction.DOWNTIME, seconds) for seconds in (0.8, 1.3, 1.8, 2.0)]
    assert steps == [*raised, (StallAction.REPORT, 2.0)]


@pytest.mark.parametrize("action", [StallAction.SUSPEND, StallAction.POSTCOPY, StallAction.DOWNTIME])
def test_a_refusal_is_not_repeated_without_end(action: StallAction) -> None:
    """What libvirt refuses is tried again in the next rounds, a few times in all."""
    wish, done, tries = Convergence(on_stall=action), None, 0
    for iteration in range(5, 30):
        stall = replace(STALL, iteration=iteration)
        if (reaction := react(stall, wish, POLICY, ALLOWED, done)) is not None:
            done, tries = settle(stall, reaction, True, done), tries + 1
    assert tries == REFUSALS


@pytest.mark.parametrize("action", list(StallAction))
def test_silence_is_aborted_or_reported(action: StallAction) -> None:
    """Where no data flows nothing but to abort would help: every other action is a report that says so."""
    reaction = react(SILENCE, Convergence(on_stall=action), POLICY, ALLOWED, None)
    assert reaction is not None
    assert reaction.action is (StallAction.ABORT if action is StallAction.ABORT else StallAction.REPORT)
    assert bool(reaction.detail) is (action is not StallAction.REPORT)


def test_timeout_has_an_action_of_its_own() -> None:
    """When the time is up what was asked for the timeout is done, once, whatever was done about a stall."""
    late = Stall(StallKind.TIMEOUT, "still copying", iteration=1)
    wish = Convergence(on_stall=StallAction.ABORT, on_timeout=StallAction.SUSPEND)
    reaction = react(late, wish, POLICY, ALLOWED, None)
    assert reaction is not None
    assert reaction.action is StallAction.SUSPEND
    assert react(late, wish, POLICY, ALLOWED, Told(1, refusals=1)) == reaction
    assert react(late, wish, POLICY, ALLOWED, settle(late, reaction, False, None)) is None
