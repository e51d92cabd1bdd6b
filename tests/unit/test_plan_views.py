"""Plans as tables and Markdown, and what one does otherwise than another."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from plan_lab import HOSTILE, a_plan, impossible
from rich.console import Console

from worker.cli import plan_words, plans
from worker.cli.main import cli
from worker.cli.plan_bars import ASCII, UNICODE
from worker.cli.plan_diff import difference, journeys, lines
from worker.cli.plan_markdown import markdown
from worker.contract.plans import Gain, Goal, Left, Plan, Step

NOW = 1_800_000_030.0


def shown(plan: Plan, width: int = 80, *, colour: bool = False, verbose: bool = False) -> str:
    """A plan as a terminal of that width shows it."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(plans.rendered(plan, NOW, UNICODE, verbose=verbose))
    return stream.getvalue()


def test_a_table_says_what_an_operator_wants_to_know() -> None:
    """What for, on which data, how good, how much, how long, what goes where and why, what stays and why."""
    text = shown(a_plan(3), 160)
    for wanted in (
        "p-00000001, 3 hosts, 24 guests",
        "every host at most 10 points above the mean: cpu 70 %, memory 75 %",
        "taken 12 s before",
        "gap 0.8 %: no plan moves less than 63.4 GiB",
        "3, 64.0 GiB",
        "4 min 10 s, up to 4 at once; one by one 11 min 40 s; at best 4 min 0 s",
        "1 → 0",
        "seed 1",
        "memory 92 % above 75 %",
        "rule licence: bound to this host [pinned]",
        "take it out of [rules.licence]",
        "1 move (21.3 GiB) 56 %",
        "a ceiling of 12 points would take 31 GiB less",
        "relieved",
    ):
        assert wanted in text, wanted


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_keeps_to_the_terminal(width: int) -> None:
    """No line is wider than the terminal, and the guests' names stay whole at 80."""
    text = shown(a_plan(3), width)
    assert max(map(len, text.splitlines())) <= width
    assert width < 80 or all(step.domain in text for step in a_plan(3).steps)


def test_a_table_is_readable_without_colour() -> None:
    """Colour says nothing that words do not say; without it there is no escape sequence."""
    plain, coloured = shown(a_plan(3)), shown(a_plan(3), colour=True)
    assert "\x1b[" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_long_plans_are_cut_and_say_so() -> None:
    """Of many steps and hosts the first and the telling ones are shown; verbose shows all."""
    plan = a_plan(100)
    text, whole = shown(plan), shown(plan, verbose=True)
    assert f"and {plan.totals.moves - plans.MOST_STEPS} more steps" in text
    assert "more hosts" in text
    assert "more steps" not in whole
    assert "more hosts" not in whole
    assert all(f" {host.name} " in f" {whole} ".replace("\n", " \n ") for host in plan.hosts)
    hot = {host.name for host in plans.notable(plan.hosts)}
    assert all(plan.hosts[int(name[5:]) - 1].before.memory > 0.75 for name in hot)


