"""The tasks that a web application enqueues: migrate and cancel."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Task
from celery.exceptions import Ignore
from celery.worker.request import Request

from tasks import admission, results
from tasks.watch import patiently
from worker import trace
from worker.app import app
from worker.contract import CANCEL, IDENT, MIGRATE, CancelRequest, MigrateRequest
from worker.contract.idempotency import fingerprint
from worker.errors import Rejected, RelayError
from worker.journal import Record
from worker.runtime import Runtime, runtime
from worker.seal import DOCUMENTS

logger = structlog.get_logger(__name__)


class Entry(Request):
    """The entry task's request: accepting is not succeeding, so Flower is not told that it succeeded."""

    def __init__(self, message: Any, *, headers: dict[str, Any] | None = None, **more: Any) -> None:  # noqa: ANN401
        # Senders with Celery 5.3 to 5.6 say false where nobody asked them, and a worker obeys: under the migration's id
        # their AsyncResult would get this task's own result, SUCCESS and nothing, before the migration has begun.
        told: dict[str, Any] = {**(message.headers if headers is None else headers), "ignore_result": True}
        super().__init__(message, headers=told, **more)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: ANN401 - Celery's own signature
        """Send a task event, unless it is the one that belongs to the last phase."""
        if type != "task-succeeded":
            super().send_event(type, **fields)

    @property
    def kwargsrepr(self) -> str:
        """The arguments as events show them; a definition among them may hold passwords."""
        shown: str = super().kwargsrepr
        return "(hidden: a domain definition)" if any(name in shown for name in DOCUMENTS) else shown


class EntryTask(Task[..., Any]):
    """A task that hands its id on: it stores no result of its own but a refusal."""

    Request = f"{__name__}:Entry"
    ignore_result = True
    store_errors_even_if_ignored = True


@app.task(bind=True, base=EntryTask, name=MIGRATE, typing=False, throws=(RelayError,))
def migrate(self: Task[..., Any], /, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - checked by the model
    """Migrate a domain; arguments are the fields of ``MigrateRequest``.

    The last task of the chain carries this task's id, so ``AsyncResult(id)`` shows progress and then the
    outcome; of this task it only ever shows ``Rejected``, raised here for a refused request.
    """
    parts = runtime()
    ident, request = _ident(parts, self.request.id), None
    try:
        request = MigrateRequest.parse(trace.adopted(_by_name(args, kwargs)))
        record = patiently(admission.resolved, parts, ident, request)
        patiently(admission.submit, parts, record)
    except Rejected as refusal:
        rejected = patiently(_refuse, parts, ident, kwargs, request, refusal)
        if rejected is None:
            # A second message under the id of a migration that goes its way: the outcome is not this one's to tell.
            raise Ignore from None
        results.deliver(parts.journal, rejected)


def _ident(parts: Runtime, ident: object) -> str:
    """The id of a task, which no record is kept for where it could name somebody else's keys."""
    if not isinstance(ident, str) or not IDENT.fullmatch(ident):
        patiently(parts.journal.count_outcome, "", "", "rejected", "malformed")
        raise Rejected("a migration's id is letters, digits, '.', '_' and '-', at most 128", code="malformed")
    return ident


def _by_name(args: tuple[object, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if args:
        raise Rejected("the arguments of vmrelay.v1.migrate are given by name", code="malformed")
    return kwargs


def _refuse(
    parts: Runtime, ident: str, asked: dict[str, Any], request: MigrateRequest | None, refusal: Rejected
) -> Record | None:
    """Record and count a rejected request, once: its record, or ``None`` where its id is that of something else."""
    fields: dict[str, str | int | float | None] = {
        name: _clean(asked[name], 255)
        for name in ("domain", "source", "destination", "requested_by")
        if isinstance(asked.get(name), str)
    }
    text = _clean(refusal.message, 2000)
    fields |= {"reason": refusal.code, "error": text, "driver": refusal.driver, "flags_label": refusal.flags}
    fields["traceparent"] = request.traceparent if request else None
    mine = fields["fingerprint"] = fingerprint(request) if request else None
    told = {"outcome": "rejected", "reason": refusal.code, "error": text}
    if parts.journal.refuse(ident, fields, parts.settings.keep_seconds, told):
        logger.info("rejected", migration=ident, code=refusal.code)
    known = parts.journal.record(ident)
    if known is None or (mine and known.fingerprint and mine != known.fingerprint):
        admission.tell_apart(ident, str(fields.get("requested_by", "")))
        return None
    return known if known.outcome == "rejected" else None


def _clean(text: str, most: int) -> str:
    """A beginning of text that Redis can hold: JSON can carry halves of characters."""
    return text[:most].encode("utf-8", "replace").decode("utf-8")


@app.task(bind=True, name=CANCEL, typing=False, ignore_result=False, throws=(RelayError,))
def cancel(self: Task[..., Any], /, *args: object, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401
    """Cancel a migration: ``migration`` is its id, ``requested_by`` who asks.

    One that waits ends at once; a running one stops at its next look, and its outcome says what became
    of it. Answers ``{"migration", "answer", "detail"}`` with ``ended``, ``asked``, ``too-late`` (perform went
    well: the guest has left, nothing is written) or ``over``.
    """
    try:
        request = CancelRequest.parse({"": "by place"} if args else kwargs)
    except Rejected:
        raise Rejected(
            "vmrelay.v1.cancel takes migration (its id) and requested_by", code="malformed"
        ).with_code() from None
    parts, ident = runtime(), request.migration
    answer, detail = patiently(
        parts.journal.cancel, ident, _clean(request.requested_by, 200), parts.settings.keep_seconds
    )
    if answer == "GONE":
        raise Rejected(f"unknown migration '{ident[:80]}'", code="unknown-migration").with_code()
    if answer == "ENDED" and (record := parts.journal.record(ident)):
        results.store(parts.journal, record)
    return {"migration": ident, "answer": answer.lower(), "detail": detail}
