"""Kill what a migration needs, at every moment of it, on real libvirt and QEMU; see docs/chaos.md.

Needs root: each host is a libvirtd in namespaces of its own, so that the cable between two can be cut. Exit code 0
where every cell ended as it must (and, of the whole matrix, 95 % settled in time), 1 where not, 2 where no cell has
the name asked for.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from chaos import report
from chaos.__main__ import Director
from chaos.cells import chosen
from chaos.libvirt_cells import SLICE, End, libvirt
from chaos.libvirt_lab import command
from chaos.libvirt_run import LibvirtResult, run
from chaos.libvirt_stage import LibvirtStage
from worker.cli.demo_relay import signals_unwind

STAGES = 2
PATIENCE_SECONDS = 40.0
SETTLED_SECONDS = 10.0
SHARE = 0.95
"""So many of the cells are to settle in that time after the fault's end."""
MOST_CRASHES = 1
"""In so many cells of a run a daemon of libvirt's may die by itself; more than that is our doing."""
TITLE = "seconds to settle / longest silence of the guest's heart; f: failed, c: cancelled, x: guest killed"


def line(result: LibvirtResult) -> str:
    """One cell, as it ends."""
    text = report.line(result)
    if result.crashed:
        text += f"; {' and '.join(result.crashed)} crashed by itself"
    return f"{text}; still for {result.still_seconds:.2f} s" if result.passed and result.still_seconds else text


def _shown(result: LibvirtResult) -> str:
    text = report.shown_shortly(result)
    if not result.passed:
        return text
    return f"{text} x" if result.end is not End.ONE_PLACE else f"{text} / {result.still_seconds:.2f}"


def figures(results: Sequence[LibvirtResult]) -> dict[str, object]:
    """The last line."""
    return report.figures(results) | {"within_10_s": round(_timely(results), 3), "daemon_crashes": _crashes(results)}


def _crashes(results: Sequence[LibvirtResult]) -> int:
    """In how many cells a daemon of libvirt's died by itself."""
    return sum(bool(result.crashed) for result in results)


def _timely(results: Sequence[LibvirtResult]) -> float:
    """The share of the cells that settled in time."""
    timely = sum(r.settle_seconds is not None and r.settle_seconds <= SETTLED_SECONDS for r in results)
    return timely / max(len(results), 1)


def _show(results: Sequence[LibvirtResult], seconds: float, folders: Sequence[str]) -> None:
    console = Console(width=report.WIDTH)
    console.print(report.matrix(results, TITLE, _shown))
    for result in results:
        if not result.passed:
            console.print(line(result), highlight=False, markup=False, soft_wrap=True)
    for folder in folders:
        console.print(f"logs of a stage on which cells failed: {folder}", highlight=False)
    console.print(report.summary(results, seconds), highlight=False)
    print(json.dumps(figures(results)))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make chaos-libvirt", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="cells by name; * matches anything")
    parser.add_argument("--slice", action="store_true", help="a few cells")
    parser.add_argument("--list", action="store_true", help="print the cells' names and run nothing")
    parser.add_argument("--stages", type=int, default=STAGES, help="so many labs, each with a relay, side by side")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which the cells are run")
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, help="seconds a cell may take to settle")
    return parser.parse_args()


def main() -> int:
    """Run and print; the last line is one JSON object."""
    options = parse()
    cells = chosen(libvirt(), [*options.only, *(SLICE if options.slice else ())])
    if options.list or not cells:
        print("\n".join(cell.name for cell in cells) or "no cell has that name; --list shows them")
        return 0 if cells else 2
    random.Random(options.seed).shuffle(cells)  # noqa: S311 - an order, no secret
    folder = Path(tempfile.mkdtemp(prefix="vmr-chaos-"))
    began = time.monotonic()
    director = Director(cells, LibvirtStage, options.patience, folder, run, line)
    with signals_unwind():
        try:
            director.run(min(options.stages, len(cells)))
        finally:
            for lab in folder.glob("*/lab/lab"):  # interrupted: the others are gone
                command("down", lab.parent)
    results = [result for result in director.results if isinstance(result, LibvirtResult)]
    _show(results, time.monotonic() - began, director.kept)
    if not director.kept:
        shutil.rmtree(folder, ignore_errors=True)
    whole = not (options.only or options.slice)
    late, crashing = whole and _timely(results) < SHARE, _crashes(results) > MOST_CRASHES
    return 1 if director.kept or late or crashing else 0


if __name__ == "__main__":
    sys.exit(main())
