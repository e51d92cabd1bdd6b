"""The journal's scripts against a real Redis: random interleavings of everything that can happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from journal_lab import HOSTS, KEEP, NOTHING, agents, fields
from terms import terms, terms_text

from worker.hypervisors.base import Domain, DomainState, Phase
from worker.journal import Journal, Record, connect
from worker.journal.journal import INDEXES, LostClaim

LIMITS = (1, 2)
TERMS = terms_text(*LIMITS)
ENDED = {"outcome": "failed", "reason": "x", "error": "x"}
OF_STATE = {"pending": "pending", "active": "active", "backoff": "due", "in-doubt": "doubt", "ended": "ended"}


class Relaying(RuleBasedStateMachine):
    """Requests, phases, duplicates, lies and cancels in any order; a few ids, guests and tokens collide."""

    client: redis.Redis
    idents = st.sampled_from([f"m{number}" for number in range(5)])
    domains = st.sampled_from(["web", "db", "mail"])
    pairs = st.sampled_from([(a, b) for a in HOSTS for b in HOSTS if a != b])
    phases = st.sampled_from(list(Phase))
    tokens = st.sampled_from(["t1", "t2", "t3"])
    small = st.integers(0, 3)

    @initialize()
    def empty(self) -> None:
        """A fresh journal."""
        self.client.flushall()
        self.journal = Journal(self.client)
        agents(self.journal)
        self.won: dict[tuple[str, int, int, str], str] = {}
        self.ended: dict[str, int] = {}
        self.claimed: dict[str, str] = {}
        self.serial = 0

    @rule(ident=idents, domain=domains, pair=pairs)
    def submit(self, ident: str, domain: str, pair: tuple[str, str]) -> None:
        """A request, perhaps under a known id."""
        before = self.journal.record(ident)
        created, admitted = self.journal.submit(ident, fields(domain, *pair), {}, f"{ident}-1", TERMS)
        if before is not None:
            assert created == ["SAME"]
            assert admitted[0] == "STALE"
            assert self.journal.record(ident) == before

    @rule()
    def admit_ready(self) -> None:
        """A round: what next.lua names can be admitted."""
        for ident in self.journal.choose(terms(*LIMITS)):
            record = self.journal.record(ident)
            assert record is not None
            answer = self.journal.admit(ident, record.attempt + 1, f"{ident}-{record.attempt + 1}", TERMS)
            assert answer[0] == "OK", (record, answer)

    @rule(ident=idents, attempt=small)
    def admit_wildly(self, ident: str, attempt: int) -> None:
        """An admission nobody asked for: only the next attempt of one that waits is taken."""
        record = self.journal.record(ident)
        answer = self.journal.admit(ident, attempt, f"{ident}-{attempt}", TERMS)
        if answer[0] == "OK":
            assert record is not None
            assert record.state in ("pending", "backoff")
            assert attempt == record.attempt + 1

    @rule(ident=idents, phase=phases, attempt=small, epoch=small, honest=st.booleans())
    def claim_wildly(self, ident: str, phase: Phase, attempt: int, epoch: int, honest: bool) -> None:
        """A duplicate, an old message or a lie."""
        record = self.journal.record(ident)
        baton = (self.client.hget(f"vmrelay:m:{ident}", "baton") if honest else "lie") or "none"
        self._claim(record, ident, attempt, epoch, phase, str(baton))

    @rule(ident=idents)
    def claim(self, ident: str) -> None:
        """The message that is due, perhaps for the second time."""
        record = self.journal.record(ident)
        if record is not None and record.phase:
            baton = self.client.hget(f"vmrelay:m:{ident}", "baton") or "none"
            self._claim(record, ident, record.attempt, record.epoch, Phase(record.phase), str(baton))

    def _claim(self, record: Any, ident: str, attempt: int, epoch: int, phase: Phase, baton: str) -> None:
        self.serial += 1
        token = f"token-{self.serial}"
        claim = self.journal.claim(ident, attempt, epoch, phase, baton, token, "alpha", NOTHING)
        if claim.won:
            assert record is not None
            assert (record.state, record.step) == ("active", "queued")
            assert baton != "lie"
            key = (ident, attempt, epoch, str(phase))
            assert key not in self.won, f"{key} was claimed twice"
            self.won[key] = self.claimed[ident] = token
            again = self.journal.claim(ident, attempt, epoch, phase, baton, token, "alpha", NOTHING)
            assert again.won, "the same token asks again when its answer was lost"

    def _token(self, ident: str, own: bool) -> str:
        return self.claimed.get(ident, "none") if own else "stranger"

    def _owned(self, ident: str, own: bool, call: Callable[[str], object]) -> bool:
        """Whether a transition was taken; a stranger's never is."""
        token = self._token(ident, own)
        before = self.journal.record(ident)
        try:
            call(token)
        except LostClaim:
            assert self.journal.record(ident) == before
            return False
        assert own
        after = self.journal.record(ident)
        call(token)  # repeated: SAME, and nothing changes
        assert self.journal.record(ident) == after
        return True

    @rule(ident=idents, own=st.booleans(), failed=st.booleans())
    def advance(self, ident: str, own: bool, failed: bool) -> None:
        """A phase is over, well or not."""
        record = self.journal.record(ident)
        order = list(Phase)
        if record is None or record.phase in ("", "confirm"):
            return
        following = order[order.index(Phase(record.phase)) + 1]
        run = {"phase": record.phase, "host": "alpha", "seconds": 1} | ({"error": "x"} if failed else {})
        baton = f"{ident}-{record.attempt}-{following}"
        self._owned(ident, own, lambda t: self.journal.advance(ident, t, following, baton, run, {}, 0))

    @rule(ident=idents, own=st.booleans())
    def backoff(self, ident: str, own: bool) -> None:
        """The attempt failed; another one follows at once."""
        run = {"phase": "confirm", "host": "alpha", "seconds": 1}
        self._owned(ident, own, lambda t: self.journal.backoff(ident, t, run, {}, 0, {}, NOTHING))

    @rule(ident=idents, own=st.booleans())
    def doubt(self, ident: str, own: bool) -> None:
        """Nobody knows."""
        run = {"phase": "confirm", "host": "alpha", "seconds": 1}
        self._owned(ident, own, lambda t: self.journal.doubt(ident, t, run, {"error": "x"}, {}, NOTHING))

    @rule(ident=idents, own=st.booleans(), moved=st.booleans())
    def conclude(self, ident: str, own: bool, moved: bool) -> None:
        """The end: counted by exactly one call."""
        run = {"phase": "confirm", "host": "alpha", "seconds": 1}
        domain = Domain("web", "uuid-web", DomainState.RUNNING) if moved else None

        def end(token: str) -> None:
            won, record = self.journal.conclude(ident, token, run, ENDED, KEEP, domain)
            assert record.state == "ended"
            self.ended[ident] = self.ended.get(ident, 0) + won

        self._owned(ident, own, end)

    @staticmethod
    def _has_left(record: Record) -> bool:
        """Whether perform of the attempt under way went well, and finish if it is over."""
        runs = [run for run in record.phases if run.attempt == record.attempt and run.name in ("perform", "finish")]
        return bool(runs) and not any(run.error for run in runs)

    @rule(ident=idents)
    def cancel(self, ident: str) -> None:
        """Somebody wants it stopped."""
        before = self.journal.record(ident)
        answer, _ = self.journal.cancel(ident, "tests", KEEP)
        after = self.journal.record(ident)
        if before is None:
            assert (answer, after) == ("GONE", None)
        elif before.state in ("pending", "backoff"):
            assert answer == "ENDED"
            assert after is not None
            assert after.outcome == "cancelled"
        elif before.state == "ended":
            assert (answer, after) == ("OVER", before)
        elif before.state == "active" and self._has_left(before):
            assert (answer, after) == ("TOO-LATE", before)
        else:
            assert answer == "ASKED"
            assert after is not None
            assert after.cancel

    @rule(ident=idents, own=st.booleans())
    def beat(self, ident: str, own: bool) -> None:
        """A sign of life, from its runner or from one that was superseded."""
        record = self.journal.record(ident)
        try:
            stop, _, _ = self.journal.progress(ident, self._token(ident, own), {"percent": 1}, True, NOTHING)
        except LostClaim:
            return
        assert own
        assert record is not None
        assert stop is record.cancel

    @rule(ident=idents, number=small)
    def tune(self, ident: str, number: int) -> None:
        """A wish is taken while perform runs, and at no other time."""
        record = self.journal.record(ident)
        answer, *_ = self.journal.tune(ident, f'{{"tuning":"{number}","kind":"set-speed","value":null}}')
        performs = record is not None and (record.state, record.phase, record.step) == ("active", "perform", "running")
        expected = "OK" if performs else "GONE" if record is None else "OVER" if record.state == "ended" else "IDLE"
        assert answer == expected

    @rule(ident=idents, own=st.booleans())
    def tuned(self, ident: str, own: bool) -> None:
        """Its runner alone is given the wishes, and takes the oldest away when it is told."""
        key = f"vmrelay:m:{ident}:tunings"
        wishes = self.client.lrange(key, 0, -1)
        try:
            _, _, given = self.journal.progress(ident, self._token(ident, own), None, False, NOTHING)
            assert given == wishes
            self.journal.note(ident, self._token(ident, own), "tuned", {}, (wishes or ["none"])[0])
        except LostClaim:
            assert self.client.lrange(key, 0, -1) == wishes
        else:
            assert self.client.lrange(key, 0, -1) == wishes[1:]

    @rule()
    def republish(self) -> None:
        """What is overdue is queued, and has the baton that a claim will be compared with."""
        for ident, baton, phase, _ in self.journal.overdue("host."):
            record = self.journal.record(ident)
            assert record is not None
            assert (record.state, record.step, record.phase) == ("active", "queued", phase)
            assert self.client.hget(f"vmrelay:m:{ident}", "baton") == baton

    @invariant()
    def slots_are_bounded_and_given_back(self) -> None:
        """Exactly the active migrations hold slots, and never more than there are."""
        if not hasattr(self, "journal"):
            return
        active = [record for record in self.journal.records() if record.state == "active"]
        for host in HOSTS:
            leaving, entering = self.journal.load_of(host)
            assert leaving <= LIMITS[0]
            assert entering <= LIMITS[1]
            assert leaving == sum(record.source == host for record in active)
            assert entering == sum(record.destination == host for record in active)

    @invariant()
    def one_migration_holds_a_domain(self) -> None:
        """The lock is that of the one migration of a domain that has not ended."""
        if not hasattr(self, "journal"):
            return
        open_ = {r.uuid: r.id for r in self.journal.records() if r.state != "ended"}
        assert len(open_) == sum(r.state != "ended" for r in self.journal.records())
        for domain in ("web", "db", "mail"):
            assert self.journal.holder(f"uuid-{domain}") == open_.get(f"uuid-{domain}")

    @invariant()
    def indexes_agree_with_records(self) -> None:
        """Each record is in the index of its state and in no other; the outbox holds queued ones only."""
        if not hasattr(self, "journal"):
            return
        for index in INDEXES:
            for ident in self.client.zrange(f"vmrelay:{index}", 0, -1):
                record = self.journal.record(ident)
                assert record is not None
                assert OF_STATE[record.state] == index
        for record in self.journal.records():
            in_outbox = self.client.zscore("vmrelay:outbox", record.id) is not None
            assert in_outbox is (record.state == "active" and record.step == "queued")
            assert (self.client.ttl(f"vmrelay:m:{record.id}") > 0) is (record.state == "ended")

    @invariant()
    def wishes_belong_to_a_running_perform(self) -> None:
        """Nothing waits for a perform that is over, and each wish waits once."""
        if not hasattr(self, "journal"):
            return
        for key in self.client.scan_iter("vmrelay:m:*:tunings"):
            record = self.journal.record(str(key).split(":")[2])
            assert record is not None
            assert (record.state, record.phase, record.step) == ("active", "perform", "running")
            wishes = self.client.lrange(key, 0, -1)
            assert len(wishes) == len(set(wishes))

    @invariant()
    def an_end_is_counted_once(self) -> None:
        """No migration is concluded twice; each end is counted, and in the outbox of results."""
        if not hasattr(self, "ended"):
            return
        assert all(times == 1 for times in self.ended.values())
        assert sum(self.journal.outcomes().values()) == self.journal.count("ended")
        assert self.client.zrange("vmrelay:unshown", 0, -1) == self.client.zrange("vmrelay:ended", 0, -1)


def test_any_interleaving_keeps_the_invariants(redis_url: str) -> None:
    """At most one claim for each phase, bounded slots, one migration per domain, one end."""
    with connect(redis_url) as client:
        Relaying.client = client
        run_state_machine_as_test(
            Relaying,
            settings=settings(
                max_examples=25,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
