"""Batches in words, their receipts, and how they are followed: no relay, no terminal."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import click
import pytest
from plan_lab import HOSTILE
from rich.console import Console

from worker.asking import refuse_control
from worker.cli import batch_watch, batch_words, exits, receipt
from worker.cli.batch_watch import STEP_SECONDS, Bars, Lines, Sight, figures, is_over, running_line, seconds_left
from worker.cli.bulk import bulk_arguments, bulk_options
from worker.cli.migrations import short_id
from worker.contract.bulk import BatchRequest
from worker.errors import Rejected
from worker.journal import Record
from worker.journal.batch import Batch, Item

SCRIPTS = Path(batch_words.__file__).parents[1] / "journal" / "scripts"
RUNNING = Batch(
    "b-1", "list", "running", total=10, moved=4, failed=1, asked=2, expected=10, filled=10, started=1_000_000
)
MOVING = Record(
    "b-1.7",
    "active",
    phase="perform",
    domain="web",
    source="alpha",
    destination="beta",
    progress={"percent": 40, "bandwidth_bytes_per_second": 100 << 20},
)
LEFT = {"guest": "u9", "domain": "db", "host": "alpha", "code": "pinned", "why": "a rule", "unblock": "another rule"}


def sight(batch: Batch, now: float = 1100, *running: Record) -> Sight:
    """A batch at a moment."""
    return Sight(batch, running, now)


# -- figures --------------------------------------------------------------------------------------------


def test_the_rate_says_how_long_it_takes() -> None:
    """After a few moves the time of the rest follows from them; before that from the plan; paused it has none."""
    assert seconds_left(sight(RUNNING)) == pytest.approx(5 * 100 / 5)
    fresh = replace(RUNNING, moved=0, failed=0, seconds=300)
    assert seconds_left(sight(fresh)) == pytest.approx(200)
    assert seconds_left(sight(fresh, 5000)) == 0
    assert seconds_left(sight(replace(fresh, seconds=0))) is None
    assert seconds_left(sight(replace(RUNNING, state="paused"))) is None
    assert seconds_left(sight(replace(RUNNING, started=0))) is None


def test_figures_in_a_line() -> None:
    """Counts, what is asked for, both rates, and what is left."""
    told = figures(sight(RUNNING, 1100, MOVING))
    assert told == "4 moved, 1 failed, 0 skipped of 10, 2 asked for, 3.0 a minute, 100 MiB/s, about 100 s left"
    assert figures(sight(Batch("b-1", "drain", "planning"))) == "a plan is made"
    assert running_line(MOVING) == "web: alpha → beta  perform 40 %  100 MiB/s"
    assert "waits" in running_line(replace(MOVING, state="pending", progress={}))


@pytest.mark.parametrize(
    ("batch", "over"),
    [
        (RUNNING, False),
        (replace(RUNNING, state="finished"), True),
        (replace(RUNNING, moved=8, asked=1, in_doubt=("b-1.9",)), True),
        (replace(RUNNING, moved=7, asked=2, in_doubt=("b-1.9",)), False),
        (replace(RUNNING, moved=7, asked=1, in_doubt=("b-1.9",)), False),
        (replace(RUNNING, state="paused", moved=8, asked=1, in_doubt=("b-1.9",)), False),
        (replace(RUNNING, state="planning", total=0, moved=0, failed=0, asked=0, expected=None), False),
    ],
)
def test_a_batch_is_over_when_nothing_more_happens_by_itself(batch: Batch, over: bool) -> None:
    """It has finished, or an operator has to look at all that is left of it."""
    assert is_over(batch) is over


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, exits.MOVED),
        ({"failed": 1}, exits.FAILED),
        ({"skipped": 1}, exits.FAILED),
        ({"left": (LEFT,)}, exits.FAILED),
        ({"total": 0, "moved": 0, "exhausted": True}, exits.FAILED),
        ({"in_doubt": ("b-1.1",), "failed": 1}, exits.IN_DOUBT),
    ],
)
def test_the_exit_code_of_a_batch(more: dict[str, object], code: int) -> None:
    """0 only where everything moved; in doubt comes first."""
    assert exits.for_batch(replace(RUNNING, **({"failed": 0} | more))) == code  # type: ignore[arg-type]


# -- in words -------------------------------------------------------------------------------------------


def test_every_event_of_the_journal_has_words() -> None:
    """Whatever the scripts tell of a batch is known here."""
    source = "\n".join(file.read_text() for file in SCRIPTS.rglob("*.lua"))
    literal = set(re.findall(r"batch_event\(\w+, '([\w-]+)'", source)) | set(
        re.findall(r"batch_is\(\w+, '([\w-]+)'", source)
    )
    assert {"created", "planned", "item-asked", "item-ended", "finished"} <= literal
    assert literal | {"running", "paused", "cancelling", "pause", "resume", "cancel", "retry"} <= set(
        batch_words.EVENTS
    )
    assert batch_words.line_of("of-a-newer-version", {}) is None


def test_events_in_words() -> None:
    """Who asked, what failed and why."""
    ended = {"n": 1, "domain": "web", "state": "failed", "code": "X", "why": "it broke", "migration": "b.1"}
    assert batch_words.line_of("item-ended", ended) == "web failed: it broke [X]"
    assert batch_words.line_of("item-ended", {"domain": "web", "state": "moved", "code": "", "why": ""}) == "web moved"
    assert batch_words.line_of("paused", {"by": "me"}) == "paused by me"
    assert batch_words.line_of("planning", {"why": "2 moves failed"}) == "it is planned: 2 moves failed"
    assert batch_words.line_of("item-ended", ended | {"domain": HOSTILE, "why": HOSTILE}).isprintable()  # type: ignore[union-attr]


def test_short_ids_are_those_that_other_commands_take() -> None:
    """A random id is cut, and that of a batch's move, of which many begin alike, is not."""
    assert short_id("3f2a91c0-8a54-4d0e-9d86-2f6c2f6f0a11") == "3f2a91c0"
    assert short_id("b-3f2a91c0a7d4.17") == "b-3f2a91c0a7d4.17"


