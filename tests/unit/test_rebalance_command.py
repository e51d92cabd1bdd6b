"""`vmrelay rebalance`: what the command line asks for, and plans for a file, which need no relay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from worker import planning
from worker.cli.main import cli
from worker.cli.rebalance import goal_of
from worker.contract.plans import Goal, Plan
from worker.settings import PlanningSettings

LOPSIDED: dict[str, Any] = {
    "hosts": {name: {"cpu_cores": 32, "memory_gib": 64} for name in ("alpha", "beta", "gamma")},
    "guests": {f"vm-{n}": {"host": "alpha", "cpu_cores": 2, "memory_gib": 8} for n in range(6)}
    | {"db-1": {"host": "alpha", "cpu_cores": 2, "memory_gib": 8, "pinned": "its storage is local"}},
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lopsided fleet in a file; there is neither a relay nor any settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VMRELAY_CONFIG", raising=False)
    monkeypatch.setenv("VMRELAY_REDIS_URL", "redis://127.0.0.1:1/0")
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(LOPSIDED))
    return path


def run(*words: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(cli, ["rebalance", *words])


def test_a_file_is_planned_without_a_relay(file: Path) -> None:
    """The table names goal, moves and hosts; the picture is written, too; 0 says that the goal is reached."""
    done = run("--dry-run", "--from", str(file), "--picture", "fleet.svg")
    assert done.exit_code == 0, done.output
    assert "goal       every host at most 10 points above the mean" in done.output
    assert "relieved" in done.output
    assert Path("fleet.svg").read_text().startswith("<svg")


def test_json_is_a_plan_and_its_options_are_its_goal(file: Path) -> None:
    """`-o json` is exactly a plan; what the command line says of the goal goes before what the file says."""
    file.write_text(json.dumps(LOPSIDED | {"goal": {"kind": "balance", "ceiling_points": 40, "seed": 7}}))
    own = Plan.model_validate_json(run("--dry-run", "--from", str(file), "-o", "json").output)
    assert (own.goal.ceiling_points, own.goal.seed) == (40, 7)
    done = run(
        "--dry-run", "--from", str(file), "-o", "json", "--points", "15", "--exclude", "vm-0", "--max-moves", "9"
    )
    plan = Plan.model_validate_json(done.output)
    assert (plan.goal.ceiling_points, plan.goal.seed, plan.goal.max_moves) == (15, 7, 9)
    assert plan.goal.most_percent == PlanningSettings().most_percent
    assert not {step.domain for step in plan.steps} & {"vm-0", "db-1"}
    assert plan.steps


def test_a_ceiling_instead_of_points(file: Path) -> None:
    """`--ceiling` is in percent of a host."""
    plan = Plan.model_validate_json(run("--dry-run", "--from", str(file), "-o", "json", "--ceiling", "60").output)
    assert all(host.after.memory <= 0.6 + 1e-6 for host in plan.hosts)


def test_a_goal_out_of_reach_has_exit_code_1(file: Path) -> None:
    """The plan is shown all the same, with what stays and why."""
    done = run("--dry-run", "--from", str(file), "--max-moves", "1")
    assert done.exit_code == 1, done.output
    assert "best effort" in done.output


def test_every_format_of_a_plan(file: Path) -> None:
    """SVG and Markdown go to standard output."""
    assert run("--dry-run", "--from", str(file), "-o", "svg").output.startswith("<svg")
    assert run("--dry-run", "--from", str(file), "-o", "markdown").output.startswith("# Plan p-")


def test_the_same_file_makes_the_same_plan(file: Path) -> None:
    """But for the times of making it."""
    told = [json.loads(run("--dry-run", "--from", str(file), "-o", "json").output) for _ in range(2)]
    for plan in told:
        plan["made"] = plan["spent_seconds"] = plan["taken"] = None
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--points", "5", "--ceiling", "50"), "exclude each other"),
        (("--points", "-1"), "ceiling_points"),
        (("-o", "svg"), "-o svg is for --dry-run"),
        (("--from", "fleet.json"), "--from is for --dry-run"),
        (("--dry-run", "--from", "none.json"), "none.json"),
        (("--dry-run", "--seed", "x"), "--seed"),
    ],
)
def test_what_makes_no_sense_is_refused(file: Path, words: tuple[str, ...], said: str) -> None:
    """Usage errors name the option, and nothing is asked of anybody."""
    done = CliRunner().invoke(cli, ["rebalance", *words], standalone_mode=True)
    assert done.exit_code == 2
    assert said in done.output


def test_a_file_that_describes_nothing_is_refused(file: Path) -> None:
    """With its name, what is wrong, and exit code 2."""
    file.write_text('{"hosts": 1}')
    done = run("--dry-run", "--from", str(file))
    assert done.exit_code == 2
    assert "[bad-file]" in done.output


def test_a_goal_holds_only_what_was_said() -> None:
    """What is left out is the settings' to say, the scheduler's as those of a dry run."""
    goal = goal_of("balance", {"max_moves": 3, "hosts": ("alpha",), "select": (), "seed": None, "other": 1})
    assert goal.model_dump(exclude_unset=True) == {"kind": "balance", "max_moves": 3, "hosts": ("alpha",)}
    filled = planning.filled(goal, PlanningSettings(ceiling_points=7))
    assert (filled.ceiling_points, filled.max_moves) == (7, 3)
    assert planning.filled(Goal(kind="balance", ceiling_points=3), PlanningSettings()).ceiling_points == 3
    with pytest.raises(click.UsageError):
        goal_of("balance", {"max_gib": -1})
