"""Whether a message is from vmrelay: its signature."""

import hashlib
import hmac
import re

TOLERANCE_SECONDS = 300
"""A message that is older (or newer) is refused: somebody replays it, or a clock is wrong."""
_HEADER = re.compile(r"t=(?P<at>[0-9]{1,12}),v1=(?P<digest>[0-9a-f]{64})")


def genuine(secret: bytes, header: str, body: bytes, now: float) -> bool:
    """Whether the header ``Vmrelay-Signature`` fits the body, byte for byte as it came, and is fresh.

    HMAC-SHA256 over the time, a dot and the body. Parsed JSON that is written again is another body.
    """
    found = _HEADER.fullmatch(header)
    if found is None or abs(now - int(found["at"])) > TOLERANCE_SECONDS:
        return False
    digest = hmac.new(secret, found["at"].encode() + b"." + body, hashlib.sha256).hexdigest()
    # Not ==: the time that it takes would tell how much of a guess is right.
    return hmac.compare_digest(digest, found["digest"])
