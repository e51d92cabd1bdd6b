"""Whose trace something belongs to."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from structlog.contextvars import get_contextvars

import tasks.tracing  # noqa: F401 - what is tested
from worker import trace
from worker.contract import (
    BatchRequest,
    CancelRequest,
    ControlRequest,
    DrainRequest,
    HostRequest,
    LimitsRequest,
    MigrateRequest,
    RebalanceRequest,
    ResolveRequest,
    RetryRequest,
    ReturnRequest,
    RollControlRequest,
    RollRequest,
    TuneRequest,
)
from worker.errors import Rejected

ID = "0af7651916cd43dd8448eb211c80319c"
TRACE = f"00-{ID}-b7ad6b7169203331-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
NONE = [
    "",
    "00",
    TRACE.upper(),
    TRACE + "\n",
    TRACE + "-more",
    f"ff-{ID}-b7ad6b7169203331-01",
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-{ID}-{'0' * 16}-01",
    f"00-{ID}-b7ad6b7169203331",
]
REQUESTS: list[tuple[Any, dict[str, Any]]] = [
    (MigrateRequest, {"domain": "a", "destination": "b"}),
    (CancelRequest, {"migration": "m"}),
    (TuneRequest, {"migration": "m", "kind": "postcopy"}),
    (ResolveRequest, {"migration": "m"}),
    (RetryRequest, {"migration": "m"}),
    (BatchRequest, {"moves": [{"domain": "a", "destination": "b"}]}),
    (RebalanceRequest, {}),
    (DrainRequest, {"hosts": ["a"]}),
    (ReturnRequest, {"hosts": ["a"]}),
    (ControlRequest, {"batch": "b", "action": "pause"}),
    (HostRequest, {"hosts": ["a"], "action": "cordon"}),
    (LimitsRequest, {}),
    (RollRequest, {"hosts": ["a"]}),
    (RollControlRequest, {"roll": "r", "action": "cancel"}),
]


@pytest.mark.parametrize(("model", "document"), REQUESTS)
def test_every_request_may_tell_its_trace(model: Any, document: dict[str, Any]) -> None:
    """As W3C writes it; anything else is malformed, so that nobody finds out by a trace that breaks off."""
    assert model.parse(document).traceparent is None
    assert model.parse(document | {"traceparent": TRACE}).traceparent == TRACE
    for wrong in NONE:
        with pytest.raises(Rejected, match="traceparent"):
            model.parse(document | {"traceparent": wrong})


def test_a_migration_of_a_batch_has_no_trace_of_its_own() -> None:
    """It is the batch's."""
    with pytest.raises(Rejected, match="traceparent"):
        DrainRequest.parse({"hosts": ["a"], "migration": {"traceparent": TRACE}})


def test_a_block_belongs_to_a_trace() -> None:
    """Its log lines and messages do; the trace before is there again afterwards, whatever happens."""
    assert (trace.headers(), get_contextvars()) == ({}, {})
    with trace.bound(TRACE):
        assert (trace.headers(), get_contextvars()) == ({"traceparent": TRACE}, {"trace_id": ID})
        with pytest.raises(KeyError), trace.bound(OTHER):
            raise KeyError(trace.headers()["traceparent"])
        with trace.bound(""):
            assert trace.headers() == {"traceparent": TRACE}
        assert trace.adopted({"domain": "a"}) == {"domain": "a", "traceparent": TRACE}
        assert trace.adopted({"traceparent": OTHER}) == {"traceparent": OTHER}
    assert (trace.headers(), get_contextvars()) == ({}, {})


@pytest.mark.parametrize(
    ("header", "field", "found"),
    [
        (TRACE, None, TRACE),
        (None, TRACE, TRACE),
        (OTHER, TRACE, TRACE),
        ("no trace", None, ""),
        (7, 8, ""),
        (None, None, ""),
    ],
)
def test_a_task_belongs_to_the_trace_of_its_arguments_or_its_message(header: Any, field: Any, found: str) -> None:
    """The arguments come first; what is no trace is passed over, and the thread is free of it afterwards."""
    app = Celery(set_as_current=False)
    app.conf.update(task_always_eager=True, task_store_eager_result=False)
    seen: list[str] = []

    @app.task(bind=True)
    def look(self: Any, **kwargs: Any) -> None:
        seen.append(trace.headers().get("traceparent", ""))

    look.apply(kwargs={"traceparent": field} if field else {}, headers={"traceparent": header} if header else None)
    assert (seen, trace.headers()) == ([found], {})
