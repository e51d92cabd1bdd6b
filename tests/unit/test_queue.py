"""Slots, turns and limits on a real Redis, with the clock in the test's hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from clocked import Clocked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from terms import terms

from worker.journal import connect
from worker.terms import Room, Terms

HOSTS = ("alpha", "beta", "gamma", "delta")


@pytest.fixture
def journal(redis_url: str) -> Iterator[Clocked]:
    """An empty journal, with an agent on every host."""
    with connect(redis_url) as client:
        book = Clocked(client)
        book.open(*HOSTS)
        yield book


def test_what_is_urgent_starts_first_among_many(journal: Clocked) -> None:
    """Before everything that was asked for earlier, and before flows that have used nothing."""
    for number in range(20):
        journal.ask(f"m{number:02}", "alpha", "beta", requested_by=f"somebody-{number % 10}")
    journal.pass_time(1)
    for number in range(3):
        journal.ask(f"u{number}", "alpha", "beta", priority="urgent")
    started = []
    for _ in range(4):
        started += journal.round(terms(1, 1))
        journal.end(started[-1])
    assert started[:3] == ["u0", "u1", "u2"]


def test_two_flows_get_the_same_whoever_asked_first(journal: Clocked) -> None:
    """A second drain does not wait for the end of the first: of the next twenty starts each gets half."""
    for number in range(30):
        journal.ask(f"a{number:02}", "alpha", "gamma", requested_by="a")
    running: list[str] = journal.round(terms(2, 2))
    journal.pass_time(60)
    for number in range(30):
        journal.ask(f"b{number:02}", "beta", "gamma", requested_by="b")
    started: list[str] = []
    while len(started) < 20:
        journal.end(running.pop(0))
        journal.pass_time(30)
        chosen = journal.round(terms(2, 2))
        running += chosen
        started += chosen
    assert abs(Counter(ident[0] for ident in started)["a"] - 10) <= 2


def test_weights_share_and_do_not_starve(journal: Clocked) -> None:
    """While both want the same slots, high starts more often than low, and low starts."""
    for number in range(60):
        journal.ask(f"h{number:02}", "alpha", "beta", priority="high")
        journal.ask(f"l{number:02}", "alpha", "beta", priority="low")
    started: list[str] = []
    for _ in range(40):
        started += journal.round(terms(1, 1))
        journal.end(started[-1])
        journal.pass_time(5)
    counts = Counter(ident[0] for ident in started)
    assert counts["l"] >= 1
    assert counts["h"] > 3 * counts["l"]


def test_a_heavy_guest_takes_more_and_always_fits_alone(journal: Clocked) -> None:
    """It counts its cost on both hosts, but never more than the lower limit there."""
    journal.ask("heavy", "alpha", "beta", cost=9)
    journal.ask("light", "alpha", "gamma")
    assert journal.round(terms(3, 2)) == ["heavy", "light"]
    told = journal.limits(terms(3, 2))["hosts"]
    assert [told[host]["outgoing"]["used"] for host in ("alpha", "beta")] == [3, 0]
    assert [told[host]["incoming"]["used"] for host in ("beta", "gamma")] == [2, 1]
    journal.end("heavy")
    assert journal.limits(terms(3, 2))["hosts"]["alpha"]["outgoing"]["used"] == 1
    assert not journal.client.hgetall("vmrelay:costs")


def test_networks_and_the_cluster_have_limits_too(journal: Clocked) -> None:
    """A migration counts on both hosts' networks, once where they are the same."""
    hosts = {"alpha": Room(9, 9, "left"), "beta": Room(9, 9, "left"), "gamma": Room(9, 9, "right")}
    for number in range(4):
        journal.ask(f"same{number}", "alpha", "beta")
        journal.pass_time(1)
        journal.ask(f"over{number}", "alpha", "gamma")
        journal.pass_time(1)
    both = Terms(hosts, {"left": 3, "right": 1})
    assert journal.round(both) == ["same0", "over0", "same1"]
    assert journal.round(Terms(hosts, {}, migrations=4)) == ["over1"]
    assert journal.start("same3", Terms(hosts, {}, migrations=4)) == ["FULL", "cluster"]
    assert journal.start("same3", both) == ["FULL", "network left"]
    told = journal.limits(both)["networks"]
    assert {name: room["used"] for name, room in told.items()} == {"left": 4, "right": 2}


