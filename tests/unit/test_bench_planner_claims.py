"""What the planner's benchmark claims, and how it says it: conformance, goals, tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_planner_lab import BALANCE, CLUSTER, swap

from bench.planner.bound import bound
from bench.planner.cases import cases
from bench.planner.conformance import Expectation, Trial, Unmet, conformance, refusal
from bench.planner.expectations import EXPECTATIONS
from bench.planner.goals import held
from bench.planner.metrics import judged
from bench.planner.moves import Found, Move
from bench.planner.scene import scene
from bench.planner.table import tables
from tasks.planner.plan import BadProblem, plan
from worker.contract.plans import Goal, Problem


def test_missing_data_is_said(tmp_path: Path) -> None:
    """Cases and expectations whose files are not there say so; they are neither skipped nor passed."""
    instance = next(case for case in cases(tmp_path, quick=True) if case.name == "btrplace li3")
    with pytest.raises(OSError, match="li3"):
        instance.make()
    rows = conformance(EXPECTATIONS, tmp_path, plan)
    assert {row["result"] for row in rows} == {"no data", "not applicable"}


def test_every_expectation_is_claimed_or_given_up_by_name() -> None:
    """Each has either a claim with its check, or the reason why there is no equivalent; never both."""
    for expectation in EXPECTATIONS:
        assert bool(expectation.check) == bool(expectation.claim) != bool(expectation.reason), expectation
    names = {expectation.file for expectation in EXPECTATIONS}
    assert {"hbal-migration-1", "hbal-evac", "hbal-dyn", "shared-n1-failure", "hbal-soft-errors*", "hroller-*"} <= names


def test_conformance_passes_and_fails(tmp_path: Path) -> None:
    """A claim that holds passes, one that does not fails with what came instead, a planner that raises fails too."""
    (tmp_path / "mine.data").write_text(CLUSTER.replace("new||ext|service:www", "new||ext|"))

    def web_moves(trial: Trial) -> str:
        moved = trial.ask(Goal(kind="drain", hosts=("old",), plan_seconds=1)).moved
        if moved != {"web"}:
            raise Unmet(f"moved: {sorted(moved)}")
        return "web moves"

    def raises(_: Problem) -> None:
        raise RuntimeError("broken")

    expected = Expectation("mine", "web moves", "the same", web_moves)
    wrong = Expectation(
        "mine", "nobody is unknown", "", lambda trial: refusal(lambda: trial.ask(BALANCE), "code", "nobody")
    )
    rows = conformance((expected, wrong), tmp_path, plan)
    assert [row["result"] for row in rows] == ["pass", "fail"]
    assert "nobody" in rows[1]["detail"]
    broken = conformance((expected,), tmp_path, raises)  # type: ignore[arg-type]
    assert broken[0]["result"] == "fail"
    assert "broken" in broken[0]["detail"]


def test_a_refusal_names_what_is_wrong() -> None:
    """An unknown guest is refused by name; a refusal that names something else does not count."""

    def refuses() -> None:
        raise BadProblem("exclude: no guest is called ghost")

    assert "ghost" in refusal(refuses, "unknown-guest", "ghost")  # type: ignore[arg-type]
    with pytest.raises(Unmet):
        refusal(refuses, "unknown-guest", "other")  # type: ignore[arg-type]


def test_goals_are_met_or_not() -> None:
    """A figure within its limit is met, one beyond it or an error is not, and what was not run is not met either."""
    good = {"case": "balance 30 hosts, +5", "method": "planner", "seconds": 1.0, "claimed_gap": 0.0, "stuck": 0}
    late = good | {"seconds": 4.0}
    failed = {"case": "balance 30 hosts, +10", "method": "planner", "error": "no plan"}
    by_name = {goal["goal"]: goal for goal in held([good])}
    assert by_name["30 hosts: planned in 3 s"]["met"]
    assert by_name["30 hosts: gap proved 0, or shown"]["met"]
    assert not by_name["1,000 hosts: planned in 5 s"]["met"]
    missed = {goal["goal"]: goal for goal in held([good, late, failed])}["30 hosts: planned in 3 s"]
    assert [miss["value"] for miss in missed["missed"]] == [4.0, "no plan"]
    json.dumps(held([good, late, failed]))


def test_a_run_is_shown_as_tables() -> None:
    """Every row, goal and claim of a run is in the tables, with errors in words."""
    at = scene(swap())
    moves = (Move(1, "one", "c", bounce=True), Move(2, "two", "a", after=(1,)), Move(3, "one", "b", after=(1, 2)))
    row = {"case": "swap"} | judged(at, bound(at), Found("planner", moves))
    failed = {"case": "swap", "method": "hbal", "error": "no | plan"}
    claim = {"file": "mine", "expects": "this", "detail": "that", "result": "fail"}
    run_of = {
        "cases": [row, failed],
        "goals": held([failed]),
        "conformance": [claim],
        "machine": {"cpus": 2, "python": "3"},
    }
    lines = list(tables(run_of))
    assert "| swap | 0 | 1.6 GiB | 0.00 s, 2.3 GiB in 3, gap 0.0 %, 1 bounces, 63 of 21 s |  | no / plan |" in lines
    assert "| mine | this | that | fail |" in lines
