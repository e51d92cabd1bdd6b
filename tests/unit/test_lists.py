"""Pages of migrations, batches and moves, on a real Redis."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_lab import KEEP, fields
from terms import terms_text

from tasks.listing import LOOK_SECONDS, Lister
from worker.errors import Rejected
from worker.journal import Journal, Record, connect, lists
from worker.journal.batch import Item
from worker.journal.lists import Filters

DAY = 86400_000


@pytest.fixture
def journal(redis_url: str) -> Iterator[Journal]:
    """An empty journal."""
    with connect(redis_url) as client:
        yield Journal(client)


def write(journal: Journal, ident: str, created: int, state: str = "ended", **more: str) -> None:
    """A record as its scripts leave it, of any time."""
    index = lists.OPEN.get(state, "ended")
    told = {"state": state, "domain": ident, "source": "alpha", "destination": "beta", "created": str(created)} | more
    journal.client.hset(f"vmrelay:m:{ident}", mapping=told)
    journal.client.zadd(f"vmrelay:{index}", {ident: created + 5})
    journal.client.zadd("vmrelay:all", {ident: created})


def walked(page: Callable[..., tuple[list[Any], str | None]], *args: Any, limit: int) -> list[Any]:
    """Every page of a list, one after the other."""
    found, cursor = page(*args, limit=limit)
    while cursor:
        more, cursor = page(*args, limit=limit, cursor=cursor)
        found += more
    return found


STATES = ("pending", "active", "backoff", "in-doubt", "ended")
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "created": st.integers(DAY, DAY + 5),  # many in the same millisecond
            "state": st.sampled_from(STATES),
            "source": st.sampled_from(["alpha", "gamma"]),
            "requested_by": st.sampled_from(["ann", "bob"]),
        }
    ),
    max_size=25,
)
FILTERS = st.builds(
    Filters,
    states=st.lists(st.sampled_from(STATES), max_size=2, unique=True).map(tuple),
    host=st.sampled_from(["", "alpha", "beta", "gamma", "nowhere"]),
    requested_by=st.sampled_from(["", "ann"]),
)


def fits(record: Record, filters: Filters) -> bool:
    """What a filter means."""
    return (
        (not filters.states or record.state in filters.states)
        and (not filters.host or filters.host in (record.source, record.destination))
        and (not filters.requested_by or record.requested_by == filters.requested_by)
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, filters=FILTERS, limit=st.integers(1, 30), step=st.integers(1, 7))
def test_the_pages_of_a_list_are_the_list(
    journal: Journal, rows: list[dict[str, Any]], filters: Filters, limit: int, step: int
) -> None:
    """Whatever the filter, the length of a page and of a step: all that fit, each once, newest first."""
    journal.client.flushall()
    for number, row in enumerate(rows):
        write(journal, f"m{number}", **row)
    before, lists.STEP = lists.STEP, step
    try:
        found = walked(journal.page, filters, limit=limit)
    finally:
        lists.STEP = before
    every = [record for number in range(len(rows)) if (record := journal.record(f"m{number}"))]
    wanted = [record for record in every if fits(record, filters)]
    assert found == sorted(wanted, key=lambda record: (record.created, record.id), reverse=True)


def test_a_page_stays_where_it_is_while_others_are_asked_for_and_forgotten(journal: Journal) -> None:
    """What is new stands before the first page, and what was dropped leaves no gap."""
    for number in range(9):
        write(journal, f"m{number}", DAY + number)
    first, cursor = journal.page(limit=3)
    write(journal, "new", DAY + 100)
    journal.client.zrem("vmrelay:all", "m6")  # the last one of the first page
    journal.client.delete("vmrelay:m:m6")
    second, cursor = journal.page(limit=3, cursor=cursor)
    assert [record.id for record in first + second] == ["m8", "m7", "m6", "m5", "m4", "m3"]
    assert [record.id for record in journal.page(limit=99, cursor=cursor)[0]] == ["m2", "m1", "m0"]
    assert journal.page(limit=1)[0][0].id == "new"


def test_one_page_looks_at_so_many_at_most(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shorter than asked for then, perhaps empty, and the next one goes on."""
    monkeypatch.setattr(lists, "STEP", 2)
    monkeypatch.setattr(lists, "MOST_LOOKED", 6)
    for number in range(20):
        write(journal, f"m{number:02}", DAY + number, domain="web" if number in (1, 17) else "other")
    found, cursor = journal.page(Filters(domain="web"), 5)
    assert ([record.id for record in found], bool(cursor)) == (["m17"], True)
    assert [record.id for record in walked(journal.page, Filters(domain="web"), limit=5)] == ["m17", "m01"]


def test_every_filter(journal: Journal) -> None:
    """By outcome, by the domain's name or uuid, by batch and by who asked."""
    more = {"outcome": "failed", "uuid": "4c4c4544-0042", "batch": "b1", "requested_by": "ann"}
    write(journal, "one", DAY, **more)
    write(journal, "two", DAY)
    own = [
        {"outcome": "failed"},
        {"domain": "one"},
        {"domain": "4C4C4544-0042"},
        {"batch": "b1"},
        {"requested_by": "ann"},
    ]
    for filters in own:
        assert [record.id for record in journal.page(Filters(**filters))[0]] == ["one"], filters
    assert journal.page(Filters(outcome="failed", batch="b2")) == ([], None)


WRONG = [
    "",
    "x",
    "****",
    "\u00fc",
    base64.urlsafe_b64encode(b'{"a": 1}').decode(),
    base64.urlsafe_b64encode(json.dumps(["0" * 12, 1, "m"]).encode()).decode(),
]


