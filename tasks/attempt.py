"""What follows from what happened in an attempt: pure decisions, no Redis, no hypervisor."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from tasks.recovery import FRESH_SECONDS
from worker.contract import Baton, ErrorInfo
from worker.errors import DRAINED, Retry
from worker.hypervisors.base import DomainState, Phase
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.verdict import VerdictKind, verdict
from worker.settings import AttemptSettings


class Ending(StrEnum):
    """How an attempt ended."""

    MOVED = "moved"
    """The domain is on the destination, and only there."""
    GAVE_UP = "gave-up"
    """The domain is on its source; the migration is over."""
    AGAIN = "again"
    """The domain is on its source; another attempt may succeed."""
    IN_DOUBT = "in-doubt"
    """What both sides show does not add up; nothing is guessed."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How an attempt ended, and why."""

    ending: Ending
    why: str
    error: ErrorInfo | None = None


def following(phase: Phase, failed: bool) -> Phase | None:
    """The phase after this one, as ``virDomainMigrateVersion3Full`` goes on.

    A failure before perform goes straight to confirm, which lets the source run on and concludes; a
    failure in perform goes to finish first, because only the destination can say what it has.
    """
    if failed and phase in (Phase.BEGIN, Phase.PREPARE):
        return Phase.CONFIRM
    order = list(Phase)
    position = order.index(phase) + 1
    return order[position] if position < len(order) else None


def may_undo(baton: Baton, waited_seconds: float = 0.0) -> bool:
    """Whether the source may be told to run on: it is proved that the destination does not.

    Before perform nothing can run there; afterwards finish must have seen, just before this phase and
    ``waited_seconds`` in the queue, that nothing is left there.
    """
    if not baton.performed:
        return True
    return baton.destination_state is DomainState.ABSENT and waited_seconds <= FRESH_SECONDS


MOVED_ON = (DomainState.PAUSED_OUT, DomainState.ABSENT)
"""What a source never shows before perform: then Redis has forgotten that it was called."""


def conclude(baton: Baton, profile: str = "qemu") -> Conclusion:
    """How the attempt ended, from its first error and from what both sides showed at its end.

    ``profile``: of the source, since drivers differ in what a good move leaves there.
    """
    error = baton.error
    if error is None:
        return Conclusion(Ending.MOVED, "all phases succeeded", _still_defined(baton))
    if not baton.performed and baton.source_state in MOVED_ON:
        return Conclusion(Ending.IN_DOUBT, "perform was never started, and the source has let go of the guest", error)
    if not baton.performed:
        return _safe(baton, error, "perform was never started")
    here = baton.source_state or DomainState.UNKNOWN
    seen = verdict(
        here,
        baton.destination_state or DomainState.UNKNOWN,
        baton.was,
    )
    match seen.kind:
        case VerdictKind.MOVED:
            return Conclusion(Ending.MOVED, seen.reason, error)
        case VerdictKind.STUB_LEFT if here is DomainState.SHUTOFF and keeps_definition(profile, baton.flags):
            # It was to stay, and cannot run by itself. Elsewhere a recovery takes it away: a crash left it, or
            # libvirt's confirm, which does not remove it where the source's QEMU died after perform.
            return Conclusion(Ending.MOVED, seen.reason, error)
        case VerdictKind.LEFTOVERS if _was_copied(baton):
            return Conclusion(Ending.MOVED, "its definition is on both sides, as asked for", error)
        case VerdictKind.SAFE_ON_SOURCE:
            return _safe(baton, error, seen.reason)
        case VerdictKind.LEFTOVERS if not baton.recoveries and not baton.flags & MigrateFlag.OFFLINE:
            # A recovery may clear them away; what it leaves is told.
            return Conclusion(Ending.IN_DOUBT, seen.reason, error)
        case VerdictKind.LEFTOVERS:
            told = f"{error.message}; {seen.reason}: remove what is left there before the next try"
            remains = error.model_copy(update={"message": told, "retry": Retry.OPERATOR, "after": Retry.OPERATOR})
            return _safe(baton, remains, seen.reason)
        case _:
            return Conclusion(Ending.IN_DOUBT, seen.reason, error)


def keeps_definition(profile: str, flags: int) -> bool:
    """Whether a source whose guest has moved is to keep its definition. A Virtuozzo domain always leaves."""
    return profile == "qemu" and not flags & MigrateFlag.UNDEFINE_SOURCE


def _still_defined(baton: Baton) -> ErrorInfo | None:
    """What is wrong where an offline move went well and the source has its definition all the same."""
    undefined = MigrateFlag.OFFLINE | MigrateFlag.UNDEFINE_SOURCE
    if baton.flags & undefined != undefined or baton.source_state in (None, DomainState.ABSENT, DomainState.UNKNOWN):
        return None
    text = (
        f"{baton.domain} is on {baton.destination}, and {baton.source} still shows it ({baton.source_state}): "
        "undefine it there before anybody starts both"
    )
    return ErrorInfo(code="still-defined", message=text, phase=Phase.CONFIRM)


def _was_copied(baton: Baton) -> bool:
    """Whether two stopped copies are what was asked for: an offline move that keeps the source's definition."""
    keeps = bool(baton.flags & MigrateFlag.OFFLINE) and not baton.flags & MigrateFlag.UNDEFINE_SOURCE
    both = baton.source_state is baton.destination_state is DomainState.SHUTOFF
    # Only after a good finish is the definition on the destination known to be whole.
    return keeps and both and baton.error is not None and baton.error.phase == Phase.CONFIRM


def _safe(baton: Baton, error: ErrorInfo, why: str) -> Conclusion:
    counted_out = baton.last_attempt and not gave_way(error)
    if not error.cancelled and not counted_out and error.after in (Retry.TRANSIENT, Retry.REPREPARE):
        return Conclusion(Ending.AGAIN, why, error)
    return Conclusion(Ending.GAVE_UP, why, error)


def gave_way(error: ErrorInfo) -> bool:
    """Whether the attempt ended because an agent is being stopped: it does not count, and the next one waits for it."""
    return error.code == DRAINED


def pause_before(attempt: int, settings: AttemptSettings, dice: random.Random | None = None) -> float:
    """Seconds to wait before the attempt after the given one: exponential, with a fifth of jitter."""
    pause = min(settings.initial * settings.factor ** (attempt - 1), settings.limit)
    return pause * (1 + 0.2 * (dice or random).random())
