"""Kill what a migration needs, at every moment of it, on simulated hosts; see docs/chaos.md.

Exit code 0 where every cell ended as it must, 1 where one did not, 2 where no cell has the name asked for.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from chaos import report
from chaos.cells import SLICE, Cell, chosen, simulated
from chaos.run import Result, run
from chaos.simulated import SimulatedStage

STAGES = 3
PATIENCE_SECONDS = 30.0


class Director:
    """Runs cells one after the other on each of several stages, which live on from cell to cell."""

    def __init__(
        self,
        cells: Sequence[Cell],
        make: Callable[[Path], Any],
        patience: float,
        folder: Path,
        how: Callable[[Any, Cell, int, float], Result] = run,
        line: Callable[[Any], str] = report.line,
    ) -> None:
        self.results: list[Result] = []
        self.kept: list[str] = []
        """Folders of stages on which a cell failed: their logs."""
        self._left: SimpleQueue[tuple[int, Cell]] = SimpleQueue()
        for numbered in enumerate(cells):
            self._left.put(numbered)
        self._make, self._patience, self._folder = make, patience, folder
        self._how, self._line = how, line
        self._lock = threading.Lock()
        self._broken: list[BaseException] = []

    def run(self, stages: int) -> None:
        """Run all cells. Raises what kept a stage from starting."""
        threads = [
            threading.Thread(target=self._work, name=f"stage-{n}", args=(n,), daemon=True) for n in range(stages)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._broken:
            raise self._broken[0]

    def _work(self, number: int) -> None:
        turn = 0
        try:
            while not self._left.empty() and not self._broken:
                self._on_one_stage(self._folder / f"{number}-{turn}")
                turn += 1
        except BaseException as broken:
            self._broken.append(broken)

    def _on_one_stage(self, folder: Path) -> None:
        """Run cells until none is left or one has failed: nobody knows what that one leaves behind."""
        with ExitStack() as stack:
            stage = stack.enter_context(self._make(folder))
            while True:
                try:
                    number, cell = self._left.get_nowait()
                except Empty:
                    break
                result = self._how(stage, cell, number, self._patience)
                with self._lock:
                    self.results.append(result)
                    print(self._line(result), flush=True)
                if not result.passed:
                    self.kept.append(f"{folder} ({cell.name})")
                    return
        shutil.rmtree(folder, ignore_errors=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="cells by name; * matches anything")
    parser.add_argument("--slice", action="store_true", help="a dozen cells")
    parser.add_argument("--list", action="store_true", help="print the cells' names and run nothing")
    parser.add_argument("--stages", type=int, default=STAGES, help="so many relays side by side")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which the cells are run")
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, help="seconds a cell may take to settle")
    return parser.parse_args()


def main() -> int:
    """Run and print; the last line is one JSON object."""
    options = parse()
    cells = chosen(simulated(), [*options.only, *(SLICE if options.slice else ())])
    if options.list or not cells:
        print("\n".join(cell.name for cell in cells) or "no cell has that name; --list shows them")
        return 0 if cells else 2
    random.Random(options.seed).shuffle(cells)  # noqa: S311 - an order, no secret
    folder = Path(tempfile.mkdtemp(prefix="vmr-chaos-"))
    began = time.monotonic()
    director = Director(cells, SimulatedStage, options.patience, folder)
    director.run(min(options.stages, len(cells)))
    report.show(director.results, time.monotonic() - began, director.kept)
    if not director.kept:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if director.kept else 0


if __name__ == "__main__":
    sys.exit(main())
