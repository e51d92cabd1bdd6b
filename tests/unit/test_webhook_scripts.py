"""What is noted for webhooks, in the step that ends something, and what becomes of it: the journal's scripts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_lab import KEEP, NOTHING, agents
from terms import terms_text

from worker.hypervisors.base import Domain, DomainState
from worker.journal import Journal, connect
from worker.journal.batch import Item
from worker.journal.webhooks import Delivery

ALL = ("succeeded", "failed", "cancelled", "rejected", "in-doubt", "batch-finished")
RUN = {"host": "alpha", "seconds": 0}
HOLD, DAY = 10.0, 86400.0


@pytest.fixture
def journal(redis_url: str) -> Iterator[Journal]:
    """An empty journal with agents."""
    with connect(redis_url) as client:
        journal = Journal(client)
        agents(journal)
        yield journal


def confirming(journal: Journal, ident: str) -> None:
    """A migration from alpha to beta whose confirm is claimed."""
    fields = {"domain": ident, "uuid": f"uuid-{ident}", "source": "alpha", "destination": "beta", "driver": "vz"}
    journal.submit(ident, fields, {}, "b1", terms_text(999, 999))
    assert journal.claim(ident, 1, 1, "begin", "b1", "b", "alpha", NOTHING).won
    journal.advance(ident, "b", "confirm", "b2", RUN, {}, 500)
    assert journal.claim(ident, 1, 1, "confirm", "b2", "t", "alpha", NOTHING).won


def end(journal: Journal, ident: str, outcome: str = "succeeded", token: str = "t") -> None:  # noqa: S107 - a claim's
    """Its end."""
    moved = Domain(ident, f"uuid-{ident}", DomainState.RUNNING) if outcome == "succeeded" else None
    journal.conclude(ident, token, RUN, {"outcome": outcome, "reason": "x", "error": "no"}, KEEP, moved)


def waiting(journal: Journal, name: str = "all") -> list[tuple[str, str]]:
    """What a webhook is to be told, oldest first: type, and of what."""
    entries = journal.client.zrange(f"vmrelay:webhook:{name}:waiting", 0, -1)
    due = journal.client.zrange(f"vmrelay:webhook:{name}:due", 0, -1)
    assert sorted(entries) == sorted(due)
    return [(Delivery(entry).type, Delivery(entry).of) for entry in entries]


def counts(journal: Journal, name: str = "all") -> dict[str, int]:
    """What came of deliveries."""
    return {result: number for result, number in journal.webhooks([name])[name].counts if number}


def taken(journal: Journal, name: str = "all") -> Delivery:
    """The next delivery, which there must be."""
    found = journal.take_delivery(name, HOLD, DAY)
    assert found is not None
    return found


# -- what is noted ------------------------------------------------------------------------------------------


def test_every_end_is_noted_once_for_whoever_wants_it(journal: Journal) -> None:
    """Moved, failed, cancelled while it waited, rejected, in doubt, settled then, batch; repeats note nothing."""
    journal.name_webhooks({"all": (ALL, (), 100), "few": (("failed", "in-doubt"), (), 100), "none": ((), (), 100)})
    for ident, outcome in (("m1", "succeeded"), ("m2", "failed")):
        confirming(journal, ident)
        for _ in range(2):
            end(journal, ident, outcome)
    fields = {"domain": "m3", "uuid": "u3", "source": "alpha", "destination": "beta", "driver": "vz"}
    journal.submit("m3", fields, {}, "b", terms_text(0, 0))
    for _ in range(2):
        journal.cancel("m3", "me", KEEP)
        journal.refuse("m4", {"reason": "unknown-domain", "error": "no"}, KEEP, {})
    confirming(journal, "m5")
    for _ in range(2):
        journal.doubt("m5", "t", RUN, {"error": "silent"}, {}, NOTHING)
    journal.client.hset(
        "vmrelay:m:m5", mapping={"state": "active", "step": "running", "token": "r"}
    )  # as recovery does
    end(journal, "m5", token="r")
    finish_batch(journal, "b1")
    assert waiting(journal) == [
        ("migration.succeeded", "m1"),
        ("migration.failed", "m2"),
        ("migration.cancelled", "m3"),
        ("migration.rejected", "m4"),
        ("migration.in-doubt", "m5"),
        ("migration.succeeded", "m5"),
        ("batch.finished", "b1"),
    ]
    assert waiting(journal, "few") == [("migration.failed", "m2"), ("migration.in-doubt", "m5")]
    assert waiting(journal, "none") == []


def finish_batch(journal: Journal, ident: str) -> None:
    """A batch whose only move is skipped, and which has finished."""
    filling = '{"moves": [{"domain": "web", "destination": "beta"}]}'
    journal.create_batch(ident, {"kind": "list", "hosts": [], "request": {}}, filling, 1, {})
    journal.add_items(ident, [Item(1, "web", destination="beta")])
    assert journal.begin_batch(ident, {})
    assert journal.settle_item(ident, 1, "skipped", "x", "no")
    seen = journal.batch(ident)
    assert seen is not None
    for _ in range(2):
        journal.finish_batch(seen, {}, KEEP, NOTHING, {})
    found = journal.batch(ident)
    assert found is not None
    assert found.state == "finished"


def test_nothing_is_noted_where_no_webhook_is(journal: Journal) -> None:
    """Neither before there is one nor after it is gone; what it was still to be told expires, unless it comes back."""
    confirming(journal, "m1")
    end(journal, "m1")
    assert journal.client.keys("vmrelay:webhook*") == []
    wish = {"all": (ALL, (), 100)}
    assert journal.name_webhooks(wish) == 0
    for ident in ("m2", "m3"):
        confirming(journal, ident)
    end(journal, "m2")
    assert journal.name_webhooks({}) == 1
    end(journal, "m3")
    assert waiting(journal) == [("migration.succeeded", "m2")]
    for part in ("waiting", "due"):
        assert journal.client.ttl(f"vmrelay:webhook:all:{part}") > 0
    journal.name_webhooks(wish)
    for part in ("waiting", "due"):
        assert journal.client.ttl(f"vmrelay:webhook:all:{part}") == -1
    assert taken(journal).of == "m2"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tells": 1}', '{"tells": {"succeeded": true}, "hosts": []}', "{"])
def test_a_wish_that_cannot_be_read_holds_no_end_up(journal: Journal, text: str) -> None:
    """Of another version, say: the migration ends, and the others are told."""
    journal.name_webhooks({"all": (ALL, (), 100)})
    journal.client.hset("vmrelay:webhooks", "strange", text)
    confirming(journal, "m1")
    end(journal, "m1")
    record = journal.record("m1")
    assert record is not None
    assert record.outcome == "succeeded"
    assert waiting(journal) == [("migration.succeeded", "m1")]
    assert waiting(journal, "strange") == []


def test_only_of_some_hosts(journal: Journal) -> None:
    """Those that a migration leaves or enters; batches are told all the same."""
    wishes = {"alpha": "alpha", "beta": "beta", "gamma": "gamma"}
    journal.name_webhooks({name: (ALL, (host,), 100) for name, host in wishes.items()})
    confirming(journal, "m1")
    end(journal, "m1")
    journal.refuse("m2", {"destination": "gamma", "reason": "x", "error": "no"}, KEEP, {})
    finish_batch(journal, "b1")
    told = {name: [of for _, of in waiting(journal, name)] for name in wishes}
    assert told == {"alpha": ["m1", "b1"], "beta": ["m1", "b1"], "gamma": ["m2", "b1"]}


def test_of_too_many_the_oldest_is_dropped_and_counted(journal: Journal) -> None:
    """Whatever is away for how long, Redis keeps so much; a lower limit holds from the next note on."""
    journal.name_webhooks({"all": (ALL, (), 3)})
    for number in range(5):
        journal.refuse(f"m{number}", {"reason": "x", "error": "no"}, KEEP, {})
    assert [of for _, of in waiting(journal)] == ["m2", "m3", "m4"]
    assert counts(journal) == {"dropped": 2}
    journal.name_webhooks({"all": (ALL, (), 1)})
    journal.refuse("m5", {"reason": "x", "error": "no"}, KEEP, {})
    assert [of for _, of in waiting(journal)] == ["m5"]
    assert counts(journal) == {"dropped": 5}


def test_an_end_is_noted_in_a_full_redis(journal: Journal) -> None:
    """As everything that has begun ends there."""
    journal.name_webhooks({"all": (ALL, (), 100)})
    confirming(journal, "m1")
    journal.client.config_set("maxmemory-policy", "noeviction")
    journal.client.config_set("maxmemory", "1mb")
    try:
        end(journal, "m1")
        delivery = taken(journal)
        assert journal.note_delivery("all", delivery, "retried", "no", 5, 5)
    finally:
        journal.client.config_set("maxmemory", "0")
    assert waiting(journal) == [("migration.succeeded", "m1")]


# -- what becomes of it -------------------------------------------------------------------------------------


def noted(journal: Journal, *idents: str) -> None:
    """So many deliveries for the webhook `all`."""
    journal.name_webhooks({"all": (ALL, (), 1000)})
    for ident in idents:
        journal.refuse(ident, {"reason": "x", "error": "no"}, KEEP, {})


def due_now(journal: Journal, name: str = "all") -> None:
    """Let every pause be over."""
    for entry in journal.client.zrange(f"vmrelay:webhook:{name}:due", 0, -1):
        journal.client.zadd(f"vmrelay:webhook:{name}:due", {entry: Delivery(entry).at * 1000})
    journal.client.hdel(f"vmrelay:webhook:{name}", "until")


def test_what_is_taken_is_nobody_elses_until_its_time_is_over(journal: Journal) -> None:
    """Oldest first, each once; whoever was killed with it leaves it to the next, under the same id."""
    noted(journal, "m1", "m2")
    first, second = taken(journal), taken(journal)
    assert (first.of, second.of) == ("m1", "m2")
    assert first.id != second.id
    assert journal.take_delivery("all", HOLD, DAY) is None
    due_now(journal)
    again = taken(journal)
    assert (again, again.id) == (first, first.id)


def test_delivered_is_gone_and_counted_once(journal: Journal) -> None:
    """Two that delivered the same (one was slow) count one."""
    noted(journal, "m1")
    delivery = taken(journal)
    assert journal.note_delivery("all", delivery, "delivered", "answered 204")
    assert not journal.note_delivery("all", delivery, "delivered", "answered 204")
    assert waiting(journal) == []
    assert counts(journal) == {"delivered": 1}
    standing = journal.webhooks(["all"])["all"]
    assert (standing.waiting, standing.oldest_seconds, standing.failures) == (0, 0, 0)
    assert abs(standing.told - journal.now()) < 60


def test_a_failure_pauses_delivery_and_webhook(journal: Journal) -> None:
    """Nothing is taken meanwhile; what was never tried comes first afterwards; a success ends the pause's growth."""
    noted(journal, "m1", "m2")
    first = taken(journal)
    assert journal.note_delivery("all", first, "retried", "answered 500", 1000, 100)
    assert journal.take_delivery("all", HOLD, DAY) is None
    standing = journal.webhooks(["all"])["all"]
    assert (standing.failures, standing.error) == (1, "answered 500")
    assert 90 < standing.pause_seconds <= 100
    journal.client.hdel("vmrelay:webhook:all", "until")
    second = taken(journal)
    assert (second.of, second.tries, second.failures) == ("m2", 0, 1)
    journal.note_delivery("all", second, "delivered", "")
    due_now(journal)
    again = taken(journal)
    assert (again.of, again.tries, again.failures) == ("m1", 1, 0)
    assert counts(journal) == {"delivered": 1, "retried": 1}
    assert journal.webhooks(["all"])["all"].error == "answered 500"


