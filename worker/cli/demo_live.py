"""Several migrations at once, live: bars on a terminal, one line for each event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from worker.cli import words
from worker.errors import Unavailable
from worker.hypervisors.base import Phase
from worker.journal import Journal, Record

LOOK_SECONDS = 0.05
LINE_PERCENT = 25
"""Without bars, progress is a line each time it passes a multiple of this."""

Listener = Callable[[str, str, dict[str, Any]], None]
"""Takes a migration's id, an event's kind and its data."""


def follow(journal: Journal, idents: Mapping[str, str], seconds: float, listen: Listener) -> dict[str, Record]:
    """Hand all events of these migrations (id to name) to ``listen`` until the last one has ended.

    Raises ``Unavailable`` where that takes longer than ``seconds``, or one is in doubt.
    """
    after, ended, progress = dict.fromkeys(idents, "0"), dict[str, Record](), dict[str, dict[str, Any]]()
    deadline = time.monotonic() + seconds
    while len(ended) < len(idents):
        for ident in [ident for ident in idents if ident not in ended]:
            record = journal.record(ident)
            for at, kind, data in journal.events(ident, after[ident]):
                after[ident] = at
                listen(ident, kind, data)
            # Events come only when the percentage changes.
            if record is not None and record.phase == "perform" and record.progress != progress.get(ident, {}):
                progress[ident] = record.progress
                listen(ident, "progress", record.progress)
            if record is not None and record.state == "in-doubt":
                raise Unavailable(f"{idents[ident]} is in doubt: {record.error}")
            if record is not None and record.state == "ended":
                ended[ident] = record
        if time.monotonic() > deadline:
            late = ", ".join(name for ident, name in idents.items() if ident not in ended)
            raise Unavailable(f"not over after {seconds:g} s: {late}")
        time.sleep(LOOK_SECONDS)
    return ended


def figures_of(data: Mapping[str, Any]) -> str:
    """Round, rate and rest of a progress event, short; empty where the hypervisor does not tell them."""
    told = [f"round {data['iteration']}"] if data.get("iteration") else []
    if rate := data.get("bandwidth_bytes_per_second"):
        told.append(f"{words.size(rate)}/s")
    if told:
        told.append(f"{words.size(data['remaining_bytes'])} left")
    return ", ".join(told)


@dataclass
class _Row:
    label: str
    bar: TaskID | None
    told: int = 0


class Live:
    """The display; enter it while migrations run."""

    def __init__(self, console: Console, labels: Mapping[str, str]) -> None:
        self._console = console
        bars = console.is_terminal and not console.is_dumb_terminal
        columns = (
            TextColumn("{task.description}"),
            BarColumn(12),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[now]:<32}", markup=False),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console) if bars else None
        width = max(map(len, labels.values()), default=0)
        self._rows = {ident: self._row(f"{label:<{width}}") for ident, label in labels.items()}

    def _row(self, label: str) -> _Row:
        bar = self._progress.add_task(label, total=100, now="waits", start=False) if self._progress else None
        return _Row(label, bar)

    def __enter__(self) -> Live:
        self._context().__enter__()
        return self

    def __exit__(self, *about: Any) -> None:  # noqa: ANN401
        self._context().__exit__(*about)

    def _context(self) -> AbstractContextManager[object]:
        return self._progress or nullcontext()

    def __call__(self, ident: str, kind: str, data: dict[str, Any]) -> None:
        """Show one event."""
        row = self._rows[ident]
        if self._progress is not None and row.bar is not None:
            self._show(self._progress, row, row.bar, kind, data)
            return
        if kind == "progress":
            if data["percent"] < row.told + LINE_PERCENT:
                return
            row.told = data["percent"] // LINE_PERCENT * LINE_PERCENT
        if kind != "phase" or data["phase"] == Phase.PERFORM:  # the others are over before one can read it
            self._say(row, kind, data)

    def _show(self, progress: Progress, row: _Row, bar: TaskID, kind: str, data: dict[str, Any]) -> None:
        match kind:
            case "started":
                progress.start_task(bar)
            case "progress":
                progress.update(bar, completed=data["percent"])
                if figures := figures_of(data):
                    progress.update(bar, now=figures)
            case "phase":
                progress.update(bar, now=f"{data['phase']} on {data['host']}")
            case "ended":
                progress.update(bar, now=data["outcome"], completed=100 if data["outcome"] == "succeeded" else None)
                progress.stop_task(bar)
            case "retry" | "backoff" | "stalled" | "tuned" | "cancel" | "in-doubt" | "republished":
                self._say(row, kind, data)

    def _say(self, row: _Row, kind: str, data: dict[str, Any]) -> None:
        if text := words.line_of(kind, data):
            self._console.print(Text(f"{row.label}  {text}"), soft_wrap=True)
