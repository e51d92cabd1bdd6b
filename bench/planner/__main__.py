"""``make bench-planner``: the planner beside hbal and a greedy in its spirit, on the same clusters, in one run.

Clusters are generated, or BtrPlace's published ones; Ganeti's own cluster files are a conformance suite. The planner
runs as the worker runs it, as a process of its own; one judge carries out the moves of every method on paper. Data that
is not part of this repository is looked for in ``--data``; where it is missing the rows say so. The last line is one
JSON object: ``cases`` with a row per case and method, ``conformance``, ``goals``, ``machine``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bench.planner import greedy, hbal, ours
from bench.planner.bound import bound
from bench.planner.cases import Case, after, cases, replanned
from bench.planner.conformance import conformance
from bench.planner.expectations import EXPECTATIONS
from bench.planner.goals import held, told
from bench.planner.metrics import judged
from bench.planner.moves import Found
from bench.planner.scene import Scene, scene
from tasks.planner.plan import plan
from worker.contract.plans import Problem

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
GREEDY_SECONDS = 30.0
Row = dict[str, Any]


class Rivals:
    """Those who are asked besides the planner; hbal once for each cluster, since it knows no ceilings."""

    def __init__(self, hbal_seconds: float) -> None:
        self.hbal_seconds = hbal_seconds
        self._last: tuple[tuple[object, ...], Found] | None = None

    def ask(self, name: str, problem: Problem, at: Scene) -> Found:
        """The answer of one of them."""
        if name == "greedy":
            return greedy.plan(at, GREEDY_SECONDS)
        if name == "arbitrary":
            return greedy.arbitrary(at)
        key = (problem.hosts, problem.guests, problem.goal.kind, problem.goal.hosts)
        if self._last is None or self._last[0] != key:
            self._last = key, hbal.plan(problem, self.hbal_seconds)
        return self._last[1]


def rows_of(case: Case, rivals: Rivals) -> Iterator[Row]:
    """One row for each method that is asked."""
    started = time.perf_counter()
    try:
        problem = case.make()
    except (OSError, ValueError) as missing:
        yield {"case": case.name, "method": "planner", "error": f"no data: {missing}"}
        return
    reading = time.perf_counter() - started
    at = scene(problem)
    least = bound(at)
    size: Row = {"case": case.name, "hosts": len(problem.hosts), "guests": len(problem.guests)}
    started = time.perf_counter()
    found = ours.plan(problem)
    whole = reading + time.perf_counter() - started
    row = size | judged(at, least, found) | {"end_to_end_seconds": round(whole, 3)}
    yield _finished(row, problem)
    for name in case.rivals:
        yield size | judged(at, least, rivals.ask(name, problem, at))
    if not found.plan or not found.plan.steps:
        return
    if case.replans:
        yield _again(f"replan after half of {case.name}", replanned(problem, found.plan))
    if case.feeds_back:
        yield _again(f"fed back: {case.name}", after(problem, found.plan))


def _again(name: str, problem: Problem) -> Row:
    at = scene(problem)
    size: Row = {"case": name, "hosts": len(problem.hosts), "guests": len(problem.guests)}
    return _finished(size | judged(at, bound(at), ours.plan(problem)), problem)


def _finished(row: Row, problem: Problem) -> Row:
    if "hot" in row and problem.goal.kind == "balance":
        row["avoidably_hot"] = max(0, row["hot"] - row["hopeless"])
    return row


def line(row: Row) -> str:
    """A row for people."""
    start = f"{row['case']:<42} {row['method']:<15}"
    if "error" in row:
        return f"{start} {row['error']}"
    gap = "" if row["gap"] is None else f"{100 * row['gap']:.1f} %"
    over = f"{row['overcommitted']}/{row['overcommitted_shaken']}"
    ratio = f"{row['makespan']:.0f}/{row['makespan_bound']:.0f}"
    left = f"{row['hot']}({row['hopeless']})" if not row["left"] else f"left {row['left']}"
    return (
        f"{start} {row['seconds']:7.2f} {gap:>7} {row['gib']:9.0f} {row['moves']:6} {row['worst_cpu']:6.3f} "
        f"{row['worst_memory']:6.3f} {left:>9} {row['bounces']:5} {row.get('stuck', ''):>5} {ratio:>11} {over:>7} "
        f"{row['deviation']:6.3f} {row['rss_mib'] or '':>5} {row.get('status', '')} {row['note']}"
    ).rstrip()


HEAD = (
    f"{'case':<42} {'method':<15} {'s':>7} {'gap':>7} {'GiB':>9} {'moves':>6} {'cpu':>6} {'mem':>6} {'hot':>9} "
    f"{'bnce':>5} {'stuck':>5} {'s/bound':>11} {'over':>7} {'sd':>6} {'MiB':>5}"
)


def main() -> int:
    """Run and print; 1 where a plan of ours is wrong in itself."""
    parser = argparse.ArgumentParser(prog="make bench-planner", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small clusters only, to see that it works")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("BENCH_DATA", DATA)), help="default: %(default)s"
    )
    parser.add_argument("--hbal-seconds", type=float, default=None, help="hbal's limit (default: 30, with --quick 5)")
    parser.add_argument("--only", default="*", help="cases whose name fits this pattern, as in '*1000 hosts*'")
    options = parser.parse_args()
    rivals = Rivals(options.hbal_seconds or (5.0 if options.quick else 30.0))
    rows: list[Row] = []
    before = os.getloadavg()[0]
    print(HEAD)
    for case in cases(options.data, options.quick):
        if fnmatchcase(case.name, options.only):
            for row in rows_of(case, rivals):
                print(line(row), flush=True)
                rows.append(row)
    outcomes = conformance(EXPECTATIONS, options.data / "ganeti" / "data" / "htools", plan)
    for outcome in outcomes:
        print(f"ganeti {outcome['file']:<26} {outcome['result']:<15} {outcome['expects']}: {outcome['detail']}")
    print(", ".join(f"{number} {result}" for result, number in Counter(one["result"] for one in outcomes).items()))
    goals = held(rows)
    for goal in goals:
        print(*told(goal), sep="\n")
    machine = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load": [round(before, 1), round(os.getloadavg()[2], 1)],
    }
    print(json.dumps({"cases": rows, "conformance": outcomes, "goals": goals, "machine": machine}))
    return int(any(_is_wrong(row) for row in rows if row["method"] == "planner"))


def _is_wrong(row: Row) -> bool:
    faults = ("overcommitted", "overcommitted_shaken", "over_limit", "too_close", "never_started", "wrong")
    failed = "error" in row and not row["error"].startswith("no data")
    return failed or any(row.get(fault) for fault in faults)


if __name__ == "__main__":
    sys.exit(main())
