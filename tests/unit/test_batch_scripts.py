"""The scripts of batches against a real Redis: every way through a batch, its duplicates, and ten thousand moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from batch_lab import KEEP, SHOWN, WINDOWS, ask, batch, created, end, fed, move, refuse, states

from worker.journal import Journal, connect
from worker.journal.batch import Item
from worker.journal.batches import CHUNK


@pytest.fixture
def journal(redis_url: str) -> Iterator[Journal]:
    """An empty journal."""
    with connect(redis_url) as client:
        yield Journal(client)


def test_the_same_request_is_the_same_batch_and_another_one_is_refused(journal: Journal) -> None:
    """The id belongs to the first request, also once its batch runs; and to a migration that has it already."""
    created(journal, move(1))
    assert journal.create_batch("b", {"kind": "list", "digest": "d"}, "moves", 1, {}) == ("SAME", "running")
    assert journal.create_batch("b", {"kind": "list", "digest": "other"}, "moves", 1, {}) == ("EXISTS", "")
    journal.refuse("m", {"domain": "x"}, KEEP, {})
    assert journal.create_batch("m", {"kind": "list", "digest": "d"}, "moves", 1, {}) == ("EXISTS", "")


def test_moves_are_written_once_and_in_order(journal: Journal) -> None:
    """Whoever writes what is there already changes nothing, and nobody leaves a gap."""
    journal.create_batch("b", {"kind": "list", "digest": "d"}, "moves", 3, {})
    assert journal.add_items("b", [move(1), move(2, 1)]) == 2
    assert journal.add_items("b", [move(1), move(2, 1)]) == 2
    assert journal.begin_batch("b", {}) == ""
    assert journal.add_items("b", [move(3), move(4)]) is None
    assert journal.add_items("b", [move(3)]) == 3
    assert journal.begin_batch("b", {}) == "running"
    assert journal.begin_batch("b", {}) == ""
    assert [item.after for item in journal.items("b")] == [(), (1,), ()]
    assert batch(journal).total == 3


def test_a_move_is_asked_for_once_and_when_those_before_it_were_made(journal: Journal) -> None:
    """Nothing but its own migration id, at its turn, makes a record."""
    created(journal, move(1), move(2, 1))
    assert fed(journal) == [1]
    assert fed(journal) == []
    assert ask(journal, move(1), "b.1") == "SAME"
    assert ask(journal, move(2, 1), "b.2") == "STALE"
    assert ask(journal, move(1), "b.1.2") == "STALE"
    end(journal, "b.1")
    assert states(journal) == "mw"
    assert ask(journal, move(1), "b.1.2") == "STALE"
    assert fed(journal) == [2]


def test_what_comes_after_a_failure_is_skipped_some_at_a_time(journal: Journal) -> None:
    """The step that ends a migration stays short, however long the chain behind it; none of it is ever asked for."""
    created(journal, move(1), *(move(n, n - 1) for n in range(2, 8)), move(8))
    assert fed(journal) == [1, 8]
    end(journal, "b.1", "failed", "x")
    assert states(journal) == "fwwwwwwa"
    assert [journal.skip_items("b", 2) for _ in range(7)] == [1] * 6 + [0]
    assert states(journal) == "fssssssa"
    assert batch(journal).skipped == 6
    assert [item.n for item in journal.items_in("b", "depends")] == [2, 3, 4, 5, 6, 7]
    assert not journal.to_be_done("b")[0]


def test_a_refused_move_has_its_state_in_the_step_of_the_refusal(journal: Journal) -> None:
    """Refused twice, it is counted once; a guest that is where it should be lets go what comes after it."""
    created(journal, move(1), move(2, 1), move(3), move(4, 3))
    assert not refuse(journal, move(2, 1), "b.2"), "it is not its turn"
    assert refuse(journal, move(1), "b.1")
    assert not refuse(journal, move(1), "b.1")
    assert refuse(journal, move(3), "b.3", "same-host")
    journal.skip_items("b")
    assert states(journal) == "fssw"
    found = batch(journal)
    assert (found.failed, found.skipped, found.done) == (1, 2, 3)
    assert fed(journal) == [4]


@pytest.mark.parametrize(("kind", "fate"), [("drain", "sw"), ("list", "fs")])
def test_a_planned_guest_that_left_by_other_ways_is_no_failure(journal: Journal, kind: str, fate: str) -> None:
    """Its room is free, so what comes after it goes on; in a list, a wrong source is a wrong move."""
    created(journal, move(1), move(2, 1), kind=kind)
    assert refuse(journal, move(1), "b.1", "domain-elsewhere")
    journal.skip_items("b")
    assert states(journal) == fate


def test_a_lane_is_fed_as_far_as_it_has_room(journal: Journal) -> None:
    """Two more than may run are asked for; another one follows each that ends, whatever the other lanes do."""
    items = [move(n, destination="beta" if n % 2 else "gamma") for n in range(1, 41)]
    created(journal, *items)
    limits = {"alpha": (2, 2), "beta": (2, 1), "gamma": (2, 2)}
    first = journal.feedable("b", limits, 100)
    assert [item.n for item, _ in first] == [1, 3, 5, 2, 4, 6, 8]
    for item, migration in first:
        assert ask(journal, item, migration) == "OK"
    assert journal.feedable("b", limits, 100) == []
    end(journal, "b.3")
    assert [item.n for item, _ in journal.feedable("b", limits, 100)] == [7]
    assert [item.n for item, _ in journal.feedable("b", limits | {"beta": (9, 9)}, 100)] == [7, 9]
    journal.client.hset("vmrelay:limits", "in:beta", 2)
    assert [item.n for item, _ in journal.feedable("b", limits, 100)] == [7, 9]


def test_pause_takes_back_and_resume_asks_again(journal: Journal) -> None:
    """What was asked for and not started is as if it had not been; nothing is asked for meanwhile."""
    created(journal, move(1), move(2), move(3, 1))
    assert fed(journal) == [1, 2]
    assert not journal.withdraw("b.1")
    assert journal.control_batch("b", "pause", False, "ops", "c1") == ("OK", "paused")
    assert journal.control_batch("b", "pause", False, "ops", "c1") == ("SAME", "paused")
    assert journal.withdraw("b.1")
    assert not journal.withdraw("b.1")
    assert journal.record("b.1") is None
    assert journal.holder("uuid-1") is None
    assert journal.count("pending") == 1
    assert fed(journal) == []
    assert ask(journal, move(1), "b.1") == "STALE"
    assert journal.control_batch("b", "resume", False, "ops", "c2") == ("OK", "running")
    assert journal.control_batch("b", "pause", False, "ops", "c1") == ("SAME", "running"), "the same message again"
    assert fed(journal) == [1]
    end(journal, "b.1")
    assert fed(journal) == [3]


def finish(journal: Journal, ident: str = "b") -> bool:
    """End a batch as it is."""
    return journal.finish_batch(batch(journal, ident), {"ended": "1"}, KEEP, SHOWN, {})


def test_cancel_skips_what_waits_and_ends_when_nothing_runs(journal: Journal) -> None:
    """A batch is over when the last of it is; its keys then go with its record."""
    created(journal, *(move(n) for n in range(1, 9)), move(9, 1))
    assert fed(journal) == [1, 2, 3, 4, 5, 6]
    assert journal.control_batch("b", "cancel", False, "", "c1") == ("OK", "cancelling")
    assert journal.control_batch("b", "cancel", False, "", "c2") == ("SAME", "cancelling")
    assert journal.control_batch("b", "retry", False, "", "c3") == ("OVER", "cancelling")
    assert journal.skip_items("b", 2) == 2
    assert journal.skip_items("b", 2) == 1
    assert not finish(journal)
    for n in range(1, 7):
        journal.cancel(f"b.{n}", "ops", KEEP)
    assert states(journal) == "s" * 9
    assert finish(journal)
    assert not finish(journal)
    assert journal.batches("open") == []
    assert [each.id for each in journal.batches("ended")] == ["b"]
    assert all(journal.client.ttl(key) > 0 for key in journal.client.scan_iter("vmrelay:b:*"))
    assert journal.client.get(SHOWN[0]) == "{}"
    assert journal.control_batch("b", "cancel", False, "", "c4") == ("OVER", "finished")
    assert journal.control_batch("b", "retry", False, "", "c5") == ("NONE", "finished")
    assert journal.control_batch("x", "retry", False, "", "c6") == ("GONE", "")


def test_retry_of_a_list_asks_anew_for_what_was_not_made(journal: Journal) -> None:
    """With new ids; what depends on a move that will not be made is skipped again, so that the batch ends."""
    created(journal, move(1), move(2, 1), move(3), move(4, 1, 3), move(5))
    assert fed(journal) == [1, 3, 5]
    end(journal, "b.1", "failed", "x")
    journal.cancel("b.3", "ops", KEEP)
    end(journal, "b.5")
    while journal.skip_items("b"):
        pass
    assert states(journal) == "fsssm"
    assert finish(journal)
    assert journal.control_batch("b", "retry", False, "", "c1") == ("OK", "running")
    assert journal.items_again("b") == 3
    assert journal.skip_items("b") == 1
    assert states(journal) == "wwssm"
    assert [migration for _, migration in journal.feedable("b", WINDOWS, 10)] == ["b.1.2"]
    assert fed(journal) == [1]
    end(journal, "b.1.2")
    assert fed(journal) == [2]
    end(journal, "b.2")
    found = batch(journal)
    assert (found.moved, found.failed, found.skipped, found.total) == (3, 0, 2, 5)
    assert finish(journal)
    assert journal.item_outcomes() == {("list", "moved"): 3, ("list", "failed"): 1, ("list", "skipped"): 4}


def planned(journal: Journal, *items: Item, ident: str = "b", **more: Any) -> None:
    """Give a batch that is planned its plan, and let it begin."""
    assert journal.adopt_plan(batch(journal, ident), "plan", len(items), more, {})
    if items:
        journal.add_items(ident, items)
    while journal.items_again(ident):
        pass
    assert journal.begin_batch(ident, {}) == "running"


def test_a_new_plan_replaces_what_the_old_one_left_undone(journal: Journal) -> None:
    """Who failed stays failed, who was left out or depended on it is counted by the new plan alone."""
    journal.create_batch("b", {"kind": "drain", "digest": "d", "hosts": ["alpha"]}, "", 0, {})
    stays = Item(3, "vm-3", "uuid-3", "alpha", left=True, code="no-room", why="full")
    planned(journal, move(1), move(2, 1), stays)
    assert states(journal) == "wws"
    assert fed(journal) == [1]
    assert not journal.replan_batch(batch(journal), "too early")
    end(journal, "b.1", "failed", "x")
    journal.skip_items("b")
    assert states(journal) == "fss"
    seen = batch(journal)
    assert journal.replan_batch(seen, "a move failed")
    assert not journal.replan_batch(seen, "a move failed")
    found = batch(journal)
    assert (found.state, found.replans, found.complete) == ("planning", 1, False)
    planned(journal, move(4), Item(5, "vm-1", "uuid-1", "alpha", left=True, code="pinned", why="it failed"))
    assert states(journal) == "frrws"
    found = batch(journal)
    assert (found.total, found.failed, found.skipped, found.base) == (3, 1, 1, 3)
    assert fed(journal) == [4]
    end(journal, "b.4")
    assert finish(journal)
    assert journal.control_batch("b", "retry", False, "", "c1") == ("OK", "planning")
    found = batch(journal)
    assert (found.renew, found.replans, found.ended) == (True, 0, 0)
    planned(journal, move(6))
    assert states(journal) == "rrrmrw"
    found = batch(journal)
    assert (found.total, found.moved, found.failed, found.skipped) == (2, 1, 0, 0)


def test_a_plan_that_comes_too_late_is_dropped(journal: Journal) -> None:
    """Cancelled meanwhile, or planned by another leader: nothing changes."""
    journal.create_batch("b", {"kind": "rebalance", "digest": "d"}, "", 0, {})
    seen = batch(journal)
    planned(journal, move(1))
    assert not journal.adopt_plan(seen, "plan", 1, {}, {})
    journal.create_batch("c", {"kind": "rebalance", "digest": "d"}, "", 0, {})
    seen = batch(journal, "c")
    assert journal.control_batch("c", "cancel", False, "", "c1") == ("OK", "cancelling")
    assert not journal.adopt_plan(seen, "plan", 1, {}, {})
    assert finish(journal, "c")


def test_a_batch_that_is_held_waits_for_resume(journal: Journal) -> None:
    """Also where somebody pauses it while it is planned."""
    created(journal, move(1), hold="1")
    assert batch(journal).state == "planned"
    assert fed(journal) == []
    assert journal.control_batch("b", "resume", False, "", "c1") == ("OK", "running")
    journal.create_batch("c", {"kind": "rebalance", "digest": "d"}, "", 0, {})
    assert journal.control_batch("c", "pause", False, "", "c2") == ("OK", "planning")
    assert journal.adopt_plan(batch(journal, "c"), "plan", 0, {}, {})
    assert journal.begin_batch("c", {}) == "planned"
    assert journal.control_batch("c", "cancel", False, "", "c3") == ("OK", "cancelling")


def test_the_id_of_another_migration_is_not_taken_over(journal: Journal) -> None:
    """A record that is not the batch's is left alone, and the move can be settled without one."""
    created(journal, move(1))
    journal.refuse("b.1", {"domain": "x"}, KEEP, {})
    assert ask(journal, move(1), "b.1") == "TAKEN"
    assert not refuse(journal, move(1), "b.1")
    assert journal.settle_item("b", 1, "failed", "id-taken", "why")
    assert not journal.settle_item("b", 1, "failed", "id-taken", "why")
    assert states(journal) == "f"


