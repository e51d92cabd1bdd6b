"""Every step of a state that may come next by itself, and how a step is done; what goes wrong is in ``faults.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from chaos.explorer.actors import END, HOSTS, LATE, NOW, Actors, Request, Task, first_baton, first_record
from chaos.explorer.ledger import DESTINATION, IDENT, Ledger, Snapshot
from chaos.explorer.model import Pair
from chaos.explorer.state import Message, Move, Numbers, Redis, Rules, State, with_agent
from worker.contract import RECOVER
from worker.journal.record import from_hash
from worker.terms import Room, Terms

TERMS = Terms(dict.fromkeys(HOSTS, Room(9, 9))).text()
"""There is always room."""
SCHEDULER = 2
"""Who runs a round, beside the two agents."""
READS = ("busy", "kept", "agents", "record")
"""What is read from an agent's memory or from Redis together with the step before."""


class World:
    """All steps of all states that are not faults, for one kind of hypervisor."""

    def __init__(self, ledger: Ledger, actors: Actors, pair: Pair, driver: str, rules: Rules) -> None:
        self.ledger, self.actors, self.rules = ledger, actors, rules
        self._pair = pair
        self._record = first_record(driver, rules.attempts)
        self._fields: dict[int, dict[str, str]] = {}
        self.messages: Numbers[Message] = Numbers()
        """All that were ever sent."""
        self._kept: Numbers[tuple[tuple[int, str, str], ...]] = Numbers()
        self._kept.number(())

    def start(self) -> State:
        """The request is accepted, both slots are taken, and begin is queued."""
        record = self._record
        flat = {name: str(value) for name, value in record.asked_fields.items() if value not in (None, "")}
        created, _ = self.ledger.run(self.ledger.number(Snapshot()), "create", (IDENT, json.dumps(flat), "{}", "s"))
        return self._admitted(State(Redis(created), self._pair, left=self.rules.faults), first_baton(record))

    def _admitted(self, state: State, text: str) -> State:
        attempt = json.loads(text)["attempt"]
        number, answer = self.ledger.run(state.redis.journal, "admit", (IDENT, attempt, text, TERMS, ""))
        if answer[0] != "OK":
            return state
        return self.published(self.wrote(state, number), 0, "begin", text)

    # -- what goes on by itself ----------------------------------------------------------------------------------

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
                yield f"the agent of {HOSTS[host]} starts again", with_agent(state, host, back)
            if agent.cut:
                yield (
                    f"the agent of {HOSTS[host]} reaches Redis again",
                    with_agent(state, host, agent._replace(cut=False)),
                )

    def _task_steps(self, state: State, index: int) -> Iterator[Move]:
        task, request = self.actors.tasks[state.tasks[index]], self.actors.request(state.tasks[index])
        who = f"{task.phase} on {HOSTS[task.host]} ({task.token})"
        if request[0] == "script":
            if not state.agents[task.host].cut:
                after, answer = self._script(state, request)
                yield f"{who}: journal {request[1]} -> {answer[0]}", self.answered(after, index, answer)
            return
        agent = f"{HOSTS[task.host]}{state.agents[task.host].life}"
        for pair, answer in state.pair.do(task.host, request, task.token, agent):
            after = state._replace(pair=pair)
            words = " ".join(map(str, request))
            if answer is None:
                yield f"{who}: {words} is called", after
            else:
                told = answer[1] if isinstance(answer, tuple) and answer[0] == "error" else answer
                yield f"{who}: {words} -> {told}", self.answered(after, index, answer)
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
            message = self.messages.values[number]
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
        return f"{label}: claim -> {answer[0]} ({task.token})", self.answered(after, index, answer)

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
            if not any(self.messages.values[number].host == at for number in state.redis.queue):
                yield (
                    f"{fields['phase']} is sent again",
                    self.published(state, at, fields["phase"], fields["baton"]),
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
            after = self.answered(written, index - 1, answer)
        return after

    # -- how a step is done -------------------------------------------------------------------------------------------

    def _script(self, state: State, request: Request) -> tuple[State, Any]:
        number, answer = self.ledger.run(state.redis.journal, request[1], request[2:])
        return self.wrote(state, number), answer

    def wrote(self, state: State, number: int) -> State:
        """The journal is another one now, by its number; Redis may still lose that."""
        if number == state.redis.journal:
            return state
        remembered = (state.redis, *state.before)[: self.rules.lost] if state.left else ()
        return state._replace(redis=state.redis._replace(journal=number), before=remembered)

    def answered(self, state: State, index: int, answer: Any) -> State:  # noqa: ANN401
        """A task hears what it asked for, and goes on."""
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
        return with_agent(state, task.host, agent._replace(kept=kept))

    def _publish(self, state: State, phase: str, text: str) -> State:
        document = json.loads(text)
        at = document["recovery"]["at"] if phase == RECOVER else ""
        on_source = phase in ("begin", "perform", "confirm")
        return self.published(state, HOSTS.index(at) if at else 1 - on_source, phase, text)

    def published(self, state: State, host: int, phase: str, text: str) -> State:
        """A message more in a host's queue; of the same one there are two at most."""
        message = self.messages.number(Message(host, phase, text))
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
