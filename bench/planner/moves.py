"""What a method answers: moves, in an order, and what they took to find."""

from __future__ import annotations

from dataclasses import dataclass

from worker.contract.plans import Plan


@dataclass(frozen=True)
class Move:
    """One migration. ``after``: it starts when these have ended."""

    n: int
    guest: str
    destination: str
    after: tuple[int, ...] = ()
    bounce: bool = False
    """Whether it goes to a host in between."""


@dataclass(frozen=True)
class Found:
    """A method's answer to a problem."""

    method: str
    moves: tuple[Move, ...] = ()
    wall_seconds: float = 0
    """The whole process, start-up and documents included."""
    cpu_seconds: float = 0
    rss_mib: float = 0
    limited: bool = False
    note: str = ""
    error: str = ""
    plan: Plan | None = None
    """Where the method is this project's planner."""
