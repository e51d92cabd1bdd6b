"""Batches against a real Redis: whatever happens in whatever order, nothing is lost, done twice, or stuck."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from worker.journal import Journal, connect
from worker.journal.batch import Batch, Item

KEEP = 1000
MOVES = 6
OVER = ("moved", "failed", "skipped", "replaced")
LIMITS = dict.fromkeys(("alpha", "beta", "gamma"), (-1, -1))
"""One of each lane is asked for at a time."""
OUTCOMES = ("succeeded", "failed", "cancelled")


class Batching(RuleBasedStateMachine):
    """One batch, a list or planned, and everybody who may do something to it; messages and answers get lost."""

    client: Any
    numbers = st.integers(1, MOVES)
    few = st.integers(1, 3)

    @initialize(
        kind=st.sampled_from(["list", "drain"]),
        after=st.lists(st.sets(st.integers(1, MOVES), max_size=2), min_size=MOVES, max_size=MOVES),
    )
    def empty(self, kind: str, after: list[set[int]]) -> None:
        """A fresh journal and a batch in it."""
        self.client.flushall()
        self.journal = Journal(self.client)
        self.kind, self.after = kind, after
        self.made: dict[str, int] = {}
        self.serial = 0
        fields = {"kind": kind, "digest": "d", "hosts": ["alpha"]}
        filling, moves = ("moves", MOVES) if kind == "list" else ("", 0)
        assert self.journal.create_batch("b", fields, filling, moves, {})[0] == "OK"
        assert self.journal.create_batch("b", fields, filling, moves, {})[0] == "SAME"

    @property
    def batch(self) -> Batch:
        """The batch now."""
        found = self.journal.batch("b")
        assert found is not None
        return found

    def _plan(self, base: int) -> list[Item]:
        items = []
        for n, befores in enumerate(self.after, 1):
            after = tuple(sorted(base + before for before in befores if before < n))
            destination = "beta" if n % 2 else "gamma"
            items.append(Item(base + n, f"vm-{n}", f"uuid-{n}", "alpha", destination, after))
        left = Item(base + MOVES, "vm-x", "uuid-x", "alpha", left=True, code="pinned", why="so")
        return items if self.kind == "list" else [*items[:-1], left]

    # -- what the leading scheduler does --------------------------------------------------------------------

    @rule()
    def adopt(self) -> None:
        """A plan comes, perhaps of a leader that was held up."""
        seen = self.batch
        if self.kind != "list" and seen.expected is None:
            assert self.journal.adopt_plan(seen, "plan", MOVES, {}, {}) is (seen.state == "planning")
            assert not self.journal.adopt_plan(seen, "plan", MOVES, {}, {})

    @rule(at=st.integers(0, MOVES), many=few)
    def write(self, at: int, many: int) -> None:
        """Some moves are written down, perhaps again."""
        batch = self.batch
        items = self._plan(batch.base)[at : at + many]
        if batch.expected and items:
            self.journal.add_items("b", items)

    @rule()
    def write_all(self) -> None:
        """All that are missing are written down, and the batch begins."""
        batch = self.batch
        if batch.expected and not batch.complete:
            self.journal.add_items("b", self._plan(batch.base)[batch.filled - batch.base :])
        self.journal.begin_batch("b", {})

    @rule(most=few)
    def feed(self, most: int) -> None:
        """A round asks for moves."""
        for item, migration in self.journal.feedable("b", LIMITS, most):
            assert self._ask(item.n, migration) == "OK"

    @rule(n=st.integers(1, 2 * MOVES), number=st.integers(0, 3))
    def ask_wildly(self, n: int, number: int) -> None:
        """A leader that was held up asks for what it has seen long ago."""
        self._ask(n, f"b.{n}.{number}" if number else f"b.{n}")

    def _ask(self, n: int, migration: str) -> str:
        before = self.batch
        fields: dict[str, str | int | float | None] = {
            "domain": f"vm-{n}",
            "uuid": f"uuid-{n}",
            "source": "alpha",
            "destination": "beta",
            "driver": "vz",
            "batch": "b",
            "item": n,
        }
        answer = str(self.journal.submit(migration, fields, {}, "baton", "{}")[0][0])
        if answer == "OK":
            assert before.state == "running"
        else:
            assert self.batch == before
        return answer

    @rule(n=numbers, number=st.integers(0, 2), code=st.sampled_from(["cordoned", "same-host"]))
    def refuse_wildly(self, n: int, number: int, code: str) -> None:
        """A move is refused when its turn comes, or when it has not come, or is over."""
        migration = f"b.{n}.{number}" if number else f"b.{n}"
        fields: dict[str, str | int | float | None] = {"domain": "x", "batch": "b", "item": n, "reason": code}
        before = self.batch
        if not self.journal.refuse(migration, fields, KEEP, {}):
            assert self.batch == before

    @rule(most=few)
    def skip(self, most: int) -> None:
        """A round skips what will not be asked for."""
        self.journal.skip_items("b", most)

    @rule(most=few)
    def again(self, most: int) -> None:
        """A round asks anew for, or replaces, what was not made."""
        self.journal.items_again("b", most)

    @rule(n=numbers)
    def take_back(self, n: int) -> None:
        """What a paused batch has asked for is taken back."""
        paused = self.batch.state == "paused"
        assert not self.journal.withdraw(f"b.{n}") or paused

    @rule()
    def finish(self) -> None:
        """The batch ends if it is at its end; a receipt of what it was before is not taken."""
        seen = self.batch
        over = self.journal.finish_batch(seen, {"ended": "1"}, KEEP, ("", "", 0), {})
        assert not self.journal.finish_batch(seen, {"ended": "1"}, KEEP, ("", "", 0), {})
        if over:
            assert (seen.done, seen.asked) == (seen.total, 0)

    @rule()
    def replan(self) -> None:
        """The batch is to be planned anew."""
        if self.kind != "list" and self.batch.replans < 2:
            self.journal.replan_batch(self.batch, "tests")

    # -- what others do ---------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 3), outcome=st.sampled_from(OUTCOMES))
    def end(self, which: int, outcome: str) -> None:
        """A migration ends, perhaps twice."""
        for item in self.journal.items_in("b", "asked")[which : which + 1]:
            self._end(item.migration, outcome)
            self._end(item.migration, "failed")

    def _end(self, migration: str, outcome: str) -> None:
        reason = "cancelled" if outcome == "cancelled" else "x"
        told = {"outcome": outcome, "reason": reason, "error": "x"}
        if self.journal.turn_away(migration, told, KEEP, by_settings=True) and outcome == "succeeded":
            n = migration.split(".")[1]
            self.made[n] = self.made.get(n, 0) + 1

    @rule(
        action=st.sampled_from(["pause", "resume", "cancel", "retry", "retry"]),
        abort=st.booleans(),
        again=st.booleans(),
    )
    def control(self, action: str, abort: bool, again: bool) -> None:
        """An operator says something; the message may come twice."""
        self.serial += not again
        before = self.batch
        answer, state = self.journal.control_batch("b", action, abort, "ops", f"c{self.serial}")
        after = self.batch
        assert state == after.state
        if answer != "OK":
            assert after == before

    # -- what must hold ---------------------------------------------------------------------------------------

    @invariant()
    def every_move_is_in_one_place(self) -> None:
        """Waiting, asked or over; and what is counted is what there is."""
        if not hasattr(self, "journal"):
            return
        batch, items = self.batch, self.journal.items("b")
        assert [item.n for item in items] == list(range(1, batch.filled + 1))
        open_ = {int(n) for n in self.client.zrange("vmrelay:b:b:open", 0, -1)}
        asked = {int(n) for n in self.client.smembers("vmrelay:b:b:asked")}
        for item in items:
            assert (item.n in open_, item.n in asked, item.state in OVER).count(True) == 1, item
        for state in OVER[:-1]:
            assert getattr(batch, state) == sum(item.state == state for item in items)
        assert batch.total == sum(item.state != "replaced" for item in items)
        assert batch.waiting == len(open_)

    @invariant()
    def who_is_asked_for_has_a_migration(self) -> None:
        """And nobody else has one that has not ended; nobody is moved twice."""
        if not hasattr(self, "journal"):
            return
        asked = {item.migration: item.n for item in self.journal.items_in("b", "asked")}
        waiting = {record.id: record.item for record in self.journal.records("pending")}
        assert asked == waiting
        assert all(times == 1 for times in self.made.values())
        moved = {item.n for item in self.journal.items("b") if item.state == "moved"}
        assert {int(n) for n in self.made} == moved

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Who waits is ready, waits for another move, or is going to be skipped; its lane is looked at, or busy."""
        if not hasattr(self, "journal"):
            return
        key = "vmrelay:b:b:"
        ready = {m.split("\n")[1].lstrip("0"): m.split("\n")[0] for m in self.client.zrange(key + "ready", 0, -1)}
        wait = {n for n, left in self.client.hgetall(key + "wait").items() if int(left) > 0}
        doomed = set(self.client.hkeys(key + "doomed"))
        for n in self.client.zrange(key + "open", 0, -1):
            assert (n in ready) is (n not in wait and n not in doomed), n
        loads = {lane: int(load) for lane, load in self.client.hgetall(key + "load").items()}
        lanes = set(self.client.zrange(key + "lanes", 0, -1))
        assert sum(loads.values()) == self.batch.asked
        for n, lane in ready.items():
            assert self.client.zscore(key + "open", n) is not None
            assert lane in lanes or loads.get(lane), (n, lane)

    def teardown(self) -> None:
        """Whatever happened: once migrations end and everybody does what is his, the batch ends, as often as it is
        tried again."""
        if not hasattr(self, "journal"):
            return
        for tries in range(3):
            self._drive(tries)
            self.serial += 1
            self.journal.control_batch("b", "retry", False, "", f"c{self.serial}")
        self._drive(9)

    def _drive(self, tries: int) -> None:
        for number in range(100):
            batch = self.batch
            if batch.state == "finished":
                return
            if batch.state in ("paused", "planned") or batch.hold:
                self.serial += 1
                self.journal.control_batch("b", "resume", False, "", f"c{self.serial}")
            self.adopt()
            self.write_all()
            self.skip(3)
            self.again(3)
            self.feed(3)
            for item in self.journal.items_in("b", "asked"):
                self._end(item.migration, OUTCOMES[(item.n + number + tries) % 3])
            self.every_move_is_in_one_place()
            self.who_is_asked_for_has_a_migration()
            self.nobody_waits_for_nothing()
            self.finish()
        raise AssertionError(f"it does not end: {json.dumps(self.batch.document())} {self.journal.items('b')}")


def test_any_interleaving_of_a_batch_keeps_its_invariants(redis_url: str) -> None:
    """Nothing is lost, asked for twice or moved twice; counts are right; and it always ends."""
    with connect(redis_url) as client:
        Batching.client = client
        run_state_machine_as_test(
            Batching,
            settings=settings(
                max_examples=15,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