def test_several_that_fail_at_once_are_one_failure_of_the_webhook(journal: Journal) -> None:
    """Four threads that meet a dead endpoint do not make its pause sixteen times as long."""
    noted(journal, "m1", "m2", "m3")
    for delivery in [taken(journal) for _ in range(3)]:
        journal.note_delivery("all", delivery, "retried", "no", 50, 50)
    assert journal.webhooks(["all"])["all"].failures == 1
    assert counts(journal) == {"retried": 3}


def test_refused_and_dropped_pause_nobody(journal: Journal) -> None:
    """410 stops that delivery, an expired record has nothing to say; the next one's turn comes at once."""
    noted(journal, "m1", "m2", "m3")
    journal.note_delivery("all", taken(journal), "refused", "answered 410")
    journal.note_delivery("all", taken(journal), "dropped", "the record has expired")
    assert taken(journal).of == "m3"
    assert counts(journal) == {"refused": 1, "dropped": 1}


def test_what_has_waited_for_too_long_is_given_up(journal: Journal) -> None:
    """Also while the webhook pauses, and counted; what came later is still delivered."""
    noted(journal, "m1")
    journal.note_delivery("all", taken(journal), "retried", "no", 1000, 1000)
    entry = journal.client.zrange("vmrelay:webhook:all:waiting", 0, 0)[0]
    journal.client.zadd("vmrelay:webhook:all:waiting", {entry: 1})
    journal.refuse("m2", {"reason": "x", "error": "no"}, KEEP, {})
    assert journal.take_delivery("all", HOLD, DAY) is None
    assert [of for _, of in waiting(journal)] == ["m2"]
    assert counts(journal) == {"retried": 1, "gave-up": 1}
    assert journal.client.hlen("vmrelay:webhook:all:tries") == 0