@pytest.mark.parametrize("cursor", WRONG)
def test_what_is_no_cursor_is_refused(journal: Journal, cursor: str) -> None:
    """Of all three lists, with the way on."""
    for page in (journal.page, journal.batch_page, lambda **more: journal.item_page("b", **more)):
        with pytest.raises(Rejected, match="begin anew") as refusal:
            page(cursor=cursor)
        assert refusal.value.code == "bad-cursor"


def test_the_cursor_of_another_list_is_refused(journal: Journal) -> None:
    """With other filters the place means something else; whatever else is in it must be a place."""
    for number in range(3):
        write(journal, f"m{number}", DAY + number)
    _, cursor = journal.page(limit=1)
    assert cursor is not None
    with pytest.raises(Rejected, match="same filters"):
        journal.page(Filters(host="alpha"), cursor=cursor)
    mark, _, ident = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    for place in ([mark, -1, ident], [mark, True, ident], [mark, 2**60, ident], [mark, 1, 1], [mark, 1]):
        with pytest.raises(Rejected, match="cursor"):
            journal.page(cursor=base64.urlsafe_b64encode(json.dumps(place).encode()).decode())


def test_the_pages_of_batches_and_of_their_moves(journal: Journal) -> None:
    """Batches newest first, by state where that is wanted; moves in their order, by state."""
    moves = [{"domain": f"vm{n}", "destination": "beta"} for n in range(1, 8)]
    for ident in ("b1", "b2", "b3"):
        journal.create_batch(ident, {"kind": "list", "digest": ident}, json.dumps({"moves": moves}), len(moves), {})
        journal.client.zadd("vmrelay:batches:all", {ident: DAY + int(ident[1])})
    assert journal.add_items("b2", [Item(n, f"vm{n}", destination="beta") for n in range(1, 8)]) == 7
    assert journal.settle_item("b2", 3, "skipped", "x", "y")
    assert journal.begin_batch("b2", {}) == "running"
    assert [batch.id for batch in walked(journal.batch_page, limit=2)] == ["b3", "b2", "b1"]
    assert [batch.id for batch in walked(journal.batch_page, ["planning"], limit=1)] == ["b3", "b1"]
    assert [item.n for item in walked(journal.item_page, "b2", limit=3)] == [*range(1, 8)]
    assert [item.n for item in walked(journal.item_page, "b2", "skipped", limit=1)] == [3]
    assert [item.n for item in walked(journal.item_page, "b2", "waiting", limit=2)] == [1, 2, 4, 5, 6, 7]
    assert journal.item_page("unknown") == ([], None)


def test_moves_are_looked_at_so_many_at_most(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """As migrations are."""
    monkeypatch.setattr(lists, "STEP", 2)
    monkeypatch.setattr(lists, "MOST_LOOKED", 4)
    moves = [{"domain": f"vm{n}", "destination": "beta"} for n in range(9)]
    journal.create_batch("b", {"kind": "list", "digest": "b"}, json.dumps({"moves": moves}), len(moves), {})
    journal.add_items("b", [Item(n, f"vm{n}", destination="beta") for n in range(1, 10)])
    journal.settle_item("b", 8, "skipped", "x", "y")
    assert journal.item_page("b", "skipped")[0] == []
    assert [item.n for item in walked(journal.item_page, "b", "skipped", limit=5)] == [8]


def test_scripts_keep_the_lists(journal: Journal) -> None:
    """Whatever is created or refused is in them, can be found by its beginning, and leaves them when it expires."""
    journal.submit("0a*1", fields("web", "alpha", "beta"), {}, "b", terms_text(0, 0))
    journal.refuse("0ab2", {"reason": "x", "error": "y"}, KEEP, {})
    assert journal.is_listed()
    assert [record.id for record in journal.page()[0]] == ["0ab2", "0a*1"]
    assert sorted(journal.named("0a")) == ["0a*1", "0ab2"]
    assert (journal.named("0a*"), journal.named("1"), len(journal.named("0a", 1))) == (["0a*1"], [], 1)
    assert (journal.forget(KEEP), journal.forget(-1)) == (0, 1)
    assert [record.id for record in journal.page()[0]] == ["0a*1"]
    assert journal.is_listed()


def test_what_another_version_wrote_gets_into_the_lists(journal: Journal) -> None:
    """Migrations of every state, and batches; and what that version forgot leaves them."""
    for number in range(2000):
        write(journal, f"m{number}", DAY + number, STATES[number % 5])
    journal.create_batch("b", {"kind": "list", "digest": "b"}, "", 0, {})
    journal.client.delete("vmrelay:all", "vmrelay:batches:all")
    journal.client.zadd("vmrelay:all", {"gone": 1})
    journal.client.zadd("vmrelay:batches:all", {"gone": 1})
    assert not journal.is_listed()
    lister, now = Lister(), time.monotonic()
    lister.look(journal, now, now)  # no time left: nothing is done
    assert not journal.is_listed()
    lister.look(journal, now, now + 3600)
    assert journal.is_listed()
    assert len(walked(journal.page, limit=500)) == 2000
    assert [batch.id for batch in journal.batch_page()[0]] == ["b"]
    journal.client.zrem("vmrelay:all", "m7")
    lister.look(journal, now + 1, now + 3600)
    assert not journal.is_listed()  # it was counted a moment ago
    lister.look(journal, now + 2 + LOOK_SECONDS, now + 3600)
    assert journal.is_listed()
