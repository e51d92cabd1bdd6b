"""Who asks, and what they may: tokens, sessions of browsers, and this machine alone where there is no tokens file."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from worker.errors import SettingsError
from worker.settings import WebSettings
from worker.web.problems import Denied
from worker.web.tokens import Role, Token, Tokens, digest_of, find

COOKIE = "vmrelay_session"
SESSION_SECONDS = 12 * 3600
"""How long a browser stays logged in."""
MOST_SESSIONS = 1000
"""So many at once; one more ends the oldest."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="vmrelay"'}
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks."""

    name: str
    """The token's; empty for somebody on this machine, where there is no tokens file."""
    role: Role
    speaks_for_others: bool = False
    digest: bytes = b""
    """Of the token that says so."""
    session: str = ""
    """Of a browser: the key of its session."""

    def requester(self, given: str) -> str:
        """``requested_by`` of what they ask for, where the request itself says ``given``."""
        if not self.name:
            return given
        return f"{self.name}: {given}"[:500] if given and self.speaks_for_others else self.name


LOCAL = Who("", Role.ADMIN, speaks_for_others=True)
"""Whoever is on this machine, where there is no tokens file."""


@dataclass(frozen=True, slots=True)
class _Session:
    name: str
    digest: bytes
    until: float


class Access:
    """Who may do what, by the settings. Safe to use from several threads."""

    def __init__(self, settings: WebSettings) -> None:
        """Raises ``SettingsError`` for a broken tokens file, and where others are served without one."""
        self._tokens = Tokens(settings.tokens_file) if settings.tokens_file else None
        if self._tokens is None and not is_local(settings.address):
            raise SettingsError(
                f"web.address {settings.address} is not this machine's own, and nobody would be asked for a token: "
                "set web.tokens_file ('vmrelay web-token NAME --role operate' makes one), or listen on 127.0.0.1"
            )
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def asks(self) -> bool:
        """Whether a token is needed."""
        return self._tokens is not None

    def who(self, headers: Headers, cookies: Mapping[str, str]) -> Who | None:
        """Who sends a request; ``None`` where it brings nothing. Raises ``Denied`` (401) for a token that is none."""
        if self._tokens is None:
            return LOCAL
        if given := headers.get("authorization"):
            kind, _, token = given.partition(" ")
            found = self._known(digest_of(token.strip())) if kind.lower() == "bearer" else None
            if found is None:
                raise Denied(401, "wrong-token", "this token is unknown, or has expired", CHALLENGE)
            return _as_who(found)
        return self._by_session(cookies[COOKIE]) if COOKIE in cookies else None

    def holds(self, who: Who) -> bool:
        """Whether somebody may still do what they might when they asked: for answers that last."""
        if self._tokens is None:
            return True
        found = self._known(who.digest)
        still_in = not who.session or who.session in self._sessions
        return found is not None and still_in and found.role >= who.role

    def _known(self, digest: bytes) -> Token | None:
        found = find(self._tokens.now(), digest) if self._tokens else None
        return found if found and found.holds(datetime.now(UTC)) else None

    # -- sessions of browsers -----------------------------------------------------------------------

    def login(self, token: str) -> tuple[str, Who]:
        """Begin a session for whoever has this token: its cookie's value. Raises ``Denied`` (401)."""
        if self._tokens is None:
            return "", LOCAL
        found = self._known(digest_of(token.strip()))
        if found is None:
            raise Denied(401, "wrong-token", "this token is unknown, or has expired")
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_key(value)] = _Session(found.name, found.digest, time.monotonic() + SESSION_SECONDS)
            if len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return value, _as_who(found, _key(value))

    def logout(self, cookies: Mapping[str, str]) -> None:
        """End the session that a request belongs to, if there is one."""
        with self._lock:
            self._sessions.pop(_key(cookies.get(COOKIE, "")), None)

    def _by_session(self, value: str) -> Who | None:
        key = _key(value)
        with self._lock:
            session = self._sessions.get(key)
            if session and session.until < time.monotonic():
                del self._sessions[key]
                session = None
        found = self._known(session.digest) if session else None
        return _as_who(found, key) if found else None


def _as_who(token: Token, session: str = "") -> Who:
    return Who(token.name, token.role, token.speaks_for_others, token.digest, session)


def _key(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def set_cookie(response: Response, value: str, request: Request) -> None:
    """Give a browser its session: not for scripts, not for other sites, and only over TLS but on this machine."""
    secure = request.url.scheme == "https" or not is_local(request.url.hostname or "")
    response.set_cookie(
        COOKIE, value, max_age=SESSION_SECONDS, path="/", secure=secure, httponly=True, samesite="strict"
    )


def drop_cookie(response: Response) -> None:
    """Take it away again."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


# -- where a request comes from: pure ------------------------------------------------------------------------


def is_local(host: str) -> bool:
    """Whether a name or address is this machine's own, whatever anybody's name server says. Pure."""
    name = host.strip("[]").lower()
    if name in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refuse_stranger(headers: Headers) -> None:
    """Raises ``Denied`` where a browser was led here under another name (DNS rebinding). Pure."""
    if not is_local(_hostname(headers.get("host", ""))):
        raise Denied(
            403,
            "wrong-host",
            "without a tokens file this machine alone is served, as localhost or 127.0.0.1: the request names another",
        )


def refuse_foreign(method: str, headers: Headers, *, by_cookie: bool) -> None:
    """Raises ``Denied`` where the page of another site would change something in a user's name. Pure.

    Browsers say where a request comes from (Sec-Fetch-Site, Origin). What says nothing is no browser's, and is only
    refused where a cookie is all that speaks for it.
    """
    if method in SAFE:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        fine = site in ("same-origin", "none")
    elif origin is not None:
        fine = _authority(origin) == headers.get("host", "").lower() != ""
    else:
        fine = not by_cookie
    if not fine:
        raise Denied(403, "foreign-origin", "the request comes from the page of another site")


def _hostname(authority: str) -> str:
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


# -- what a route needs --------------------------------------------------------------------------------------

bearer = HTTPBearer(auto_error=False, description="Made by `vmrelay web-token NAME --role view|operate|admin`.")


def needs(role: Role) -> Callable[..., Who]:
    """A dependency of a route: somebody who may do this. Raises ``Denied`` (401, 403)."""

    def granted(
        request: Request, _documented: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None
    ) -> Who:
        who: Who | None = request.scope["state"].get("who")
        if who is None:
            raise Denied(401, "token-missing", "this needs a token: Authorization: Bearer …", CHALLENGE)
        if who.role < role:
            raise Denied(403, "role-missing", f"this needs the role {role.word}; '{who.name}' has {who.role.word}")
        return who

    return granted


View = Annotated[Who, Depends(needs(Role.VIEW))]
Operate = Annotated[Who, Depends(needs(Role.OPERATE))]
Admin = Annotated[Who, Depends(needs(Role.ADMIN))]
