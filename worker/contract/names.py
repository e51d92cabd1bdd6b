"""The words of the contract: task names, queues, and the kinds of text that a document may hold."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, StringConstraints, ValidationError, WithJsonSchema

from worker.errors import Rejected

MIGRATE = "vmrelay.v1.migrate"
CANCEL = "vmrelay.v1.cancel"
TUNE = "vmrelay.v1.tune"
RESOLVE = "vmrelay.v1.resolve"
RETRY = "vmrelay.v1.retry"
BATCH = "vmrelay.v1.batch"
DRAIN = "vmrelay.v1.drain"
REBALANCE = "vmrelay.v1.rebalance"
RETURN = "vmrelay.v1.return"
CONTROL = "vmrelay.v1.control"
"""Pause, resume, cancel a batch, or retry what failed in it."""
HOST = "vmrelay.v1.host"
"""Cordon or uncordon a host."""
LIMITS = "vmrelay.v1.limits"
"""Change how many migrations may run at once."""
ROLL = "vmrelay.v1.roll"
"""Drain hosts one after the other, wait for each, return its guests."""
ROLL_CONTROL = "vmrelay.v1.roll.control"
PHASE = "vmrelay.v1.phase."
"""Task names: ``PHASE + "begin"`` and so on."""
SCHEDULER_QUEUE = "scheduler"
RECOVER = "recover"
"""What follows ``PHASE`` in the task that recovers an interrupted attempt; no phase of libvirt's."""
PROGRESS = "PROGRESS"
"""The custom Celery state of a migration under way."""

IDENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
"""A migration's id is the id of the task that asked for it, and part of the names of Redis keys."""

Ident = Annotated[str, StringConstraints(pattern=f"^{IDENT.pattern}$", max_length=128)]
NAME = re.compile(r"[^\x00-\x1f/]{1,255}")
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f/]+$")]
FlagText = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Value = Annotated[str, StringConstraints(max_length=262_144, pattern=r"^[^\x00]*$")]

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
"""W3C Trace Context: version, trace, parent, flags. All zeros are no trace and no parent."""


def _traced(text: str) -> str:
    if not TRACEPARENT.fullmatch(text):
        raise ValueError("a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, not all zero (W3C)")
    return text


TraceParent = Annotated[
    str, AfterValidator(_traced), WithJsonSchema({"type": "string", "pattern": f"^{TRACEPARENT.pattern}$"})
]
HostName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Priority(StrEnum):
    """Whose turn it is where several want the same slots: a share, never a right to all of them."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


def canonical(document: dict[str, Any]) -> str:
    """The one way in which a document is written, so that two copies can be compared as text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


Request = TypeVar("Request", bound=BaseModel)


def parsed(model: type[Request], document: dict[str, Any]) -> Request:
    """A document, checked. Raises ``Rejected`` (``malformed``) that names the wrong fields."""
    try:
        return model.model_validate(document)
    except ValidationError as wrong:
        fields = {".".join(map(str, error["loc"][:2]))[:80]: error["msg"] for error in wrong.errors()[:10]}
        listing = "; ".join(f"{field}: {text}" if field else text for field, text in fields.items())
        raise Rejected(f"the request is malformed: {listing}", code="malformed") from None