@pytest.mark.parametrize("output", ["table", "json", "svg", "markdown"])
def test_no_format_passes_control_characters_on(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name or a reason with an escape sequence, or that turns text round, does nothing to a terminal."""
    plan = a_plan(3, name=HOSTILE, notes=(f"a note{HOSTILE}\x1b[2J",))
    plans.show_plan(plan, output)
    text = capsys.readouterr().out
    odd = {letter for letter in text if not letter.isprintable()} - {"\n"}
    assert not odd


def test_json_is_the_document_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """What `-o json` prints is a plan again, the same one."""
    plan = a_plan(3)
    plans.show_plan(plan, "json")
    assert Plan.model_validate_json(capsys.readouterr().out) == plan


def test_markdown_holds_every_step_and_shows_names_as_they_are() -> None:
    """A table row for each step; what Markdown would take for markup is escaped."""
    plan = a_plan(100, name="|*x*<b>")
    text = markdown(plan, NOW)
    assert text.count("vm-") == plan.totals.moves
    assert "vm-1\\|\\*x\\*\\<b\\>" in text
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"status": "optimal"}, "proved optimal: no plan moves less than"),
        ({"gap": None}, "no bound is known"),
        ({"status": "best-effort"}, "best effort, gap 0.8 %: not moved: 1 guest"),
        ({"status": "impossible"}, "impossible"),
        ({"status": "nothing-to-do"}, "nothing to do"),
    ],
)
def test_a_status_says_how_good_a_plan_is(more: dict[str, Any], said: str) -> None:
    """Each status in words."""
    assert said in plan_words.status(a_plan(3, **more))


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        (Goal(kind="drain", hosts=("alpha", "beta")), "nothing left on alpha, beta"),
        (Goal(kind="consolidate"), "as few hosts in use as possible"),
        (Goal(kind="place", targets={"u": "alpha"}), "1 guest on given hosts"),
        (Goal(kind="balance", ceiling_percent=70), "every host at most 70 % full"),
        (Goal(kind="balance", hosts=("alpha",)), "10 points above the mean (guests of alpha)"),
    ],
)
def test_a_goal_in_words(goal: Goal, said: str) -> None:
    """Each goal in words."""
    assert said in plan_words.wanted(goal)


def test_what_cannot_be_is_said_by_name() -> None:
    """An impossibility has its subject, its reason, its code, and what would help."""
    assert "huge: it has 2,000 GiB, the largest host 512 [guest-too-big]; a host" in shown(impossible(), 160)
    assert "huge" in markdown(impossible(), NOW)


def test_gains_are_told_where_stopping_early_pays() -> None:
    """The first points that half, most and nearly all of the excess is gone at, each once; nothing for one move."""
    gains = tuple(Gain(moves=n, gib=n, excess_left=left) for n, left in ((1, 0.9), (2, 0.15), (3, 0.04), (4, 0)))
    totals = a_plan(3).totals.model_copy(update={"moves": 4})
    told = plan_words.gains(a_plan(3, gains=gains, totals=totals))
    assert told == "how much of the goal the first moves reach: 2 moves (2.0 GiB) 85 %, 3 moves (3.0 GiB) 96 %"
    assert plan_words.gains(a_plan(1, gains=())) == ""


def test_old_data_is_said_to_be_old() -> None:
    """Hosts whose loads are stale are in the header, and so is when an old plan was made."""
    assert "old: h3: its agent is away" in shown(a_plan(3, stale=("h3: its agent is away",)), 160)
    header = dict(plan_words.header(a_plan(3), NOW + 3600))
    assert header["made"].endswith("(60 min 30 s ago)")


@pytest.mark.parametrize(
    ("status", "code"), [("optimal", 0), ("nothing-to-do", 0), ("best-effort", 1), ("impossible", 1)]
)
def test_a_dry_run_says_whether_the_goal_is_reached(status: str, code: int) -> None:
    """The exit code of a plan."""
    assert plans.code_of(a_plan(3, status=status)) == code


# -- differences ----------------------------------------------------------------------------------------


def step(n: int, guest: str, source: str, destination: str, bounce: int = 0) -> Step:
    """One step."""
    return Step(n=n, guest=guest, domain=guest, source=source, destination=destination, memory_mib=2048, bounce=bounce)


def test_a_detour_is_one_journey() -> None:
    """Where a guest ends counts, not by which way; one that comes back goes nowhere."""
    steps = [step(1, "a", "x", "y", 1), step(2, "b", "x", "y"), step(3, "a", "y", "z", 2), step(4, "b", "y", "x")]
    found = journeys(steps)
    assert [(each.domain, each.source, each.destination) for each in found.values()] == [("a", "x", "z")]


def test_a_difference_names_what_is_new_gone_and_elsewhere() -> None:
    """Each guest is in exactly one part of it."""
    old = a_plan(3, steps=(step(1, "same", "x", "y"), step(2, "gone", "x", "y"), step(3, "turned", "x", "y")))
    new = a_plan(3, id="p-2", steps=(step(1, "same", "x", "y"), step(2, "new", "x", "y"), step(3, "turned", "x", "z")))
    found = difference(old, new)
    assert ([j.domain for j in found.dropped], [j.domain for j in found.added]) == (["gone"], ["new"])
    assert [(journey.domain, before) for journey, before in found.elsewhere] == [("turned", "y")]
    assert (found.same, found.none) == (1, False)
    told = lines(found, "->")
    assert "- gone: x -> y, 2.0 GiB" in told
    assert "~ turned: x -> z, 2.0 GiB (before: y)" in told
    assert "plan: p-00000001 -> p-2" in told


def test_the_plan_commands_read_files_and_standard_input(tmp_path: Path) -> None:
    """`plan show`, `picture` and `diff` need no relay; what is no plan is refused with exit code 2."""
    file, other, drawn = tmp_path / "plan.json", tmp_path / "other.json", tmp_path / "plan.svg"
    file.write_text(a_plan(3).model_dump_json())
    other.write_text(a_plan(6, 2).model_dump_json())
    run = CliRunner().invoke
    assert "p-00000001" in run(cli, ["plan", "show", str(file)]).output
    assert "p-00000001" in run(cli, ["plan", "show", "-"], input=file.read_text()).output
    assert run(cli, ["plan", "picture", str(file), "-o", str(drawn)]).exit_code == 0
    assert drawn.read_text().startswith("<svg")
    assert run(cli, ["plan", "picture", str(file), "--ascii"]).output.isascii()
    # `main` turns what a command exits with into the process's exit code.
    same = CliRunner().invoke(cli, ["plan", "diff", str(file), str(file)])
    apart = CliRunner().invoke(cli, ["plan", "diff", str(file), str(other), "-o", "json"])
    assert (same.exit_code, apart.exit_code) == (0, 1)
    assert json.loads(apart.output)["figures"]["plan"]["new"] == "p-00000002"
    drawn.write_text("{}")
    refused = run(cli, ["plan", "show", str(drawn)])
    assert refused.exit_code == 2
    assert "[bad-file]" in refused.output
    assert run(cli, ["plan", "show", str(tmp_path / "none")]).exit_code == 2


def test_ascii_is_enough() -> None:
    """Where a terminal knows no blocks, the table has none."""
    console = Console(file=io.StringIO(), width=80, color_system=None)
    with console.capture() as text:
        console.print(plans.rendered(a_plan(3), NOW, ASCII))
    assert text.get().isascii()


def test_all_that_stays_is_shown_when_asked_for() -> None:
    """Many guests that stay are cut like steps."""
    stays = tuple(
        Left(guest=f"u{n}", domain=f"stays-{n}", host="host-1", code="no-room", why="no host has room")
        for n in range(50)
    )
    plan = a_plan(3, left=stays, stuck=stays[:1])
    assert "and 30 more guests" in shown(plan)
    assert "stays-49" in shown(plan, verbose=True)
    assert "No order can do this:" in shown(plan)
