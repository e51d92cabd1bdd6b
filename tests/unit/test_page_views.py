"""What the live page shows, and how a change of it travels: pure."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.journal.batch import Batch
from worker.journal.glances import Glance
from worker.journal.record import PhaseRun, Record
from worker.web.page.overview import held_up, link, moving_item, overview, share, stage, way_out
from worker.web.page.rendering import ago, build, page, templates
from worker.web.page.timeline import SCHEDULER, bars, timeline
from worker.web.page.view import View, applied, difference, item

KEYS = st.sampled_from(["a", "b", "c/d"])
VALUES = st.one_of(st.integers(-3, 3), st.booleans(), st.text(max_size=3), st.floats(0, 2))
FIELDS = st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES).map(lambda told: item(**told))
VIEWS = st.builds(
    View,
    st.dictionaries(KEYS, FIELDS),
    st.dictionaries(st.sampled_from(["l", "m/n"]), st.lists(KEYS, unique=True, min_size=1).map(tuple)),
)
NASTY = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "שלום\u202eevil",
    "a" * 255,
    "</template><script>",
    "vmrelay resolve",
)
NAMES = st.one_of(st.sampled_from(NASTY), st.text(min_size=1, max_size=20))


def record(**fields: Any) -> Record:
    """One that is copied from alpha to beta."""
    told: dict[str, Any] = {
        "id": "m1",
        "state": "active",
        "domain": "web",
        "uuid": "u",
        "source": "alpha",
        "destination": "beta",
        "phase": "perform",
        "host": "alpha",
        "attempt": 1,
        "created": 1000,
        "started": 2000,
    }
    return Record(**told | fields)


def host(name: str, **fields: Any) -> dict[str, Any]:
    """A host as it is described to users."""
    told: dict[str, Any] = {
        "name": name,
        "driver": "vz",
        "agent": "up",
        "cordoned": False,
        "cordon": None,
        "draining": None,
        "outgoing": 0,
        "max_outgoing": 2,
        "incoming": 0,
        "max_incoming": 2,
        "waiting": 0,
        "homes_away": 0,
        "load": None,
        "labels": {},
        "domains": [],
    }
    return told | fields


HOSTS = [host("alpha"), host("beta")]
RECORDS = st.builds(
    record,
    id=st.sampled_from(["m1", "m2", "m3"]),
    domain=NAMES,
    uuid=st.sampled_from(["u", "v"]),
    state=st.sampled_from(["active", "backoff"]),
    phase=st.sampled_from(["begin", "prepare", "perform", "finish", "confirm", "recover"]),
    progress=st.sampled_from([{}, {"percent": 40}, {"percent": 900}, {"percent": 3, "postcopy": True}]),
    waiting=st.sampled_from([None, {"host": "beta", "why": "<b>gone</b>", "since": 5000}]),
    error=NAMES,
    cancel=st.booleans(),
)


@given(VIEWS, VIEWS)
def test_a_difference_makes_the_new_view_of_the_old(old: View, new: View) -> None:
    """Whatever two views are: what travels, read as JSON, gives the new one; nothing travels for nothing."""
    change = json.loads(json.dumps(difference(old, new)))
    made = applied(old, change)
    assert made.lists == new.lists
    assert json.dumps(made.items, sort_keys=True) == json.dumps(new.items, sort_keys=True)
    assert difference(new, new) == {}


@given(VIEWS, st.lists(VIEWS, min_size=1, max_size=4))
def test_whoever_was_slow_is_told_the_difference_to_the_newest(old: View, views: list[View]) -> None:
    """One difference over several views is as good as all of them one after the other."""
    step = old
    for view in views:
        step = applied(step, difference(step, view))
    at_once = applied(old, difference(old, views[-1]))
    assert json.dumps(step.document(), sort_keys=True) == json.dumps(at_once.document(), sort_keys=True)


@settings(deadline=None, max_examples=20)
@given(st.lists(RECORDS, unique_by=lambda each: each.id), st.lists(NAMES, max_size=3, unique=True))
def test_all_that_is_listed_is_there_and_nothing_is_listed_twice(records: list[Record], guests: list[str]) -> None:
    """Whatever runs and whatever guests are called: lists name items, once each, and each renders as text."""
    domains = [
        {"name": name, "uuid": f"u-{number}", "state": "running", "memory_bytes": 2**30}
        for number, name in enumerate(guests)
    ]
    hosts = [host("alpha", domains=domains), host("beta", agent="down", waiting=2)]
    view = overview(Glance(now=10, active=records, counts={"active": len(records)}), hosts, {"urgent": (3, 4.0)})
    for keys in view.lists.values():
        assert len(set(keys)) == len(keys)
        assert set(keys) <= view.items.keys()
    assert all(value is not None for fields in view.items.values() for value in fields.values())
    html = page("overview.html", view=view, operate=True, live="/live", options=()).body.decode()
    assert "<script>" not in html
    assert "<img" not in html
    assert "{{ 7" in html or not any("{{" in name for name in [*guests, *(each.domain for each in records)])
    assert "\u202e" not in html


def test_nothing_in_a_page_is_inline() -> None:
    """No template has a script, a style or a handler in it: the policy would stop it."""
    environment = templates()
    for name in environment.list_templates():
        text = (environment.loader.get_source(environment, name))[0] if environment.loader else ""
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text), name
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), name
        assert "|safe" not in text, name


@pytest.mark.parametrize(
    ("fields", "stage_", "share_"),
    [
        ({"phase": "begin"}, "prepares", 0),
        ({"phase": "prepare"}, "prepares", 0),
        ({"progress": {"percent": 42}}, "moves", 42),
        ({"progress": {"percent": 42}, "stalled": {"kind": "no-data"}}, "stalled", 42),
        ({"progress": {"percent": 99, "postcopy": True}}, "moves", None),
        ({"phase": "finish", "progress": {"percent": 42}}, "finishes", 100),
        ({"phase": "recover"}, "recovers", 0),
        ({"waiting": {"host": "beta", "why": "away", "since": 1}}, "waits", 0),
        ({"state": "backoff"}, "backoff", 0),
    ],
)
def test_how_a_migration_stands(fields: dict[str, Any], stage_: str, share_: int | None) -> None:
    """One word for it, and how far it is; nothing is counted where nobody counts."""
    assert stage(record(**fields)) == stage_
    assert share(record(**fields)) == share_


def test_what_the_hypervisor_tells_is_shown_and_what_it_does_not_is_left_out() -> None:
    """Rate, rest and downtime in words; none of them where they are not told."""
    told = {
        "percent": 42,
        "bandwidth_bytes_per_second": 3 * 2**20,
        "remaining_bytes": 2**30,
        "expected_downtime_seconds": 0.2,
    }
    shown = moving_item(record(progress=told))
    assert (shown["rate"], shown["left"], shown["downtime"]) == ("3.0 MiB/s", "1.0 GiB", "0.200 s")
    assert not {"rate", "left", "downtime"} & moving_item(record(progress={"percent": 42})).keys()


def test_what_is_in_doubt_comes_with_the_command() -> None:
    """The exact command, even where a guest is named like one; and none for what goes on by itself."""
    doubt = record(state="in-doubt", domain="vmrelay resolve x", error="it runs on both sides")
    assert way_out(doubt)["command"] == "vmrelay resolve m1"
    waits = record(waiting={"host": "beta", "why": "away", "since": 1})
    assert way_out(waits)["command"] == "vmrelay resolve m1 --assume-dead beta"
    assert way_out(record()) == {"todo": "", "command": ""}
    shown = overview(Glance(now=9, doubts=[(doubt, 5.0)], counts={"doubt": 1}), HOSTS, {})
    assert shown.items["d/m1"]["error"] == "it runs on both sides"
    assert shown.items["page"]["in_doubt"] is True


@pytest.mark.parametrize(
    ("hosts", "why"),
    [
        ({}, "its turn"),
        ({"alpha": {"outgoing": 2}}, "a slot to leave alpha"),
        ({"beta": {"incoming": 2}, "alpha": {"outgoing": 3}}, "a slot to leave alpha; a slot to enter beta"),
        ({"beta": {"agent": "down"}}, "beta: its agent is away"),
        ({"alpha": {"agent": "no answer"}}, "alpha: its hypervisor does not answer"),
    ],
)
def test_what_one_in_the_queue_waits_for(hosts: dict[str, dict[str, Any]], why: str) -> None:
    """A slot of either host, an agent, or its turn."""
    described = {name: host(name, **hosts.get(name, {})) for name in ("alpha", "beta")}
    assert held_up(record(state="pending"), described) == why


def test_the_queue_goes_by_priority_and_age() -> None:
    """The urgent first, among them the oldest; what is cut is counted."""
    waiting = [
        record(id=name, state="pending", priority=priority, created=created)
        for name, priority, created in (("a", "low", 1), ("b", "urgent", 3), ("c", "normal", 1), ("d", "urgent", 2))
    ]
    view = overview(Glance(now=9, pending=waiting, counts={"pending": 10}), HOSTS, {"urgent": (2, 2.0)})
    assert view.lists["queue"] == ("q/d", "q/b", "q/c", "q/a")
    assert view.items["page"]["more_waiting"] == "and 6 more"
    assert view.items["c/urgent"] == {"priority": "urgent", "number": 2, "since": 2.0}


def test_a_moving_guest_is_shown_on_both_hosts_and_once_on_each() -> None:
    """Leaving where it is, arriving where it goes; when it is there already, it is not there twice."""
    web = {"name": "web", "uuid": "u", "state": "running", "memory_bytes": 2**30}
    there = replace(record(), phase="finish")
    for hosts in ([host("alpha", domains=[web]), host("beta")], [host("alpha"), host("beta", domains=[web])]):
        view = overview(Glance(now=9, active=[there], counts={"active": 1}), hosts, {})
        assert view.items["g/beta/u"]["kind"] == "arriving"
        assert view.items["g/beta/u"]["hop"] == "← alpha"
        assert view.lists["guests/beta"] == ("g/beta/u",)


@pytest.mark.parametrize(
    ("cordon", "draining", "can"),
    [
        (None, None, {"open", "can_drain"}),
        ({"by": "anna", "reason": "DIMMs"}, None, {"can_uncordon", "can_drain"}),
        ({"by": "anna", "reason": "DIMMs"}, "b1", set()),
        ({"by": "the settings", "settings": True}, None, {"can_drain"}),
    ],
)
def test_what_can_be_asked_of_a_host(cordon: dict[str, Any] | None, draining: str | None, can: set[str]) -> None:
    """What the relay would refuse anyway is not offered."""
    told = host("alpha", cordon=cordon, cordoned=bool(cordon), draining=draining)
    shown = overview(Glance(now=9), [told], {}).items["h/alpha"]
    assert {name for name in ("open", "can_uncordon", "can_drain") if name in shown} == can


def test_batches_show_how_far_they_are() -> None:
    """Counts in the command's words, percent of all moves, and what may be done with it."""
    batch = Batch("b1", "drain", "running", hosts=("alpha",), total=8, moved=2, failed=1, asked=2, started=5000)
    shown = overview(Glance(now=9, batches=[batch]), HOSTS, {}).items["b/b1"]
    assert shown["what"] == "drain alpha"
    assert shown["counts"] == "2 moved, 1 failed, 0 skipped of 8"
    assert shown["percent"] == 37
    assert shown["can_pause"] is True
    over = overview(Glance(now=9, batches=[replace(batch, state="finished", ended=9000)]), HOSTS, {}).items["b/b1"]
    assert not {"can_pause", "can_resume", "can_cancel"} & over.keys()


