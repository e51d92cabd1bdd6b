"""The application that ``vmrelay web`` serves."""

from __future__ import annotations

from fastapi import FastAPI

from worker.runtime import Runtime


def create(parts: Runtime) -> FastAPI:
    """The application over the journal and the inventory of these parts."""
    app = FastAPI(title="vmrelay", version="1", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    app.state.parts = parts
    return app
