"""What the commands that talk to a running vmrelay share: enqueue, wait, show."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import redis

from worker.cli import words
from worker.contract import SCHEDULER_QUEUE
from worker.errors import Rejected, Unavailable
from worker.journal import Journal, Record
from worker.journal.trouble import Trouble, trouble
from worker.runtime import runtime

if TYPE_CHECKING:
    from rich.console import RenderableType

ACCEPT_SECONDS = 10.0
"""How long a command waits for a scheduler to accept or reject what it enqueued."""
BRIEFLY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
"""How often a command tries to enqueue: somebody waits, and can ask again."""

output = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to show it."
)

LINE = 10_000
"""Longer than any row of a table."""
Listener = Callable[[str, dict[str, Any]], None]
line_of = words.line_of


def journal() -> Journal:
    """The journal of the configured Redis. Raises ``Unavailable`` where that does not answer."""
    found = runtime().journal
    try:
        found.client.ping()
    except redis.RedisError as lost:
        raise Unavailable(
            f"Redis does not answer ({lost}); start 'vmrelay up' or set VMRELAY_REDIS_URL", code="redis-unavailable"
        ) from None
    return found


def enqueue(task: str, arguments: dict[str, Any], ident: str | None = None) -> str:
    """Send a task by name, as any application would; returns its id. Raises ``Unavailable`` where Redis refuses it."""
    from kombu.exceptions import KombuError

    from worker.app import app

    ident = ident or str(uuid.uuid4())
    try:
        app.send_task(task, kwargs=arguments, task_id=ident, queue=SCHEDULER_QUEUE, retry_policy=BRIEFLY)
    except (redis.RedisError, KombuError) as lost:
        raise _refused(lost) from None
    return ident


def _refused(lost: Exception) -> Unavailable:
    """The error for a request that Redis did not take; kombu wraps what redis-py raised."""
    why = trouble(lost) or trouble(lost.__cause__ or lost)
    if why is Trouble.FULL:
        return Unavailable(
            "Redis is full (maxmemory) and takes no new requests; those under way go on. Give it memory, "
            "or lower keep_seconds, and ask again",
            code=why,
        )
    return Unavailable(f"Redis did not take the request ({lost}); see 'vmrelay doctor'", code=why or Trouble.AWAY)


def ask(task: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Send a task that answers at once, and return its answer.

    Raises ``Rejected`` with the code that the scheduler gave, and ``Unavailable`` where none answers.
    """
    from celery.exceptions import TimeoutError as Late

    from worker.app import app

    try:
        answer: dict[str, Any] = app.AsyncResult(enqueue(task, arguments)).get(timeout=ACCEPT_SECONDS)
    except Late:
        raise Unavailable("no scheduler has taken the request; is one running? (vmrelay doctor)") from None
    except Rejected as refusal:
        raise refusal_of(refusal) from None
    return answer


def refusal_of(raised: object) -> Rejected:
    """What a task refused with: of an exception only its text travels, and that ends with its code."""
    found = re.fullmatch(r"(.*) \[([\w-]+)\]", str(raised), re.DOTALL)
    return Rejected(found[1], code=found[2]) if found else Rejected(str(raised))


def await_record(ident: str, seconds: float = ACCEPT_SECONDS) -> Record | None:
    """The record of an enqueued migration, once a scheduler has accepted or rejected it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        record = journal().record(ident)
        if record:
            return record
        time.sleep(0.02)
    return None


def is_over(record: Record) -> bool:
    """Whether nothing more happens to a migration by itself."""
    return record.state in ("ended", "in-doubt")


def follow(
    ident: str,
    listener: Listener,
    seconds: float | None,
    look: Callable[[Record], None] | None = None,
    *,
    after: str = "0",
    over: Callable[[Record], bool] = is_over,
) -> Record | None:
    """Hand a migration's events (those after ``after``) to ``listener`` until it is over; ``None`` on time-out.

    ``look`` gets the record itself, at least once a second.
    """
    book = journal()
    deadline = time.monotonic() + seconds if seconds is not None else None
    while True:
        left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
        if left <= 0:
            return None
        for at, kind, data in book.events(ident, after, left):
            after = at
            listener(kind, data)
        record = book.record(ident)
        if record is None or over(record):
            for _, kind, data in book.events(ident, after):
                listener(kind, data)
            return record
        if look is not None:
            look(record)


def show_table(table: RenderableType) -> None:
    """A table on standard output: as wide as a terminal, and whole, a line for each row, where a program reads it."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    whole = Console(width=LINE, color_system=None)
    with whole.capture() as text:
        whole.print(table)
    click.echo("\n".join(line.rstrip() for line in text.get().splitlines()))


def as_json(document: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, default=str))
