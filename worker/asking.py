"""Ask the relay for something as any application would: a task by name. Shared by the command and the web API."""

from __future__ import annotations

import re
import time
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

import redis

from worker.contract import SCHEDULER_QUEUE
from worker.errors import Rejected, Unavailable
from worker.journal import Journal, Record
from worker.journal.trouble import Trouble, trouble

if TYPE_CHECKING:
    from celery import Celery

ACCEPT_SECONDS = 10.0
"""How long is waited for a scheduler to accept or reject what was enqueued."""
BRIEFLY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
"""How often enqueuing is tried: somebody waits, and can ask again."""


def enqueue(task: str, arguments: dict[str, Any], ident: str | None = None, by: Celery | None = None) -> str:
    """Send a task by name; returns its id. Raises ``Unavailable`` where Redis refuses it.

    ``by`` is the application that sends; one for the settings of this process where not given.
    """
    from kombu.exceptions import KombuError

    ident = ident or str(uuid.uuid4())
    try:
        (by or _sender()).send_task(task, kwargs=arguments, task_id=ident, queue=SCHEDULER_QUEUE, retry_policy=BRIEFLY)
    except (redis.RedisError, KombuError) as lost:
        raise _refused(lost) from None
    return ident


@cache
def _sender() -> Celery:
    from worker.app import create_app
    from worker.settings import current

    return create_app(current(), answers=False)


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


def ask(task: str, arguments: dict[str, Any], seconds: float = ACCEPT_SECONDS) -> dict[str, Any]:
    """Send a task that answers at once, and return its answer.

    Raises ``Rejected`` with the code that the scheduler gave, and ``Unavailable`` where none answers.
    """
    from celery.exceptions import TimeoutError as Late

    from worker.app import app

    try:
        answer: dict[str, Any] = app.AsyncResult(enqueue(task, arguments)).get(timeout=seconds)
    except Late:
        raise Unavailable("no scheduler has taken the request; is one running? (vmrelay doctor)") from None
    except Rejected as refusal:
        raise refusal_of(refusal) from None
    return answer


def refusal_of(raised: object) -> Rejected:
    """What a task refused with: of an exception only its text travels, and that ends with its code."""
    found = re.fullmatch(r"(.*) \[([\w-]+)\]", str(raised), re.DOTALL)
    return Rejected(found[1], code=found[2]) if found else Rejected(str(raised))


def refuse_control(action: str, ident: str, answer: str, state: str) -> None:
    """Raises ``Rejected`` where a batch is no longer, or not yet, what this can be asked of. Pure."""
    if answer == "none":
        raise Rejected(f"nothing of batch {ident} failed", code="nothing-failed")
    if answer == "over" and action == "retry":
        raise Rejected(
            f"batch {ident} is {state}; what failed is asked for again once it has finished", code="not-over"
        )
    if answer == "over":
        raise Rejected(f"batch {ident} is {state}; it is too late to {action} it", code="over")


def await_record(journal: Journal, ident: str, seconds: float = ACCEPT_SECONDS) -> Record | None:
    """The record of an enqueued migration, once a scheduler has accepted or rejected it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        record = journal.record(ident)
        if record:
            return record
        time.sleep(0.02)
    return None
