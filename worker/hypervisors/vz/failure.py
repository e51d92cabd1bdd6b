"""Failed SDK jobs as ``HypervisorError``: the class by ``codes.py``, the text with all its causes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from worker.errors import HypervisorError, Retry
from worker.hypervisors.vz.codes import ENVELOPE, Code, code_for
from worker.hypervisors.vz.sdk import Event, Job, SdkError, unsigned

_WORST_FIRST = (Retry.PERMANENT, Retry.OPERATOR, Retry.VERIFY, Retry.REPREPARE, Retry.TRANSIENT, Retry.DONE)
_UUID_AFTER_SESSION = re.compile(
    r"(session[^{}\n]{0,20}?)\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?", re.IGNORECASE
)


class SdkFailure(HypervisorError):
    """A return code of the SDK. ``ret_code`` is unsigned."""

    def __init__(self, ret_code: int, message: str, entry: Code) -> None:
        super().__init__(
            message,
            code=entry.symbol,
            retry=entry.retry,
            after=entry.after,
            untouched=entry.untouched,
            tries=entry.tries,
            slow=entry.slow,
        )
        self.ret_code = unsigned(ret_code)


def from_job(job: Job, hide: Sequence[str] = ()) -> SdkFailure:
    """The failure of a finished job. ``hide`` holds session uuids that no text may show."""
    return from_code(job.get_ret_code(), job.get_error(), job.get_events(), hide)


def from_sdk(error: SdkError) -> SdkFailure:
    """The failure of a synchronous SDK function."""
    return from_code(error.code, Event(0, err_code=error.code, err_string=error.text))


def from_code(
    ret_code: int, error: Event | None = None, nested: Sequence[Event] = (), hide: Sequence[str] = ()
) -> SdkFailure:
    """The failure that a return code, its error event and the nested ones stand for.

    The envelope of failed preconditions takes the worst class of what it holds; positive items inform only.
    """
    number = unsigned(ret_code)
    causes = [event for event in nested if unsigned(event.err_code) >= 0x80000000]
    entry = code_for(number)
    text = _line(entry, error.err_string if error else "")
    if causes:
        text += " [" + "; ".join(_line(code_for(cause.err_code), cause.err_string) for cause in causes) + "]"
    if number == ENVELOPE and causes:
        entry = _envelope(entry, causes)
    return SdkFailure(number, _hidden(text, hide), entry)


def _envelope(entry: Code, causes: Sequence[Event]) -> Code:
    worst = min((code_for(cause.err_code) for cause in causes), key=lambda code: _WORST_FIRST.index(code.retry))
    return Code(entry.symbol, worst.retry, worst.reason, worst.after, True, worst.tries, worst.slow)


def _line(entry: Code, text: str) -> str:
    return f"{entry.symbol}: {text or entry.reason}"


def _hidden(text: str, hide: Sequence[str]) -> str:
    for secret in filter(None, hide):
        text = re.sub(re.escape(secret.strip("{}")), "(session)", text, flags=re.IGNORECASE)
    return _UUID_AFTER_SESSION.sub(r"\1(hidden)", text)