# -- one migration's time line --------------------------------------------------------------------------


def events(*told: tuple[float, str, dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Events at these seconds."""
    return [(f"{round(at * 1000)}-{number}", kind, data) for number, (at, kind, data) in enumerate(told)]


STORY = events(
    (1, "accepted", {"domain": "web", "source": "alpha", "destination": "beta"}),
    (2, "started", {"attempt": 1}),
    (2, "phase", {"attempt": 1, "phase": "begin", "host": "alpha"}),
    (3, "retry", {"phase": "begin", "host": "alpha", "number": 1, "delay_seconds": 1, "message": "busy"}),
    (4, "phase-ended", {"phase": "begin", "host": "alpha", "seconds": 2, "error": "E", "message": "no"}),
    (4, "backoff", {"attempt": 1, "delay_seconds": 2, "code": "E"}),
    (6, "started", {"attempt": 2}),
    (6, "phase", {"attempt": 2, "phase": "begin", "host": "alpha"}),
    (7, "progress", {"percent": 4}),
)


def test_a_time_line_has_every_phase_at_its_host() -> None:
    """Waiting, phases, retries and pauses where they were; what goes on has no end yet."""
    drawn = [(bar.lane, bar.kind, bar.begin, bar.end, bar.error) for bar in bars(STORY)]
    assert drawn == [
        (SCHEDULER, "queue", 1, 2, ""),
        ("host:alpha", "retry", 3, 3, ""),
        ("host:alpha", "begin", 2, 4, "E"),
        (SCHEDULER, "pause", 4, 6, ""),
        ("host:alpha", "begin", 6, None, ""),
    ]


def test_a_time_line_fills_its_width_and_leaves_progress_to_the_bar() -> None:
    """Bars lie within the line, the last one reaches its end, and events are told with the last first."""
    view = timeline(record(phase="begin", attempt=2), STORY, 11.0)
    placed = [fields for key, fields in view.items.items() if key.startswith("s/")]
    edges = [float(str(each["x"])[:-1]) + float(str(each["width"])[:-1]) for each in placed]
    assert max(edges) == pytest.approx(100)
    kinds = [fields["kind"] for _, fields in view.listed("events")]
    assert kinds[0] == "phase"
    assert "progress" not in kinds
    assert view.items["one"]["domain"] == "web"


@settings(deadline=None, max_examples=20)
@given(st.permutations(STORY), NAMES, st.sampled_from(["pending", "active", "backoff", "in-doubt", "ended"]))
def test_any_events_make_a_page(story: list[tuple[str, str, dict[str, Any]]], name: str, state: str) -> None:
    """In whatever order they are, and whatever a guest is called."""
    runs = (PhaseRun(1, "begin", name, 1.0, 0.1, "E"),)
    view = timeline(record(domain=name, state=state, phases=runs, outcome="failed" * (state == "ended")), story, 9)
    html = page("migration.html", view=view, operate=True, live="/m/m1/live").body.decode()
    assert "<script>" not in html


@given(
    st.lists(st.tuples(st.sampled_from(sorted({kind for _, kind, _ in STORY} | {"ended", "waiting", "new"})), FIELDS))
)
def test_events_of_another_version_are_passed_over(told: list[tuple[str, dict[str, Any]]]) -> None:
    """Whatever fields an event has or lacks: there is a page, and each event on it."""
    story = [(f"{at}-0", kind, data) for at, (kind, data) in enumerate(told, 1)]
    view = timeline(record(), story, 99.0)
    assert len(view.lists.get("events", ())) == sum(kind != "progress" for kind, _ in told)


def test_a_page_of_a_refused_request_has_no_time_line() -> None:
    """It never had hosts: what it was refused for is what there is to see."""
    refused = Record("m1", "ended", domain="web", outcome="rejected", reason="unknown-host", error="no such host")
    view = timeline(refused, events((1, "ended", {"outcome": "rejected"})), 5)
    assert "lanes" not in view.lists
    assert view.items["one"]["error"] == "no such host"


# -- small things ---------------------------------------------------------------------------------------


@given(st.floats(0, 1e7))
def test_ages_are_told_in_a_word_or_two(seconds: float) -> None:
    """Never negative, never longer than a dozen characters."""
    now = time.time()
    assert re.fullmatch(r"\d+ (s|min|days)|\d+ h \d+ min", ago(now - seconds, now))
    assert ago(now + 5, now) == "0 s"
    assert ago(None, now) == ""


def test_ids_in_links_are_quoted() -> None:
    """An id is somebody else's text, too."""
    assert link("a/b?c#d") == "/m/a%2Fb%3Fc%23d"
    assert len(build()) == 12
