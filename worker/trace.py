"""Whose trace something belongs to (W3C Trace Context): carried, logged and handed on; no spans are made here.

What is bound is told in every log line of the thread as ``trace_id``, and stands in the header ``traceparent`` of the
messages that it sends, so that whatever instruments a worker joins the caller's trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from structlog.contextvars import bind_contextvars, unbind_contextvars

from worker.contract.names import TRACEPARENT

HEADER = "traceparent"
_current: ContextVar[str] = ContextVar(HEADER, default="")


def bind(traceparent: object) -> None:
    """What this thread does from now on belongs to that trace; to none where it is no traceparent."""
    if isinstance(traceparent, str) and TRACEPARENT.fullmatch(traceparent):
        _current.set(traceparent)
        bind_contextvars(trace_id=traceparent.split("-")[1])
    else:
        _current.set("")
        unbind_contextvars("trace_id")


@contextmanager
def bound(traceparent: str) -> Iterator[None]:
    """The same for a block; where nothing is told the trace stays what it is."""
    before = _current.get()
    bind(traceparent or before)
    try:
        yield
    finally:
        bind(before)


def headers() -> dict[str, str]:
    """What the messages of this thread carry; empty where it belongs to no trace."""
    return {HEADER: current} if (current := _current.get()) else {}


def adopted(document: Mapping[str, Any]) -> dict[str, Any]:
    """A request with the trace that its message's header told; what the request says itself stands."""
    return headers() | dict(document)