def test_the_event_tells_the_room_there_was(journal: Clocked) -> None:
    """So that the events alone prove that no limit was passed."""
    hosts = {"alpha": Room(2, 2, "left"), "beta": Room(3, 3)}
    journal.ask("m", "alpha", "beta", cost=2)
    assert journal.start("m", Terms(hosts, {"left": 5}, migrations=7))[0] == "OK"
    started = [data for _, kind, data in journal.events("m") if kind == "started"]
    room = {"outgoing": [2, 2], "incoming": [2, 3], "network left": [2, 5], "migrations": [1, 7]}
    assert started == [{"attempt": 1, "cost": 2} | room]


def test_urgent_slots_are_left_to_the_urgent_where_there_are_more(journal: Clocked) -> None:
    """The last slot of a host with two is theirs; a host with one has none to spare."""
    of_two = Terms({host: Room(2, 2) for host in HOSTS}, urgent_slots=1)
    of_one = Terms({host: Room(1, 1) for host in HOSTS}, urgent_slots=1)
    for number in range(3):
        journal.ask(f"m{number}", "alpha", "beta")
    assert journal.round(of_two) == ["m0"]
    journal.ask("u", "alpha", "beta", priority="urgent")
    assert journal.round(of_two) == ["u"]
    journal.end("m0")
    journal.end("u")
    assert journal.round(of_one) == ["m1"]


def test_limits_change_and_are_given_back(journal: Clocked) -> None:
    """At once, without a restart; what runs over a lowered limit runs on."""
    two = terms(2, 2)
    for number in range(6):
        journal.ask(f"m{number}", "alpha", "beta")
    journal.open("alpha", "beta", threads=12)
    assert len(journal.round(two)) == 2
    assert journal.limits(two, {"out:alpha": 4, "in:beta": 4})["hosts"]["alpha"]["outgoing"]["limit"] == 4
    assert len(journal.round(two)) == 2
    journal.limits(two, {"out:alpha": 1})
    assert journal.start("m4", two) == ["FULL", "source"]
    assert journal.limits(two)["hosts"]["alpha"]["outgoing"] == {"used": 4, "limit": 1, "asked": 1}
    told = journal.limits(two, {"out:alpha": None, "in:beta": None, "all": 4})
    assert told["hosts"]["alpha"]["outgoing"]["limit"] == 2
    assert told["migrations"] == {"used": 4, "limit": 4, "asked": 4}
    assert journal.client.hgetall("vmrelay:limits") == {"all": "4"}


@pytest.mark.parametrize(
    ("outgoing", "incoming", "threads", "expected"),
    [
        (4, 4, 12, (4, 4)),
        (6, 2, 8, (3, 1)),
        (60, 1, 8, (3, 1)),
        (1, 60, 8, (1, 3)),
        (5, 0, 8, (4, 0)),
        (0, 5, 8, (0, 4)),
        (1, 1, 5, (1, 0)),
        (3, 3, 4, (0, 0)),
        (8, 8, None, (2, 2)),
    ],
)
def test_no_host_gets_more_than_its_agent_has_threads_for(
    journal: Clocked, outgoing: int, incoming: int, threads: int | None, expected: tuple[int, int]
) -> None:
    """In proportion, and no direction that is wanted goes without; an older agent has what the settings say."""
    if threads:
        journal.open("alpha", threads=threads)
    told = journal.limits(terms(2, 2), {"out:alpha": outgoing, "in:alpha": incoming})["hosts"]["alpha"]
    assert (told["outgoing"]["limit"], told["incoming"]["limit"]) == expected
    assert told["outgoing"]["asked"] == outgoing


def test_what_waited_too_long_has_its_hosts_kept_for_it(journal: Clocked) -> None:
    """One that needs two slots at once gets them although others that need one never stop coming; urgent ones pass."""
    one = Terms({host: Room(2, 2) for host in HOSTS}, ageing_seconds=100)
    running: list[str] = []
    journal.ask("first-1", "alpha", "gamma", requested_by="a")
    journal.ask("first-2", "alpha", "gamma", requested_by="a")
    running += journal.round(one)
    journal.ask("heavy", "alpha", "beta", cost=2, requested_by="b")
    for number in range(40):
        journal.ask(f"more-{number:02}", "alpha", "gamma", requested_by="a")
    while journal.at < 1_000_000_000_000 + 90_000:
        journal.pass_time(10)
        journal.end(running.pop(0))
        running += journal.round(one)
        assert "heavy" not in running
    journal.pass_time(20)
    journal.end(running.pop(0))
    assert journal.round(one) == []
    journal.ask("urgent", "alpha", "gamma", priority="urgent")
    assert journal.round(one) == ["urgent"]
    journal.end("urgent")
    journal.end(running.pop(0))
    assert journal.round(one) == ["heavy"]


