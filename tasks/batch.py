"""The tasks that make a batch, and the one with which an operator steers it."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Task, states
from celery.exceptions import Ignore

from tasks import bulk
from tasks.migrate import EntryTask
from tasks.watch import patiently
from worker import trace
from worker.app import app
from worker.contract import (
    BATCH,
    CONTROL,
    DRAIN,
    IDENT,
    REBALANCE,
    RETURN,
    BatchRequest,
    ControlRequest,
    DrainRequest,
    RebalanceRequest,
    ReturnRequest,
)
from worker.errors import Rejected, RelayError
from worker.runtime import Runtime, runtime

logger = structlog.get_logger(__name__)


def _begin(task: Task[..., Any], model: type[bulk.Request], args: tuple[object, ...], kwargs: dict[str, Any]) -> None:
    """Journal a batch. ``AsyncResult`` of its id shows how far it is, and in the end its receipt.

    A task of another id gets ``{"batch", "answer", "state"}`` at once.
    """
    parts, asked = runtime(), str(task.request.id)
    try:
        request = model.parse(trace.adopted(_by_name(task, args, kwargs)))
        ident = _ident(request.batch or asked)
        answer, state = patiently(bulk.begin, parts, ident, request)
    except Rejected as refusal:
        logger.info("rejected", batch=str(kwargs.get("batch") or asked)[:128], code=refusal.code)
        if patiently(_is_known, parts, asked):
            raise Ignore from None  # what the id of a batch or a migration shows is not another request's to tell
        raise refusal.with_code() from None
    if ident != asked:
        told = {"batch": ident, "answer": answer, "state": state}
        patiently(app.backend.store_result, asked, told, states.SUCCESS)


def _is_known(parts: Runtime, ident: str) -> bool:
    if not IDENT.fullmatch(ident):  # might name other keys
        return False
    return parts.journal.batch(ident) is not None or parts.journal.record(ident) is not None


def _by_name(task: Task[..., Any], args: tuple[object, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if args:
        raise Rejected(f"the arguments of {task.name} are given by name", code="malformed")
    return kwargs


def _ident(ident: str) -> str:
    if not IDENT.fullmatch(ident):
        raise Rejected("a batch's id is letters, digits, '.', '_' and '-'", code="malformed")
    return ident


@app.task(bind=True, base=EntryTask, name=BATCH, typing=False, throws=(RelayError,))
def batch(self: Task[..., Any], /, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - checked by the model
    """Carry out a list of moves or a plan; arguments are the fields of ``BatchRequest``."""
    _begin(self, BatchRequest, args, kwargs)


@app.task(bind=True, base=EntryTask, name=REBALANCE, typing=False, throws=(RelayError,))
def rebalance(self: Task[..., Any], /, *args: object, **kwargs: Any) -> None:  # noqa: ANN401
    """Plan on live loads, and move; arguments are the fields of ``RebalanceRequest``."""
    _begin(self, RebalanceRequest, args, kwargs)


@app.task(bind=True, base=EntryTask, name=DRAIN, typing=False, throws=(RelayError,))
def drain(self: Task[..., Any], /, *args: object, **kwargs: Any) -> None:  # noqa: ANN401
    """Cordon hosts and move everything away that can be moved; arguments are the fields of ``DrainRequest``."""
    _begin(self, DrainRequest, args, kwargs)


@app.task(bind=True, base=EntryTask, name=RETURN, typing=False, throws=(RelayError,))
def return_(self: Task[..., Any], /, *args: object, **kwargs: Any) -> None:  # noqa: ANN401
    """Uncordon hosts and bring back what drains took away; arguments are the fields of ``ReturnRequest``."""
    _begin(self, ReturnRequest, args, kwargs)


@app.task(bind=True, name=CONTROL, typing=False, ignore_result=False, throws=(RelayError,))
def control(self: Task[..., Any], /, *args: object, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401
    """Pause, resume, cancel or retry a batch; arguments are the fields of ``ControlRequest``.

    Answers ``{"batch", "answer", "state"}`` with ``ok``, ``same`` (it is so already), ``over`` (too late: it is being
    cancelled or has finished; or a retry too early: what was planned is asked anew once it has finished) or ``none``
    (nothing of it failed).
    """
    try:
        request = ControlRequest.parse(_by_name(self, args, kwargs))
        answer, state = _controlled(request, str(self.request.id))
    except Rejected as refusal:
        raise refusal.with_code() from None
    logger.info(request.action, batch=request.batch, answer=answer, state=state, by=request.requested_by)
    return {"batch": request.batch, "answer": answer, "state": state}


def _controlled(request: ControlRequest, message: str) -> tuple[str, str]:
    control = runtime().journal.control_batch
    answer, state = patiently(control, request.batch, request.action, request.abort, request.requested_by, message)
    if answer == "GONE":
        raise Rejected(f"unknown batch '{request.batch[:80]}'; see 'vmrelay batch list'", code="unknown-batch")
    return answer.lower(), state
