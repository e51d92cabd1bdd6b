"""Rules that are wrong on purpose, to see that the explorer finds what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from tasks import attempt, recovery
from tasks.recovery import Action, Interrupted, Shown, View

Patch = tuple[object, str, Any]
decide = recovery.decide


@dataclass(frozen=True, slots=True)
class Broken:
    """One rule, and how it is broken."""

    about: str
    patches: tuple[Patch, ...] = ()
    scripts: tuple[tuple[str, str, str], ...] = ()
    """Name of a script, a part of its text, what stands there instead."""
    unguarded: bool = False
    """Nor do the agent and its driver keep a second perform away."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Broken as long as the block lasts."""
        with ExitStack() as stack:
            for where, name, value in self.patches:
                stack.enter_context(mock.patch.object(where, name, value))
            yield


def _believing(belief: Callable[[View | None, float], View | None]) -> Callable[..., Action]:
    """``decide`` for one who believes something about the destination."""

    def believer(case: Interrupted, source: View | None, destination: View | None, now: float) -> Action:
        return decide(case, source, belief(destination, now), now)

    return believer


def _absent_where_unreachable(view: View | None, _: float) -> View | None:
    return replace(view, shown=Shown.ABSENT) if view and view.shown is Shown.UNREACHABLE else view


BROKEN = {
    "resume-unseen": Broken(
        "the source is resumed without a look at the destination",
        ((recovery, "decide", _believing(lambda _, now: View(Shown.ABSENT, now))),),
    ),
    "remove-unseen": Broken(
        "the source's copy is removed without a look at the destination",
        ((recovery, "decide", _believing(lambda _, now: View(Shown.RUNNING, now))),),
    ),
    "absent-where-unreachable": Broken(
        "a destination that cannot be reached is taken for one that has nothing",
        ((recovery, "decide", _believing(_absent_where_unreachable)),),
    ),
    "undo-unproved": Broken(
        "confirm(cancelled) is called without proof that the destination does not run the guest",
        ((attempt, "may_undo", lambda *_: True),),
    ),
    "unfenced": Broken(
        "perform may be claimed twice, and the result of a claim that was taken over is journaled",
        scripts=(
            ("claim", "return {'CONFLICT'}", "redis.call('HDEL', record, 'done')"),
            ("claim", "if baton ~= ARGV[5] then return {'FORGED'} end", ""),
            ("advance", "or token ~= ARGV[2]", ""),
        ),
        unguarded=True,
    ),
    "unguarded": Broken(
        "neither the agent nor its driver keeps a second perform away where Redis forgot the first one's claim",
        unguarded=True,
    ),
}
"""By the name that ``--broken`` takes."""
