"""The recovery tables as the command prints them: they say what the code decides."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from click.testing import CliRunner

from tasks.explained import tables
from tasks.recovery import SIDE_OF, Interrupted, Shown, Stage
from tasks.recovery_tables import TABLES
from worker.cli.main import cli
from worker.tables import listed, registered


def printed(*words: str) -> Any:
    """What ``vmrelay recovery table … -o json`` prints."""
    done = CliRunner().invoke(cli, ["recovery", "table", *words, "-o", "json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_is_what_is_decided(name: str) -> None:
    """For each cell the rows that are printed are those that decide it, under the condition that they name."""
    (table,) = (one for one in tables() if one.name == name)
    for stage, source, destination in product(Stage, Shown, Shown):
        told = table.cell(stage, source, destination)
        answers = set()
        for paused, cancel in product((True, False), repeat=2):
            row = TABLES[name].row(Interrupted(name, stage, paused=paused, cancel=cancel), source, destination)
            answers.add((row.do, row.why, row.side or SIDE_OF.get(row.do) or ""))
        assert {(row.action, row.why, row.side) for row in told} == answers
        assert len(told) == 1 or all(row.only for row in told[:-1]), (name, stage, source, destination)


def test_the_tables_are_printed() -> None:
    """All of them, or the one that is named, row by row and in order."""
    assert [one["table"] for one in printed()] == list(TABLES)
    (only,) = printed("vz")
    assert [row["why"] for row in only["rows"]] == [row.why for row in TABLES["vz"].rows]
    assert only["about"] == TABLES["vz"].about
    text = CliRunner().invoke(cli, ["recovery", "table", "vz"]).stdout
    assert all(row.why in text for row in TABLES["vz"].rows)
    assert "any but unmoved" in text


def test_one_cell() -> None:
    """Its answers, with the condition that tells them apart."""
    (one,) = printed("vz", "--cell", "performing", "paused-out", "absent")
    assert [(row["only"], row["action"]) for row in one["rows"]] == [
        ("it is to arrive paused", "confirm-cancelled"),
        ("", "resume-source"),
    ]
    text = CliRunner().invoke(cli, ["recovery", "table", "vz", "--cell", "performing", "running", "absent"]).stdout
    assert "it runs on its source and is nowhere else" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nosuch"], "'nosuch' is none of qemu, qemu-p2p, qemu-offline, vz"),
        (["--cell", "flying", "running", "absent"], "stage 'flying' is none of unmoved,"),
        (["--cell", "performing", "flying", "absent"], "source 'flying' is none of absent,"),
        (["--cell", "performing", "running", "flying"], "destination 'flying' is none of absent,"),
    ],
)
def test_words_that_are_none(words: list[str], said: str) -> None:
    """What does not exist is refused, with what there is."""
    done = CliRunner().invoke(cli, ["recovery", "table", *words])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_the_help_names_every_table() -> None:
    """Nobody has to guess a table's name."""
    said = CliRunner().invoke(cli, ["recovery", "table", "--help"]).stdout
    assert all(name in said for name in TABLES)
    assert {one.name for one in registered()} == set(TABLES)


def test_sets_of_words() -> None:
    """All of them, few of them, and all but few."""
    every = ("a", "b", "c", "d", "e")
    assert listed((), every) == "any"
    assert listed(("a", "b"), every) == "a, b"
    assert listed(("a", "b", "c", "d"), every) == "any but e"
