"""What receivers do about signatures: the page and the client say the same, and what we send is believed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vmrelay_client.webhooks import BadSignature, Message, verify

from worker.journal.record import Record
from worker.webhooks.signing import signature

ROOT = Path(__file__).parents[2]
SECRET = b"0123456789abcdef"
BODY = b'{"type":"webhook.test","id":"d1","at":1795394269.5}'
AT = 1795394269
VECTOR = "t=1795394269,v1=b74be424a4755af73faddfb0fa2dbd7bcb413ffe21853d09bbbb573882740073"
Genuine = Callable[..., bool]


@pytest.fixture(scope="module")
def genuine() -> Genuine:
    """The function on the page, as a reader would copy it."""
    page = (ROOT / "docs/howto/webhooks.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(snippet, "webhooks.md", "exec"), names)  # noqa: S102 - our own page
    return names["genuine"]  # type: ignore[no-any-return]


def believed(body: bytes, signed: str, secret: Any, **more: float) -> bool:
    """Whether the client takes it."""
    try:
        verify(body, signed, secret, **more)
    except BadSignature:
        return False
    return True


def test_the_vector_of_the_page() -> None:
    """Of all three: the relay, the page and the client; the page's own text has it."""
    assert signature(SECRET, AT, BODY) == VECTOR
    assert believed(BODY, VECTOR, SECRET, now=AT)
    assert VECTOR.partition(",")[2] in (ROOT / "docs/howto/webhooks.md").read_text(encoding="utf-8")


def test_what_we_send_now_is_believed(genuine: Genuine) -> None:
    """By the page's function and by the client."""
    signed = signature(SECRET, int(time.time()), BODY)
    assert genuine(BODY, signed, SECRET)
    assert believed(BODY, signed, SECRET)
    assert believed(BODY, signed, SECRET.decode())


@pytest.mark.parametrize("late", [-301, 301, 10**9])
def test_what_is_too_old_or_from_the_future_is_not(genuine: Genuine, late: int) -> None:
    """So nobody can send an old message again."""
    signed = signature(SECRET, int(time.time()) - late, BODY)
    assert not genuine(BODY, signed, SECRET, tolerance=290)
    assert not believed(BODY, signed, SECRET, tolerance_seconds=290)


@given(st.text(max_size=80))
def test_any_header_is_no_reason_to_fall_over(genuine: Genuine, header: str) -> None:
    """Whatever somebody writes there, it is not believed, and nothing else is raised."""
    assert not genuine(BODY, header, SECRET)
    assert not believed(BODY, header, SECRET)


@given(st.integers(0, len(VECTOR) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_signature_that_was_changed_is_not_believed(genuine: Genuine, place: int, letter: str) -> None:
    """At any one place."""
    changed = VECTOR[:place] + letter + VECTOR[place + 1 :]
    assert believed(BODY, changed, SECRET, now=AT, tolerance_seconds=1e12) == (changed == VECTOR)
    assert genuine(BODY, changed, SECRET, tolerance=10**12) == (changed == VECTOR)


def test_another_body_or_secret_is_not_believed(genuine: Genuine) -> None:
    """One byte more is another body."""
    signed = signature(SECRET, int(time.time()), BODY)
    for body, secret in ((BODY + b" ", SECRET), (BODY, b"another secret..")):
        assert not genuine(body, signed, secret)
        assert not believed(body, signed, secret)


def test_two_secrets_while_one_is_changed() -> None:
    """Either is taken, no other is; and no secret at all is a mistake of the receiver's."""
    assert believed(BODY, VECTOR, [b"the new one.....", SECRET], now=AT)
    assert not believed(BODY, VECTOR, [b"the new one.....", b"a third one....."], now=AT)
    for nothing in (b"", "", [], [SECRET, b""]):
        with pytest.raises(ValueError, match="needs the secret"):
            verify(BODY, VECTOR, nothing, now=AT)


def test_a_message_is_typed() -> None:
    """The client's own migration, with what the relay tells of it."""
    record = Record("m1", "ended", domain="web", source="a", destination="b", outcome="failed", reason="x", error="no")
    told = {"type": "migration.failed", "id": "d1", "at": 5.5, "migration": record.document()}
    body = json.dumps(told).encode()
    message = verify(body, signature(SECRET, AT, body), SECRET, now=AT)
    assert (message.id, message.type, message.at, message.batch) == ("d1", "migration.failed", 5.5, None)
    assert message.migration is not None
    assert (message.migration.id, message.migration.state) == ("m1", "failed")
    assert message.migration.error is not None
    assert message.migration.error.code == "x"
    assert verify(BODY, VECTOR, SECRET, now=AT) == Message("d1", "webhook.test", 1795394269.5)
