"""A request that is sent twice is done once: ids that follow from a key, and what tells two requests apart.

The id of a migration (or batch) is the id of the task that asks for it, and the same id again is the same migration. An
application that has a key of its own for what somebody clicked on makes the id of it; any language can.
"""

from __future__ import annotations

import hashlib
import uuid

from worker.contract.bulk import BatchRequest, DrainRequest, RebalanceRequest, ReturnRequest
from worker.contract.names import canonical
from worker.contract.requests import MigrateRequest
from worker.errors import Rejected

NAMESPACE = uuid.UUID("279373fb-096a-52e9-b066-832204c4f4d2")
"""Part of the contract: uuid5 of ``urn:vmrelay:v1:idempotency`` in the name space of URLs."""
LONGEST = 255
"""Characters of a scope, and of a key."""

MakesBatch = BatchRequest | RebalanceRequest | DrainRequest | ReturnRequest


def ident_of(scope: str, key: str) -> str:
    """The id that an idempotency key stands for within its scope: the application, or whose token it is.

    Raises ``Rejected`` (``malformed``) for one that is empty, longer than ``LONGEST``, or has control characters.
    """
    for name, text in (("scope", scope), ("key", key)):
        if not 0 < len(text) <= LONGEST or not text.isprintable():
            raise Rejected(f"an idempotency {name} is 1 to {LONGEST} printable characters", code="malformed")
    return str(uuid.uuid5(NAMESPACE, f"{scope}\n{key}"))


def fingerprint(request: MigrateRequest | MakesBatch) -> str:
    """What two requests have in common that ask for the same: SHA-256 in hex, of everything but the trace."""
    if isinstance(request, MigrateRequest):
        asked = request.model_dump(mode="json", exclude_defaults=True, exclude={"traceparent"})
    else:
        asked = {"kind": kind_of(request)} | request.model_dump(mode="json", exclude={"batch", "traceparent"})
    return hashlib.sha256(canonical(asked).encode()).hexdigest()


def kind_of(request: MakesBatch) -> str:
    """The kind of batch that a request makes."""
    match request:
        case BatchRequest():
            return "plan" if request.plan else "list"
        case RebalanceRequest():
            return "rebalance"
        case DrainRequest():
            return "drain"
        case ReturnRequest():
            return "return"
