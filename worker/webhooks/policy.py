"""What follows from a try to deliver, and when the next one is due: pure."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum

LONGEST_SECONDS = 3600.0
"""A receiver that asks for a longer pause (``Retry-After``) gets this one."""
GONE = 410


class Result(StrEnum):
    """What came of one try."""

    DELIVERED = "delivered"
    """The receiver answered 2xx."""
    RETRIED = "retried"
    """It did not; another try follows."""
    REFUSED = "refused"
    """It answered 410: it will never take this one."""
    DROPPED = "dropped"
    """Nothing was sent: the record has expired."""
    GAVE_UP = "gave-up"
    """Nothing more is sent: it has waited for ``give_up_seconds``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver did with a message."""

    status: int = 0
    """0 where there was no answer."""
    error: str = ""
    """Why there was none."""
    retry_after: str = ""
    """That header, as it came."""
    seconds: float = 0.0


def result_of(answer: Answer) -> Result:
    """What an answer means. Redirects are not followed, so they are failures like any other."""
    if 200 <= answer.status < 300:
        return Result.DELIVERED
    return Result.REFUSED if answer.status == GONE else Result.RETRIED


def told(answer: Answer) -> str:
    """An answer in words; nothing of what the receiver wrote but its status."""
    if not answer.status:
        return answer.error
    redirect = ": redirects are not followed" if 300 <= answer.status < 400 else ""
    return f"answered {answer.status}{redirect}"


def pause(failures: int, initial: float, maximum: float, share: float) -> float:
    """Seconds until the next try after so many failed ones; ``share`` (0 to 1) is chance.

    Exponential, less up to half of it, so that what failed at once does not come again at once.
    """
    longest = min(initial * 2.0 ** min(max(failures, 1) - 1, 64), maximum)
    return longest * (1 - share / 2)


def asked_pause(retry_after: str, now: float) -> float:
    """The pause that a receiver asks for (RFC 9110, 10.2.3: seconds or a date), within bounds; 0 where it asks for none
    or for nonsense."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        asked = float(text[:9])
    else:
        try:
            asked = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(asked, 0.0), LONGEST_SECONDS)
