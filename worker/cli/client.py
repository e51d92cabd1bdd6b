"""What the commands that talk to a running vmrelay share: enqueue, wait, show."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import click
import redis

from worker.contract import SCHEDULER_QUEUE
from worker.errors import Unavailable
from worker.journal import Journal, Record
from worker.runtime import runtime

ACCEPT_SECONDS = 10.0
"""How long a command waits for a scheduler to accept or reject what it enqueued."""

output = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to show it."
)

Listener = Callable[[str, dict[str, Any]], None]


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
    """Send a task by name, as any application would; returns its id."""
    from worker.app import app

    ident = ident or str(uuid.uuid4())
    app.send_task(task, kwargs=arguments, task_id=ident, queue=SCHEDULER_QUEUE)
    return ident


def await_record(ident: str, seconds: float = ACCEPT_SECONDS) -> Record | None:
    """The record of an enqueued migration, once a scheduler has accepted or rejected it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        record = journal().record(ident)
        if record:
            return record
        time.sleep(0.02)
    return None


def follow(ident: str, listener: Listener, seconds: float | None) -> Record | None:
    """Hand a migration's events to ``listener`` until it ended or is in doubt; ``None`` on time-out."""
    book, after = journal(), "0"
    deadline = time.monotonic() + seconds if seconds is not None else None
    while True:
        left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
        if left <= 0:
            return None
        for at, kind, data in book.events(ident, after, left):
            after = at
            listener(kind, data)
        record = book.record(ident)
        if record is None or record.state in ("ended", "in-doubt"):
            for _, kind, data in book.events(ident, after):
                listener(kind, data)
            return record


def as_json(document: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, default=str))


def line_of(kind: str, data: dict[str, Any]) -> str | None:
    """An event in words; ``None`` for those that only programs want."""
    where = f"{data.get('phase', '')} on {data.get('host', '')}"
    match kind:
        case "accepted":
            return f"accepted: {data['domain']} from {data['source']} to {data['destination']}"
        case "started":
            return f"attempt {data['attempt']}"
        case "phase":
            return f"{where} …"
        case "phase-ended":
            seconds = f"{data['seconds']:.3f} s"
            return f"{where} failed after {seconds}: {data['message']}" if data.get("error") else f"{where} {seconds}"
        case "retry":
            return f"{where}: {data['message']}; retry {data['number']} in {data['delay_seconds']:.1f} s"
        case "backoff":
            return f"attempt {data['attempt']} failed ({data['code']}); the next in {data['delay_seconds']:.1f} s"
        case "progress":
            return f"{data['percent']} %"
        case "cancel":
            return f"cancel asked for{' by ' + data['by'] if data.get('by') else ''}"
        case "in-doubt":
            return f"in doubt: {data['why']}"
        case "republished":
            return f"{data['phase']} sent again"
        case "ended":
            return f"{data['outcome']}{': ' + data['error'] if data.get('error') else ''}"
        case _:
            return None
