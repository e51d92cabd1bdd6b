"""Whether a running perform will come to an end by itself, and what is to be done: pure decisions.

A stall is judged by whole rounds of copying, never by the bytes that remain: those go up at the start
of every round and down to its end, whether or not the migration gets anywhere (orchestrators that
judged by them aborted migrations that were about to succeed). QEMU tells nothing in the first round:
no dirty rate, and as expected downtime the one that is allowed. After it, a round that is to bring the
end nearer must dirty less than was copied, and the expected downtime must fall from round to round. Where
only the second fails the verdict takes longer: a few bursts may look like that, but a guest whose every
round costs as much as the last one never arrives either (seen with one that was throttled to the utmost:
taking its dirty pages took longer than sending them).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.hypervisors.base import Progress
from worker.hypervisors.convergence import Convergence, Stall, StallAction, StallKind, StallPolicy

NEARER = 0.9
"""A round gets nearer to the end where dirty rate or expected downtime fall below this share.

QEMU counts a dirtied page once a round, so a guest that dirties all it has over and over shows just
what is copied in the same time, give or take what the clocks make of it: the dirty rate need not
reach the bandwidth.
"""
LONGER = 3
"""So many times the policy's rounds have to pass where less is dirtied than copied, and it still does not end."""
FULL_THROTTLE_PERCENT = 99
"""How far QEMU slows a guest down with auto-converge (its ``max-cpu-throttle``, which libvirt leaves alone)."""
REFUSALS = 3
"""So often an action that libvirt refuses is tried, in as many rounds."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Round:
    """One round of copying: the means of what was told while it went on, which was measured over the one before."""

    number: int = 0
    samples: int = 0
    """How many samples told something; with none of them the means are 0."""
    dirty: float = 0.0
    bandwidth: float = 0.0
    downtime: float = 0.0
    throttle_percent: int = 0

    def joined_by(self, progress: Progress) -> Round:
        """The same round with one more sample."""
        count = self.samples + 1
        return replace(
            self,
            samples=count,
            dirty=self.dirty + (progress.dirty_bytes_per_second - self.dirty) / count,
            bandwidth=self.bandwidth + (progress.bandwidth_bytes_per_second - self.bandwidth) / count,
            downtime=self.downtime + ((progress.expected_downtime_seconds or 0.0) - self.downtime) / count,
        )

    def in_vain(self, start: Round) -> bool:
        """Whether it got no nearer to the end than ``start``, with the guest slowed down no further since."""
        return (
            self.samples > 0
            and self.downtime >= NEARER * start.downtime
            and self.throttle_percent == start.throttle_percent
        )

    @property
    def busy(self) -> bool:
        """Whether about as much was dirtied as copied."""
        return self.dirty >= NEARER * self.bandwidth


@dataclass(frozen=True, slots=True)
class History:
    """What is kept of the samples of one perform."""

    policy: StallPolicy
    throttling: bool = False
    """QEMU slows the guest down step by step (AUTO_CONVERGE), as long as it dirties half of what is copied."""
    allowed_seconds: float = 0.0
    """The downtime that the guest is allowed."""
    rounds: tuple[Round, ...] = ()
    """The last rounds that were seen, as many as a verdict needs; the last one still goes on."""
    transferred_bytes: int = -1
    sent_seconds: float = 0.0
    """When bytes were last seen to be sent."""
    now_seconds: float = 0.0

    @property
    def iteration(self) -> int:
        """The round that goes on."""
        return self.rounds[-1].number if self.rounds else 0

    def after(self, progress: Progress, now_seconds: float, allowed_seconds: float) -> History:
        """The history with one more sample."""
        rounds = self.rounds
        if progress.iteration != self.iteration:
            new = Round(progress.iteration, throttle_percent=progress.throttle_percent)
            rounds = (*rounds, new)[-LONGER * self.policy.rounds - 1 :]
        if _tells(progress, allowed_seconds):
            rounds = (*rounds[:-1], rounds[-1].joined_by(progress))
        sent = progress.transferred_bytes != self.transferred_bytes
        return replace(
            self,
            allowed_seconds=allowed_seconds,
            rounds=rounds,
            transferred_bytes=progress.transferred_bytes,
            sent_seconds=now_seconds if sent else self.sent_seconds,
            now_seconds=now_seconds,
        )


def _tells(progress: Progress, allowed_seconds: float) -> bool:
    """Whether a sample tells something of a whole round, and the end is not at hand."""
    return (
        progress.iteration > 1
        and progress.dirty_bytes_per_second > 0
        and progress.bandwidth_bytes_per_second > 0
        and (progress.expected_downtime_seconds or 0.0) > allowed_seconds
    )


def stalls(history: History) -> tuple[Stall, ...]:
    """The verdict: every reason why perform will not end by itself."""
    found = (_no_data(history), _not_converging(history))
    return tuple(stall for stall in found if stall is not None)


def _no_data(history: History) -> Stall | None:
    silence = history.now_seconds - history.sent_seconds
    if history.transferred_bytes < 0 or silence < history.policy.no_data_seconds:
        return None
    reason = f"nothing was sent for {silence:.0f} s (after {_mib(history.transferred_bytes)})"
    return Stall(StallKind.NO_DATA, reason, history.iteration)


def _not_converging(history: History) -> Stall | None:
    count = history.policy.rounds
    busy = all(round_.busy for round_ in history.rounds[-count:])
    if not (busy and _in_vain(history.rounds, count)) and not _in_vain(history.rounds, LONGER * count):
        return None
    last = history.rounds[-1]
    if history.throttling and last.throttle_percent < FULL_THROTTLE_PERCENT:
        return None  # the next step is yet to come, and to show what it brings
    reason = (
        f"after round {last.number - 1}: the guest dirties {_mib(last.dirty)}/s, {_mib(last.bandwidth)}/s are copied, "
        f"expected downtime {last.downtime:.1f} s, allowed {history.allowed_seconds:.1f} s"
    )
    if not busy:
        reason += f", no less than {LONGER * count} rounds ago"
    if last.throttle_percent:
        reason += f", its CPUs are throttled by {last.throttle_percent} %"
    return Stall(
        StallKind.NOT_CONVERGING,
        reason,
        last.number,
        round(last.dirty),
        round(last.bandwidth),
        round(last.downtime, 3),
    )


def _in_vain(rounds: tuple[Round, ...], count: int) -> bool:
    """Whether none of the last ``count`` rounds got nearer to the end than the one before them."""
    if len(rounds) <= count:
        return False
    start, *row = rounds[-count - 1 :]
    return start.samples > 0 and all(round_.in_vain(start) for round_ in row)


def _mib(count: float) -> str:
    return f"{count / _MIB:.{0 if count >= 10 * _MIB else 1}f} MiB"


def measured(stall: Stall, progress: Progress | None) -> Stall:
    """A time-out with what was last told of perform: nothing was judged, so the verdict has no numbers of its own."""
    if stall.kind is not StallKind.TIMEOUT or progress is None:
        return stall
    return replace(
        stall,
        iteration=stall.iteration or progress.iteration,
        dirty_bytes_per_second=stall.dirty_bytes_per_second or progress.dirty_bytes_per_second,
        bandwidth_bytes_per_second=stall.bandwidth_bytes_per_second or progress.bandwidth_bytes_per_second,
        expected_downtime_seconds=stall.expected_downtime_seconds or progress.expected_downtime_seconds,
    )


@dataclass(frozen=True, slots=True)
class Reaction:
    """What is to be done about a stall now, and in words what comes of it or why it is not what was wished."""

    action: StallAction
    detail: str
    downtime_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """What was done already about a stall that lasts."""

    iteration: int
    refusals: int = 0
    settled: bool = False
    """Nothing more is to be done while it lasts."""

    def lasts(self, stall: StallKind, history: History) -> bool:
        """Whether a stall that is not seen right now may be the same one: one round judges as a whole."""
        return stall is StallKind.NOT_CONVERGING and history.iteration <= self.iteration


def react(
    stall: Stall, convergence: Convergence, policy: StallPolicy, allowed_seconds: float, told: Told | None
) -> Reaction | None:
    """What to do about a stall, or ``None`` where all was done already, or for this round."""
    timeout = stall.kind is StallKind.TIMEOUT
    if told is not None and (told.settled or (stall.iteration <= told.iteration and not timeout)):
        return None
    wish = convergence.on_timeout if timeout else convergence.on_stall
    if stall.kind is StallKind.NO_DATA and wish not in (StallAction.ABORT, StallAction.REPORT):
        return Reaction(StallAction.REPORT, f"{wish} would not help where no data flows")
    if wish is StallAction.DOWNTIME:
        return _step(policy, allowed_seconds)
    return Reaction(wish, _DETAILS[wish])


_DETAILS = {
    StallAction.REPORT: "",
    StallAction.ABORT: "the guest runs on at its source",
    StallAction.SUSPEND: "the guest stands still until it has moved",
    StallAction.POSTCOPY: "the guest runs on at its destination and fetches the rest from there",
}


def _step(policy: StallPolicy, allowed_seconds: float) -> Reaction:
    limit = policy.downtime_limit_seconds
    if allowed_seconds >= limit:
        return Reaction(StallAction.REPORT, f"the allowed downtime is at its limit of {limit:g} s")
    # libvirt takes whole milliseconds: a step is one at least, so that the steps come to an end
    new = min(allowed_seconds + max(policy.downtime_step_seconds, 0.001), limit)
    return Reaction(StallAction.DOWNTIME, f"a downtime of {new:.3g} s is allowed from now on", new)


def settle(stall: Stall, reaction: Reaction, refused: bool, told: Told | None) -> Told:
    """What is to be remembered of a reaction that was carried out, or refused."""
    refusals = (told.refusals if told else 0) + 1 if refused else 0
    step = reaction.action is StallAction.DOWNTIME
    return Told(stall.iteration, refusals, settled=refusals >= REFUSALS if refused else not step)
