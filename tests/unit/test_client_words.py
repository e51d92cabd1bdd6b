"""The client's pure parts: ids, what Celery and HTTP tell, server-sent events, and the contract they follow."""

from __future__ import annotations

import inspect
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from vmrelay_client import _celery_words, _http_words, types
from vmrelay_client import errors as client_errors
from vmrelay_client._client import Client
from vmrelay_client._fake_course import Asked, document
from vmrelay_client._ids import NAMESPACE, checked_traceparent, id_of
from vmrelay_client._sse import Frame, frames
from vmrelay_client.errors import Denied, IdempotencyConflict, Rejected, RelayError, Unavailable
from vmrelay_client.types import Event, Migration

from tasks import dispatch, results
from worker import errors
from worker.contract import DrainRequest, MigrateRequest, RebalanceRequest, idempotency, shown
from worker.hypervisors.base import Phase, Progress
from worker.journal import Record

# -- the contract ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "model"),
    [(Client.migrate, MigrateRequest), (Client.drain, DrainRequest), (Client.rebalance, RebalanceRequest)],
)
def test_the_client_offers_every_field(method: Any, model: Any) -> None:
    """What a request may say can be said through the client, under the same names."""
    offered = set(inspect.signature(method).parameters) - {"self", "idempotency_key"}
    assert offered == set(model.model_fields) - {"batch"}  # a batch's id follows from the key


def test_words_are_the_relays() -> None:
    """Literals, names of errors and shares of phases are those of the relay."""
    assert set(types.Priority.__args__) == {str(each) for each in shown.Priority}  # type: ignore[attr-defined]
    assert set(types.StallAction.__args__) == {str(each) for each in shown.StallAction}  # type: ignore[attr-defined]
    assert set(types.BatchState.__args__) - {"waiting", "rejected"} == set(shown.BatchState.__args__)  # type: ignore[attr-defined]
    assert set(types.State.__args__) - {"waiting", "running", "in-doubt"} == set(shown.Outcome.__args__)  # type: ignore[attr-defined]
    for name in ("Rejected", "Failed", "Cancelled", "InDoubt", "Unavailable"):
        assert getattr(client_errors, name).code == getattr(errors, name).code
    assert {str(phase): dispatch.SHARES[phase] for phase in Phase} == _http_words.SHARES
    assert _celery_words.SHOWN == dispatch.SHOWN
    assert _celery_words.PERFORM_TO - _celery_words.PERFORM_FROM == 88


def test_the_fakes_document_is_one_of_the_relays() -> None:
    """Applications that read the document find in the fake what they will find later."""
    told = document(Asked("m-1", {"domain": "web-1", "destination": "beta", "reason": "room"}, 10.0), 20.0)
    shown.Migration.model_validate(told)
    assert told.keys() == Record(id="m-1", state="ended").document().keys()


# -- ids ---------------------------------------------------------------------------------------------------

VECTORS = [("shop", "order-17"), ("default", "k"), ("Überweisung GmbH", "!~" * 40)]


@pytest.mark.parametrize(("scope", "key"), VECTORS)
def test_both_derive_the_same_id(scope: str, key: str) -> None:
    """The client and the relay make the same id of a key, which is version 5 of RFC 9562."""
    assert id_of(key, scope) == idempotency.ident_of(scope, key) == str(uuid.uuid5(NAMESPACE, f"{scope}\n{key}"))
    assert id_of("move-web-1", "shop") == "820dd93f-bf24-58a0-8851-808a16a82f71"


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256, "a\nb"])
def test_a_key_that_cannot_travel_is_refused(key: str) -> None:
    """What a header could not carry is refused over Celery, too: a key means the same over both."""
    with pytest.raises(ValueError, match="visible ASCII"):
        id_of(key, "shop")


@pytest.mark.parametrize("scope", ["", "a\nb", "x" * 256])
def test_a_scope_is_checked(scope: str) -> None:
    """An empty scope, or one that could hold a key, is refused."""
    with pytest.raises(ValueError, match="scope"):
        id_of("key", scope)


def test_the_trace_is_the_current_one() -> None:
    """A given traceparent is checked; without one OpenTelemetry's current span is taken, and else there is none."""
    assert checked_traceparent(None) is None
    wanted = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert checked_traceparent(wanted) == wanted
    span = trace.NonRecordingSpan(
        trace.SpanContext(
            int(wanted[3:35], 16), int(wanted[36:52], 16), is_remote=False, trace_flags=trace.TraceFlags(1)
        )
    )
    with trace.use_span(span):
        assert checked_traceparent(None) == wanted
    with pytest.raises(ValueError, match="traceparent"):
        checked_traceparent("00-xyz")


# -- Celery ------------------------------------------------------------------------------------------------


