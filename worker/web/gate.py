"""What every request passes before anything else is done with it, and what every answer carries."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker import metrics
from worker.settings import WebSettings
from worker.web.access import SAFE, Access, Who, refuse_foreign, refuse_stranger
from worker.web.bounds import Buckets, caller_of
from worker.web.problems import Denied, problem_of

logger = structlog.get_logger(__name__)

API = "/v1/"
ALWAYS = frozenset({"/healthz"})
"""Answered whoever asks, and however often."""
LOGIN_BYTES = 64 * 1024
"""So much of a body is read from somebody without a token."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Of every answer that does not say otherwise."""


class Gate:
    """Middleware: who asks and how often, from where, and how much; then the answer's headers, metrics and log."""

    def __init__(self, app: ASGIApp, settings: WebSettings, access: Access) -> None:
        self._app = app
        self._settings = settings
        self._access = access
        self._buckets = Buckets(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        scope.setdefault("state", {})["who"] = None
        try:
            limit = self._admit(scope, Headers(scope=scope))
            await self._app(scope, _limited(receive, limit), answer.send)
        except ClientDisconnect:
            pass
        except Exception as error:
            await answer.fail(error, receive)
        finally:
            answer.tell()

    def _admit(self, scope: Scope, headers: Headers) -> int:
        """Who asks; returns how many bytes of a body they may send. Raises ``Denied``."""
        if scope["path"] in ALWAYS:
            return LOGIN_BYTES
        if not self._access.asks:
            refuse_stranger(headers)
        who, wrong = self._who(headers)
        scope["state"]["who"] = who
        # Who guesses tokens is counted by the address that the guesses come from.
        caller = f"token {who.name}" if who and who.name else caller_of((scope.get("client") or ("",))[0])
        if wait := self._buckets.take(caller, time.monotonic()):
            most = self._settings.requests_per_minute
            raise Denied(429, "too-many-requests", f"more than {most} requests a minute", {"Retry-After": str(wait)})
        if wrong:
            raise wrong
        if "authorization" not in headers or not self._access.asks:
            refuse_foreign(scope["method"], headers, by_cookie=bool(who and who.session))
        limit = self._settings.body_bytes if who else LOGIN_BYTES
        _refuse_body(scope, headers, limit)
        return limit

    def _who(self, headers: Headers) -> tuple[Who | None, Denied | None]:
        try:
            return self._access.who(headers, cookies_of(headers)), None
        except Denied as wrong:
            return None, wrong


def cookies_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The cookies that a request brings."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def _refuse_body(scope: Scope, headers: Headers, limit: int) -> None:
    """Raises ``Denied`` for a body that is too long, or no JSON where JSON is taken."""
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise _too_long(limit)
    sends = length not in ("", "0") or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if sends and scope["method"] not in SAFE and scope["path"].startswith(API) and kind != "application/json":
        raise Denied(415, "unsupported-media-type", "what is sent must be JSON: Content-Type: application/json")


def _too_long(limit: int) -> Denied:
    return Denied(413, "too-long", f"the request is longer than {limit} bytes", {"Connection": "close"})


def _limited(receive: Receive, limit: int) -> Receive:
    """The same messages, until they bring more than ``limit`` bytes; then ``Denied`` (413)."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_long(limit)
        return message

    return counted


class _Answer:
    """One answer on its way: its headers, how long it took, and what is told of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._began = time.perf_counter()
        self._status = 0

    async def send(self, message: Message) -> None:
        """Pass on a part of it."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def fail(self, error: Exception, receive: Receive) -> None:
        """Answer with a problem, if nothing was answered yet."""
        found = problem_of(_plain(error))
        if not self._status:
            await found(self._scope, receive, self.send)

    def tell(self) -> None:
        """Count it, and log it: changes and failures for everybody, the rest for those who debug."""
        seconds = time.perf_counter() - self._began
        scope, method = self._scope, self._scope["method"]
        shown, status = method if method in METHODS else "OTHER", self._status or 499
        metrics.http_requests.labels(shown, route_of(scope), f"{status // 100}xx").inc()
        if not scope["state"].get("streams"):
            metrics.http_request_seconds.labels(shown, route_of(scope)).observe(seconds)
        who: Who | None = scope["state"].get("who")
        level = logger.info if method not in SAFE or status >= 400 else logger.debug
        level(
            "request",
            method=shown,
            # As it was sent: a decoded one may hold line ends. Without the query, which may hold anything.
            path=bytes(scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")[:300],
            status=status,
            ms=round(seconds * 1000, 1),
            by=who.name if who else None,
        )


def _plain(error: Exception) -> Exception:
    """What is in a group of one: the framework wraps what a task group of its own raised."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def route_of(scope: Scope) -> str:
    """The template of the route that a request took, as metrics show it; few, whatever is asked for."""
    return str(getattr(scope.get("route"), "path", "") or "other")
