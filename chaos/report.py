"""What is printed: a line for each cell as it ends, the matrix, the failures, and one JSON object."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from chaos.cells import HOPS, When
from chaos.run import Result

WIDTH = 132
TITLE = "seconds to settle; f: failed, c: cancelled, r: rejected (else succeeded); number of attempts where not 1"


def line(result: Result) -> str:
    """One cell, as it ends."""
    if result.passed:
        told = f"{result.outcome}, {_attempts(result)}, settled in {_seconds(result)} s"
        return f"ok    {result.cell.name}: {told}" + (", asked again" if result.asked_again else "")
    return f"FAIL  {result.cell.name}: {'; '.join(result.wrongs)}"


def show(results: Sequence[Result], seconds: float, folders: Sequence[str]) -> None:
    """The matrix, what failed, and the figures; the last line is one JSON object."""
    console = Console(width=WIDTH)
    console.print(matrix(results))
    for result in results:
        if not result.passed:
            console.print(line(result), highlight=False, markup=False, soft_wrap=True)
    for folder in folders:
        console.print(f"logs of a stage on which cells failed: {folder}", highlight=False)
    console.print(summary(results, seconds), highlight=False, soft_wrap=True)
    print(json.dumps(figures(results)))


def matrix(results: Sequence[Result], title: str = TITLE, shown: Callable[[Any], str] | None = None) -> Table:
    """Faults by phases and moments: the seconds each took to settle, and what became of the migration."""
    table = Table(title=title)
    table.add_column("fault", no_wrap=True)
    table.add_column("hop")
    for when in When:
        table.add_column(when, justify="right")
    rows: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        cell = result.cell
        extra = "".join(f" +{word}" for word in (cell.extra, cell.then and f"then {cell.then}") if word)
        rows.setdefault((cell.fault + extra, cell.hop), {})[cell.when] = result
    last = ""
    for (fault, hop), row in sorted(rows.items(), key=lambda item: (item[0][0], HOPS.index(item[0][1]))):
        cells = [(shown or shown_shortly)(row[when]) if when in row else "" for when in When]
        table.add_row(fault if fault != last else "", hop, *cells)
        last = fault
    return table


def shown_shortly(result: Result) -> str:
    """One cell, in the matrix."""
    if not result.passed:
        return "[bold red]FAIL[/]"
    letter = {"failed": " f", "cancelled": " c", "rejected": " r"}.get(result.outcome, "")
    return _seconds(result) + letter + (f" {result.attempts}" if result.attempts > 1 else "")


def summary(results: Sequence[Result], seconds: float) -> str:
    """How the cells ended, in words."""
    outcomes = Counter(result.outcome or "none" for result in results)
    told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
    asked = sum(result.asked_again for result in results)
    still = max((result.still_seconds for result in results), default=0.0)
    return "\n".join(
        (
            f"{len(results)} cells in {seconds:.0f} s; {told}; {asked} requests were sent again by their client; "
            f"no copy ran for {still:.2f} s at most",
            *_waits(results),
        )
    )


def _waits(results: Sequence[Result]) -> list[str]:
    """How much of the time to settle was waiting for what had been killed to serve again."""
    both = [(r.serve_seconds, r.settle_seconds) for r in results if r.serve_seconds and r.settle_seconds]
    if not both:
        return []
    served, after = sorted(serve for serve, _ in both), sorted(settle - serve for serve, settle in both)
    told = "; settled so long after that: ".join(
        f"p50 {_quantile(values, 0.5)} s, p95 {_quantile(values, 0.95)} s, max {_quantile(values, 1)} s"
        for values in (served, after)
    )
    return [f"in {len(both)} cells all processes served again before it had settled: {told}"]


def figures(results: Sequence[Result]) -> dict[str, object]:
    """The last line."""
    settled = sorted(result.settle_seconds for result in results if result.settle_seconds is not None)
    failed = sum(not result.passed for result in results)
    return {"cells": len(results), "failed": failed, "settle_seconds": figures_of(settled)}


def figures_of(values: Sequence[float]) -> dict[str, float | None]:
    """Median, 95th percentile and the largest of sorted values."""
    return {"p50": _quantile(values, 0.5), "p95": _quantile(values, 0.95), "max": _quantile(values, 1)}


def _quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that this share of all does not exceed; ``None`` where there are none."""
    return round(values[max(math.ceil(share * len(values)) - 1, 0)], 3) if values else None


def _attempts(result: Result) -> str:
    return "1 attempt" if result.attempts == 1 else f"{result.attempts} attempts"


def _seconds(result: Result) -> str:
    return "-" if result.settle_seconds is None else f"{result.settle_seconds:.2f}"
