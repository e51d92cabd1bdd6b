"""Progress and events in words, as lines and as a bar: no relay, no terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tasks.recovery import Do, Shown
from worker.cli import words
from worker.cli.progress import STEP_SECONDS, Bar, Lines
from worker.hypervisors.convergence import Convergence, StallAction, TuningKind
from worker.journal.record import HIDDEN, Record
from worker.seal import DOCUMENTS

CONTRACT = Path(__file__).parents[2] / "docs" / "reference" / "contract.md"
MIB = 1 << 20
RUNNING = {
    "percent": 42,
    "transferred_bytes": 1536 * MIB,
    "remaining_bytes": 300 * MIB,
    "bandwidth_bytes_per_second": 110 * MIB,
    "dirty_bytes_per_second": 20 * MIB,
    "iteration": 3,
    "expected_downtime_seconds": 0.3,
    "throttle_percent": 20,
}
DETAILS = "1.5 GiB sent, 300 MiB left, 110 MiB/s, dirties 20.0 MiB/s, round 3, downtime 0.300 s, CPUs slowed by 20 %"
FETCHING = {"percent": 0, "total_bytes": 0, "postcopy": True, "description": "the guest runs on beta"}
STALL = {
    "kind": "not-converging",
    "reason": "memory is dirtied at 120 MiB/s and copied at 100 MiB/s",
    "action": "downtime",
    "detail": "0.6 s are allowed",
}
STALLED = "stalled: memory is dirtied at 120 MiB/s and copied at 100 MiB/s; downtime: 0.6 s are allowed"
TIMEOUT = {
    "kind": "timeout",
    "reason": "still copying after 3 s",
    "action": "suspend",
    "detail": "the guest stands still until it has moved",
}
PHASE = {"phase": "perform", "host": "alpha", "attempt": 1}
REFUSAL = {"code": "VIR_ERR_OPERATION_INVALID", "message": "not allowed"}
EVENTS: list[tuple[str, dict[str, Any], str]] = [
    ("accepted", {"domain": "a", "source": "alpha", "destination": "beta"}, "accepted: a from alpha to beta"),
    ("started", {"attempt": 2}, "attempt 2"),
    ("phase", PHASE, "perform on alpha …"),
    ("phase-ended", PHASE | {"seconds": 3.4431}, "perform on alpha 3.443 s"),
    (
        "phase-ended",
        PHASE | {"seconds": 1, "error": "X", "message": "it broke"},
        "perform on alpha failed after 1.000 s: it broke",
    ),
    (
        "retry",
        PHASE | {"message": "busy", "number": 1, "delay_seconds": 1.12},
        "perform on alpha: busy; retry 1 in 1.1 s",
    ),
    ("backoff", {"attempt": 1, "code": "X", "delay_seconds": 2}, "attempt 1 failed (X); the next in 2.0 s"),
    ("progress", {"percent": 7}, "7 %"),
    ("progress", RUNNING, f"42 %, {DETAILS}"),
    ("progress", FETCHING, FETCHING["description"]),
    ("stalled", STALL, STALLED),
    ("stalled", STALL | {"action": "report", "detail": ""}, STALLED.split(";", maxsplit=1)[0] + "; report: it goes on"),
    ("stalled", TIMEOUT, "time is up after 3 s: the guest is suspended until it has moved"),
    (
        "stalled",
        TIMEOUT | {"action": "postcopy"},
        "time is up after 3 s: the guest runs on at its destination and fetches the rest from there",
    ),
    (
        "stalled",
        TIMEOUT | {"detail": "libvirt refused it: not now"},
        "time is up after 3 s: suspend: libvirt refused it: not now",
    ),
    ("tuned", {"tuning": "1", "kind": "set-downtime", "value": 500, "error": None}, "set-downtime 500 ms: done"),
    ("tuned", {"tuning": "1", "kind": "set-postcopy-speed", "value": 0}, "set-postcopy-speed 0 MiB/s: done"),
    (
        "tuned",
        {"tuning": "1", "kind": "postcopy", "value": None, "error": REFUSAL},
        "postcopy: refused: not allowed [VIR_ERR_OPERATION_INVALID]",
    ),
    ("cancel", {"by": ""}, "cancel asked for"),
    ("cancel", {"by": "me"}, "cancel asked for by me"),
    ("in-doubt", {"why": "nobody knows"}, "in doubt: nobody knows"),
    ("republished", {"phase": "finish"}, "finish sent again"),
    ("ended", {"outcome": "succeeded"}, "succeeded"),
    ("ended", {"outcome": "rejected", "error": "no"}, "rejected: no"),
]
LOOK = {"phase": "recover", "host": "beta", "attempt": 1, "seconds": 0.0}
SIGHT = LOOK | {"source": "running", "destination": "absent"}
EVENTS += [
    ("phase", LOOK, "a look at beta …"),
    (
        "phase-ended",
        SIGHT | {"decided": [{"action": "confirm-cancelled", "side": None, "why": "it never left"}]},
        "the source runs it; the destination has nothing of it: the source keeps it (it never left)",
    ),
    (
        "phase-ended",
        SIGHT | {"source": "not seen", "decided": [{"action": "look", "side": "source", "why": "old"}]},
        "the source was not looked at; the destination has nothing of it: the source is looked at next",
    ),
    (
        "phase-ended",
        SIGHT | {"source": "absent", "assumed": ["source"], "decided": []},
        "the source is assumed dead; the destination has nothing of it: the interrupted phase has ended after all",
    ),
    (
        "phase-ended",
        SIGHT | {"decided": [{"action": "of-a-newer-version", "side": None, "why": "so"}]},
        "the source runs it; the destination has nothing of it: of-a-newer-version (so)",
    ),
    (
        "recovering",
        PHASE | {"step": "running", "why": "its agent ended"},
        "perform on alpha was interrupted: its agent ended; both hosts are looked at",
    ),
    (
        "recovering",
        PHASE | {"step": "queued", "why": "its agent is away"},
        "perform on alpha was not begun: its agent is away; both hosts are looked at",
    ),
    (
        "recovering",
        LOOK | {"step": "queued", "why": "me asked for it", "by": "me", "dead": ["beta"]},
        "its recovery begins anew: me asked for it; beta is assumed dead, the other host is looked at",
    ),
    (
        "recovering",
        LOOK | {"step": "", "why": "me asked for it"},
        "it was in doubt: me asked for it; both hosts are looked at",
    ),
    ("restored", PHASE, "Redis had forgotten it, and has it again (perform on alpha); both hosts are looked at"),
    ("waiting", {"host": "beta", "why": "its agent is away", "since": 1}, "waits for beta: its agent is away"),
    ("conflict", {"by": "me"}, "another request came under its id (me)"),
    ("conflict", {"by": ""}, "another request came under its id"),
    ("hastened", {"by": "me"}, "the next attempt may start now (me)"),
    ("hastened", {"by": ""}, "the next attempt may start now"),
    ("republished", {"phase": "recover"}, "the next look is due"),
]
RECORD = Record("3f2a91", "active", domain="web-1", phase="perform", step="running", attempt=1)


@pytest.mark.parametrize(("kind", "data", "text"), EVENTS)
def test_events_in_words(kind: str, data: dict[str, Any], text: str) -> None:
    """Each event is one line; what the hypervisor does not tell is left out."""
    assert words.line_of(kind, data) == text


def test_every_word_of_a_recovery_is_known() -> None:
    """What a side may show and what may be decided each have plain words."""
    assert words.SHOWS.keys() == {*Shown, "not seen"}
    assert words.DOES.keys() == set(Do)


def test_every_event_has_words() -> None:
    """Every kind of the contract is known, and none is without a line in the table above."""
    section = CONTRACT.read_text(encoding="utf-8").split("## Events\n")[1].split("\n## ")[0]
    kinds = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))
    assert kinds
    assert kinds <= words.EVENTS.keys()
    assert words.EVENTS.keys() == {kind for kind, _, _ in EVENTS}
    assert words.line_of("of a newer version", {}) is None


def test_every_action_and_tuning_has_words() -> None:
    """A stall's action is told as what is being done, a tuning's value with its unit."""
    assert words.ACTIONS.keys() == set(StallAction)
    assert words.UNITS.keys() == set(TuningKind) - {TuningKind.POSTCOPY}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * MIB, "1.5 GiB"),
        (150 * MIB, "150 MiB"),
        (2**52, "4096 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    """Bytes are told in the largest unit that keeps them above one."""
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0324, "0.032 s"), (12.34, "12.3 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    """Times are told as exactly as they matter."""
    assert words.duration(seconds) == text


def test_a_record_in_words() -> None:
    """`status` tells figures with units, and leaves out what is not there."""
    record = replace(
        RECORD,
        state="ended",
        outcome="failed",
        flags_label="live,paused",
        downtime_seconds=0.0324,
        transferred_bytes=1536 * MIB,
        progress=RUNNING,
        reason="X",
        error="it broke",
        started=1000,
        ended=201_000,
    )
    shown = dict(words.rows(record.document()))
    assert shown["downtime"] == "0.032 s"
    assert shown["sent"] == "1.5 GiB"
    assert shown["time in all"] == "3 min 20 s"
    assert shown["flags"] == "live, paused"
    assert shown["error"] == "it broke [X]"
    assert not {"progress", "phases", "stalled", "warning"} & shown.keys()
    assert dict(words.rows({"progress": RUNNING}))["progress"] == f"42 %, {DETAILS}"
    more = {"total_seconds": 3.5, "iterations": 4, "stalled": STALL, "warning": "look"}
    assert dict(words.rows(more)) == {
        "time of the job": "3.500 s",
        "rounds of copying": "4",
        "stalled": STALLED.removeprefix("stalled: "),
        "warning": "look",
    }


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


def test_lines_are_few() -> None:
    """Progress is told at the first look, then every ten percent, or when it stands still for long."""
    said: list[str] = []
    clock = Clock()
    lines = Lines(said.append, verbose=True, clock=clock)
    for percent in (5, 6, 14, 15):
        lines.event("progress", {"percent": percent})
    assert said == ["5 %", "15 %"]
    clock.now += STEP_SECONDS
    lines.look(replace(RECORD, progress={"percent": 15}))
    assert said == ["5 %", "15 %"]
    lines.look(replace(RECORD, progress={"percent": 15, "iteration": 9}))
    assert said[2:] == ["15 %, round 9"]
    lines.event("progress", {"percent": 1})
    assert said[3:] == ["1 %"]


def test_lines_without_progress() -> None:
    """Unless it is asked for, a log gets events only."""
    said: list[str] = []
    lines = Lines(said.append, verbose=False)
    lines.event("phase", PHASE)
    lines.event("progress", RUNNING)
    lines.look(replace(RECORD, progress=RUNNING))
    lines.event("stalled", STALL)
    lines.event("of a newer version", {})
    assert said == ["perform on alpha …", STALLED]


def drawn(terminal: bool = True, **environment: str) -> tuple[Bar, io.StringIO]:
    """A bar, and what it writes."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=120, _environ={"TERM": "xterm", **environment})
    return Bar(console), written