def test_a_late_note_about_what_waits_no_more(journal: Journal) -> None:
    """Nothing comes back that was given up or dropped meanwhile."""
    noted(journal, "m1")
    delivery = taken(journal)
    journal.note_delivery("all", delivery, "dropped", "")
    assert not journal.note_delivery("all", delivery, "retried", "no", 1, 1)
    assert waiting(journal) == []
    assert journal.client.hlen("vmrelay:webhook:all:tries") == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["note", "take", "delivered", "retried", "refused", "dropped", "due"]), max_size=30))
def test_nothing_is_lost_whatever_happens_in_whatever_order(journal: Journal, steps: list[str]) -> None:
    """Every note is waiting, or counted as delivered, refused or dropped: each exactly once."""
    journal.client.flushall()
    agents(journal)
    journal.name_webhooks({"all": (ALL, (), 4)})
    made, hands = 0, list[Delivery]()
    for step in steps:
        if step == "note":
            made += 1
            journal.refuse(f"m{made}", {"reason": "x", "error": "no"}, KEEP, {})
        elif step == "take":
            hands += [found] if (found := journal.take_delivery("all", HOLD, DAY)) else []
        elif step == "due":
            due_now(journal)
        elif hands:
            journal.note_delivery("all", hands.pop(0), step, "", 5, 0.001)
    ended = counts(journal)
    ended.pop("retried", None)
    assert len(waiting(journal)) + sum(ended.values()) == made
    assert len(waiting(journal)) <= 4