# -- receipts -------------------------------------------------------------------------------------------

ITEMS = [
    Item(1, "web", "u1", "alpha", "beta", state="moved", migration="b-1.1", planned="cpu 92 %"),
    Item(2, f"odd{HOSTILE}", "u2", "alpha", "beta", state="failed", migration="b-1.2", code="X", why=f"no{HOSTILE}"),
    Item(3, "late", "u3", "", "beta", state="skipped", code="cancelled", why="the batch was cancelled"),
]
FINISHED = replace(
    RUNNING,
    state="finished",
    total=3,
    moved=1,
    failed=1,
    skipped=1,
    asked=0,
    left=(LEFT,),
    notes=("one plan",),
    ended=1_090_000,
)


def test_a_receipt_names_what_did_not_move_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts first; then each that failed, was skipped or stays, with its reason; then what to do."""
    receipt.show_receipt(FINISHED, ITEMS, "table")
    said = capsys.readouterr()
    first, *rest = said.out.splitlines()
    assert first == "b-1 (list) finished: 1 moved, 1 failed, 1 skipped of 3 in 90.0 s"
    text = "\n".join(rest)
    assert "web" not in text
    assert re.search(r"failed +2 +odd.* alpha +beta +no.*\[X\]", text)
    assert "the batch was cancelled [cancelled]" in text
    assert "db on alpha: a rule [pinned]; another rule" in text
    assert "one plan" in text
    assert said.err == "next: vmrelay batch retry b-1\n"
    assert not {letter for letter in said.out if not letter.isprintable()} - {"\n"}


def test_a_receipt_shows_all_moves_where_asked_to(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--items` what moved is there, too, and why the plan had it."""
    receipt.show_receipt(FINISHED, ITEMS, "table", every=True)
    assert re.search(r"moved +1 +web +alpha +beta +cpu 92 %", capsys.readouterr().out)


