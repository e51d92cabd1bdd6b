"""A few migrations of ``make soak``, and how growth is told from a working set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from chaos.soak_memory import Sample, growth

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_some_migrations_with_faults() -> None:
    """A fault for every fourth migration: none is lost, duplicated or stuck, and each outcome is counted once."""
    command = [sys.executable, "-m", "chaos.soak", "--migrations", "24", "--faults", "0.25", "--guests", "8"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            out, _ = process.communicate(timeout=280)
        except BaseException:
            process.terminate()
            raise
    assert process.returncode == 0, out
    figures = json.loads(out.splitlines()[-1])
    assert figures["migrations"] == sum(figures["outcomes"].values()) == 24
    assert (figures["lost"], figures["duplicated"], figures["stuck"]) == (0, 0, 0)
    assert figures["faults"] > 0
    assert set(figures["memory"]) == {"agent", "redis", "scheduler", "simulator"}


def life(role: str, pid: int, begin: int, level: float, per_1000: float, warming: float = 0.0) -> list[Sample]:
    """One life of two thousand migrations: it warms up over the first thousand, and grows by so much after that."""
    return [
        Sample(role, pid, begin + n, level + warming * min(n / 1000, 1) + per_1000 * max(n - 1000, 0) / 1000)
        for n in range(0, 2001, 50)
    ]


def test_a_warm_up_is_no_growth_and_growth_is_none_of_it() -> None:
    """The slope is of what comes after the first thousand migrations of each life."""
    flat = growth(life("agent-alpha", 1, 0, 70, 0, warming=20))["agent"]
    assert (flat.start, flat.end, flat.per_1000, flat.flat) == (90, 90, 0, True)
    grows = growth(life("agent-alpha", 1, 0, 70, 10, warming=20))["agent"]
    assert (grows.start, grows.end, grows.flat) == (90, 100, False)
    assert grows.per_1000 == pytest.approx(10)


def test_lives_of_one_kind_are_judged_together_each_from_its_own_level() -> None:
    """A process that is started again begins anew: its smaller size hides no growth."""
    lives = life("agent-alpha", 1, 0, 200, 8) + life("agent-alpha", 2, 2000, 100, 8) + life("agent-beta", 3, 0, 70, 8)
    found = growth(lives)["agent"]
    assert (found.lives, found.flat) == (3, False)
    assert found.per_1000 == pytest.approx(8)


def test_redis_is_one_process_whoever_runs_it() -> None:
    """It is killed and has its data again: what it holds goes on growing."""
    found = growth(life("redis", 1, 0, 10, 0) + life("redis", 2, 2050, 20, 0))["redis"]
    assert found.lives == 1
    assert found.per_1000 is not None
    assert found.per_1000 > 3


def test_a_short_life_says_nothing() -> None:
    """Neither flat nor not, where no process was seen for long enough after its warm-up."""
    found = growth(life("scheduler", 1, 0, 70, 50)[:21])["scheduler"]
    assert (found.per_1000, found.flat, found.lives) == (None, None, 0)