def _ended(outcome: str, **more: Any) -> Record:
    told = {"id": "m-1", "state": "ended", "domain": "web-1", "source": "alpha", "destination": "beta"}
    return Record(**told, outcome=outcome, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "rejected"])
@pytest.mark.parametrize("code", ["VIR_ERR_OPERATION_FAILED", "same-host", "deadline"])
def test_codes_travel_in_the_texts_of_results(outcome: str, code: str) -> None:
    """Of an error only its class and text reach AsyncResult; the client finds the code that the relay put there."""
    record = _ended(outcome, reason=code, error="it [did] not (go, well)", error_phase="perform")
    error = results.result_of(record)
    assert isinstance(error, RelayError | errors.RelayError)
    seen = _celery_words.migration("m-1", "FAILURE", error)
    assert seen.error is not None
    assert (seen.state, seen.over, seen.error.code) == (outcome, True, code)
    assert "it [did] not (go, well)" in seen.error.message


def test_what_waited_is_cancelled_without_a_phase() -> None:
    """A cancel before any phase has no phase in its text; the code is the class's."""
    error = results.result_of(_ended("cancelled", reason="cancelled", error="it was cancelled while it waited"))
    seen = _celery_words.migration("m-1", "FAILURE", error)
    assert seen.error is not None
    assert (seen.state, seen.error.code) == ("cancelled", "cancelled")


def test_in_doubt_is_no_end() -> None:
    """What is in doubt is not over, and an error that nobody knows is for an operator, too."""
    seen = _celery_words.migration("m-1", "FAILURE", results.in_doubt("web-1", "alpha", "beta", "seen on both"))
    assert (seen.state, seen.over, seen.percent) == ("in-doubt", False, 0)
    strange = _celery_words.migration("m-1", "FAILURE", MemoryError("out of it"))
    assert (strange.state, strange.error) == ("in-doubt", types.Problem("unknown-error", "MemoryError: out of it"))
    with pytest.raises(client_errors.InDoubt):
        strange.raise_for_state()


@pytest.mark.parametrize("status", ["PENDING", "STARTED", "REVOKED", "RETRY", "WHATEVER"])
def test_other_states_are_waits(status: str) -> None:
    """What Celery alone knows says nothing of the migration."""
    assert _celery_words.migration("m-1", status, None).state == "waiting"
    assert _celery_words.batch("b-1", status, None).state == "waiting"


@given(percent=st.integers(0, 100), phase=st.sampled_from([*map(str, Phase)]))
def test_both_connectors_show_the_same_percentage(percent: int, phase: str) -> None:
    """What AsyncResult shows and what the document says come to the same look at a migration, and event of it."""
    progress = Progress(percent=percent, remaining_bytes=1, iteration=3) if phase == "perform" else None
    source, destination = "alpha", "beta"
    host = source if phase in ("begin", "perform", "confirm") else destination
    meta = json.loads(dispatch.shown("m-1", phase, host, progress)[1])
    over_celery = _celery_words.migration("m-1", meta["status"], meta["result"])
    told = {"id": "m-1", "state": "active", "phase": phase, "source": source, "destination": destination}
    shown_progress = {"percent": percent, "remaining_bytes": 1} if progress else None
    over_http = _http_words.migration({**told, "progress": shown_progress})
    assert over_celery == over_http
    for event in _celery_words.events(None, over_celery, 1.0):
        if event.type == "progress":
            assert abs(event.data["percent"] - percent) <= 2
            assert event.data["iteration"] == 3


def test_events_follow_from_looks() -> None:
    """Each new phase is told once, progress where it moves on, an outcome once, and doubt before it."""
    looks = [
        Migration("m", "waiting", known=False),
        Migration("m", "running", 0, phase="begin", host="a", document={}),
        Migration("m", "running", 0, phase="begin", host="a", document={}),
        Migration("m", "running", 6, phase="perform", host="a", document={"remaining_bytes": 9}),
        Migration("m", "running", 6, phase="perform", host="a", document={"remaining_bytes": 9}),
        Migration("m", "running", 50, phase="perform", host="a", document={"remaining_bytes": 5}),
        Migration("m", "in-doubt", text="both", error=types.Problem("in-doubt", "both")),
        Migration("m", "in-doubt", text="both", error=types.Problem("in-doubt", "both")),
        Migration("m", "running", 6, phase="recover", host="b", document={}),
        Migration("m", "failed", 100, error=types.Problem("X", "x")),
    ]
    told: list[Event] = []
    before = None
    for now in looks:
        told += _celery_words.events(before, now, 1.0)
        before = now
    assert [event.type for event in told] == [
        "phase", "phase", "progress", "progress", "in-doubt", "recovering", "ended"
    ]  # fmt: skip
    assert told[-1].data == {"outcome": "failed", "reason": "X"}


