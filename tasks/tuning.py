"""The task with which an operator changes a running perform: ``vmrelay.v1.tune``."""

from __future__ import annotations

import json
import uuid
from typing import Any

import structlog
from celery import Task

from tasks.watch import patiently
from worker import metrics
from worker.app import app
from worker.contract import IDENT, TUNE, TuneRequest
from worker.errors import Rejected, RelayError
from worker.hypervisors.convergence import TuningKind
from worker.hypervisors.flags import MigrateFlag
from worker.journal import Record
from worker.runtime import runtime

logger = structlog.get_logger(__name__)


@app.task(bind=True, name=TUNE, typing=False, ignore_result=False, throws=(RelayError,))
def tune(self: Task[..., Any], /, *args: object, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401
    """Ask something of a perform that runs now; arguments are the fields of ``TuneRequest``.

    Answers ``{"migration", "tuning", "answer": "asked"}``; the event ``tuned`` tells what became of it.
    """
    try:
        # The task's own id: a wish that is sent twice is one wish.
        ident = str(self.request.id) if IDENT.fullmatch(self.request.id or "") else uuid.uuid4().hex
        return _asked(args, kwargs, ident)
    except Rejected as refusal:
        raise refusal.with_code() from None


def _asked(args: tuple[object, ...], kwargs: dict[str, Any], ident: str) -> dict[str, str]:
    if args:
        raise Rejected(f"the arguments of {TUNE} are given by name", code="malformed")
    request = TuneRequest.parse(kwargs)
    record = patiently(runtime().journal.record, request.migration)
    if record is None:
        raise _unknown(request.migration)
    try:
        refuse_tuning(record, request.kind)
        _ask(request, ident)
    except Rejected:
        metrics.tunings.labels(record.driver, request.kind, "refused").inc()
        raise
    return {"migration": request.migration, "tuning": ident, "answer": "asked"}


def refuse_tuning(record: Record, kind: TuningKind) -> None:
    """Raises ``Rejected`` where the record says that this cannot be done."""
    if record.state == "ended":
        raise _over(record.id, record.outcome)
    if record.driver != "qemu":
        raise Rejected(
            f"driver {record.driver} cannot change a running perform: the Virtuozzo SDK has no call for it; "
            f"cancel migration {record.id}, or let it go on",
            code="not-supported",
        )
    if kind is TuningKind.POSTCOPY and not record.flags & MigrateFlag.POSTCOPY:
        raise Rejected(
            f"migration {record.id} was started without POSTCOPY and cannot switch to it; "
            "cancel it and ask again with --postcopy",
            code="needs-postcopy",
        )


def _ask(request: TuneRequest, ident: str) -> None:
    wish = {
        "tuning": ident,
        "kind": request.kind,
        "value": request.value,
        "requested_by": request.requested_by,
    }
    answer, *details = patiently(runtime().journal.tune, request.migration, json.dumps(wish))
    match answer:
        case "GONE":
            raise _unknown(request.migration)
        case "OVER":
            raise _over(request.migration, details[0])
        case "IDLE":
            raise Rejected(
                f"migration {request.migration} does not perform now: {where(*details)}; try again while it performs",
                code="not-running",
            )
        case "FULL":
            raise Rejected(
                f"migration {request.migration} has too many tunings waiting; wait until they are done",
                code="too-many-tunings",
            )
    logger.info("tuning asked for", migration=request.migration, kind=request.kind, value=request.value)


def where(state: str, phase: str, step: str) -> str:
    """What a migration does instead of performing, in words."""
    if state != "active":
        return f"it is {state}"
    return f"{phase} is {step}"


def _unknown(ident: str) -> Rejected:
    return Rejected(f"unknown migration '{ident[:80]}'; see 'vmrelay list'", code="unknown-migration")


def _over(ident: str, outcome: str) -> Rejected:
    return Rejected(f"migration {ident} is over: {outcome}", code="over")
