"""``hbal`` of Ganeti's htools (Debian: ganeti-htools), a program of its own, on the same clusters.

It knows no ceilings: each step is the move that lowers its score most, the weighted sum of the standard deviations of
memory and CPU. So its row says what it makes of the same cluster, and the deviations are reported for all. Its input
has shared storage (no disk is copied), loads as virtual CPUs, exclusion tags for ``apart``; pinned guests are excluded.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.planner import ganeti
from bench.planner.measured import run
from bench.planner.moves import Found, Move
from worker.contract.plans import Problem

PACKAGE = "ganeti-htools"
_STEP = re.compile(r"^\s*\d+\.\s+(?P<guest>\S+)\s+(?P<source>\S+)\s+=>\s+(?P<target>\S+)\s")
_LIBRARY = Path("/usr/lib/ganeti")


def program() -> Path | None:
    """Where ``hbal`` is, if it is installed."""
    if found := shutil.which("hbal"):
        return Path(found)
    return next(iter(sorted(_LIBRARY.glob("*/usr/bin/htools"), reverse=True)), None)


def plan(problem: Problem, limit_seconds: float) -> Found:
    """What ``hbal`` does with this problem (balance, or drain as evacuation), within a limit of time.

    After the limit it is interrupted, and what it printed until then is its answer.
    """
    where = program()
    if where is None:
        return Found("hbal", error=f"hbal is not installed; scripts/debian-packages {PACKAGE}")
    with tempfile.TemporaryDirectory(prefix="vmr-hbal-") as folder:
        data = Path(folder) / "cluster.data"
        data.write_text(ganeti.write(problem))
        done = run(
            [str(where), "-t", str(data), "--ignore-dynu", *_options(problem)],
            "",
            limit_seconds,
            env={"HTOOLS": "hbal"} | {key: os.environ[key] for key in ("LANG",) if key in os.environ},
        )
    if done.returncode and not done.limited:
        return Found("hbal", error=done.stderr.strip()[-300:])
    moves = tuple(steps(done.stdout.splitlines()))
    note = (
        f"interrupted after {limit_seconds:g} s: the {len(moves)} steps until then are judged" if done.limited else ""
    )
    return Found(
        "hbal",
        moves=moves,
        wall_seconds=done.wall_seconds,
        cpu_seconds=done.cpu_seconds,
        rss_mib=done.rss_mib,
        limited=done.limited,
        note=note,
    )


def steps(lines: Iterable[str]) -> Iterable[Move]:
    """The moves of its output, in its order and with its parallelism.

    ``hbal`` puts consecutive moves that share no node into one jobset, and starts a jobset when the one before it has
    ended (hbal(1)): so each move comes after all of the jobset before.
    """
    before: tuple[int, ...] = ()
    present: list[int] = []
    busy: set[str] = set()
    matches = (match for line in lines if (match := _STEP.match(line)))
    for number, match in enumerate(matches, start=1):
        hosts = {match["source"], match["target"]}
        if busy & hosts:
            before, present, busy = tuple(present), [], set()
        busy |= hosts
        present.append(number)
        yield Move(number, match["guest"], match["target"], after=before)


def _options(problem: Problem) -> Iterable[str]:
    if problem.goal.kind == "drain":
        yield "--evac-mode"
        for host in problem.goal.hosts:
            yield from ("-O", host)
    if pinned := [guest.name for guest in problem.guests if guest.pinned]:
        yield from ("--exclude-instances", ",".join(pinned))
