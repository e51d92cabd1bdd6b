"""What `vmrelay hosts` and `vmrelay rolling` say, and how their words are read."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from worker.cli import rolling as command
from worker.cli.hosts import notes
from worker.cli.rolls import LINES, line_of, stands
from worker.journal.cordons import IN_SETTINGS, Cordon
from worker.journal.rolls import STATES, STEPS, Roll

BARE: dict[str, Any] = {"cordoned": False, "cordon": None, "draining": None, "homes_away": 0}


def test_a_host_is_annotated_with_what_is_unusual() -> None:
    """Nothing for a host like any other; who, why, the drain, and how many are away."""
    assert notes(BARE) == ""
    cordon = Cordon("ops", "new DIMMs", 1, "d1").document()
    told = notes({"cordoned": True, "cordon": cordon, "draining": "d1", "homes_away": 3})
    assert told == "cordoned by ops (new DIMMs), drained by batch d1, 3 away from home"
    assert notes(BARE | {"cordoned": True, "cordon": Cordon().document()}) == "cordoned"
    assert notes(BARE | {"cordoned": True, "cordon": IN_SETTINGS.document()}) == "cordoned by the settings"


def roll(**more: Any) -> Roll:
    """A roll."""
    return Roll("r1", ("alpha", "beta"), **more)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("wait", ["agent", "operator"])
def test_every_roll_says_what_it_waits_for(state: str, step: str, wait: str) -> None:
    """In each state and step there is something to say, and of one that goes on the host is named."""
    told = stands(roll(state=state, step=step, why="because", request={"wait": wait}))
    assert ("alpha" in told) if state == "running" else told.startswith(state)


def test_every_step_of_a_roll_has_a_line() -> None:
    """Whatever an event carries, a line comes of it; control characters of others do not reach a terminal."""
    data = {"host": "alpha", "hosts": ["alpha", "beta"], "moved": 1, "back": 1, "why": "x\x1b[2J", "by": "me"}
    for kind in LINES:
        told = line_of("r1", kind, data)
        assert "alpha" in told
        assert "\x1b" not in told
    assert "unheard-of" in line_of("r1", "unheard-of", {})
    assert line_of("r1", "returned", data | {"note": "2 did not"}).endswith("(2 did not)")


@pytest.mark.parametrize(
    "words", [["alpha", "beta"], ["--command", "true", "alpha", "beta"], ["start", "alpha", "beta"]]
)
def test_hosts_begin_a_roll_and_words_are_commands(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """`rolling HOST…` is `rolling start HOST…`, with its options in any place."""
    called: list[tuple[str, ...]] = []
    monkeypatch.setattr(command.start, "callback", _without_context(called))
    done = CliRunner().invoke(command.rolling, words)
    assert done.exit_code == 0, done.output
    assert called == [("alpha", "beta")]


def _without_context(called: list[tuple[str, ...]]) -> Any:
    def begin(host: tuple[str, ...], **_: Any) -> None:
        called.append(host)

    return begin


def test_a_command_is_run_by_who_waits_for_it() -> None:
    """--command excludes --no-wait and --check: nobody else would run it."""
    for words in (["--no-wait"], ["--check", "agent"]):
        done = CliRunner().invoke(command.rolling, ["alpha", "--command", "true", *words])
        assert done.exit_code == click.UsageError.exit_code
        assert "--command" in done.output