def test_homes_are_those_of_who_left_a_drained_host(journal: Journal) -> None:
    """A guest that only made room keeps none; one that goes on from a host in between keeps the first."""
    journal.create_batch("b", {"kind": "drain", "digest": "d", "hosts": ["alpha"]}, "", 0, {})
    first, second = move(1), Item(2, "vm-1", "uuid-1", "beta", "gamma", (1,))
    planned(journal, first, second, Item(3, "vm-3", "uuid-3", "beta", "gamma"))
    assert fed(journal) == [1, 3]
    for migration in ("b.1", "b.3"):
        end(journal, migration)
    assert [(home.uuid, home.host, home.to) for home in journal.homes()] == [("uuid-1", "alpha", "beta")]
    assert fed(journal) == [2]
    end(journal, "b.2")
    assert [(home.uuid, home.host, home.to) for home in journal.homes()] == [("uuid-1", "alpha", "gamma")]


def test_a_migration_in_doubt_holds_up_only_the_end(journal: Journal) -> None:
    """The move stays asked for, the batch names it and does not finish; settled, it is counted once."""
    created(journal, move(1), move(2))
    fed(journal)
    journal.client.hset("vmrelay:m:b.1", "state", "in-doubt")
    journal.client.zadd("vmrelay:doubt", {"b.1": 1})
    end(journal, "b.2")
    found = batch(journal)
    assert (found.moved, found.asked, found.in_doubt) == (1, 1, ("b.1",))
    assert not finish(journal)
    journal.client.hset("vmrelay:m:b.1", "state", "pending")
    end(journal, "b.1")
    found = batch(journal)
    assert (found.moved, found.in_doubt) == (2, ())
    assert finish(journal)


