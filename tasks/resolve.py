"""The tasks with which an operator brings a migration to an end, or asks for it again: resolve and retry."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import structlog
from celery import Task

from tasks import admission, reconcile
from tasks.watch import patiently
from worker import trace
from worker.app import app
from worker.contract import RECOVER, RESOLVE, RETRY, Baton, MigrateRequest, ResolveRequest, RetryRequest
from worker.errors import Rejected, RelayError
from worker.hypervisors.convergence import Convergence
from worker.journal import Record
from worker.runtime import Runtime, runtime
from worker.seal import DOCUMENTS, load_key, open_documents

logger = structlog.get_logger(__name__)

MOST_ATTEMPTS = 20
"""As ``MigrateRequest.attempts`` has it."""
Agents = Mapping[str, Mapping[str, Any]]


@app.task(bind=True, name=RESOLVE, typing=False, ignore_result=False, throws=(RelayError,))
def resolve(self: Task[..., Any], /, *args: object, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401
    """Look at both hosts of a migration again, and end it; arguments are the fields of ``ResolveRequest``.

    Answers ``{"migration", "answer": "looking"}``; its events tell what was seen and done.
    """
    try:
        return _resolve(runtime(), ResolveRequest.parse(_by_name(RESOLVE, args, kwargs)))
    except Rejected as refusal:
        raise refusal.with_code() from None


@app.task(bind=True, name=RETRY, typing=False, ignore_result=False, throws=(RelayError,))
def retry(self: Task[..., Any], /, *args: object, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401
    """Ask again for a migration that did not succeed; arguments are the fields of ``RetryRequest``.

    Answers ``{"migration", "answer"}``: ``asked`` with the id of the new migration, or ``hastened`` where the same
    one had its next attempt before it, which may start at once now.
    """
    try:
        # From the task's own id: a retry that is sent twice is one migration.
        ident = str(uuid.uuid5(uuid.NAMESPACE_OID, str(self.request.id)))
        return _retry(runtime(), RetryRequest.parse(trace.adopted(_by_name(RETRY, args, kwargs))), ident)
    except Rejected as refusal:
        raise refusal.with_code() from None


def _by_name(task: str, args: tuple[object, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if args:
        raise Rejected(f"the arguments of {task} are given by name", code="malformed")
    return kwargs


def _record(parts: Runtime, ident: str) -> Record:
    record = patiently(parts.journal.record, ident)
    if record is None:
        raise Rejected(f"unknown migration '{ident[:80]}'; see 'vmrelay list'", code="unknown-migration")
    return record


# -- resolve --------------------------------------------------------------------------------------


def _resolve(parts: Runtime, request: ResolveRequest) -> dict[str, str]:
    record = _record(parts, request.migration)
    alive = patiently(parts.journal.agents, parts.inventory)
    refuse_resolving(record, alive, request.assume_dead)
    dead = [request.assume_dead] if request.assume_dead else []
    if dead:
        _refuse_both_dead(parts, record, dead[0], alive)
    by = request.requested_by or "an operator"
    why = f"{by} asked for it"
    if not patiently(reconcile.start, parts.journal, parts.inventory, record, why, dead, by):
        raise Rejected(
            f"migration {record.id} has gone on meanwhile, or cannot be recovered; see 'vmrelay status {record.id}'",
            code="goes-on",
        )
    return {"migration": record.id, "answer": "looking"}


def refuse_resolving(record: Record, alive: Agents, dead: str | None = None) -> None:
    """Raises ``Rejected`` where there is nothing to resolve, or where ``dead`` is not what it is said to be."""
    if record.state == "ended":
        raise Rejected(f"migration {record.id} is over: {record.outcome}", code="over")
    if record.state not in ("active", "in-doubt"):
        raise Rejected(
            f"migration {record.id} waits to be started: nothing is to be resolved; cancel it, or let it wait",
            code="not-started",
        )
    if dead is not None:
        _refuse_dead(record, dead, alive)
    if goes_on(record, alive, dead) and (dead is None or record.phase != RECOVER):
        raise Rejected(
            f"migration {record.id} goes on by itself: {record.phase} is {record.step} on {_where(record)}, whose "
            f"agent is up; see 'vmrelay watch {record.id}'",
            code="goes-on",
        )


def goes_on(record: Record, alive: Agents, dead: str | None = None) -> bool:
    """Whether a living agent carries the attempt on, or will as soon as it gets to it."""
    where = _where(record)
    if record.state != "active" or record.waiting or where == dead:
        return False
    card = alive.get(where)
    return card is not None and (record.step != "running" or record.incarnation in ("", card["incarnation"]))


def _where(record: Record) -> str:
    """The host whose agent has the phase, or is to take it."""
    return record.owner if record.step == "running" else record.host


def _refuse_dead(record: Record, dead: str, alive: Agents) -> None:
    if dead not in (record.source, record.destination):
        raise Rejected(
            f"migration {record.id} is between {record.source} and {record.destination}, not {dead[:80]}",
            code="not-its-host",
        )
    card = alive.get(dead)
    if card is not None and card.get("answers", True):
        raise Rejected(
            f"{dead} is not dead: its agent is up, and its hypervisor answers; leave out what is assumed, and {dead} "
            "is looked at",
            code="host-alive",
        )


def _refuse_both_dead(parts: Runtime, record: Record, dead: str, alive: Agents) -> None:
    """With nobody left to look, nothing can be found out, or done."""
    other = record.destination if dead == record.source else record.source
    baton = patiently(parts.journal.baton, record.id)
    known = Baton.model_validate_json(baton).recovery if baton else None
    if other not in alive and known is not None and other in known.dead:
        raise Rejected(
            f"{other} was assumed dead before, and its agent is away: with both hosts dead nothing can be done about "
            f"{record.domain}; bring one of them back",
            code="both-dead",
        )


# -- retry ----------------------------------------------------------------------------------------


def _retry(parts: Runtime, request: RetryRequest, ident: str) -> dict[str, str]:
    record = _record(parts, request.migration)
    if record.state == "backoff":
        return _hasten(parts, record, request.requested_by)
    refuse_retrying(record)
    traced = {"traceparent": request.traceparent} if request.traceparent else {}
    again = MigrateRequest.parse(asked_again(parts, record, request.requested_by) | traced)
    patiently(admission.submit, parts, patiently(admission.resolved, parts, ident, again))
    logger.info("asked again", migration=ident, after=record.id)
    return {"migration": ident, "answer": "asked"}


def _hasten(parts: Runtime, record: Record, by: str) -> dict[str, str]:
    answer, state = patiently(parts.journal.hasten, record.id, {"by": by})
    if answer == "STALE":
        raise Rejected(f"migration {record.id} has gone on meanwhile: it is {state}", code="goes-on")
    return {"migration": record.id, "answer": "hastened"}


def refuse_retrying(record: Record) -> None:
    """Raises ``Rejected`` for a migration that need not, or must not, be asked for again."""
    match record.state, record.outcome:
        case "in-doubt", _:
            raise Rejected(
                f"migration {record.id} is in doubt: find out where {record.domain} is first, with 'vmrelay resolve "
                f"{record.id}'",
                code="in-doubt",
            )
        case "ended", "failed" | "cancelled":
            return
        case "ended", "succeeded":
            raise Rejected(f"migration {record.id} has succeeded: {record.domain} moved", code="over")
        case "ended", _:
            raise Rejected(
                f"migration {record.id} was {record.outcome}; mend the request, and ask with 'vmrelay migrate'",
                code="over",
            )
    raise Rejected(f"migration {record.id} is not over: it is {record.phase or record.state}", code="goes-on")


def asked_again(parts: Runtime, record: Record, by: str) -> dict[str, Any]:
    """The request of a record, as its author could have written it: flags as one set, which takes no defaults.

    What the settings decided then they decide again. Raises ``Rejected`` where a sealed definition does not open.
    """
    before = f"again after {record.id}"
    document: dict[str, Any] = {
        # By uuid: another domain may have its name by now.
        "domain": record.uuid,
        "destination": record.destination,
        "flags": record.flags,
        "params": _params(parts, record),
        "attempts": min(record.attempts_allowed, MOST_ATTEMPTS),
        "requested_by": by,
        "reason": f"{before}: {record.request_reason}"[:500] if record.request_reason else before,
    }
    if record.deadline_seconds not in (None, parts.settings.perform_deadline_seconds):
        document["deadline_seconds"] = record.deadline_seconds
    return document | _steering(parts, record)


def _steering(parts: Runtime, record: Record) -> dict[str, Any]:
    """What of the convergence the request had asked for."""
    asked, defaults = asdict(record.convergence), asdict(Convergence(on_stall=parts.settings.stall.action))
    wished = {name: value for name, value in asked.items() if value != defaults[name]}
    if record.convergence.timeout_seconds is not None:
        wished["on_timeout"] = record.convergence.on_timeout
    return wished


def _params(parts: Runtime, record: Record) -> dict[str, Any]:
    if not any(name in record.params for name in DOCUMENTS):
        return dict(record.params)
    try:
        return dict(open_documents(load_key(parts.settings.key_file), record.params, record.id))
    except RelayError as closed_for_us:
        logger.warning("definition not opened", migration=record.id, error=str(closed_for_us))
        raise Rejected(
            f"the definition that {record.id} was given is kept sealed, and the scheduler cannot open it: ask with "
            "'vmrelay migrate' and give it again, or give the scheduler the agents' seal_key_file",
            code="no-seal-key",
        ) from None
