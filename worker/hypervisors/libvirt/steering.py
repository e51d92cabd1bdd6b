"""What is done about a running perform: operators' wishes, timeouts, and the policy for stalls, on libvirt.

What is to be done is decided in ``worker.hypervisors.stall``; here it is carried out and told.

A guest suspended here is not a guest paused by its user, and nothing needs to remember that: libvirt
counts it as paused by the migration. The destination lets it run when it has arrived; where the move
fails or is cancelled libvirt lets it run on at the source, because it ran when begin was called. What a
crash leaves is ``PAUSED_OUT``, like after any perform: the journal's record says that the guest was not
paused before, so whoever recovers it lets it run, on the one side or the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import libvirt

from worker.errors import HypervisorError
from worker.hypervisors.base import Move, Progress, Watch
from worker.hypervisors.convergence import Stall, StallAction, StallKind, StallPolicy, Tuning, TuningKind
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.libvirt.errors import calling, classed
from worker.hypervisors.libvirt.states import progress_of
from worker.hypervisors.stall import History, Reaction, Told, react, settle, stalls

log = logging.getLogger(__name__)

DOWNTIME_SECONDS = 0.3
"""What QEMU allows where nobody says otherwise, and libvirt does not tell."""


class Steering:
    """What the one who watches over a perform knows of it, and his hands."""

    def __init__(self, domain: libvirt.virDomain, watch: Watch, move: Move, policy: StallPolicy) -> None:
        self._domain, self._watch = domain, watch
        self._convergence, self._policy = move.convergence, policy
        self._history = History(policy, throttling=bool(move.flags & MigrateFlag.AUTO_CONVERGE))
        self._allowed = DOWNTIME_SECONDS
        self._told: dict[StallKind, Told] = {}
        self._asked_for_postcopy = False
        self._postcopy = False
        self._suspended = False

    def tell(self, stats: Mapping[str, int]) -> Progress | None:
        """Tell the watch how far perform is; ``None`` where libvirt did not say (not yet, or no longer)."""
        if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE:
            return None
        progress = progress_of(stats)
        if not progress.total_bytes and self._history.transferred_bytes > 0:
            return None  # the emptied statistics of a job that is being cleaned up
        if progress.postcopy or self._postcopy:
            progress = replace(progress, postcopy=True, description="fetching the rest from the source")
        self._watch.progress(progress)
        return progress

    def steer(self, progress: Progress | None, seconds: float) -> str | None:
        """Do what was wished, and what is due after so many seconds. Returns why to abort perform, if so."""
        if progress is None:
            return None  # there is no job yet, or QEMU does not answer: a call would hang as well
        while (wish := self._watch.tuning()) is not None:
            self._watch.tuned(wish, self._refusal(partial(self._tune, wish)))
        if progress.postcopy or self._postcopy:
            return None  # no way back: nothing to be steered
        self._note(progress, seconds)
        if self._convergence.postcopy_after_precopy and progress.iteration > 1:
            self._switch_after_precopy()
        return self._answer(self._timeout(seconds)) or self._judge()

    def undo(self) -> None:
        """After a perform that failed: let a guest run on that was suspended when libvirt had just let it run.

        A guest paused by its user would have been paused before; one paused by the migration is left to
        confirm, which knows the other side. Never raises.
        """
        if not self._suspended:
            return
        try:
            if self._domain.state() == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER]:
                self._domain.resume()
        except libvirt.libvirtError as error:
            log.warning("a guest suspended for its move could not be resumed: %s", classed(error, effect=False))

    def _note(self, progress: Progress, seconds: float) -> None:
        """Keep the sample; once a round ask for the downtime that is allowed, which anybody may have changed."""
        if progress.iteration > 1 and progress.iteration != self._history.iteration:
            self._allowed = self._allowed_now() or self._allowed
        self._history = self._history.after(progress, seconds, self._allowed)

    def _allowed_now(self) -> float | None:
        try:
            # libvirt-python 9 returns None where the call failed
            milliseconds: int | None = self._domain.migrateGetMaxDowntime()
        except libvirt.libvirtError as error:
            log.debug("the allowed downtime is not told: %s", classed(error, effect=False))
            return None
        return milliseconds / 1000 if milliseconds is not None else None

    def _timeout(self, seconds: float) -> Stall | None:
        limit = self._convergence.timeout_seconds
        if limit is None or seconds < limit:
            return None
        return Stall(StallKind.TIMEOUT, f"still copying after {limit:g} s", self._history.iteration)

    def _judge(self) -> str | None:
        """React to the stalls there are; forget what was done about those that are over."""
        found = stalls(self._history)
        for kind in [kind for kind in self._told if kind not in (StallKind.TIMEOUT, *(stall.kind for stall in found))]:
            if not self._told[kind].lasts(kind, self._history):
                del self._told[kind]
        reasons = [self._answer(stall) for stall in found]
        return next((reason for reason in reasons if reason), None)

    def _answer(self, stall: Stall | None) -> str | None:
        """Carry out what is due about a stall and tell it. Returns the reason where that is to abort."""
        if stall is None:
            return None
        told = self._told.get(stall.kind)
        reaction = react(stall, self._convergence, self._policy, self._allowed, told)
        if reaction is None:
            return None
        failure = self._refusal(partial(self._act, reaction))
        self._told[stall.kind] = settle(stall, reaction, failure is not None, told)
        detail = reaction.detail if failure is None else f"libvirt refused it: {failure.message}"
        self._watch.stalled(stall, reaction.action, detail)
        return stall.reason if reaction.action is StallAction.ABORT else None

    def _act(self, reaction: Reaction) -> None:
        match reaction.action:
            case StallAction.SUSPEND:
                self._suspend()
            case StallAction.POSTCOPY:
                self._start_postcopy()
            case StallAction.DOWNTIME:
                self._allow(round(reaction.downtime_seconds * 1000))
            case StallAction.REPORT | StallAction.ABORT:
                pass  # aborting is done by whoever watches, until it has worked

    def _tune(self, wish: Tuning) -> None:
        match wish.kind:
            case TuningKind.DOWNTIME:
                self._allow(wish.value)
            case TuningKind.SPEED:
                self._domain.migrateSetMaxSpeed(wish.value, 0)
            case TuningKind.POSTCOPY_SPEED:
                self._domain.migrateSetMaxSpeed(wish.value, libvirt.VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY)
            case TuningKind.POSTCOPY:
                self._start_postcopy()

    def _suspend(self) -> None:
        if self._domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING:
            self._domain.suspend()
            self._suspended = True

    def _start_postcopy(self) -> None:
        self._domain.migrateStartPostCopy()
        self._postcopy = True

    def _allow(self, milliseconds: int) -> None:
        self._domain.migrateSetMaxDowntime(milliseconds)
        self._allowed = milliseconds / 1000

    def _switch_after_precopy(self) -> None:
        """As virsh does: once, and a refusal is no reason to give up the move."""
        if self._asked_for_postcopy:
            return
        self._asked_for_postcopy = True
        if (failure := self._refusal(self._start_postcopy)) is not None:
            log.warning("post-copy after the first round was refused: %s", failure)

    @staticmethod
    def _refusal(call: Callable[[], None]) -> HypervisorError | None:
        """Make a call that changes nothing where it fails; libvirt's refusal is returned, not raised."""
        try:
            calling(call, effect=False)
        except HypervisorError as failure:
            return failure
        return None
