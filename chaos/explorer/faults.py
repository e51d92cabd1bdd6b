"""Every fault that may happen in a state: what goes wrong, and the state after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from chaos.explorer.actors import HOSTS
from chaos.explorer.ledger import IDENT
from chaos.explorer.model import failed
from chaos.explorer.state import Move, State, with_agent, without
from chaos.explorer.world import World

LOST = failed("VIR_ERR_SYSTEM_ERROR", "verify", "transient")
"""What a caller hears whose connection broke."""


def faults(world: World, state: State) -> Iterator[Move]:
    """Everything that may go wrong here."""
    if state.left <= 0:
        return
    for kind, moves in _FAULTS.items():
        if kind in world.rules.kinds:
            for label, after in moves(world, state):
                left = state.left - 1
                yield f"FAULT: {label}", after._replace(left=left, before=after.before if left else ())


def _agents_die(world: World, state: State) -> Iterator[Move]:
    for host, agent in enumerate(state.agents):
        if agent.up:
            yield from _agent_dies(world, state, host, f"the agent of {HOSTS[host]} is killed")


def _agent_dies(world: World, state: State, host: int, label: str) -> Iterator[Move]:
    """Its calls are over, or still on their way; and a message may go with it."""
    mine = [number for number in state.tasks if world.actors.tasks[number].host == host]
    dead = state.agents[host]._replace(up=False, cut=False, kept=0)
    after = with_agent(state._replace(tasks=tuple(t for t in state.tasks if t not in mine)), host, dead)
    gone = after._replace(pair=state.pair.agent_died(host))
    yield label, gone
    name = f"{HOSTS[host]}{state.agents[host].life}"
    for number in mine:
        task, request = world.actors.tasks[number], world.actors.request(number)
        if request[0] in ("script", "inspect", "follow") or state.pair.call == task.token:
            continue
        for pair, _ in state.pair.do(host, request, task.token, name):
            done = gone._replace(pair=pair.agent_died(host))
            if done.pair != gone.pair:
                yield f"{label} while {' '.join(map(str, request))} is on its way, which is done", done
    for number in sorted(set(state.redis.queue)):
        yield f"{label} together with the message of {world.messages.values[number].phase}", without(gone, number)


def _hosts_die(world: World, state: State) -> Iterator[Move]:
    for fault in state.pair.faults():
        after = state._replace(pair=fault.after)
        if fault.takes_agent is None:
            yield fault.label, after
        elif state.agents[fault.takes_agent].up:
            yield next(iter(_agent_dies(world, after, fault.takes_agent, fault.label)))


def _answers_lost(world: World, state: State) -> Iterator[Move]:
    """A call is done, and its caller hears that the connection broke; or it breaks while nobody calls."""
    for host in (0, 1):
        pair = state.pair.connection_lost(host)
        if state.agents[host].up and pair != state.pair:
            yield f"{HOSTS[host]}'s agent loses its connection to the hypervisor", state._replace(pair=pair)
    for index, number in enumerate(state.tasks):
        task, request = world.actors.tasks[number], world.actors.request(number)
        if request[0] not in ("begin", "prepare", "finish", "confirm", "release", "resume", "remove"):
            continue
        agent = f"{HOSTS[task.host]}{state.agents[task.host].life}"
        for pair, _ in state.pair.do(task.host, request, task.token, agent):
            label = f"{' '.join(map(str, request))} on {HOSTS[task.host]} is done, and its answer is lost"
            yield label, world.answered(state._replace(pair=pair.connection_lost(task.host)), index, LOST)


def _hosts_gone(world: World, state: State) -> Iterator[Move]:
    for fault in state.pair.faults():
        host = fault.takes_agent
        if host is not None and state.agents[host].up:
            label = f"{fault.label} for good"
            _, after = next(iter(_agent_dies(world, state._replace(pair=fault.after), host, label)))
            yield label, with_agent(after, host, after.agents[host]._replace(gone=True))


def _redis_forgets(world: World, state: State) -> Iterator[Move]:
    for number, redis in enumerate(state.before, 1):
        label = f"Redis is restarted without its last {number} writes"
        yield label, state._replace(redis=redis, before=state.before[number:])
        if redis.queue:
            bare = redis._replace(queue=())
            yield f"{label}, and without its queues", state._replace(redis=bare, before=state.before[number:])


def _messages_lost(world: World, state: State) -> Iterator[Move]:
    for number in sorted(set(state.redis.queue)):
        message = world.messages.values[number]
        yield f"the message of {message.phase} is lost", without(state, number)
        yield (
            f"the message of {message.phase} is delivered twice",
            world.published(state, message.host, message.phase, message.text),
        )


def _agents_cut(world: World, state: State) -> Iterator[Move]:
    for host, agent in enumerate(state.agents):
        if agent.up and not agent.cut:
            label = f"the agent of {HOSTS[host]} cannot reach Redis, and its lease lapses"
            yield label, with_agent(state, host, agent._replace(cut=True))


def _cancelled(world: World, state: State) -> Iterator[Move]:
    end = json.dumps({"outcome": "cancelled"})
    number, answer = world.ledger.run(state.redis.journal, "cancel", (IDENT, end, 60, "{}"))
    if number != state.redis.journal:
        yield f"somebody cancels: {answer[0].lower()}", world.wrote(state, number)


_FAULTS: dict[str, Callable[[World, State], Iterator[Move]]] = {
    "agent": _agents_die,
    "host": _hosts_die,
    "gone": _hosts_gone,
    "answer": _answers_lost,
    "redis": _redis_forgets,
    "message": _messages_lost,
    "cut": _agents_cut,
    "cancel": _cancelled,
}
