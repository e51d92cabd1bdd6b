"""`make chaos`: four of its cells as they are, and whether it would notice what must never be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from chaos.__main__ import main
from chaos.cells import HOPS, KILLS, PHASES, SLICE, Fault, When, chosen, simulated
from chaos.judge import Watch
from chaos.stage import Copy, Guest

ROOT = Path(__file__).parents[2]
CELLS = (
    "both-agents/finish/before",
    "redis-lost-second/perform/after",
    "source-host/perform/during",
    "loss/finish/before",
)
"""One for each kind of thing that can go wrong: processes, what Redis remembers, a host, a message."""
HERE = Copy("running", 1, "boot-1")
GUEST = Guest("web", "u-1", "running", HERE)


def chaos(*words: str) -> subprocess.CompletedProcess[str]:
    """What ``make chaos ARGS=…`` runs, to its end."""
    command = [sys.executable, "-m", "chaos", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.timeout(420)
def test_a_few_cells_settle_and_the_last_line_has_the_figures() -> None:
    """Each of them ends as it must; matrix and figures are printed, and the exit code is 0."""
    done = chaos(*(word for name in CELLS for word in ("--only", name)), "--stages", "1", "--patience", "90")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert {line.split()[1].rstrip(":") for line in lines if line.startswith("ok ")} == set(CELLS)
    assert all(any(f"│ {name.partition('/')[0]}" in line for line in lines) for name in CELLS)
    figures = json.loads(lines[-1])
    assert (figures["cells"], figures["failed"]) == (len(CELLS), 0)
    seconds = figures["settle_seconds"]
    assert 0 <= seconds["p50"] <= seconds["p95"] <= seconds["max"]


@pytest.mark.timeout(240)
def test_a_cell_that_fails_ends_the_command_with_1() -> None:
    """No patience at all: the cell says why it failed, the figures count it, its logs are kept."""
    done = chaos("--only", "source-agent/perform/during", "--patience", "0")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("FAIL  source-agent/perform/during: did not settle in 0 s") for line in lines)
    (kept,) = (line for line in lines if line.startswith("logs of a stage"))
    folder = Path(kept.split()[-2])
    assert (folder / "agent-alpha.log").is_file()
    shutil.rmtree(folder.parent)
    figures = json.loads(lines[-1])
    assert (figures["cells"], figures["failed"], figures["settle_seconds"]["max"]) == (1, 1, None)


def test_a_name_that_no_cell_has_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt name runs nothing and ends with 2; a list of names runs nothing either."""
    monkeypatch.setattr(sys, "argv", ["chaos", "--only", "source-agent/perform/meanwhile"])
    assert main() == 2
    assert capsys.readouterr().out == "no cell has that name; --list shows them\n"
    monkeypatch.setattr(sys, "argv", ["chaos", "--list", "--only", "redis/*"])
    assert main() == 0
    listed = capsys.readouterr().out.splitlines()
    assert "redis/confirm/after" in listed
    assert all(name.startswith("redis/") for name in listed)
    monkeypatch.setattr(sys, "argv", ["chaos", "--list", "--slice"])
    assert main() == 0
    assert set(capsys.readouterr().out.splitlines()) == set(SLICE)


def test_the_matrix_has_every_kill_at_every_moment() -> None:
    """Each kill before, during and after each phase, each hop's message twice and lost; no name twice."""
    names = [cell.name for cell in simulated()]
    assert len(names) == len(set(names)) >= 150
    kills = {f"{fault}/{phase}/{when}" for fault in KILLS for phase in PHASES for when in When}
    twice = {f"{Fault.DUPLICATE}/{hop}/{when}" for hop in HOPS for when in When}
    lost = {f"{Fault.LOSS}/{hop}/before" for hop in HOPS}
    assert kills | twice | lost | set(SLICE) | set(CELLS) <= set(names)
    assert [cell.name for cell in chosen(simulated(), ["loss/[bc]*"])] == ["loss/begin/before", "loss/confirm/before"]


class Pictures:
    """Stands for a stage: shows the guest's copies, one picture after the other, the last one for ever."""

    def __init__(self, *pictures: dict[str, Copy]) -> None:
        self.left = list(pictures)

    def copies(self, _: Guest) -> dict[str, Copy]:
        """The next picture."""
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def seen(guest: Guest, *pictures: dict[str, Copy]) -> list[str]:
    """What a watch over these pictures tells, without the times."""
    stage: Any = Pictures(*pictures)
    with Watch(stage, guest) as watch:
        deadline = time.monotonic() + 10
        while len(stage.left) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
    return [line.partition(",")[0] for line in watch.seen]


def test_the_watch_notices_what_must_never_be() -> None:
    """Two running copies and a second start are told; a move between two looks is neither."""
    moved, gone = {"beta": HERE}, Copy("paused", 1, "boot-1")
    assert seen(GUEST, {"alpha": HERE}, {"alpha": gone, "beta": HERE}, moved) == []
    assert seen(GUEST, {"alpha": HERE}, {"alpha": HERE, "beta": HERE}, moved) == []
    both = {"alpha": HERE, "beta": HERE}
    assert seen(GUEST, both, both) == ["two running copies"]
    assert seen(GUEST, {"alpha": HERE}, {"alpha": Copy("running", 2, "boot-2")}) == ["the guest was started again"]
    assert seen(Guest("web", "u-1", "paused", gone), {"alpha": HERE}) == ["a guest that its user had paused runs"]
