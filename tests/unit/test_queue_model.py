"""Who starts next, against a model that says it without an index: any order of requests, rounds, ends and limits."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import redis
from clocked import Clocked
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from queue_model import Model, Waiting

from worker.journal import connect
from worker.terms import Room, Terms

HOSTS = ("alpha", "beta", "gamma")
NETWORKS = {"alpha": "left", "beta": "left", "gamma": ""}
PAIRS = [(a, b) for a in HOSTS for b in HOSTS if a != b]
REQUESTS = st.tuples(
    st.sampled_from(PAIRS),
    st.sampled_from(["low", "normal", "normal", "high", "urgent"]),
    st.sampled_from(["", "me", "some/body"]),
    st.sampled_from([1, 1, 1, 2, 5]),
)


class Queueing(RuleBasedStateMachine):
    """The real scripts beside the model."""

    client: redis.Redis

    @initialize(urgent=st.integers(0, 1), most=st.sampled_from([None, 3]), narrow=st.integers(1, 3))
    def begin(self, urgent: int, most: int | None, narrow: int) -> None:
        """Three hosts, two of them on one network."""
        self.client.flushall()
        self.journal = Clocked(self.client)
        self.journal.open(*HOSTS)
        hosts = {host: Room(2, 2, NETWORKS[host]) for host in HOSTS}
        self.terms = Terms(hosts, {"left": narrow}, most, urgent, half_life_seconds=60, ageing_seconds=300)
        self.model = Model(self.terms, self.journal.at)
        self.waiting_again: dict[str, tuple[Waiting, int]] = {}
        self.number = 0

    @rule(crowd=st.lists(REQUESTS, min_size=1, max_size=6), seconds=st.sampled_from([0.001, 1]))
    def ask(self, crowd: list[tuple[tuple[str, str], str, str, int]], seconds: float) -> None:
        """Requests, one after the other."""
        for pair, priority, who, cost in crowd:
            self.number += 1
            ident = f"m{self.number:03d}"
            self.journal.ask(ident, *pair, priority=priority, requested_by=who, cost="" if cost == 1 else cost)
            short = "~" + hashlib.sha1(who.encode(), usedforsecurity=False).hexdigest()[:16] if "/" in who else who
            self.model.add(Waiting(ident, f"{priority}/r:{short}", *pair, cost, self.journal.at))
            self.wait(seconds)

    @precondition(lambda self: self.model.running and self.model.pending)
    @rule(times=st.lists(st.sampled_from([1.0, 20.0, 70.0, 160.0]), min_size=2, max_size=8), at=st.integers(0, 3))
    def go_on(self, times: list[float], at: int) -> None:
        """As it is while more is wanted than there is room for: one ends, time passes, a round."""
        for seconds in times:
            if self.model.running:
                ident = sorted(self.model.running)[at % len(self.model.running)]
                self.model.end(ident)
                self.journal.end(ident)
            self.wait(seconds)
            self.round(100)

    @rule(seconds=st.sampled_from([0.001, 0.5, 20, 60, 301, 700]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.journal.pass_time(seconds)
        self.model.at = self.journal.at

    @rule(most=st.sampled_from([1, 2, 100]))
    def round(self, most: int) -> None:
        """What the scheduler does: the same are chosen, in the same order, and there is room for each of them."""
        for ident, (one, due) in list(self.waiting_again.items()):
            if due <= self.model.at:
                del self.waiting_again[ident]
                self.model.add(one)
        expected = self.model.choose(most)
        assert self.journal.round(self.terms, most) == expected
        for ident in expected:
            self.model.start(ident)

    @precondition(lambda self: self.model.running)
    @rule(data=st.data(), again=st.booleans())
    def end(self, data: st.DataObject, again: bool) -> None:
        """One that runs ends, or another attempt follows."""
        ident = data.draw(st.sampled_from(sorted(self.model.running)))
        one = self.model.end(ident)
        if again:
            self.journal.back_off(ident, 30)
            self.waiting_again[ident] = one, self.model.at + 30_000
        else:
            self.journal.end(ident)

    @precondition(lambda self: self.model.pending)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """One that waits is not wanted any more."""
        ident = data.draw(st.sampled_from(sorted(self.model.pending)))
        self.journal.cancel(ident, "", 100)
        self.model.remove(ident)

    @rule()
    def sweep(self) -> None:
        """Slots and records agree: nothing has to be given back."""
        assert self.journal.sweep(self.terms)[1] == []
        self.model.forget()

    @rule(host=st.sampled_from(HOSTS), shut=st.booleans())
    def agents(self, host: str, shut: bool) -> None:
        """An agent goes, or comes."""
        (self.journal.shut if shut else self.journal.open)(host)
        (self.model.shut.add if shut else self.model.shut.discard)(host)

    @rule(host=st.sampled_from(HOSTS), outgoing=st.integers(0, 3), incoming=st.integers(0, 3))
    def limit(self, host: str, outgoing: int, incoming: int) -> None:
        """An operator changes the limits of a host; the rest is as it was."""
        room = Room(outgoing, incoming, NETWORKS[host])
        self.terms = self.model.terms = replace(self.terms, hosts=self.terms.hosts | {host: room})

    @invariant()
    def slots_are_those_of_what_runs(self) -> None:
        """Nothing is kept by what has ended, and nothing missing."""
        if not hasattr(self, "model"):
            return
        told = self.journal.limits(self.terms)
        for host in HOSTS:
            for name, end in (("outgoing", "source"), ("incoming", "destination")):
                expected = sum(cost for one, cost in self.model.running.values() if getattr(one, end) == host)
                assert told["hosts"][host][name]["used"] == expected
        assert told["migrations"]["used"] == len(self.model.running)

    @invariant()
    def lines_hold_what_waits(self) -> None:
        """Nothing is left in an index without anybody who waits."""
        if not hasattr(self, "model"):
            return
        assert sum(number for number, _ in self.journal.census().values()) == len(self.model.pending)
        if not self.model.pending and not self.waiting_again:
            assert not any(key for key in self.client.scan_iter("vmrelay:*") if key.split(":")[1] in INDEXES)


INDEXES = ("sources", "flows", "line", "lane", "requesters")


def test_the_queue_is_what_the_model_says(redis_url: str) -> None:
    """Over any order of what can happen, the same migrations start in the same order."""
    with connect(redis_url) as client:
        Queueing.client = client
        run_state_machine_as_test(
            Queueing,
            settings=settings(
                max_examples=25,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
