"""The explorer finds nothing wrong with the real rules, and finds what is wrong with broken ones."""

from __future__ import annotations

import json

import pytest

from chaos.explorer.__main__ import main
from chaos.explorer.broken import BROKEN
from chaos.explorer.explore import MODELS, explore
from chaos.explorer.search import Report
from chaos.explorer.state import Rules

FINDS = {
    "resume-unseen": ("agent", "two running copies"),
    "remove-unseen": ("host", "the last copy was removed"),
    "absent-where-unreachable": ("agent", "two running copies"),
    "undo-unproved": ("answer", "two running copies"),
    "unfenced": ("message", "two running copies"),
    "unguarded": ("redis", "two running copies"),
}
"""By which faults a broken rule shows, and what comes of it."""


def traces(report: Report) -> str:
    """What went wrong, for a failure's message."""
    return "\n".join(line for violation in report.violations for line in (violation.what, *violation.trace))


@pytest.mark.parametrize("model", MODELS)
def test_no_single_fault_makes_a_second_copy_or_loses_the_last(model: str) -> None:
    """Every fault at every moment, and every order of what follows: the guest ends in one place, and is told so."""
    report = explore(model, Rules(faults=1))
    assert report.complete
    assert not report.wrong, traces(report)
    assert report.ends["succeeded, on the destination"]
    assert report.ends["failed, on the source"]
    assert report.ends["cancelled, on the source"]
    needs_a_human = {end for end in report.ends if end.startswith("in doubt")}
    assert all("shutoff" in end for end in needs_a_human), needs_a_human  # only where a host lost power


@pytest.mark.parametrize("model", MODELS)
def test_a_paused_guest_stays_paused(model: str) -> None:
    """What its user paused is in one place in the end, and nothing has let it run."""
    report = explore(model, Rules(faults=1, kinds=frozenset({"agent", "answer", "host"})), paused=True)
    assert report.complete
    assert not report.wrong, traces(report)


def test_every_broken_rule_has_a_test() -> None:
    """A rule that can be broken by name is one that the explorer is known to miss."""
    assert set(FINDS) == set(BROKEN)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_rule_is_found(broken: str) -> None:
    """A rule that is wrong on purpose ends in what it must never come to, and the way there is told step by step."""
    kinds, what = FINDS[broken]
    report = explore("qemu", Rules(faults=1, kinds=frozenset(kinds.split(","))), broken=broken, first=True)
    assert report.violations, f"{report.states} states, and nothing found"
    found = report.violations[0]
    assert found.what.startswith(what), traces(report)
    assert found.trace[0].endswith("source running, destination absent")
    assert any("FAULT:" in step for step in found.trace)


def test_the_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs read what was visited from there, and the exit code says whether all was well."""
    assert main(["--model", "vz", "--faults", "1", "--kinds", "cancel"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["states"] > 0
    assert told["transitions"] >= told["states"] - 1
    assert told["violations"] == 0
    assert told["complete"]


def test_a_broken_rule_that_is_found_is_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    """With ``--broken`` the exit code says whether the explorer saw it."""
    one = ["--model", "qemu", "--faults", "1"]
    assert main([*one, "--kinds", "answer", "--broken", "undo-unproved"]) == 0
    assert "two running copies" in capsys.readouterr().out
    assert main([*one, "--kinds", "cancel", "--broken", "undo-unproved"]) == 1
