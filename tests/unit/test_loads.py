"""Loads follow from looks: rates of counters over a window, whatever guests, counters and clocks do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.hypervisors.usage import MIB, GuestUsage, Usage
from worker.loads import GuestLoad, History, HostLoad, from_document, percentile

WINDOW = 900.0
NOW = 1_000_000_000
positive = st.floats(0.01, 100.0)


def look(at: float, *guests: tuple[str, float | None], cpus: float = 64) -> Usage:
    """A look that shows these guests with so much CPU time."""
    return Usage(at, cpus, 1024 * MIB, tuple(GuestUsage(uuid, cpu, 100 * MIB) for uuid, cpu in guests))


def after(*looks: Usage, window: float = WINDOW) -> HostLoad:
    """The load that these looks make."""
    history = History(window)
    for one in looks:
        history.add(one)
    return history.load(NOW)


@given(rate=st.floats(0, 60), gaps=st.lists(positive, min_size=1, max_size=40))
def test_a_steady_guest_uses_what_it_uses_however_often_it_is_looked_at(rate: float, gaps: list[float]) -> None:
    """Rates do not depend on when looks are made, and no more than the window is covered."""
    at, looks = 0.0, [look(0.0, ("web", 0.0))]
    for gap in gaps:
        at += gap
        looks.append(look(at, ("web", rate * at)))
    load = after(*looks)
    assert load.guests["web"].cpu == pytest.approx(rate, abs=1e-6)
    assert load.guests["web"].seconds == pytest.approx(min(at, WINDOW))
    assert load.seconds == pytest.approx(min(at, WINDOW))


@given(st.lists(st.tuples(positive, st.none() | st.floats(0, 1e6)), min_size=1, max_size=40), st.integers(1, 64))
def test_no_counter_makes_a_load_that_cannot_be(told: list[tuple[float, float | None]], cpus: int) -> None:
    """Counters that begin anew, leap or are not told never make a negative load, nor more than the host has."""
    at, looks = 0.0, []
    for gap, counter in told:
        at += gap
        looks.append(look(at, ("web", counter), cpus=cpus))
    load = after(*looks)
    assert 0 <= load.guests["web"].cpu <= cpus
    assert 0 <= load.guests["web"].seconds <= WINDOW + 1e-6
    assert load.guests["web"].memory_mib == 100


@given(st.lists(st.tuples(st.floats(0, 100), positive), min_size=1, max_size=50))
def test_the_percentile_is_a_value_that_holds_for_its_share_of_the_time(values: list[tuple[float, float]]) -> None:
    """So much of the time is at or below it, and no smaller value does as well."""
    found = percentile(values)
    whole = sum(seconds for _, seconds in values)
    assert found in {value for value, _ in values}
    assert sum(seconds for value, seconds in values if value <= found) >= whole * 0.95 - 1e-6
    assert sum(seconds for value, seconds in values if value < found) <= whole * 0.95 + 1e-6


def test_a_short_peak_is_not_planned_with_and_a_long_one_is() -> None:
    """What holds for less than a twentieth of the time does not count."""
    idle, busy = [(0.5, 96.0)], [(8.0, 4.0)]
    assert percentile(idle + busy) == 0.5
    assert percentile([(0.5, 90.0), (8.0, 10.0)]) == 8.0
    assert percentile([]) == 0.0


def test_a_counter_that_begins_anew_is_no_rate() -> None:
    """A guest that went away and came back between two looks is measured from its new counter on."""
    load = after(look(0, ("web", 100.0)), look(10, ("web", 3.0)), look(20, ("web", 23.0)))
    assert load.guests["web"] == GuestLoad(2.0, 100, 0.0, 10.0)


def test_one_look_makes_no_rate_and_says_so() -> None:
    """With a single look there is memory, and zero seconds say that nothing is known of CPU."""
    load = after(look(5, ("web", 100.0)))
    assert (load.guests["web"], load.seconds) == (GuestLoad(0.0, 100, 0.0, 0.0), 0.0)


def test_a_guest_that_left_is_told_for_a_window() -> None:
    """What it used stays, with when it left; after the window it is forgotten, and present ones are told apart."""
    history = History(60)
    for at in range(0, 40, 10):
        history.add(look(at, ("web", at * 2.0), ("db", at * 1.0)))
    history.add(look(40, ("db", 40.0)))
    history.add(look(50, ("db", 50.0)))
    load = history.load(NOW)
    assert load.guests["web"] == GuestLoad(2.0, 100, 0.0, 30.0, left=NOW - 10_000)
    assert set(load.present) == {"db"}
    history.add(look(100, ("db", 100.0)))
    assert set(history.load(NOW).guests) == {"db"}


def test_a_guest_that_comes_back_goes_on() -> None:
    """The time when it was away is not counted, and its new counter is not compared with the old one."""
    history = History(WINDOW)
    for one in (
        look(0, ("web", 0.0)),
        look(10, ("web", 10.0)),
        look(20),
        look(30, ("web", 90.0)),
        look(40, ("web", 91.0)),
    ):
        history.add(one)
    web = history.load(NOW).guests["web"]
    assert (web.seconds, web.left) == (20.0, 0)
    assert 0.1 <= web.cpu <= 1.0


def test_the_past_leaves_the_window() -> None:
    """What a guest used before the window does not count, and a span that reaches into it counts in part."""
    history = History(100)
    for one in (look(0, ("web", 0.0)), look(1000, ("web", 8000.0)), look(1090, ("web", 8090.0))):
        history.add(one)
    web = history.load(NOW).guests["web"]
    assert web.seconds == pytest.approx(100)
    assert web.cpu == 8.0


def test_a_new_process_goes_on_with_what_was_published() -> None:
    """An agent that starts again has the loads of the one before, as old as they are."""
    before = HostLoad(
        NOW,
        300.0,
        64,
        1024,
        {"web": GuestLoad(4.0, 90, 5.0, 300.0), "old": GuestLoad(1.0, 80, 0.0, 200.0, NOW - 50_000)},
    )
    history = History(WINDOW)
    history.resume(before, at=5000.0, age_seconds=100.0)
    history.add(look(5000.0, ("web", 0.0)))
    load = history.load(NOW + 100_000)
    assert load.guests["web"] == GuestLoad(4.0, 100, 0.0, 300.0)
    assert load.guests["old"] == GuestLoad(1.0, 80, 0.0, 200.0, NOW - 50_000)
    assert load.seconds == 400.0


loads = st.builds(
    GuestLoad,
    cpu=st.floats(0, 128).map(lambda value: round(value, 3)),
    memory_mib=st.integers(0, 2**20),
    dirty=st.floats(0, 1e4).map(lambda value: round(value, 1)),
    seconds=st.floats(0, 900).map(lambda value: round(value, 1)),
    left=st.integers(0, NOW),
)


@given(st.dictionaries(st.uuids().map(str), loads))
def test_a_load_travels_as_json(guests: dict[str, GuestLoad]) -> None:
    """What is written is what is read."""
    load = HostLoad(NOW, 12.5, 16.0, 65536, guests)
    assert from_document(json.loads(json.dumps(load.document()))) == load


def test_a_field_of_a_later_version_is_no_error() -> None:
    """Agents of two versions work side by side."""
    told = {"at": NOW, "later": 1, "guests": {"web": {"cpu": 1.5, "memory_mib": 10, "later": []}}}
    assert from_document(told).guests["web"] == GuestLoad(1.5, 10)
