"""The signature of a webhook's message: pure, but for reading the secret."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from worker.errors import SettingsError

SIGNATURE = "Vmrelay-Signature"
DELIVERY = "Vmrelay-Delivery"
LEAST_BYTES, MOST_BYTES = 16, 4096


def signature(secret: bytes, at: int, body: bytes) -> str:
    """The header ``Vmrelay-Signature`` of a message that is sent at the Unix time ``at``.

    HMAC-SHA256 (RFC 2104) over the time, a dot and the body as it is sent: who replays an old message cannot give it a
    new time.
    """
    digest = hmac.new(secret, b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def read_secret(path: Path) -> bytes:
    """The secret in a file, without the end of its line.

    Raises ``SettingsError`` (``webhook-secret``) where it cannot be read, others may read it, or it is too short.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(MOST_BYTES + 1).rstrip(b"\r\n")
    except OSError as missing:
        raise _wrong(f"cannot be read ({missing.strerror})", path, "make it: openssl rand -hex 32") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise _wrong("is open to everybody on this machine", path, "chmod o-rwx it")
    if not LEAST_BYTES <= len(secret) <= MOST_BYTES:
        raise _wrong(f"does not hold {LEAST_BYTES} to {MOST_BYTES} bytes", path, "make a new one: openssl rand -hex 32")
    return secret


def _wrong(what: str, path: Path, then: str) -> SettingsError:
    return SettingsError(f"the webhook's secret {path} {what}; {then}", code="webhook-secret")