# -- HTTP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "more", "expected"),
    [
        ("queued", {}, ("waiting", False, "waits for a scheduler")),
        ("pending", {}, ("waiting", True, "waits for its turn")),
        ("backoff", {}, ("running", True, "waits for its next attempt")),
        ("in-doubt", {"error": {"code": "x", "message": "both"}}, ("in-doubt", True, "both")),
        ("active", {"phase": "recover"}, ("running", True, "is recovered")),
        ("active", {"phase": "finish", "destination": "b"}, ("running", True, "finish on b")),
        ("active", {"waiting": {"host": "a", "why": "is down"}}, ("running", True, "waits for a: is down")),
        ("ended", {"outcome": "succeeded", "domain": "w", "destination": "b"}, ("succeeded", True, "w moved to b")),
        ("ended", {"outcome": "failed", "error": {"code": "E", "message": "no"}}, ("failed", True, "no")),
    ],
)  # fmt: skip
def test_documents_are_read(state: str, more: dict[str, Any], expected: tuple[str, bool, str]) -> None:
    """Each state of a record is one of the client's, with words for people."""
    seen = _http_words.migration({"id": "m-1", "state": state, **more})
    assert (seen.state, seen.known, seen.text) == expected


def test_another_servers_answer_is_no_migration() -> None:
    """What has no id or state is no document: the URL is wrong, and nothing is made of it."""
    with pytest.raises(Unavailable, match="HTTP API"):
        _http_words.migration({"hello": "world"})


@pytest.mark.parametrize(
    ("status", "document", "retry_after", "kind", "code", "seconds"),
    [
        (422, {"code": "same-host", "detail": "no"}, None, Rejected, "same-host", None),
        (422, {"code": "idempotency-conflict"}, None, IdempotencyConflict, "idempotency-conflict", None),
        (409, {"code": "batch-exists", "detail": "no"}, None, IdempotencyConflict, "batch-exists", None),
        (401, {"code": "token-missing", "detail": "no"}, None, Denied, "token-missing", None),
        (403, {"code": "role-missing", "detail": "no"}, None, Denied, "role-missing", None),
        (429, {"code": "too-many-requests", "detail": "no"}, "7", Unavailable, "too-many-requests", 7.0),
        (503, {"code": "redis-unavailable", "detail": "no"}, "soon", Unavailable, "redis-unavailable", None),
        (502, None, None, Unavailable, "http-502", None),
        (302, None, None, Unavailable, "http-302", None),
        (404, "<html>", None, Unavailable, "http-404", None),
        (404, {"code": "not-found", "detail": "no"}, None, Unavailable, "not-found", None),
        (404, {"code": "unknown-batch", "detail": "no"}, None, Rejected, "unknown-batch", None),
    ],
)  # fmt: skip
def test_problems_become_errors(
    status: int, document: object, retry_after: str | None, kind: type, code: str, seconds: float | None
) -> None:
    """What can be asked again is Unavailable, and what was refused is Rejected, with the code of the problem."""
    error = _http_words.error(status, document, retry_after, "/v1/migrations")
    assert (type(error), error.code) == (kind, code)
    assert getattr(error, "retry_after", None) == seconds


def _sent(events: list[tuple[str, str, str]], end: str) -> bytes:
    blocks = [
        f"id: {i}{end}event: {e}{end}" + "".join(f"data: {d}{end}" for d in data.split("\n")) for i, e, data in events
    ]
    return "".join(block + f": ping{end}{end}" for block in blocks).encode()


_TEXT = st.text("aä: {}\u2028\x85", max_size=12)
_EVENTS = st.tuples(st.sampled_from(["1-0", "27-3"]), st.sampled_from(["phase", "ended"]), _TEXT)


@given(st.lists(_EVENTS, max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_events_are_read_as_they_were_sent(events: list[tuple[str, str, str]], end: str) -> None:
    """Whatever the data is, with comments between, and a cut event at the end that is dropped."""
    sent = _sent(events, end) + b"data: cut"
    assert list(frames(sent.splitlines(keepends=True) if b"\r" not in sent else _lines(sent))) == [
        Frame(event, data, ident) for ident, event, data in events
    ]


def _lines(sent: bytes) -> list[bytes]:
    return [line + b"\n" for line in sent.split(b"\n")]


def test_the_whole_format_is_understood() -> None:
    """Lines of several data, no space, no name, a field without a colon, and an id that stays."""
    sent = b"id:7\ndata:a\ndata: b\n\nevent: x\ndata\n\nnothing: here\n\ndata: c\n\n"
    assert list(frames(sent.splitlines(keepends=True))) == [
        Frame("message", "a\nb", "7"), Frame("x", "", "7"), Frame("message", "c", "7")
    ]  # fmt: skip
