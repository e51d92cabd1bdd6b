"""Where is the VM? What the two hosts show after a doubtful end, and what that means (pure).

The table is section 3.5 of the Virtuozzo facts, completed over every pair of states. "Live" is a guest
with its memory (running or paused); a copy that is only registered, stopped, is a stub.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from worker.hypervisors.base import DomainState

_PAUSED = (DomainState.PAUSED, DomainState.PAUSED_OUT)
_STOPPED = (DomainState.SHUTOFF, DomainState.CRASHED)
_ARRIVING = (DomainState.MIGRATING, DomainState.PAUSED_IN)
_ARRIVED = (DomainState.RUNNING, DomainState.PAUSED)


class VerdictKind(StrEnum):
    """What is the case, and by that what may be done."""

    MOVED = "moved"
    """The destination has it, the source let go."""
    SAFE_ON_SOURCE = "safe-on-source"
    """The source has it as it was, the destination has nothing: a new attempt is possible."""
    STILL_RUNNING = "still-running"
    """The migration is not over: wait, never submit again."""
    STUB_LEFT = "stub-left"
    """The destination has it; a copy that must never run again is still registered on the source."""
    RESUME_SOURCE = "resume-source"
    """Paused on the source, and nothing runs on the destination: it may be resumed on the source."""
    LOST = "lost"
    """Its running state is nowhere: an operator decides where to start it."""
    LEFTOVERS = "leftovers"
    """The source has it; the destination is still cleaning up, or was left with remains."""
    SPLIT_BRAIN = "split-brain"
    """Running on both: raise the alarm, touch nothing."""
    UNKNOWN = "unknown"
    """Cannot be told: wait and look again, never submit again."""


class Verdict(NamedTuple):
    """A verdict and its reason in words."""

    kind: VerdictKind
    reason: str


def verdict(source: DomainState, destination: DomainState, was: DomainState) -> Verdict:
    """What the two sides show, given the state in which the domain was before (``was``, on the source)."""
    if DomainState.UNKNOWN in (source, destination):
        return Verdict(VerdictKind.UNKNOWN, "one side cannot be seen")
    if source in _ARRIVING:
        return Verdict(VerdictKind.STILL_RUNNING, "the source shows it migrating")
    if source is DomainState.ABSENT:
        return _source_absent(destination, was)
    if source is DomainState.RUNNING:
        return _source_running(destination)
    if source in _PAUSED:
        return _source_paused(destination, was)
    return _source_stopped(destination, was)


def _source_absent(destination: DomainState, was: DomainState) -> Verdict:
    if destination in _ARRIVED or (destination in _STOPPED and was in _STOPPED):
        return Verdict(VerdictKind.MOVED, f"gone from the source, {destination} on the destination")
    if destination in _ARRIVING:
        return Verdict(VerdictKind.STILL_RUNNING, "gone from the source, the destination is not done yet")
    if destination is DomainState.ABSENT:
        return Verdict(VerdictKind.LOST, "registered on neither side")
    return Verdict(VerdictKind.LOST, f"gone from the source, {destination} on the destination")


def _source_running(destination: DomainState) -> Verdict:
    if destination is DomainState.ABSENT:
        return Verdict(VerdictKind.SAFE_ON_SOURCE, "runs on the source, absent on the destination")
    if destination is DomainState.RUNNING:
        return Verdict(VerdictKind.SPLIT_BRAIN, "runs on both sides")
    return Verdict(VerdictKind.LEFTOVERS, f"runs on the source, {destination} on the destination")


def _source_paused(destination: DomainState, was: DomainState) -> Verdict:
    if destination is DomainState.RUNNING:
        return Verdict(VerdictKind.STUB_LEFT, "runs on the destination, a paused copy is on the source")
    if destination in _ARRIVING:
        return Verdict(VerdictKind.STILL_RUNNING, "paused on the source, the destination is not done yet")
    if destination in (DomainState.PAUSED, DomainState.PAUSED_OUT):
        return Verdict(VerdictKind.UNKNOWN, "paused on both sides: either may be the newer one")
    if was in _PAUSED:
        if destination is DomainState.ABSENT:
            return Verdict(VerdictKind.SAFE_ON_SOURCE, "paused on the source as before")
        return Verdict(VerdictKind.LEFTOVERS, f"paused on the source as before, {destination} on the destination")
    return Verdict(VerdictKind.RESUME_SOURCE, f"paused on the source, {destination} on the destination")


def _source_stopped(destination: DomainState, was: DomainState) -> Verdict:
    if destination in _ARRIVED:
        return Verdict(VerdictKind.STUB_LEFT, f"{destination} on the destination, a stub is on the source")
    if was in _STOPPED:
        if destination is DomainState.ABSENT:
            return Verdict(VerdictKind.SAFE_ON_SOURCE, "stopped on the source as before")
        return Verdict(VerdictKind.LEFTOVERS, f"stopped on the source as before, {destination} on the destination")
    if destination in _ARRIVING:
        return Verdict(VerdictKind.STILL_RUNNING, "stopped on the source, the destination is not done yet")
    if destination is DomainState.PAUSED_OUT:
        return Verdict(VerdictKind.UNKNOWN, "the destination is moving it on already")
    return Verdict(VerdictKind.LOST, f"stopped on the source, {destination} on the destination")
