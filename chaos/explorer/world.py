"""One state of everything, and every step that may come next."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from chaos.explorer.actors import END, HOSTS, LATE, NOW, Actors, Request, Task, first_baton, first_record
from chaos.explorer.ledger import DESTINATION, IDENT, Ledger
from chaos.explorer.model import Pair, failed
from worker.contract import RECOVER
from worker.journal.record import from_hash

SCHEDULER = 2
"""Who runs a round, beside the two agents."""
LOST = failed("VIR_ERR_SYSTEM_ERROR", "verify", "transient")
READS = ("busy", "kept", "agents", "record")
"""What is read from an agent's memory or from Redis together with the step before."""


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


class World:
    """All steps of all states, for one kind of hypervisor."""

    def __init__(self, ledger: Ledger, actors: Actors, pair: Pair, driver: str, rules: Rules) -> None:
        self.ledger, self.actors, self.rules = ledger, actors, rules
        self._pair = pair
        self._record = first_record(driver, rules.attempts)
        self._fields: dict[int, dict[str, str]] = {}
        self._messages: Numbers[Message] = Numbers()
        self._kept: Numbers[tuple[tuple[int, str, str], ...]] = Numbers()
        self._kept.number(())

    def start(self) -> State:
        """The request is accepted, both slots are taken, and begin is queued."""
        record = self._record
        flat = {name: str(value) for name, value in record.asked_fields.items() if value not in (None, "")}
        created, _ = self.ledger.run(self.ledger.number(_empty()), "create", (IDENT, json.dumps(flat), "{}", "s"))
        return self._admitted(State(Redis(created), self._pair, left=self.rules.faults), first_baton(record))

    def _admitted(self, state: State, text: str) -> State:
        attempt = json.loads(text)["attempt"]
        number, answer = self.ledger.run(state.redis.journal, "admit", (IDENT, attempt, text, 9, 9, ""))
        if answer[0] != "OK":
            return state
        return self._published(self._wrote(state, number), 0, "begin", text)

    # -- steps that are not faults -------------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Move]:
        """Everything that goes on by itself from here."""
        for index in range(len(state.tasks)):
            yield from self._task_steps(state, index)
        for label, pair in state.pair.goes_on():
            yield label, state._replace(pair=pair)
        yield from self._deliveries(state)
        yield from self._rounds(state)
        for host, agent in enumerate(state.agents):
            if not agent.up and not agent.gone:
                back = agent._replace(up=True, life=agent.life + 1, kept=0)
                yield f"the agent of {HOSTS[host]} starts again", _with_agent(state, host, back)
            if agent.cut:
                yield (
                    f"the agent of {HOSTS[host]} reaches Redis again",
                    _with_agent(state, host, agent._replace(cut=False)),
                )

    def _task_steps(self, state: State, index: int) -> Iterator[Move]:
        task, request = self.actors.tasks[state.tasks[index]], self.actors.request(state.tasks[index])
        who = f"{task.phase} on {HOSTS[task.host]} ({task.token})"
        if request[0] == "script":
            if not state.agents[task.host].cut:
                after, answer = self._script(state, request)
                yield f"{who}: journal {request[1]} -> {answer[0]}", self._answered(after, index, answer)
            return
        agent = f"{HOSTS[task.host]}{state.agents[task.host].life}"
        for pair, answer in state.pair.do(task.host, request, task.token, agent):
            after = state._replace(pair=pair)
            words = " ".join(map(str, request))
            if answer is None:
                yield f"{who}: {words} is called", after
            else:
                told = answer[1] if isinstance(answer, tuple) and answer[0] == "error" else answer
                yield f"{who}: {words} -> {told}", self._answered(after, index, answer)
        if self._hears_cancel(state, task, request):
            yield f"{who} hears that it is cancelled, and aborts", state._replace(pair=state.pair.abort())

    def _hears_cancel(self, state: State, task: Task, request: Request) -> bool:
        fields = self._record_of(state)
        mine = fields.get("token") == task.token and fields.get("cancel") == "1"
        pending = request[0] == "follow" or (request[0] == "perform" and state.pair.call == task.token)
        return mine and pending and not state.agents[task.host].cut

    def _deliveries(self, state: State) -> Iterator[Move]:
        for position, number in enumerate(state.redis.queue):
            if number in state.redis.queue[:position]:
                continue
            message = self._messages.values[number]
            agent = state.agents[message.host]
            if not agent.up or agent.cut:
                continue
            queue = state.redis.queue[:position] + state.redis.queue[position + 1 :]
            taken = state._replace(redis=state.redis._replace(queue=queue))
            waits = message.phase in (RECOVER, "confirm") and self._is_quiet(taken)
            for now in (NOW, LATE) if waits else (NOW,):
                token = self._free_token(state)
                name = f"{HOSTS[message.host]}{agent.life}"
                task = Task(message.host, message.phase, message.text, token, name, now)
                late = " (after a long time)" if now == LATE else ""
                label = f"{HOSTS[message.host]} takes {message.phase}{late}"
                yield self._taken(taken, task, label)

    def _taken(self, state: State, task: Task, label: str) -> Move:
        """A task begins with its claim."""
        begun = self._settled(state._replace(tasks=(*state.tasks, self.actors.number(task))), len(state.tasks))
        index = next((i for i, one in enumerate(self._tasks(begun)) if one.token == task.token), -1)
        if index < 0:
            return f"{label}, and drops it", begun
        after, answer = self._script(begun, self.actors.request(begun.tasks[index]))
        if task.now == LATE and answer[0] == "OK":
            answer = (*answer[:2], str((LATE - NOW) * 1000))  # so long it was queued
        return f"{label}: claim -> {answer[0]} ({task.token})", self._answered(after, index, answer)

    def _is_quiet(self, state: State) -> bool:
        """Nothing will change before somebody loses patience."""
        return not state.tasks and not state.pair.goes_on() and all(a.up or a.gone for a in state.agents)

    def _rounds(self, state: State) -> Iterator[Move]:
        """The scheduler's round, and the agents' look at what the journal says is running on their host."""
        fields = self._record_of(state)
        if fields.get("state") in ("pending", "backoff") and all(agent.up and not agent.cut for agent in state.agents):
            record = from_hash(IDENT, fields)
            yield "the next attempt is admitted", self._admitted(state, first_baton(record))
        if fields.get("state") != "active":
            return
        step, host = fields.get("step"), fields.get("host")
        if step == "queued" and "outbox" in self.ledger.snapshots[state.redis.journal].members:
            at = HOSTS.index(host or "")
            if not any(self._messages.values[number].host == at for number in state.redis.queue):
                yield (
                    f"{fields['phase']} is sent again",
                    self._published(state, at, fields["phase"], fields["baton"]),
                )
        if why := self._interrupted(state, fields):
            yield f"recovery begins: {why}", self._recovering(state)

    def _interrupted(self, state: State, fields: dict[str, str]) -> str:
        """``reconcile.interrupted`` and ``reconcile.own_orphans``."""
        if fields["step"] == "queued":
            there = state.agents[HOSTS.index(DESTINATION)]
            return "its agent is away" if fields["phase"] == "prepare" and not (there.up and not there.cut) else ""
        owner = HOSTS.index(fields["owner"])
        agent = state.agents[owner]
        if not agent.up or agent.cut:
            return "its agent is away"
        if any(task.token == fields["token"] and task.host == owner for task in self._tasks(state)):
            return ""
        return "its agent was replaced, or has lost it"

    def _recovering(self, state: State) -> State:
        task = Task(SCHEDULER, "start", "", "", "", NOW)
        state = state._replace(tasks=(*state.tasks, self.actors.number(task)))
        after = self._settled(state, len(state.tasks) - 1)
        while index := next((i + 1 for i, one in enumerate(self._tasks(after)) if one.host == SCHEDULER), 0):
            written, answer = self._script(after, self.actors.request(after.tasks[index - 1]))
            after = self._answered(written, index - 1, answer)
        return after

    # -- faults -----------------------------------------------------------------------------------------------------

    def faults(self, state: State) -> Iterator[Move]:
        """Everything that may go wrong here."""
        if state.left <= 0:
            return
        for kind, moves in _FAULTS.items():
            if kind in self.rules.kinds:
                for label, after in moves(self, state):
                    left = state.left - 1
                    yield f"FAULT: {label}", after._replace(left=left, before=after.before if left else ())

    def _agents_die(self, state: State) -> Iterator[Move]:
        for host, agent in enumerate(state.agents):
            if agent.up:
                yield from self._agent_dies(state, host, f"the agent of {HOSTS[host]} is killed")

    def _agent_dies(self, state: State, host: int, label: str) -> Iterator[Move]:
        """Its calls are over, or still on their way; and a message may go with it."""
        mine = [number for number in state.tasks if self.actors.tasks[number].host == host]
        dead = state.agents[host]._replace(up=False, cut=False, kept=0)
        after = _with_agent(state._replace(tasks=tuple(t for t in state.tasks if t not in mine)), host, dead)
        gone = after._replace(pair=state.pair.agent_died(host))
        yield label, gone
        name = f"{HOSTS[host]}{state.agents[host].life}"
        for number in mine:
            task, request = self.actors.tasks[number], self.actors.request(number)
            if request[0] in ("script", "inspect", "follow") or state.pair.call == task.token:
                continue
            for pair, _ in state.pair.do(host, request, task.token, name):
                done = gone._replace(pair=pair.agent_died(host))
                if done.pair != gone.pair:
                    yield f"{label} while {' '.join(map(str, request))} is on its way, which is done", done
        for number in sorted(set(state.redis.queue)):
            yield f"{label} together with the message of {self._messages.values[number].phase}", _without(gone, number)

    def _hosts_die(self, state: State) -> Iterator[Move]:
        for fault in state.pair.faults():
            after = state._replace(pair=fault.after)
            if fault.takes_agent is None:
                yield fault.label, after
            elif state.agents[fault.takes_agent].up:
                yield next(iter(self._agent_dies(after, fault.takes_agent, fault.label)))

    def _answers_lost(self, state: State) -> Iterator[Move]:
        """A call is done, and its caller hears that the connection broke; or it breaks while nobody calls."""
        for host in (0, 1):
            pair = state.pair.connection_lost(host)
            if state.agents[host].up and pair != state.pair:
                yield f"{HOSTS[host]}'s agent loses its connection to the hypervisor", state._replace(pair=pair)
        for index, number in enumerate(state.tasks):
            task, request = self.actors.tasks[number], self.actors.request(number)
            if request[0] not in ("begin", "prepare", "finish", "confirm", "release", "resume", "remove"):
                continue
            agent = f"{HOSTS[task.host]}{state.agents[task.host].life}"
            for pair, _ in state.pair.do(task.host, request, task.token, agent):
                label = f"{' '.join(map(str, request))} on {HOSTS[task.host]} is done, and its answer is lost"
                yield label, self._answered(state._replace(pair=pair.connection_lost(task.host)), index, LOST)

    def _hosts_gone(self, state: State) -> Iterator[Move]:
        for fault in state.pair.faults():
            host = fault.takes_agent
            if host is not None and state.agents[host].up:
                label = f"{fault.label} for good"
                _, after = next(iter(self._agent_dies(state._replace(pair=fault.after), host, label)))
                yield label, _with_agent(after, host, after.agents[host]._replace(gone=True))

    def _redis_forgets(self, state: State) -> Iterator[Move]:
        for number, redis in enumerate(state.before, 1):
            label = f"Redis is restarted without its last {number} writes"
            yield label, state._replace(redis=redis, before=state.before[number:])
            if redis.queue:
                bare = redis._replace(queue=())
                yield f"{label}, and without its queues", state._replace(redis=bare, before=state.before[number:])

    def _messages_lost(self, state: State) -> Iterator[Move]:
        for number in sorted(set(state.redis.queue)):
            message = self._messages.values[number]
            yield f"the message of {message.phase} is lost", _without(state, number)
            yield (
                f"the message of {message.phase} is delivered twice",
                self._published(state, message.host, message.phase, message.text),
            )

    def _agents_cut(self, state: State) -> Iterator[Move]:
        for host, agent in enumerate(state.agents):
            if agent.up and not agent.cut:
                label = f"the agent of {HOSTS[host]} cannot reach Redis, and its lease lapses"
                yield label, _with_agent(state, host, agent._replace(cut=True))

    def _cancelled(self, state: State) -> Iterator[Move]:
        end = json.dumps({"outcome": "cancelled"})
        number, answer = self.ledger.run(state.redis.journal, "cancel", (IDENT, end, 60, "{}"))
        if number != state.redis.journal:
            yield f"somebody cancels: {answer[0].lower()}", self._wrote(state, number)

    # -- how a step is done -------------------------------------------------------------------------------------------

    def _script(self, state: State, request: Request) -> tuple[State, Any]:
        number, answer = self.ledger.run(state.redis.journal, request[1], request[2:])
        return self._wrote(state, number), answer

    def _wrote(self, state: State, number: int) -> State:
        if number == state.redis.journal:
            return state
        remembered = (state.redis, *state.before)[: self.rules.lost] if state.left else ()
        return state._replace(redis=state.redis._replace(journal=number), before=remembered)

    def _answered(self, state: State, index: int, answer: Any) -> State:  # noqa: ANN401
        return self._settled(self._told(state, index, answer), index)

    def _told(self, state: State, index: int, answer: Any) -> State:  # noqa: ANN401
        task = self.actors.tasks[state.tasks[index]]
        number = self.actors.number(task._replace(log=(*task.log, answer)))
        return state._replace(tasks=(*state.tasks[:index], number, *state.tasks[index + 1 :]))

    def _tasks(self, state: State) -> list[Task]:
        return [self.actors.tasks[number] for number in state.tasks]

    def _settled(self, state: State, index: int) -> State:
        """A task goes on until it asks for something that others may come before."""
        while True:
            task, request = self.actors.tasks[state.tasks[index]], self.actors.request(state.tasks[index])
            if request == END:
                return self._sorted(state._replace(tasks=state.tasks[:index] + state.tasks[index + 1 :]))
            if request[0] in READS:
                answer: Any = self._read(state, task, request)
            elif request[0] == "keep":
                state, answer = self._keep(state, task, request), ""
            elif request[:2] == ("script", "waiting"):
                answer = ("SAME",)  # only tells what is waited for
            elif request[0] == "publish":
                state, answer = self._publish(state, request[1], request[2]), ""
            else:
                return self._sorted(state)
            state = self._told(state, index, answer)

    def _sorted(self, state: State) -> State:
        return state._replace(tasks=tuple(sorted(state.tasks))) if len(state.tasks) > 1 else state

    def _read(self, state: State, task: Task, request: Request) -> Any:  # noqa: ANN401
        match request:
            case ("busy", _) if self.rules.unguarded:
                return ""
            case ("busy", besides):
                mine = (t for t in self._tasks(state) if t.host == task.host and t.token != besides)
                return next((t.phase for t in mine if t.phase != RECOVER), "")
            case ("kept",):
                return self._kept.values[state.agents[task.host].kept]
            case ("agents",):
                alive = enumerate(state.agents)
                return tuple(f"{HOSTS[i]}{agent.life}" if agent.up and not agent.cut else "" for i, agent in alive)
            case _:
                return tuple(sorted(self._record_of(state).items()))

    def _keep(self, state: State, task: Task, request: Request) -> State:
        _, attempt, phase, text = request
        agent = state.agents[task.host]
        others = [item for item in self._kept.values[agent.kept] if item[:2] != (attempt, phase)]
        kept = self._kept.number(tuple(sorted((*others, (attempt, phase, text)))))
        return _with_agent(state, task.host, agent._replace(kept=kept))

    def _publish(self, state: State, phase: str, text: str) -> State:
        document = json.loads(text)
        at = document["recovery"]["at"] if phase == RECOVER else ""
        on_source = phase in ("begin", "perform", "confirm")
        return self._published(state, HOSTS.index(at) if at else 1 - on_source, phase, text)

    def _published(self, state: State, host: int, phase: str, text: str) -> State:
        message = self._messages.number(Message(host, phase, text))
        if state.redis.queue.count(message) > 1:
            return state
        queue = tuple(sorted((*state.redis.queue, message)))
        return state._replace(redis=state.redis._replace(queue=queue))

    def _free_token(self, state: State) -> str:
        """The first token that nobody has: states that differ only in tokens are the same."""
        taken = {task.token for task in self._tasks(state)} | {state.pair.call}
        for redis in (state.redis, *state.before):
            snapshot = self.ledger.snapshots[redis.journal]
            taken |= {snapshot.get("token"), snapshot.get("done")}
        return next(token for number in range(1000) if (token := f"t{number}") not in taken)

    def _record_of(self, state: State) -> dict[str, str]:
        number = state.redis.journal
        if number not in self._fields:
            self._fields[number] = self.ledger.fields(number)
        return self._fields[number]

    def fields(self, state: State) -> dict[str, str]:
        """The record in a state."""
        return self._record_of(state)


_FAULTS: dict[str, Callable[[World, State], Iterator[Move]]] = {
    "agent": World._agents_die,
    "host": World._hosts_die,
    "gone": World._hosts_gone,
    "answer": World._answers_lost,
    "redis": World._redis_forgets,
    "message": World._messages_lost,
    "cut": World._agents_cut,
    "cancel": World._cancelled,
}


def _empty() -> Any:  # noqa: ANN401 - a snapshot
    from chaos.explorer.ledger import Snapshot

    return Snapshot()


def _with_agent(state: State, host: int, agent: Agent) -> State:
    agents = (agent, state.agents[1]) if host == 0 else (state.agents[0], agent)
    return state._replace(agents=agents)


def _without(state: State, number: int) -> State:
    queue = list(state.redis.queue)
    queue.remove(number)
    return state._replace(redis=state.redis._replace(queue=tuple(queue)))
