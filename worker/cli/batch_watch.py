"""Following a batch: counts, what runs and how far it is, the rate, and when it may be over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import click
from pydantic import ValidationError
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from worker.cli import batch_words, client, words
from worker.cli.batch_words import counts
from worker.cli.plan_words import about
from worker.contract.plans import Plan
from worker.errors import Rejected
from worker.journal import Journal, Record
from worker.journal.batch import Batch

STEP_PERCENT = 10
STEP_SECONDS = 10.0
"""Without a terminal a line after so much more of a batch, or after so long."""
MOST_RUNNING = 8
"""So many running migrations are shown below the bar."""
LOOK_SECONDS = 0.1
ENOUGH = 3
"""After so many ended moves the rate says more about the rest than the plan."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A batch at one moment."""

    batch: Batch
    running: tuple[Record, ...]
    now: float
    """Redis's clock."""


TOLD_BY_LOOK = ("running", "finished")
"""States that a look tells with more to them than their event has."""


class Screen(Protocol):
    """Where a batch is shown while it goes on."""

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Something happened in it."""

    def look(self, sight: Sight) -> None:
        """This is how it stands."""


# -- figures: pure --------------------------------------------------------------------------------------


def seconds_left(sight: Sight) -> float | None:
    """How long it may still take: from the rate so far, before that from the plan; ``None`` where neither says."""
    batch = sight.batch
    rest = batch.total - batch.done
    if not batch.started or batch.state in ("paused", "finished"):
        return None
    ran = sight.now - batch.started / 1000
    if batch.done >= ENOUGH and ran > 0:
        return rest * ran / batch.done
    return max(0.0, batch.seconds - ran) if batch.seconds else None


def is_over(batch: Batch) -> bool:
    """Whether nothing more happens to a batch by itself: it has finished, or all that is left of it is in doubt."""
    doubts = batch.state in ("running", "cancelling") and batch.complete and not batch.waiting
    return batch.state == "finished" or (doubts and 0 < batch.asked == len(batch.in_doubt))


def figures(sight: Sight) -> str:
    """The state of a batch in a line: ``12 moved, 1 failed, 0 skipped of 40, 3 run, 310 MiB/s, about 5 min left``."""
    batch, left = sight.batch, seconds_left(sight)
    if batch.state == "planning" and not batch.total:
        return "a plan is made"
    ran = (sight.now - batch.started / 1000) / 60 if batch.started else 0.0
    rate = sum(record.progress.get("bandwidth_bytes_per_second") or 0 for record in sight.running)
    parts = (
        counts(batch),
        f"{batch.asked} asked for" if batch.asked else "",
        f"{batch.done / ran:.1f} a minute" if batch.done >= ENOUGH and ran > 0 else "",
        f"{words.size(rate)}/s" if rate else "",
        f"about {about(left)} left" if left else "",
    )
    return ", ".join(part for part in parts if part)


def running_line(record: Record) -> str:
    """A migration under way in a line."""
    percent = f" {record.progress['percent']} %" if record.progress.get("percent") is not None else ""
    doing = "waits" if record.waiting or record.state != "active" else record.phase
    told = words.details(record.progress) if doing == "perform" else ""
    route = f"{words.clean(record.domain)}: {record.source} → {record.destination}"
    return f"{route}  {doing}{percent}" + (f"  {told}" if told else "")


# -- where it is shown ----------------------------------------------------------------------------------


class Lines:
    """Lines, now and then."""

    def __init__(
        self, say: Callable[[str], None], *, verbose: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._verbose, self._clock = say, verbose, clock
        self._state, self._percent, self._at = "", -100, float("-inf")

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """What failed is always told; what else becomes of a move to those who want to see it."""
        line = batch_words.line_of(kind, data)
        if line and kind not in TOLD_BY_LOOK and (self._verbose or batch_words.tells(kind, data)):
            self._say(line)

    def look(self, sight: Sight) -> None:
        """A line when the state is another one, and as the batch goes on."""
        batch = sight.batch
        percent = 100 * batch.done // max(batch.total, 1)
        further = percent >= self._percent + STEP_PERCENT
        late = self._clock() - self._at >= STEP_SECONDS
        if batch.state != self._state or (batch.state == "running" and (further or late)):
            self._state, self._percent, self._at = batch.state, percent, self._clock()
            self._say(f"{batch.state}: {figures(sight)}")


class Bars:
    """One bar for the batch, and a line for each migration that runs."""

    def __init__(self, console: Console, ident: str) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.percentage:>3.0f} %"),
        )
        self._below: list[str] = []
        self._progress = _Live(columns, console, self._lines)
        self._bar = self._progress.add_task(ident, total=None)

    @property
    def context(self) -> AbstractContextManager[object]:
        """To be entered while it shows."""
        return self._progress

    def _lines(self) -> list[str]:
        return self._below

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """What failed, and what concerns the batch as a whole, is worth a line of its own above the bar."""
        line = batch_words.line_of(kind, data)
        if line and kind not in TOLD_BY_LOOK and batch_words.tells(kind, data):
            self._progress.console.print(Text(line), soft_wrap=True)

    def look(self, sight: Sight) -> None:
        """Move the bar."""
        batch, shown = sight.batch, sight.running[:MOST_RUNNING]
        more = len(sight.running) - len(shown)
        self._below = [figures(sight), *(f"  {running_line(record)}" for record in shown)]
        self._below += [f"  and {more} more"] if more else []
        self._progress.update(
            self._bar, description=f"{batch.id} {batch.state}", completed=batch.done, total=batch.total or None
        )


class _Live(Progress):
    def __init__(
        self, columns: Iterable[TextColumn | BarColumn], console: Console, below: Callable[[], list[str]]
    ) -> None:
        self._lines_below = below
        super().__init__(*columns, TimeElapsedColumn(), console=console, transient=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and lines below it."""
        yield from super().get_renderables()
        yield Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in self._lines_below()))


