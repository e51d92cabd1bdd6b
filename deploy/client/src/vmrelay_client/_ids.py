"""Names that follow from what is asked: ids from idempotency keys, and the trace that a request belongs to."""

from __future__ import annotations

import re
import uuid

NAMESPACE = uuid.UUID("279373fb-096a-52e9-b066-832204c4f4d2")
"""Part of the contract: uuid5 of ``urn:vmrelay:v1:idempotency`` in the name space of URLs."""
SCOPE = "default"
"""The scope of an application that names none."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def new_id() -> str:
    """The id of a request that has no key."""
    return str(uuid.uuid4())


def id_of(key: str, scope: str) -> str:
    """The id of whatever is asked for with this key: the same for everybody who shares the scope.

    Raises ``ValueError`` for a key that is not 1 to 255 visible ASCII characters, and for a scope that is not 1 to 255
    printable ones.
    """
    if not 0 < len(scope) <= 255 or not scope.isprintable():
        raise ValueError("a scope is 1 to 255 printable characters")
    return str(uuid.uuid5(NAMESPACE, f"{scope}\n{checked_key(key)}"))


def checked_key(key: str) -> str:
    """An idempotency key as it may travel. Raises ``ValueError`` for another one."""
    if not _KEY.fullmatch(key):
        raise ValueError("an idempotency key is 1 to 255 visible ASCII characters, without spaces")
    return key


def checked_traceparent(given: str | None) -> str | None:
    """The trace context to send: the given one, else OpenTelemetry's current one where that is installed.

    Raises ``ValueError`` for a text that is no W3C traceparent.
    """
    if given is None:
        return _current_traceparent()
    if not _TRACEPARENT.fullmatch(given):
        raise ValueError("a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, not all zero (W3C)")
    return given


def _current_traceparent() -> str | None:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    span = trace.get_current_span().get_span_context()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}" if span.is_valid else None
