"""Sealed cookies: only the key and the context they were sealed with open them."""

from __future__ import annotations

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Failed, SettingsError
from worker.seal import KEY_BYTES, Seal, ensure_key, load_key

SEAL = Seal(b"k" * KEY_BYTES)


@given(plain=st.binary(), context=st.text(st.characters(codec="utf-8")))
def test_what_was_sealed_opens(plain: bytes, context: str) -> None:
    """Any bytes, any context; and nothing of them shows."""
    sealed = SEAL.seal(plain, context)
    assert SEAL.open(sealed, context) == plain
    assert (sealed == "") is (plain == b"")
    if len(plain) > 4:
        assert plain not in base64.b64decode(sealed)


@given(plain=st.binary(min_size=1), bit=st.integers(0), other=st.text(st.characters(codec="utf-8")))
def test_anything_else_is_refused(plain: bytes, bit: int, other: str) -> None:
    """A flipped bit, another context, another key, a cut."""
    raw = bytearray(base64.b64decode(SEAL.seal(plain, "m/1/cookie")))
    sealed = base64.b64encode(raw).decode()
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    tampered = base64.b64encode(raw).decode()
    attempts = [(SEAL, tampered, "m/1/cookie"), (SEAL, sealed[:-4], "m/1/cookie"), (SEAL, "nonsense!", "m/1/cookie")]
    attempts += [(Seal(b"o" * KEY_BYTES), sealed, "m/1/cookie"), (SEAL, sealed, "m/2/cookie")]
    attempts += [(SEAL, sealed, other)] if other != "m/1/cookie" else []
    for seal, text, context in attempts:
        with pytest.raises(Failed) as refused:
            seal.open(text, context)
        assert refused.value.code == "seal-broken"


@given(text=st.text())
def test_opening_any_text_raises_only_failed(text: str) -> None:
    """Whatever stands in a message."""
    if text:
        with pytest.raises(Failed):
            SEAL.open(text, "m/1/cookie")


def test_one_key_for_all_who_ask_at_once(tmp_path: Path) -> None:
    """Several processes that make the key end up with the same one; no draft stays."""
    path = tmp_path / "deep" / "seal.key"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ensure_key(path), range(32)))
    assert len(path.read_bytes()) == KEY_BYTES
    assert [file.name for file in path.parent.iterdir()] == ["seal.key"]
    assert path.stat().st_mode & 0o777 == 0o600
    sealed = load_key(path).seal(b"x", "c")
    assert load_key(path).open(sealed, "c") == b"x"


def test_a_bad_key_file_is_an_error_that_helps(tmp_path: Path) -> None:
    """Missing, readable by others, too short."""
    path = tmp_path / "seal.key"
    with pytest.raises(SettingsError, match="seal-key"):
        load_key(path)
    path.write_bytes(os.urandom(KEY_BYTES))
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_key(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(SettingsError, match="32 bytes"):
        load_key(path)