# -- the loop -------------------------------------------------------------------------------------------


def look(book: Journal, ident: str) -> Sight:
    """A batch now, with the migrations of it that run. Raises ``Rejected`` where it is gone."""
    batch = book.batch(ident)
    if batch is None:
        raise Rejected(f"there is no batch '{ident[:80]}'; see 'vmrelay batch list'", code="unknown-batch")
    return Sight(batch, tuple(book.running_of(ident)), book.now())


def follow(
    ident: str,
    timeout: float | None,
    *,
    bars: bool,
    verbose: bool,
    over: Callable[[Batch], bool] = is_over,
) -> Batch | None:
    """Show a batch on standard error until it is over; ``None`` where that takes longer than ``timeout`` seconds."""
    book = client.journal()
    screen: Screen
    context: AbstractContextManager[object] = nullcontext()
    if bars:
        screen = Bars(Console(stderr=True), ident)
        context = screen.context
    else:
        screen = Lines(lambda text: click.echo(text, err=True), verbose=verbose)
    deadline = time.monotonic() + timeout if timeout is not None else None
    after = "0"
    with context:
        while True:
            left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
            for at, kind, data in book.batch_events(ident, after, left if left > 0 else None):
                after = at
                screen.event(kind, data)
            sight = look(book, ident)
            screen.look(sight)
            if over(sight.batch):
                for _, kind, data in book.batch_events(ident, after):
                    screen.event(kind, data)
                return sight.batch
            if left <= 0:
                return None


def planned(ident: str, timeout: float | None) -> Plan | None:
    """The plan of a batch once it is made; ``None`` where none was made, or not within ``timeout`` seconds."""
    book = client.journal()
    deadline = time.monotonic() + timeout if timeout is not None else None
    while True:
        batch = look(book, ident).batch
        if batch.plans or batch.state != "planning":
            break
        if deadline is not None and time.monotonic() > deadline:
            return None
        time.sleep(LOOK_SECONDS)
    try:
        return Plan.model_validate_json(book.filling_of(ident))
    except ValidationError:
        return None  # a list, or nothing: it was cancelled before, or no plan could be made