def plain(text: str) -> str:
    """Without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_the_bar_shows_everything() -> None:
    """Phase, host, percent and figures are on the terminal; a stall and a tuning are lines above."""
    bar, written = drawn()
    with bar:
        bar.event("phase", PHASE)
        bar.event("progress", {"percent": 10})
        bar.look(replace(RECORD, progress=RUNNING))
        bar.event("stalled", STALL)
        bar.event("tuned", {"kind": "set-speed", "value": 100, "error": REFUSAL})
        bar.refresh()
    text = plain(written.getvalue())
    assert "perform on alpha" in text
    assert "42 %" in text
    assert DETAILS in text
    assert STALLED in text
    assert "set-speed 100 MiB/s: refused: not allowed [VIR_ERR_OPERATION_INVALID]" in text


def test_the_bar_stays_where_nobody_counts() -> None:
    """While the destination fetches memory after the switch to post-copy, the bar keeps what perform reached."""
    bar, _ = drawn()
    with bar:
        bar.event("progress", RUNNING)
        bar.event("phase", PHASE | {"phase": "finish", "host": "beta"})
        bar.event("progress", FETCHING)
        assert (bar.tasks[0].completed, bar.details) == (RUNNING["percent"], "post-copy")


def test_the_bar_without_colours() -> None:
    """NO_COLOR is honoured: no colour is set."""
    coloured, plain_one = drawn(), drawn(NO_COLOR="1")
    for bar, _ in (coloured, plain_one):
        with bar:
            bar.event("phase", PHASE)
            bar.event("progress", RUNNING)
            bar.refresh()
    colour = re.compile(r"\x1b\[(?:\d;)*(?:3|4|9|10)\d")
    assert colour.search(coloured[1].getvalue())
    assert not colour.search(plain_one[1].getvalue())


def test_a_new_phase_forgets_the_figures() -> None:
    """The line below the bar belongs to perform; a record that is further shows none."""
    bar, _ = drawn()
    with bar:
        bar.event("phase", PHASE)
        bar.event("progress", RUNNING)
        assert bar.details == DETAILS
        bar.event("phase", PHASE | {"phase": "finish", "host": "beta"})
        assert not bar.details
        bar.look(replace(RECORD, phase="finish", progress=RUNNING))
        assert not bar.details


def test_what_was_asked_for_is_shown() -> None:
    """Parameters, deadline and steering, as far as they were given; a definition is hidden, a long text cut."""
    params = {"bandwidth": 7, "migrate_disks": ["vda", "vdb"], "persistent_xml": "sealed", "graphics_uri": "x" * 10_000}
    steering = Convergence(StallAction.DOWNTIME, timeout_seconds=3.0)
    document = replace(RECORD, params=params, deadline_seconds=60.0, convergence=steering).document()
    assert document["convergence"] == {"on_stall": "downtime", "timeout_seconds": 3.0, "on_timeout": "suspend"}
    shown = dict(words.rows(document))
    cut = "x" * 200 + "…"
    assert shown["params"] == f"bandwidth=7, migrate_disks=vda, vdb, persistent_xml=(hidden), graphics_uri={cut}"
    assert shown["deadline"] == "60.0 s"
    assert shown["so that it ends"] == "on_stall=downtime, timeout_seconds=3.0, on_timeout=suspend"
    assert not {"params", "deadline", "so that it ends"} & set(dict(words.rows(RECORD.document())))


def test_every_definition_is_hidden() -> None:
    """What the journal keeps sealed is not shown even so."""
    assert set(HIDDEN) == set(DOCUMENTS)