def test_slots_that_nobody_holds_are_given_back(journal: Clocked) -> None:
    """And told; what is active keeps, or gets back, all of its own."""
    on = Terms({"alpha": Room(2, 2, "net"), "beta": Room(2, 2, "net")}, {"net": 9})
    journal.ask("m", "alpha", "beta", cost=2)
    assert journal.round(on) == ["m"]
    for key in ("slots:alpha:out", "slots:@net:net", "slots:#normal/r::run"):
        journal.client.sadd(f"vmrelay:{key}", "ghost")
    journal.client.hset("vmrelay:costs", "ghost", 7)
    journal.client.srem("vmrelay:slots:beta:in", "m")
    assert sorted(journal.sweep(on)[1]) == [
        "ghost slots:#normal/r::run",
        "ghost slots:@net:net",
        "ghost slots:alpha:out",
    ]
    assert journal.sweep(on) == (0, [])
    assert journal.load_of("beta") == (0, 1)
    assert journal.client.hgetall("vmrelay:costs") == {"m": "2"}
    journal.end("m")
    assert not list(journal.client.scan_iter("vmrelay:slots:*"))
    journal.pass_time(3600)
    journal.sweep(on)
    assert not journal.client.exists("vmrelay:usage")


def test_what_an_older_version_queued_starts_and_what_it_started_is_forgotten(journal: Clocked) -> None:
    """It knows nothing of lines: a sweep lets its requests stand in them, and what it took out is passed over."""
    for ident in ("old", "gone", "new"):
        journal.ask(ident, "alpha", "beta")
        journal.pass_time(1)
    for key in list(journal.client.scan_iter("vmrelay:l*")):
        if ":lane:" in key or ":line:" in key:
            journal.client.zrem(key, "old", "beta")
    journal.client.hdel("vmrelay:m:old", "flow")
    journal.client.zrem("vmrelay:pending", "gone")
    journal.client.hset("vmrelay:m:gone", "state", "active")
    assert journal.sweep(terms(9, 9))[0] == 0
    assert journal.choose(terms(9, 9)) == ["old", "new"]
    assert journal.census()["normal"][0] == 2


def test_requesters_without_number_share_flows(journal: Clocked) -> None:
    """So that choosing costs no more, whatever a client writes; all of them are served."""
    for number in range(300):
        journal.ask(f"m{number:03}", "alpha", "beta", requested_by=f"request {number}")
    flows = journal.client.zrange("vmrelay:flows:alpha", 0, -1)
    assert journal.client.hlen("vmrelay:requesters") == 256
    assert len(flows) <= 256 + 64
    assert len(journal.choose(terms(300, 300), 1000)) == 300


patterns = st.tuples(
    st.sampled_from([(a, b) for a in HOSTS for b in HOSTS if a != b]),
    st.sampled_from(["low", "normal", "high", "urgent"]),
    st.integers(1, 3),
    st.integers(1, 9),
)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    crowd=st.lists(patterns, min_size=1, max_size=6),
    cost=st.integers(1, 3),
    slots=st.integers(1, 2),
    priority=st.sampled_from(["low", "normal"]),
)
def test_nothing_waits_for_ever(
    redis_url: str, crowd: list[tuple[tuple[str, str], str, int, int]], cost: int, slots: int, priority: str
) -> None:
    """Whatever else is asked for without end, and however long it runs, one that waits starts while its hosts work."""
    with connect(redis_url) as client:
        client.flushall()
        journal = Clocked(client)
        journal.open(*HOSTS)
        shared = Terms({host: Room(slots, slots) for host in HOSTS}, half_life_seconds=30, ageing_seconds=50)
        running: dict[str, int] = {}
        lasts: dict[str, int] = {}
        waits = Counter[int]()
        number = 0
        for turn in range(60):
            for kind, (pair, urgency, price, steps) in enumerate(crowd):
                while waits[kind] < 2:
                    number += 1
                    ident = f"c{kind}-{number}"
                    journal.ask(ident, *pair, priority=urgency, cost=price, requested_by=f"crowd-{kind}")
                    lasts[ident] = steps
                    waits[kind] += 1
            if turn == 5:
                journal.ask("tagged", "alpha", "beta", priority=priority, cost=cost, requested_by="me")
            for ident in journal.round(shared):
                if ident == "tagged":
                    return
                running[ident] = lasts[ident]
                waits[int(ident[1 : ident.index("-")])] -= 1
            for ident in [each for each, left in running.items() if left <= 1]:
                journal.end(ident)
                del running[ident]
            running = {ident: left - 1 for ident, left in running.items()}
            journal.pass_time(10)
        raise AssertionError(json.dumps({"waited": "55 turns", "runs": running}))