def test_a_long_receipt_is_cut_for_people_only(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has every move; a table the first ones and how many more there are."""
    items = [replace(ITEMS[1], n=n) for n in range(1, 101)]
    receipt.show_receipt(FINISHED, items, "table")
    assert f" and {100 - receipt.MOST_ROWS} more" in capsys.readouterr().out
    receipt.show_receipt(FINISHED, items, "json")
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], len(told["items"])) == ("b-1", 100)


def test_what_is_named_twice_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A guest that a plan left, and that was skipped for it, is one line."""
    item = Item(3, "db", "u9", "alpha", "", state="skipped", code="pinned", why="a rule")
    receipt.show_receipt(FINISHED, [item], "table")
    assert capsys.readouterr().out.count("a rule") == 1


# -- following ------------------------------------------------------------------------------------------


def test_lines_come_now_and_then() -> None:
    """A new state, each tenth of it, and after some time; failures at once, the rest to who wants to see it."""
    said: list[str] = []
    clock = [0.0]
    lines = Lines(said.append, verbose=False, clock=lambda: clock[0])
    lines.look(sight(RUNNING))
    lines.look(sight(RUNNING))
    assert len(said) == 1
    lines.look(sight(replace(RUNNING, moved=5)))
    assert len(said) == 2
    clock[0] += STEP_SECONDS
    lines.look(sight(replace(RUNNING, moved=5)))
    assert len(said) == 3
    lines.look(sight(replace(RUNNING, moved=5, state="paused")))
    assert said[-1].startswith("paused: 5 moved")
    lines.event("item-ended", {"domain": "a", "state": "moved"})
    lines.event("item-ended", {"domain": "b", "state": "failed", "code": "X", "why": "no"})
    lines.event("paused", {"by": "me"})
    assert said[-2:] == ["b failed: no [X]", "paused by me"]
    loud = Lines(said.append, verbose=True)
    loud.event("item-ended", {"domain": "a", "state": "moved"})
    assert said[-1] == "a moved"


def test_bars_show_what_runs() -> None:
    """The batch's bar, its figures, and a line for each migration, the first ones of many."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    bars = Bars(console, "b-1")
    with bars.context:
        bars.look(sight(RUNNING, 1100, *(replace(MOVING, id=f"b-1.{n}") for n in range(20))))
        bars.event("item-ended", {"domain": "b", "state": "failed", "code": "X", "why": "no"})
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "b-1 running" in shown
    assert shown.count("web: alpha → beta  perform 40 %") >= batch_watch.MOST_RUNNING
    assert f"and {20 - batch_watch.MOST_RUNNING} more" in shown
    assert "b failed: no [X]" in shown


# -- options and answers --------------------------------------------------------------------------------


@click.command()
@bulk_options
@click.pass_context
def command(ctx: click.Context, /, **given: object) -> None:
    """Some command that makes a batch."""


def test_every_migration_of_a_batch_takes_what_migrate_takes() -> None:
    """Flags, parameters and limits go into the request, and the contract takes them."""
    words = "--id w --priority low --hold --reason r --bandwidth 100 --auto-converge --on-stall abort --attempts 2"
    context = command.make_context("x", words.split())
    arguments = bulk_arguments(context.params)
    assert arguments == {
        "batch": "w",
        "priority": "low",
        "hold": True,
        "reason": "r",
        "migration": {
            "attempts": 2,
            "on_stall": "abort",
            "options": {"auto_converge": True},
            "params": {"bandwidth": 100},
        },
    }
    BatchRequest.parse(arguments | {"moves": [{"domain": "a", "destination": "b"}]})
    assert bulk_arguments(command.make_context("x", []).params) == {"priority": "normal"}


@pytest.mark.parametrize("word", ["--dname", "--xml", "--migrate-disks", "--source", "--timeout-suspend"])
def test_what_is_about_one_domain_is_no_option_of_a_batch(word: str) -> None:
    """A name or a definition cannot be the same for all."""
    with pytest.raises(click.NoSuchOption):
        command.make_context("x", [word, "x"])


@pytest.mark.parametrize(
    ("action", "answer", "code"),
    [
        ("pause", "over", "over"),
        ("cancel", "over", "over"),
        ("retry", "over", "not-over"),
        ("retry", "none", "nothing-failed"),
    ],
)
def test_a_word_that_comes_too_late_is_refused(action: str, answer: str, code: str) -> None:
    """Nothing was changed, and the exit code says so."""
    with pytest.raises(Rejected) as refusal:
        refuse_control(action, "b-1", answer, "finished")
    assert refusal.value.code == code


def test_a_word_that_is_heard_is_not_refused() -> None:
    """Neither is one that was said before."""
    refuse_control("pause", "b-1", "ok", "paused")
    refuse_control("pause", "b-1", "same", "paused")
