"""The pages' routes: an overview, one migration's time line, their streams, files, and signing in."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qs, quote

import redis
from anyio import to_thread
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from worker.contract.names import IDENT
from worker.errors import RelayError
from worker.web.access import Who, drop_cookie, set_cookie
from worker.web.desk import Desk
from worker.web.page.hub import Hub
from worker.web.page.reading import Overview, Timeline
from worker.web.page.rendering import assets, build, page
from worker.web.page.view import View
from worker.web.problems import Denied, problem_of, unknown
from worker.web.streams import EventStream
from worker.web.tokens import Role

MOST_TIMELINES = 200
"""So many migrations' pages are kept at hand; the one that was asked for longest ago goes, if nobody watches it."""
OPTIONS = (
    ("paused", "leave it paused there"),
    ("compressed", "compress memory"),
    ("auto_converge", "slow the guest down until it converges"),
    ("postcopy", "allow post-copy"),
    ("non_shared_disk", "copy its disks"),
    ("unsafe", "skip the storage safety test"),
)
"""Flags that the form offers; a driver that does not know one refuses it and says why."""


class Pages:
    """The pages of one server."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._overview = Hub(Overview(desk.parts))
        self._timelines: dict[str, Hub] = {}

    def routes(self) -> list[Route]:
        """What is served."""
        return [
            Route("/", self.overview),
            Route("/live", self.overview_live),
            Route("/m/{ident}", self.migration),
            Route("/m/{ident}/live", self.migration_live),
            Route("/static/{build}/{name}", self.static),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
        ]

    # -- pages ----------------------------------------------------------------------------------------

    async def overview(self, request: Request) -> Response:
        """``GET /``."""
        who = _who(request)
        if who is None:
            return _to_login(request)
        return _page("overview.html", who, "/live", await self._overview.view(), options=OPTIONS)

    async def migration(self, request: Request) -> Response:
        """``GET /m/{id}``."""
        who = _who(request)
        if who is None:
            return _to_login(request)
        try:
            hub = await self._timeline(request)
        except (RelayError, redis.RedisError) as error:
            told = json.loads(bytes(problem_of(error, ("migration",)).body))
            shown = {name: told[name] for name in ("title", "detail", "code")}
            return page("error.html", told["status"], caller=_caller(who), **shown)
        return _page("migration.html", who, f"{request.url.path}/live", await hub.view())

    async def static(self, request: Request) -> Response:
        """``GET /static/{build}/{name}``: what pages are made of. Modules name each other within the same build."""
        found = assets().get(request.path_params["name"])
        if found is None:
            return problem_of(Denied(404, "not-found", "there is no such file"))
        body, kind = found
        # A page of before this server's start may ask for its own build: it gets this one, and loads itself anew soon.
        kept = {"Cache-Control": "public, max-age=86400, immutable"} if request.path_params["build"] == build() else {}
        return Response(body, media_type=kind, headers=kept)

    # -- streams --------------------------------------------------------------------------------------

    async def overview_live(self, request: Request) -> Response:
        """``GET /live``."""
        return self._stream(_needed(request), self._overview)

    async def migration_live(self, request: Request) -> Response:
        """``GET /m/{id}/live``."""
        who = _needed(request)
        return self._stream(who, await self._timeline(request))

    def _stream(self, who: Who, hub: Hub) -> Response:
        async def told() -> AsyncGenerator[bytes, None]:
            async with aclosing(hub.changes()) as changes:
                async for kind, data in changes:
                    # A session that has ended, or a token that was taken away, sees nothing more.
                    if not self._desk.access.holds(who):
                        return
                    yield _event(kind, data | {"now": time.time(), "build": build(), "age": round(hub.age, 1)})

        return EventStream(self._desk.streams, told)

    async def _timeline(self, request: Request) -> Hub:
        """The hub of a migration's page. Raises ``Denied`` (404) and ``redis.RedisError``."""
        ident = str(request.path_params["ident"])
        if hub := self._timelines.pop(ident, None):
            self._timelines[ident] = hub
            return hub
        reader = Timeline(self._desk.parts, ident)
        if not IDENT.fullmatch(ident) or not await to_thread.run_sync(reader.exists):
            raise unknown("migration", ident)
        # Somebody else may have made it while this one waited.
        hub = self._timelines.setdefault(ident, Hub(reader, "one"))
        for old in [old for old, each in self._timelines.items() if each.idle][: len(self._timelines) - MOST_TIMELINES]:
            del self._timelines[old]
        return hub

    # -- signing in -----------------------------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        """``GET`` and ``POST /login``: a token for a session."""
        if request.method != "POST":
            return page("login.html", next=_local(request.query_params.get("next", "/")), refused="")
        form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
        there = _local(form.get("next", ["/"])[0])
        try:
            value, _ = self._desk.access.login(form.get("token", [""])[0])
        except Denied as refused:
            return page("login.html", refused.status, next=there, refused=f"Refused: {refused.message}.")
        answer = RedirectResponse(there, 303)
        if value:
            set_cookie(answer, value, request)
        return answer

    async def logout(self, request: Request) -> Response:
        """``POST /logout``."""
        self._desk.access.logout(request.cookies)
        answer = RedirectResponse("/login", 303)
        drop_cookie(answer)
        return answer


def mount(app: FastAPI, desk: Desk) -> None:
    """Serve the pages beside the API; they are no part of its description."""
    app.router.routes.extend(Pages(desk).routes())


def _page(name: str, who: Who, live: str, view: View, **more: Any) -> Response:  # noqa: ANN401
    operate = who.role >= Role.OPERATE
    return page(name, caller=_caller(who), operate=operate, live=live, view=view, **more)


def _caller(who: Who) -> dict[str, Any]:
    return {"name": who.name, "role": who.role.word, "session": bool(who.session)}


def _who(request: Request) -> Who | None:
    found: Who | None = request.scope["state"].get("who")
    return found


def _needed(request: Request) -> Who:
    who = _who(request)
    if who is None:
        raise Denied(401, "token-missing", "the session has ended; sign in again at /login")
    return who


def _to_login(request: Request) -> Response:
    return RedirectResponse(f"/login?next={quote(request.url.path)}", 303)


def _local(target: str) -> str:
    """A path of this server, and nothing that a browser would take for another's."""
    fine = target.startswith("/") and target[1:2] not in ("/", "\\") and target.isprintable() and "\\" not in target
    return target if fine and target.isascii() else "/"


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
