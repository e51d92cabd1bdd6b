"""FastAPI: moves guests over vmrelay's HTTP API. ``uvicorn --factory main:application`` in this folder."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID

from anyio import to_thread
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from moves import KeyTaken, Look, Move, Moves
from progress import progress
from pydantic import BaseModel, Field
from vmrelay_client import Client
from vmrelay_client.webhooks import BadSignature, verify

log = logging.getLogger(__name__)
HERE = Path(__file__).parent


class Wanted(BaseModel):
    """What the page sends."""

    key: UUID
    """Made with the form: a double click sends the same one twice."""
    guest: str = Field(min_length=1, max_length=200)
    destination: str = Field(min_length=1, max_length=200)


def application() -> FastAPI:
    """As the environment says. Secrets come from files: the environment is shown in too many places."""
    said = os.environ
    token = Path(said["RELAY_TOKEN_FILE"]).read_text().strip() if "RELAY_TOKEN_FILE" in said else None
    relay = Client.from_url(said.get("RELAY_URL", "http://127.0.0.1:8080"), token=token)
    secret = Path(said["WEBHOOK_SECRET_FILE"]).read_bytes().rstrip(b"\r\n") if "WEBHOOK_SECRET_FILE" in said else b""
    database = Path(said.get("MOVES_DATABASE", HERE / "moves.sqlite"))
    return create_app(relay, database, secret, float(said.get("MOVES_SYNC_SECONDS", "30")))


def current_user(x_forwarded_user: Annotated[str, Header()] = "somebody") -> str:
    """Who asks: put your login here, and who may ask for what. This header is what a proxy with a login sets.

    The relay's token is the application's. Whom it speaks for is the application's word.
    """
    return x_forwarded_user


def create_app(relay: Client, database: Path, secret: bytes = b"", sync_seconds: float = 30) -> FastAPI:
    """The application; tests bring a client of their own. Without a secret it takes no webhooks.

    So often is sent what could not be sent, and looked at what nobody told the end of.
    """
    moves = Moves(database, relay)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def sync() -> None:
            while True:
                try:
                    await to_thread.run_sync(moves.sync)
                except Exception:  # whatever it was, the next round may do better; without this there is none
                    log.exception("moves are not looked at")
                await asyncio.sleep(sync_seconds)

        syncing = asyncio.create_task(sync())
        yield
        syncing.cancel()

    app = FastAPI(title="Move guests", lifespan=lifespan)
    app.mount("/static", StaticFiles(directory=HERE / "static"))

    def existing(number: int) -> Move:
        if (move := moves.get(number)) is None:
            raise HTTPException(404, "there is no such move")
        return move

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(HERE / "static" / "page.html")

    @app.get("/moves")
    def last() -> list[Move]:
        """The last moves, newest first."""
        return moves.last()

    # No other site's page can send this: JSON wants a question first (CORS), which is answered with no.
    @app.post("/moves", status_code=202)
    def ask(wanted: Wanted, who: Annotated[str, Depends(current_user)], after: BackgroundTasks) -> Move:
        """Keep what is asked for; it is committed before it is sent, and sent once the answer is out."""
        try:
            move = moves.ask(str(wanted.key), who, wanted.guest, wanted.destination)
        except KeyTaken:
            raise HTTPException(409, "this form was sent already, with something else in it") from None
        after.add_task(moves.send, move)
        return move

    @app.get("/moves/{number}")
    def look(move: Annotated[Move, Depends(existing)]) -> Look:
        """How far a move is, for those who poll."""
        return moves.look(move)

    @app.get("/moves/{number}/events", response_class=EventSourceResponse)
    async def follow(move: Annotated[Move, Depends(existing)]) -> AsyncIterator[ServerSentEvent]:
        """How far a move is, as it happens; the last one says ``over``."""
        async for told in progress(moves, relay, move):
            yield ServerSentEvent(data=told)

    @app.post("/webhook", status_code=204)
    async def webhook(request: Request, vmrelay_signature: Annotated[str, Header()] = "") -> None:
        """vmrelay tells an outcome. It repeats that until it gets a 2xx, so the same twice must do no harm."""
        if not secret:
            raise HTTPException(404, "this application takes no webhooks")
        try:
            # The body byte for byte: JSON that was read and written again would have another signature.
            seen = verify(await request.body(), vmrelay_signature, secret).migration
        except BadSignature as bad:
            raise HTTPException(401, bad.message) from None
        # Batches are told, too, and migrations that others asked for.
        if seen and (move := await to_thread.run_sync(moves.of_migration, seen.id)):
            await to_thread.run_sync(moves.note, move, seen.state, seen.error.message if seen.error else "")

    return app
