"""The tasks that begin a roll, let it go on, and cancel it: ``vmrelay.v1.roll`` and ``vmrelay.v1.roll.control``."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Task

from tasks.hosts import by_name, refuse_drain, refuse_uncordon
from tasks.rolling import Step, going_back, take
from tasks.watch import patiently
from worker import trace
from worker.app import app
from worker.contract import IDENT, ROLL, ROLL_CONTROL, RollControlRequest, RollRequest
from worker.errors import Rejected, RelayError
from worker.journal.rolls import Roll, batch_of
from worker.runtime import Runtime, runtime

logger = structlog.get_logger(__name__)

LONGEST = 96
"""Of the id of a roll's batch: numbers of moves and of tries are put behind it."""
COLLISIONS = 20
"""So often a step is tried again that another one overtook."""


@app.task(bind=True, name=ROLL, typing=False, ignore_result=False, throws=(RelayError,))
def roll(self: Task[..., Any], /, *args: object, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
    """Drain hosts one after the other, wait for each, return its guests; arguments are those of ``RollRequest``.

    Answers ``{"roll", "answer"}`` at once: ``begun``, or ``same`` where there is a roll with this id already.
    """
    try:
        request = RollRequest.parse(trace.adopted(by_name(ROLL, args, kwargs)))
        return patiently(_begun, runtime(), request.batch or str(self.request.id), request)
    except Rejected as refusal:
        raise refusal.with_code() from None


def _begun(parts: Runtime, ident: str, request: RollRequest) -> dict[str, Any]:
    hosts = tuple(dict.fromkeys(request.hosts))
    if not IDENT.fullmatch(ident) or any(len(batch_of(ident, "return", host, 99)) > LONGEST for host in hosts):
        raise Rejected("a roll's id is letters, digits, '.', '_' and '-', and short: its batches are named after it",
                       code="malformed")  # fmt: skip
    if known := parts.journal.roll(ident):
        # What speaks against a roll that is there already is not asked: its own drain would.
        if known.hosts != hosts:
            raise Rejected(f"'{ident}' is a roll over {', '.join(known.hosts)}; choose another id", code="roll-exists")
        return {"roll": ident, "answer": "same"}
    for host in map(parts.inventory.host, hosts):
        refuse_drain(parts, [host.name])
        if host.settings.cordoned:
            refuse_uncordon(parts, host)
    kept = request.model_dump(mode="json", exclude={"hosts", "batch"}, exclude_unset=True)
    kept |= {"wait": request.wait, "back": request.back}
    answer, *other = parts.journal.begin_roll(ident, hosts, kept)
    if answer == "BUSY":
        raise Rejected(
            f"{other[1]} is in roll {other[0]}, which is not over; wait for it (vmrelay rolling status {other[0]}) or "
            f"cancel it (vmrelay rolling cancel {other[0]})",
            code="rolling",
        )
    logger.info("roll asked for", roll=ident, hosts=hosts, by=request.requested_by)
    return {"roll": ident, "answer": "begun" if answer == "OK" else "same"}


@app.task(bind=True, name=ROLL_CONTROL, typing=False, ignore_result=False, throws=(RelayError,))
def roll_control(self: Task[..., Any], /, *args: object, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
    """Let a roll go on that waits or stopped, or cancel it; arguments are those of ``RollControlRequest``.

    Answers ``{"roll", "answer", "host"}`` with ``asked``, and the host that the roll is at.
    """
    try:
        request = RollControlRequest.parse(by_name(ROLL_CONTROL, args, kwargs))
        return patiently(_controlled, runtime(), request, str(self.request.id))
    except Rejected as refusal:
        raise refusal.with_code() from None


def _controlled(parts: Runtime, request: RollControlRequest, message: str) -> dict[str, Any]:
    for _ in range(COLLISIONS):
        found = parts.journal.roll(request.roll)
        if found is None:
            raise Rejected(f"there is no roll '{request.roll[:80]}'; see 'vmrelay rolling status'", code="unknown-roll")
        if found.is_over:
            raise Rejected(f"roll {found.id} is over: {found.state}", code="over")
        if request.action == "cancel":
            # First the batch: a roll that is over would leave it to nobody.
            parts.journal.control_batch(found.batch, "cancel", False, request.requested_by, message)
        if take(parts, found, judged(found, request)):
            return {"roll": found.id, "answer": "asked", "host": found.host}
    raise Rejected(f"roll {request.roll} does not stand still; try again", code="busy-roll")


def judged(found: Roll, request: RollControlRequest) -> Step:
    """The step that an operator asks for. Pure. Raises ``Rejected`` where the roll does not wait for it."""
    if request.action == "cancel":
        why = f"cancelled by {request.requested_by}" if request.requested_by else "cancelled"
        return Step("cancelled", {"state": "cancelled", "why": why}, {"host": found.host, "by": request.requested_by})
    if request.host is not None and request.host != found.host:
        raise Rejected(
            f"roll {found.id} is at {found.host}, not at {request.host}; nothing was changed", code="other-host"
        )
    if found.state == "stopped":
        again = {"state": "running", "why": "", "tries": found.tries + 1}
        return Step("resumed", again, {"host": found.host, "by": request.requested_by, "step": found.step})
    if found.step != "wait":
        doing = "is being drained" if found.step == "drain" else "gets its guests back"
        raise Rejected(
            f"roll {found.id} does not wait: {found.host} {doing}; see 'vmrelay rolling status {found.id}'",
            code="not-waiting",
        )
    return going_back(found, f"{request.requested_by or 'somebody'} said so")
