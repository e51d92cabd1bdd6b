"""Errors as RFC 9457 problems, with the codes and the hints of the command."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import redis
import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from worker.errors import Rejected, RelayError, Unavailable
from worker.hints import hint
from worker.journal.trouble import trouble

logger = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
"""After so long it is worth asking again what could not be done for want of Redis or a scheduler."""
MOST_FIELDS = 10
CONFLICTS = frozenset(
    {
        "batch-exists", "both-dead", "busy-domain", "busy-roll", "cordoned", "cordoned-by-settings", "domain-elsewhere",
        "draining", "goes-on", "host-alive", "id-taken", "in-doubt", "name-taken", "not-over", "not-running",
        "not-started", "not-waiting", "nothing-failed", "nowhere-to-go", "over", "plan-outdated", "roll-exists",
        "rolling", "too-late", "too-many-tunings", "uuid-taken",
    }
)  # fmt: skip
"""Refusals that follow from how things stand, and not from the request alone: 409."""
HTTP_CODES = {
    400: ("bad-request", "the request is no HTTP that this server understands"),
    404: ("not-found", "there is nothing at this path; /v1/openapi.json lists what there is"),
    405: ("method-not-allowed", "this path does not take this method; the header Allow lists those that it takes"),
}
"""What the framework itself answers, in our words."""


class Problem(BaseModel):
    """What every error looks like (RFC 9457)."""

    type: str = Field(examples=["urn:vmrelay:error:busy-domain"])
    title: str
    status: int
    detail: str
    """What is wrong, why, and what to do about it."""
    code: str
    """Stable: what programs compare. The codes are those of the command."""
    next: str | None = None
    """What to do, where the detail does not say it."""


class Denied(RelayError):
    """An HTTP request that is refused before anything is asked of the relay."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.headers = dict(headers or {})


def unknown(kind: str, name: str) -> Denied:
    """The 404 of a migration, batch or host that the path names."""
    return Denied(404, f"unknown-{kind}", f"there is no {kind} '{name[:80]}'")


def status_of(error: RelayError, in_path: Collection[str] = ()) -> int:
    """The HTTP status of an error; ``in_path`` are the kinds of things that the path names. Pure."""
    if isinstance(error, Denied):
        return error.status
    if isinstance(error, Unavailable):
        return 503
    if not isinstance(error, Rejected):
        return 500
    if error.code.removeprefix("unknown-") in in_path:
        return 404
    return 409 if error.code in CONFLICTS else 422


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that tells of an error."""
    plain = code.replace("-", " ").capitalize() if code.islower() else code
    shown = Problem(type=f"urn:vmrelay:error:{code}", title=plain, status=status, detail=detail, code=code)
    document = shown.model_dump(exclude={"next"}) | ({"next": way} if (way := hint(code, detail)) else {})
    more = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else {}
    return Response(json.dumps(document), status, more | dict(headers or {}), MEDIA_TYPE)


def problem_of(error: Exception, in_path: Collection[str] = ()) -> Response:
    """The answer for whatever was raised. What nobody expected is logged, and told without its text."""
    if isinstance(error, RelayError):
        status = status_of(error, in_path)
        if status != 500:
            return problem(status, str(error.code), error.message, getattr(error, "headers", None))
    if isinstance(error, redis.RedisError) and (why := trouble(error)):
        return problem(503, why, "Redis does not do what it was asked now; try again, or see 'vmrelay doctor'")
    logger.error("internal error", error=type(error).__name__, exc_info=error)
    return problem(500, "internal", "something is wrong inside vmrelay; its log says what")


# -- handlers of the framework --------------------------------------------------------------------------


async def on_error(request: Request, error: Exception) -> Response:
    """For our own errors and Redis's."""
    return problem_of(error, request.path_params)


async def on_http_error(_request: Request, error: Exception) -> Response:
    """For what the framework refuses by itself: no such path, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    if isinstance(error.__cause__, Denied):  # while the body was read
        return problem_of(error.__cause__)
    code, text = HTTP_CODES.get(error.status_code, ("http-error", str(error.detail)))
    return problem(error.status_code, code, text, error.headers)


async def on_invalid(_request: Request, error: Exception) -> Response:
    """For a request of the wrong form: names the fields, and repeats nothing of what they hold."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it alone
    return problem(422, "malformed", f"the request is malformed: {wrong_fields(error.errors())}")


def wrong_fields(errors: Collection[Mapping[str, object]]) -> str:
    """The first wrong fields and what is wrong with them. Pure."""
    told: dict[str, str] = {}
    for each in list(errors)[:MOST_FIELDS]:
        where = each["loc"]
        place = [str(part) for part in where if part != "body"] if isinstance(where, (tuple, list)) else []
        text = "it is no JSON" if each["type"] == "json_invalid" else str(each["msg"]).removeprefix("Value error, ")
        told.setdefault(".".join(place[:4])[:80] if each["type"] != "json_invalid" else "", text)
    return "; ".join(f"{field}: {text}" if field else text for field, text in told.items())
