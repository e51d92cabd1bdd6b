"""Rolling: what follows from what is seen, and that a roll goes right whoever is killed or looks twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
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

from tasks.rolling import Do, Step, decide
from tasks.rolls import judged
from worker.contract import RollControlRequest
from worker.errors import Rejected
from worker.journal import Journal, connect
from worker.journal.batch import Batch
from worker.journal.rolls import Roll, batch_of

HOSTS = ("alpha", "beta", "gamma")
LEFT = {"guest": "u", "domain": "web", "host": "alpha", "code": "pinned", "why": "a license", "unblock": ""}
KEEP = 1000


def roll(**more: Any) -> Roll:
    """A roll over three hosts that drains the first one."""
    asked = {"wait": "operator", "back": True} | more.pop("request", {})
    return Roll("r", HOSTS, request=asked, version=1, **more)


def agent(incarnation: str = "new", **more: Any) -> dict[str, Any]:
    """A live agent."""
    return {"incarnation": incarnation, "answers": True, "draining": False} | more


def batch(state: str = "finished", **more: Any) -> Batch:
    """A batch of a roll."""
    return Batch("b", "drain", state, **more)


def step(follows: Step | Do) -> Step:
    """What follows, which must be a step."""
    assert isinstance(follows, Step)
    return follows


def test_a_drain_is_begun_and_waited_for() -> None:
    """Nothing happens before the batch is over; then the host is empty, or the roll stops and says who is left."""
    assert decide(roll(), None, agent()) is Do.BEGIN
    for state in ("planning", "planned", "running", "paused", "cancelling"):
        assert decide(roll(), batch(state), agent()) is Do.NOTHING
    empty = step(decide(roll(), batch(moved=3), agent("old")))
    assert (empty.kind, empty.fields["step"], empty.fields["incarnation"]) == ("drained", "wait", "old")
    stuck = step(decide(roll(), batch(left=(LEFT,)), agent()))
    assert (stuck.kind, stuck.fields["state"]) == ("stopped", "stopped")
    assert "web (a license)" in stuck.fields["why"]


def test_a_check_waits_for_another_agent_that_answers() -> None:
    """The agent of the time of the drain is not enough, nor one that does not answer or drains."""
    waits = roll(step="wait", incarnation="old", request={"wait": "agent"})
    for known in (None, agent("old"), agent(answers=False), agent(draining=True)):
        assert decide(waits, None, known) is Do.NOTHING
    assert step(decide(waits, None, agent())).fields["step"] == "return"
    assert decide(roll(step="wait", incarnation="old"), None, agent()) is Do.NOTHING


def test_nobody_is_sent_to_a_host_without_its_agent() -> None:
    """The return begins when the host is back, and so does the next drain."""
    for back in (True, False):
        assert decide(roll(step="return", request={"back": back}), None, None) is Do.NOTHING
    assert decide(roll(step="return"), None, agent()) is Do.BEGIN
    assert step(decide(roll(step="return", request={"back": False}), None, agent())).kind == "returned"


def test_who_does_not_come_home_is_noted_and_holds_up_nobody() -> None:
    """The next host is drained all the same; the last one ends the roll."""
    found = step(decide(roll(step="return"), batch(moved=2, failed=1), agent()))
    assert (found.kind, found.fields["at"], found.fields["step"]) == ("returned", 1, "drain")
    assert "1 of alpha's guests did not come home" in found.fields["notes"][0]
    last = step(decide(roll(step="return", at=2), batch(moved=2), agent()))
    assert (last.kind, last.fields["state"]) == ("finished", "finished")


def test_an_operator_is_heard_where_the_roll_waits_and_nowhere_else() -> None:
    """continue ends a wait or a stop; of another host, or of a roll that is busy, it changes nothing."""

    def told(found: Roll, **more: Any) -> Step:
        return judged(found, RollControlRequest.parse({"roll": "r", "action": "continue"} | more))

    assert told(roll(step="wait"), host="alpha").fields["step"] == "return"
    again = told(roll(state="stopped", why="x", tries=1))
    assert (again.fields["state"], again.fields["tries"], again.fields["why"]) == ("running", 2, "")
    for wrong, code in (({"host": "beta"}, "other-host"), ({}, "not-waiting")):
        with pytest.raises(Rejected) as refusal:
            told(roll(), **wrong)
        assert refusal.value.code == code


def test_a_stopped_roll_does_nothing_by_itself() -> None:
    """Whatever is seen."""
    for at in ("drain", "wait", "return"):
        for known in (None, batch()):
            assert decide(roll(state="stopped", step=at), known, agent()) is Do.NOTHING


class Rolling(RuleBasedStateMachine):
    """Two schedulers that believe they lead, one of them slow; batches end as they like; operators say anything."""

    client: Any

    @initialize(back=st.booleans(), wait=st.sampled_from(["agent", "operator"]))
    def empty(self, back: bool, wait: str) -> None:
        """A fresh journal with one roll."""
        self.client.flushall()
        self.journal = Journal(self.client)
        self.batches: dict[str, Batch] = {}
        self.begun: list[str] = []
        self.agents = {host: agent("0") for host in HOSTS}
        assert self.journal.begin_roll("r", HOSTS, {"wait": wait, "back": back}) == ["OK"]
        assert self.journal.begin_roll("r", HOSTS, {"wait": wait, "back": back}) == ["SAME"]
        assert self.journal.begin_roll("s", ("delta", "beta"), {}) == ["BUSY", "r", "beta"]
        self.seen = self.now()

    def now(self) -> Roll:
        """The roll as it is."""
        found = self.journal.roll("r")
        assert found is not None
        return found

    @rule()
    def read(self) -> None:
        """The slow scheduler reads."""
        self.seen = self.now()

    @rule(slow=st.booleans())
    def go_on(self, slow: bool) -> None:
        """A round of one of them, as ``advance`` does it; the slow one acts on what it read before."""
        found = self.seen if slow else self.now()
        follows = decide(found, self.batches.get(found.batch), self.agents[found.host])
        if follows is Do.BEGIN:
            if found.batch not in self.batches:
                self.batches[found.batch] = Batch(found.batch, "drain", "running")
                self.begun.append(found.batch)
        elif isinstance(follows, Step):
            taken = self.journal.step_roll(found, follows.fields, follows.kind, follows.told, KEEP)
            assert not (taken and slow and found.version != self.seen.version)

    @precondition(lambda self: any(each.state == "running" for each in self.batches.values()))
    @rule(left=st.booleans(), data=st.data())
    def end_batch(self, left: bool, data: st.DataObject) -> None:
        """A batch ends, with somebody left or not."""
        running = [ident for ident, each in self.batches.items() if each.state == "running"]
        ident = data.draw(st.sampled_from(running))
        self.batches[ident] = replace(self.batches[ident], state="finished", left=(LEFT,) if left else ())

    @rule(host=st.sampled_from(HOSTS), away=st.booleans())
    def restart(self, host: str, away: bool) -> None:
        """An agent is started anew, or goes away."""
        count = int(self.agents[host]["incarnation"]) + 1
        self.agents[host] = agent(str(count), answers=not away)

    @rule(action=st.sampled_from(["continue", "continue", "continue", "cancel"]))
    def operate(self, action: Any) -> None:
        """An operator says something."""
        found = self.now()
        if found.is_over:
            return
        try:
            wanted = judged(found, RollControlRequest(roll="r", action=action))
        except Rejected:
            return
        assert self.journal.step_roll(found, wanted.fields, wanted.kind, wanted.told, KEEP)

    @invariant()
    def one_host_at_a_time(self) -> None:
        """A host is drained only when the one before it has its guests back; no batch runs that nobody waits for."""
        found = self.now()
        for number, host in enumerate(HOSTS):
            drains = [ident for ident in self.begun if ident.startswith(batch_of("r", "drain", host, 1))]
            assert not drains or number <= found.at
            if number < found.at:
                assert self.batches[drains[-1]].state == "finished"
                assert not self.batches[drains[-1]].left
                if found.request["back"]:
                    backs = [ident for ident in self.begun if ident.startswith(batch_of("r", "return", host, 1))]
                    assert [self.batches[ident].state for ident in backs] == ["finished"]
        assert len(self.begun) == len(set(self.begun))
        assert (found.id in self.journal.open_rolls()) == (not found.is_over)
        if found.state == "finished":
            assert found.at == len(HOSTS)


def test_one_host_at_a_time_whoever_looks(redis_url: str) -> None:
    """Rounds that come late or twice, agents and operators in any order never drain two hosts, nor one too early."""
    Rolling.client = connect(redis_url)
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Rolling, settings=settings(max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=checks)
    )
