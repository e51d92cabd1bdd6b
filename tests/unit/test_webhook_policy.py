"""Signatures, secrets, pauses and settings of webhooks."""

from __future__ import annotations

import hashlib
import hmac
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receiver_lab import secret_file

from worker import settings
from worker.errors import SettingsError
from worker.settings import Settings, WebhookSettings
from worker.webhooks import policy
from worker.webhooks.policy import Answer, Result
from worker.webhooks.signing import read_secret, signature

# -- signatures ---------------------------------------------------------------------------------------------


def test_a_signature_is_rfc_2104s_over_time_dot_body() -> None:
    """A vector made by hand with other tools (openssl dgst -sha256 -hmac), so that any language can check itself."""
    body = b'{"type":"webhook.test","id":"d1","at":1795394269.5}'
    made = signature(b"0123456789abcdef", 1795394269, body)
    assert made == "t=1795394269,v1=b74be424a4755af73faddfb0fa2dbd7bcb413ffe21853d09bbbb573882740073"


@given(st.binary(min_size=16, max_size=100), st.integers(0, 2**40), st.binary(max_size=200))
def test_a_signature_holds_time_and_digest(secret: bytes, at: int, body: bytes) -> None:
    """Whatever the body: time and digest as the page says."""
    wanted = hmac.new(secret, str(at).encode() + b"." + body, hashlib.sha256).hexdigest()
    assert signature(secret, at, body) == f"t={at},v1={wanted}"


SIGNED = st.tuples(st.binary(min_size=16, max_size=60), st.integers(0, 2**32), st.binary(max_size=60))


@given(SIGNED, SIGNED, st.integers(0, 2))
def test_another_secret_time_or_body_has_another_signature(
    one: tuple[bytes, int, bytes], two: tuple[bytes, int, bytes], changed: int
) -> None:
    """Nothing of it can be changed."""
    secret, at, body = [new if place == changed else old for place, (old, new) in enumerate(zip(one, two, strict=True))]
    # RFC 2104 fills a key up with zeros
    same = secret.rstrip(b"\0") == one[0].rstrip(b"\0") and (at, body) == one[1:]  # type: ignore[attr-defined]
    digests = [signature(*each).split("v1=")[1] for each in (one, (secret, at, body))]  # type: ignore[arg-type]
    assert (digests[0] == digests[1]) == same


# -- secrets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_secret_is_its_file_without_the_line_end(tmp_path: Path, end: bytes) -> None:
    """As openssl and editors write it; a group may read it."""
    assert read_secret(secret_file(tmp_path / "s", b"0123456789abcdef" + end, 0o640)) == b"0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (b"0123456789abcde\n", 0o600, "does not hold 16 to 4096 bytes"),
        (b"x" * 5000, 0o600, "does not hold 16 to 4096 bytes"),
        (b"0123456789abcdef", 0o604, "is open to everybody"),
        (b"0123456789abcdef", 0o602, "is open to everybody"),
    ],
)
def test_a_bad_secret_is_refused(tmp_path: Path, text: bytes, mode: int, why: str) -> None:
    """Too short, too long, or open to everybody; the message does not hold it."""
    with pytest.raises(SettingsError, match=why) as caught:
        read_secret(secret_file(tmp_path / "s", text, mode))
    assert caught.value.code == "webhook-secret"
    assert text.decode()[:8] not in str(caught.value)


def test_a_secret_that_is_not_there(tmp_path: Path) -> None:
    """The message says how to make one."""
    with pytest.raises(SettingsError, match="openssl rand"):
        read_secret(tmp_path / "none")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_secret(tmp_path)


# -- what follows from an answer ------------------------------------------------------------------------------


@given(st.integers(0, 599))
def test_every_status_has_one_meaning(status: int) -> None:
    """2xx is taken, 410 ends it, all else is tried again, redirects and no answer too."""
    found = policy.result_of(Answer(status))
    if 200 <= status < 300:
        assert found is Result.DELIVERED
    else:
        assert found is (Result.REFUSED if status == 410 else Result.RETRIED)
    assert policy.told(Answer(status, "cut"))


@given(st.integers(0, 10**6), st.floats(0.001, 100), st.floats(0.001, 10_000), st.floats(0, 1))
def test_pauses_are_bounded_and_never_nothing(failures: int, initial: float, maximum: float, share: float) -> None:
    """Between half of the exponential and all of it, and never above the longest one."""
    found = policy.pause(failures, initial, maximum, share)
    assert min(initial, maximum) / 2 <= found <= maximum
    assert found <= policy.pause(failures + 1, initial, maximum, 0)


@given(st.integers(1, 20))
def test_pauses_double(failures: int) -> None:
    """Until the longest one is reached."""
    assert policy.pause(failures + 1, 1, 1e9, 0.3) == pytest.approx(2 * policy.pause(failures, 1, 1e9, 0.3))


@given(st.text(max_size=40), st.floats(0, 2e9))
def test_any_retry_after_is_within_bounds(text: str, now: float) -> None:
    """Whatever a receiver writes."""
    assert 0 <= policy.asked_pause(text, now) <= policy.LONGEST_SECONDS


def test_retry_after_in_both_forms() -> None:
    """Seconds, and a date (RFC 9110); what is past asks for nothing."""
    assert policy.asked_pause("120", 0) == 120
    assert policy.asked_pause(" 7 ", 0) == 7
    assert policy.asked_pause("9" * 40, 0) == policy.LONGEST_SECONDS
    assert policy.asked_pause(formatdate(1000 + 90, usegmt=True), 1000) == 90
    assert policy.asked_pause(formatdate(1000 - 90, usegmt=True), 1000) == 0
    assert policy.asked_pause("soon", 0) == policy.asked_pause("", 0) == policy.asked_pause("-5", 0) == 0


# -- settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/y",
        "https://",
        "https:///path",
        "https://user:word@host/",
        "https://host/#part",
        "https://host:0/",
        "https://host:99999/",
        "https://ho st/",
        "https://höst/",
        "https://host/\r\nX: y",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str) -> None:
    """Other schemes, no host, credentials, fragments, wrong ports, anything that could split a header."""
    with pytest.raises(ValueError, match=r"write|ort"):
        WebhookSettings(url=url, secret_file=Path("s"))


def test_names_and_hosts_of_webhooks_are_checked() -> None:
    """A name is a label of metrics and part of a key; a host that is not in the inventory would never be told of."""
    hook = {"url": "https://host/x", "secret_file": "s"}
    with pytest.raises(ValueError, match="no name for a webhook"):
        Settings(webhooks={"a:b": hook})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="inventory has no nowhere"):
        Settings(webhooks={"a": hook | {"hosts": ["nowhere"]}})  # type: ignore[dict-item]


def test_files_are_relative_to_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a process is started."""
    file = tmp_path / "vmrelay.toml"
    file.write_text('[webhooks.a]\nurl = "https://host/x"\nsecret_file = "hook.secret"\nca_file = "/etc/ca.pem"\n')
    monkeypatch.setenv("VMRELAY_CONFIG", str(file))
    found = settings.load().webhooks["a"]
    assert (found.secret_file, found.ca_file) == (tmp_path / "hook.secret", Path("/etc/ca.pem"))
