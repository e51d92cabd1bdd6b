"""What the models of both hypervisors have in common: two hosts, one guest, and the ghosts that see what goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

SOURCE, DESTINATION = 0, 1
Answer = Any
"""What a call answers: a state as text, ``("error", code, retry, after)``, or ``("cancelled",)``."""


def failed(code: str, retry: str, after: str) -> Answer:
    """A call's error."""
    return ("error", code, retry, after)


class Step(NamedTuple):
    """Something that happens at the hypervisors."""

    label: str
    after: Pair


class Fault(NamedTuple):
    """Something that goes wrong there."""

    label: str
    after: Pair
    takes_agent: int | None = None
    """The agent that goes with it."""


class Pair(Protocol):
    """Both hosts' hypervisors, as one value: equal values are the same state."""

    @property
    def wrong(self) -> str:
        """The first thing that must never happen; empty while it has not."""

    @property
    def is_lost(self) -> bool:
        """The guest died with a crash of what it ran on: nobody can have it run on."""

    @property
    def call(self) -> str:
        """The token of the task that waits for perform's answer; empty where none does."""

    def inspect(self, side: int) -> Answer:
        """What a look at a side shows."""

    def do(self, side: int, request: tuple[Any, ...], token: str, agent: str) -> Sequence[tuple[Pair, Answer]]:
        """What a call may come to; empty while it blocks. An answer of ``None`` means that it goes on."""

    def abort(self) -> Pair:
        """The running perform is stopped from here, or it is too late for that."""

    def goes_on(self) -> list[Step]:
        """What the hypervisors do by themselves, sooner or later."""

    def faults(self) -> list[Fault]:
        """What may break."""

    def agent_died(self, side: int) -> Pair:
        """What the end of an agent's connections does."""

    def connection_lost(self, side: int) -> Pair:
        """What the end of a connection does whose agent lives on and connects anew."""

    def copies(self) -> str:
        """Where the guest is in the end: ``source``, ``destination``, ``nowhere``, or what is wrong with that."""

    def remains(self) -> str:
        """What else is left at the end, and in the way of the next migration; empty where nothing is."""

    def told(self) -> str:
        """Both sides in words, for a trace."""
