"""``tail -1 OUTPUT | python -m bench.planner.table``: the JSON of a run as the tables of ``docs/benchmark.md``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

Row = dict[str, Any]
COLUMNS = ("case", "hot", "bound", "planner", "greedy, or the list's order", "hbal")


def tables(result: Row) -> Iterator[str]:
    """Lines of Markdown: the cases, then the goals, then Ganeti's expectations."""
    machine = result["machine"]
    yield f"{machine['cpus']} CPUs, Python {machine['python']}, load {machine.get('load', 'not known')}."
    yield ""
    yield from _table(COLUMNS, _side_by_side(result["cases"]))
    yield ""
    yield from _table(("goal", "met", "worst", "missed by"), (_goal(goal) for goal in result["goals"]))
    yield ""
    counted = Counter(row["result"] for row in result["conformance"])
    yield f"Ganeti's expectations: {', '.join(f'{number} {name}' for name, number in sorted(counted.items()))}."
    yield ""
    shown = [row for row in result["conformance"] if row["result"] != "not applicable"]
    yield from _table(
        ("file", "Ganeti expects", "here", "result"),
        ((row["file"], row["expects"], row["detail"], row["result"]) for row in shown),
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    titles = list(head)
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |"


def _side_by_side(rows: Iterable[Row]) -> Iterator[Iterable[object]]:
    cases: dict[str, dict[str, Row]] = {}
    for row in rows:
        cases.setdefault(row["case"], {})[row["method"]] = row
    for case, by in cases.items():
        first = next((row for row in by.values() if "error" not in row), None)
        yield (
            case,
            first["hot_before"] if first else "",
            _gib(first["bound_gib"]) if first else "",
            _cell(by.get("planner")),
            _cell(by.get("greedy") or by.get("arbitrary order")),
            _cell(by.get("hbal")),
        )


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if "error" in row:
        return str(row["error"])
    said = [f"{row['seconds']:.2f} s{' (limit)' if row['limited'] else ''}", f"{_gib(row['gib'])} in {row['moves']}"]
    if row["gap"] is not None:
        said.append(f"gap {100 * row['gap']:.1f} %")
    if row["hot"]:
        said.append(f"**{row['hot']} hot**" + (f" ({row['hopeless']} hopeless)" if row["hopeless"] else ""))
    if row["left"]:
        said.append(f"**{row['left']} left**")
    if row["bounces"]:
        said.append(f"{row['bounces']} bounces")
    if over := max(row["overcommitted"], row["overcommitted_shaken"]):
        said.append(f"**{over} overcommitted**")
    return ", ".join([*said, f"{row['makespan']:.0f} of {row['makespan_bound']:.0f} s"])


def _gib(value: float) -> str:
    return f"{value:,.0f} GiB" if value >= 10 else f"{value:.1f} GiB"


def _goal(goal: Row) -> Iterable[object]:
    missed = "; ".join(f"{miss['case']}: {miss['value']}" for miss in goal["missed"])
    met = "yes" if goal["met"] else "**no**" if goal["rows"] else "not run"
    return goal["goal"], met, "" if goal["worst"] is None else goal["worst"], missed


if __name__ == "__main__":
    print(*tables(json.loads(sys.stdin.read().strip().splitlines()[-1])), sep="\n")