def test_ten_thousand_moves(journal: Journal) -> None:
    """Written in steps that each let others in between, fed without looking at what has no room, read in pages."""
    many = 10_000
    journal.create_batch("b", {"kind": "list", "digest": "d"}, "moves", many, {})
    items = [move(n, source=f"h{n % 100}", destination=f"h{(n + 1) % 100}") for n in range(1, many + 1)]
    for start in range(0, many, CHUNK):
        journal.add_items("b", items[start : start + CHUNK])
    assert journal.begin_batch("b", {}) == "running"
    limits = {f"h{n}": (2, 2) for n in range(100)}
    asked = [
        item.n
        for _ in range(9)
        for item, migration in journal.feedable("b", limits, 50)
        if ask(journal, item, migration) == "OK"
    ]
    assert len(asked) == 400
    assert journal.feedable("b", limits, 50) == []
    found = batch(journal)
    assert (found.total, found.asked, found.waiting) == (many, 400, many - 400)
    assert [item.n for item in journal.items("b", 9_999)] == [9_999, 10_000]
    assert [item.n for item in journal.items("b", 1, 2)] == [1, 2]
    journal.control_batch("b", "cancel", False, "", "c1")
    while journal.skip_items("b"):
        pass
    assert batch(journal).skipped == many - 400
