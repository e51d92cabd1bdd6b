"""Errors as HTTP problems, streams of events, and answers of tasks: the pure parts of the web API."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Failed, Rejected, RelayError, SettingsError, Unavailable
from worker.journal import Record
from worker.web.migrations import accepted
from worker.web.problems import CONFLICTS, MEDIA_TYPE, Denied, problem_of, status_of, unknown, wrong_fields
from worker.web.streams import ended_by, event, resumed
from worker.web.waiting import answered

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "in_path", "status"),
    [
        (Rejected("", code="flag-refused"), (), 422),
        (Rejected("", code="VIR_ERR_MIGRATE_UNSAFE"), (), 422),
        (Rejected("", code="busy-domain"), (), 409),
        (Rejected("", code="too-late"), {"migration": "x"}, 409),
        (Rejected("", code="unknown-domain"), (), 422),
        (Rejected("", code="unknown-host"), {"migration": "x"}, 422),
        (Rejected("", code="unknown-host"), {"host": "x"}, 404),
        (unknown("batch", "x"), (), 404),
        (Unavailable(""), (), 503),
        (Denied(429, "x", ""), (), 429),
        (SettingsError(""), (), 500),
        (Failed(""), (), 500),
    ],
)
def test_the_status_follows_from_the_code(error: RelayError, in_path: dict[str, str], status: int) -> None:
    """404 for what the path names, 409 for how things stand, 422 for every other refusal."""
    assert status_of(error, in_path) == status


def test_every_conflict_is_a_code_that_there_is() -> None:
    """A code that is spelled otherwise here would be answered with 422."""
    source = "\n".join(file.read_text() for room in ("worker", "tasks") for file in (ROOT / room).rglob("*.py"))
    for code in CONFLICTS:
        assert re.search(rf"code=.*[\"']{code}[\"']", source), code


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (redis.ConnectionError("to redis://:secret@host"), 503, "redis-unavailable"),
        (redis.BusyLoadingError("LOADING secret"), 503, "redis-loading"),
        (redis.OutOfMemoryError("secret"), 503, "redis-full"),
        (redis.ResponseError("WRONGTYPE secret"), 500, "internal"),
        (RuntimeError("secret"), 500, "internal"),
        (SettingsError("secret"), 500, "internal"),
        (Unavailable("no scheduler", code="no-scheduler"), 503, "no-scheduler"),
    ],
)
def test_what_nobody_expected_is_told_without_its_text(error: Exception, status: int, code: str) -> None:
    """What is inside stays inside; Redis's troubles have the codes of the command, and a time to ask again."""
    answer = problem_of(error)
    told = json.loads(bytes(answer.body))
    assert (answer.status_code, told["status"], told["code"]) == (status, status, code)
    assert told["type"] == f"urn:vmrelay:error:{code}"
    assert answer.media_type == MEDIA_TYPE
    assert b"secret" not in bytes(answer.body)
    assert ("retry-after" in answer.headers) == (status == 503)


def test_a_problem_says_what_to_do_next() -> None:
    """As the command does beside the same error."""
    told = json.loads(bytes(problem_of(Rejected("…", code="plan-outdated")).body))
    assert told["next"] == "plan again, or say --on-change replan"
    assert "next" not in json.loads(bytes(problem_of(Rejected("…", code="busy-domain")).body))


def test_wrong_fields_are_named_and_not_repeated() -> None:
    """What stood in them may be a secret."""
    errors = [
        {
            "loc": ("body", "params", "destination_xml"),
            "type": "string_type",
            "msg": "Input should be a string",
            "input": "s3",
        },
        {"loc": ("body", 17), "type": "json_invalid", "msg": "JSON decode error", "input": {}, "ctx": {"error": "s3"}},
    ]
    assert wrong_fields(errors) == "params.destination_xml: Input should be a string; it is no JSON"


# -- what was asked for ---------------------------------------------------------------------------------


def test_a_key_that_was_used_for_something_else_is_told() -> None:
    """The same request is the same migration, whatever has become of it; another one is refused."""
    record = Record("m", "active", domain="web-1", fingerprint="mine")
    assert accepted(record, "m", "mine")["domain"] == "web-1"
    with pytest.raises(Denied) as refused:
        accepted(record, "m", "other")
    assert (refused.value.status, refused.value.code) == (422, "idempotency-conflict")
    with pytest.raises(Rejected) as refusal:
        accepted(Record("m", "ended", outcome="rejected", reason="flag-refused", error="…"), "m", "mine")
    assert refusal.value.code == "flag-refused"
    assert accepted(None, "m", "mine") == {"id": "m", "state": "queued"}


def test_a_tasks_answer_is_read_as_any_language_would() -> None:
    """From the JSON that Celery's back end stores: a result, a refusal with its code, or nothing that is known."""
    assert answered('{"status": "SUCCESS", "result": {"answer": "ok"}}') == {"answer": "ok"}
    for message in ('["too late [too-late]"]', '"too late [too-late]"'):
        with pytest.raises(Rejected, match="too late") as refusal:
            answered(f'{{"status": "FAILURE", "result": {{"exc_type": "Rejected", "exc_message": {message}}}}}')
        assert refusal.value.code == "too-late"
    for strange in ('{"status": "FAILURE", "result": {"exc_type": "KeyError"}}', '{"status": "SUCCESS", "result": 1}'):
        with pytest.raises(RuntimeError):
            answered(strange)


# -- events ---------------------------------------------------------------------------------------------


@given(st.integers(0, 2**60), st.integers(0, 9), st.dictionaries(st.text(), st.text()))
def test_an_event_is_three_lines_whatever_it_holds(at: int, n: int, data: dict[str, object]) -> None:
    """No text of a guest's or a user's can begin a line of its own, and the id is what resumes behind it."""
    block = event(f"{at}-{n}", "progress", data).decode()
    assert block.endswith("\n\n")
    ident, kind, told = block.removesuffix("\n\n").split("\n")
    assert (ident, kind) == (f"id: {at}-{n}", "event: progress")
    assert json.loads(told.removeprefix("data: ")) == {"at": at / 1000, "type": "progress"} | data
    assert "\r" not in block
    assert resumed(ident.removeprefix("id: ")) == f"{at}-{n}"


@pytest.mark.parametrize("wrong", ["x", "1", "1-", "+", "0-0 ", "1-1\n", "9" * 21 + "-0", "-1-0", "\u0661-\u0661"])
def test_an_id_that_is_none_is_refused(wrong: str) -> None:
    """Before Redis is asked for it."""
    with pytest.raises(Rejected):
        resumed(wrong)
    assert resumed(None) == resumed("") == "0"


def test_a_stream_ends_with_the_last_event() -> None:
    """A batch that was asked anew goes on behind an end."""
    assert ended_by([("1-0", "phase", {}), ("2-0", "ended", {})], "ended")
    assert not ended_by([("1-0", "finished", {}), ("2-0", "retry", {})], "finished")
    assert not ended_by([], "ended")
