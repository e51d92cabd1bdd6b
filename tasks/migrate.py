"""The tasks that a web application enqueues: migrate and cancel."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Task
from celery.exceptions import Ignore

from tasks import admission
from worker import metrics
from worker.app import app
from worker.contract import CANCEL, MIGRATE, MigrateRequest
from worker.errors import Cancelled, Rejected, RelayError
from worker.runtime import Runtime, runtime

logger = structlog.get_logger(__name__)


@app.task(bind=True, name=MIGRATE, typing=False, ignore_result=False, throws=(RelayError,))
def migrate(self: Task[..., Any], /, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - checked by the model
    """Migrate a domain; arguments are the fields of ``MigrateRequest``.

    This task ends with ``Ignore``: the last task of the chain carries its id, so ``AsyncResult(id)`` shows
    progress and then the outcome. A refused request raises ``Rejected`` here.
    """
    parts, ident = runtime(), str(self.request.id)
    try:
        record = admission.resolved(parts, ident, MigrateRequest.parse(_by_name(args, kwargs)))
        admission.submit(parts, record)
    except Rejected as refusal:
        _refuse(parts, ident, kwargs, refusal)
        raise
    raise Ignore


def _by_name(args: tuple[object, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if args:
        raise Rejected("the arguments of vmrelay.v1.migrate are given by name", code="malformed")
    return kwargs


def _refuse(parts: Runtime, ident: str, asked: dict[str, Any], refusal: Rejected) -> None:
    """Record and count a rejected request, once."""
    fields: dict[str, str | int | float | None] = {
        name: asked[name][:255]
        for name in ("domain", "source", "destination", "requested_by")
        if isinstance(asked.get(name), str)
    }
    fields |= {"reason": refusal.code, "error": refusal.message}
    told = {"outcome": "rejected", "reason": refusal.code, "error": refusal.message}
    if parts.journal.refuse(ident, fields, parts.settings.keep_seconds, told):
        metrics.record_end("", "", "rejected", refusal.code)
        logger.info("rejected", migration=ident, code=refusal.code)


@app.task(bind=True, name=CANCEL, typing=False, ignore_result=False, throws=(RelayError,))
def cancel(self: Task[..., Any], /, *args: object, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401
    """Cancel a migration: ``migration`` is its id, ``requested_by`` who asks.

    One that waits ends at once; a running one stops at its next look, and its outcome says what became
    of it. Answers ``{"migration", "answer"}`` with ``ended``, ``asked`` or ``over``.
    """
    ident, by = kwargs.pop("migration", None), kwargs.pop("requested_by", "")
    if args or kwargs or not isinstance(ident, str) or not isinstance(by, str):
        raise Rejected("vmrelay.v1.cancel takes migration (its id) and requested_by", code="malformed")
    parts = runtime()
    answer, detail = parts.journal.cancel(ident, by[:200], parts.settings.keep_seconds)
    if answer == "GONE":
        raise Rejected(f"unknown migration '{ident[:80]}'", code="unknown-migration")
    if answer == "ENDED":
        _count_cancelled(parts, ident)
    return {"migration": ident, "answer": answer.lower(), "detail": detail}


def _count_cancelled(parts: Runtime, ident: str) -> None:
    record = parts.journal.record(ident)
    if record is not None:
        metrics.record_end(record.driver, record.flags_label, "cancelled", "cancelled")
    app.backend.mark_as_failure(ident, Cancelled("cancelled before it started"))
