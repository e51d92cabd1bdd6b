"""What a receiver of the relay's webhooks does first: see that a message is the relay's, whole and fresh.

message = verify(request.body, request.headers["Vmrelay-Signature"], secret)
if message.type == "migration.failed":
    tell_somebody(message.migration)

A message may come twice: ``message.id`` is then the same. Answer 2xx once it is safe.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vmrelay_client import _http_words as words
from vmrelay_client.errors import RelayError
from vmrelay_client.types import Batch, Migration

__all__ = ["BadSignature", "Message", "verify"]

TOLERANCE_SECONDS = 300.0
_SIGNATURE = re.compile(r"t=([0-9]{1,15})((?:,[a-z0-9]+=[0-9a-f]+)+)")


class BadSignature(RelayError):
    """A message that is not to be believed: not signed with the secret, changed on the way, or too old."""

    code = "bad-signature"


@dataclass(frozen=True)
class Message:
    """What a webhook was told."""

    id: str
    """Of the delivery: the same each time that the same is told."""
    type: str
    """``migration.succeeded``, ``.failed``, ``.cancelled``, ``.rejected`` or ``.in-doubt``, ``batch.finished`` or
    ``webhook.test``; new ones may come."""
    at: float
    """When it happened: Unix time."""
    migration: Migration | None = None
    """As it was when this was sent."""
    batch: Batch | None = None
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The whole message."""


def verify(
    body: bytes,
    signature: str,
    secrets: str | bytes | Iterable[str | bytes],
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> Message:
    """The message in ``body``, once its signature has been seen to be right.

    ``body`` is the request's, byte for byte, and ``signature`` its header ``Vmrelay-Signature``. ``secrets`` is what
    relay and receiver share, without the line end; several where it is being changed. ``now`` (Unix time) is for
    tests. Raises ``BadSignature``.
    """
    found = _SIGNATURE.fullmatch(signature.strip()) if len(signature) < 1000 else None
    if found is None:
        raise BadSignature("there is no signature of a form that is known")
    at = found[1]
    digests = [
        text.encode() for name, _, text in (part.partition("=") for part in found[2][1:].split(",")) if name == "v1"
    ]
    given = [secrets] if isinstance(secrets, (str, bytes)) else list(secrets)
    keys = [secret.encode() if isinstance(secret, str) else secret for secret in given]
    if not keys or not all(keys):
        raise ValueError("verify needs the secret; an empty one would let everybody in")
    wanted = [hmac.new(key, at.encode() + b"." + body, hashlib.sha256).hexdigest().encode() for key in keys]
    # Every pair is compared, each in constant time: how long that takes tells nothing.
    matches = [hmac.compare_digest(one, other) for one in wanted for other in digests]
    if not any(matches):
        raise BadSignature("the signature is not that of this body with this secret")
    if abs((time.time() if now is None else now) - int(at)) > tolerance_seconds:
        raise BadSignature(f"the message was signed more than {tolerance_seconds:.0f} seconds ago, or in the future")
    return _message(body)


def _message(body: bytes) -> Message:
    told = json.loads(body)
    migration, batch = told.get("migration"), told.get("batch")
    return Message(
        id=told["id"],
        type=told["type"],
        at=float(told["at"]),
        migration=words.migration(migration) if migration else None,
        batch=words.batch(batch) if batch else None,
        document=told,
    )
