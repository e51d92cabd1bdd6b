"""One state of everything, and what the explorer may be told to do otherwise."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from chaos.explorer.model import Pair


class Message(NamedTuple):
    """A message in a host's queue."""

    host: int
    phase: str
    text: str


class Redis(NamedTuple):
    """What Redis holds: the journal by number, and the queues."""

    journal: int
    queue: tuple[int, ...] = ()
    """Messages by number."""


class Agent(NamedTuple):
    """An agent's process."""

    life: int = 1
    up: bool = True
    cut: bool = False
    """It lives and cannot reach Redis; its lease has lapsed."""
    kept: int = 0
    """What its phases returned, by number: (attempt, phase, baton) of each."""
    gone: bool = False
    """It never comes back, nor does its host."""


class State(NamedTuple):
    """Everything at one moment."""

    redis: Redis
    pair: Pair
    agents: tuple[Agent, Agent] = (Agent(), Agent())
    tasks: tuple[int, ...] = ()
    """By number (``Actors.tasks``)."""
    left: int = 0
    """So many faults may still happen."""
    before: tuple[Redis, ...] = ()
    """What Redis would go back to if it lost its last writes; newest first."""


KINDS = frozenset({"agent", "host", "gone", "answer", "redis", "message", "cut", "cancel"})
"""Of faults: an agent killed, a host or daemon that breaks, one that never comes back, a connection or an answer lost,
Redis that forgets, a message lost or delivered twice, an agent that cannot reach Redis, a wish to stop."""


class Rules(NamedTuple):
    """What the explorer may be told to do otherwise."""

    faults: int = 1
    lost: int = 1
    """So many of the journal's last steps may be lost at once."""
    attempts: int = 1
    kinds: frozenset[str] = KINDS
    """Which faults happen."""
    unguarded: bool = False
    """An agent takes a phase of a migration while it still runs another one."""


Move = tuple[str, State]
"""A step in words, and the state after it."""
Item = TypeVar("Item", bound=Hashable)


class Numbers(Generic[Item]):
    """Values by number: a state is compared more often than it is looked into."""

    def __init__(self) -> None:
        self._numbers: dict[Item, int] = {}
        self.values: list[Item] = []

    def number(self, value: Item) -> int:
        """The number of a value."""
        known = self._numbers.get(value)
        if known is None:
            known = self._numbers[value] = len(self.values)
            self.values.append(value)
        return known


def with_agent(state: State, host: int, agent: Agent) -> State:
    """The same, but for one of the agents."""
    agents = (agent, state.agents[1]) if host == 0 else (state.agents[0], agent)
    return state._replace(agents=agents)


def without(state: State, number: int) -> State:
    """The same without one message of this number."""
    queue = list(state.redis.queue)
    queue.remove(number)
    return state._replace(redis=state.redis._replace(queue=tuple(queue)))
