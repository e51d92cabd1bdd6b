"""Cookies and domain definitions, sealed: Redis never holds one in the clear.

A Virtuozzo cookie is a bearer credential, and a definition may hold passwords. Both are encrypted with
AES-256-GCM under a key that all agents share; the migration, attempt and kind are authenticated with
them, so that one migration's cookie is of no use in another.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker.errors import Failed, SettingsError
from worker.hypervisors.base import ParamValue

DOCUMENTS = ("destination_xml", "persistent_xml")
"""The migration parameters that are domain definitions, and may hold passwords."""
KEY_BYTES = 32
NONCE_BYTES = 12


class Seal:
    """Seals and opens with one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise SettingsError(f"a seal key is {KEY_BYTES} bytes, this one has {len(key)}")
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, context: str) -> str:
        """Encrypt ``plain``, bound to ``context``; empty stays empty."""
        if not plain:
            return ""
        nonce = os.urandom(NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, plain, context.encode())).decode("ascii")

    def open(self, sealed: str, context: str) -> bytes:
        """Decrypt what ``seal`` made. Raises ``Failed`` (``seal-broken``) for anything else."""
        if not sealed:
            return b""
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise Failed(
                "a sealed cookie does not open: the agents' seal keys differ or the message was tampered with; "
                "give all agents the same seal_key_file",
                code="seal-broken",
            ) from None


def seal_documents(seal: Seal, params: Mapping[str, ParamValue], migration: str) -> dict[str, ParamValue]:
    """The parameters with every definition among them sealed; ``open_documents`` gives them back."""
    return {
        name: seal.seal(str(value).encode(), f"{migration}/{name}") if name in DOCUMENTS else value
        for name, value in params.items()
    }


def open_documents(seal: Seal, params: Mapping[str, ParamValue], migration: str) -> dict[str, ParamValue]:
    """The parameters as they were asked for. Raises ``Failed`` (``seal-broken``)."""
    return {
        name: seal.open(str(value), f"{migration}/{name}").decode() if name in DOCUMENTS else value
        for name, value in params.items()
    }


def load_key(path: Path) -> Seal:
    """The seal with the key in ``path``. Raises ``SettingsError``."""
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError as missing:
        raise SettingsError(
            f"the seal key {path} cannot be read ({missing.strerror}); make one with 'vmrelay seal-key' and give it "
            "to every agent"
        ) from None
    if mode & 0o077:
        raise SettingsError(f"the seal key {path} can be read by others; chmod 600 it")
    return Seal(key)


def ensure_key(path: Path) -> None:
    """Make a new random key in ``path`` unless there is one; safe when several processes try at once."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(KEY_BYTES))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
