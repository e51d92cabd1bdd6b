"""The application that ``vmrelay web`` serves."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any

import redis
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic.warnings import UnsupportedFieldAttributeWarning
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from worker import metrics
from worker.errors import RelayError
from worker.runtime import Runtime
from worker.web import batches, health, hosts, migrations
from worker.web.desk import desk_for
from worker.web.gate import Gate
from worker.web.page import mount
from worker.web.problems import Problem, on_error, on_http_error, on_invalid

DESCRIPTION = """Move running virtual machines between hosts.

Errors are `application/problem+json` (RFC 9457) with the command's stable `code`. Roles: `view`, `operate`, `admin`.
"""


def create(parts: Runtime) -> FastAPI:
    """The application over the journal and the inventory of these parts. Raises ``SettingsError``."""
    app = FastAPI(
        title="vmrelay",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: f"{(*route.tags, 'page')[0]}_{route.name}",
    )
    desk = app.state.desk = desk_for(parts)
    app.state.parts = parts
    for room in (migrations, batches, hosts, health):
        app.include_router(room.router)
    mount(app, desk)
    for kind in (RelayError, redis.RedisError):
        app.add_exception_handler(kind, on_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_middleware(Gate, settings=parts.settings.web, access=desk.access)
    metrics.build.labels(version("vmrelay")).set(1)
    # In a thread, unlike the framework's own: making it takes half a second.
    app.add_api_route("/v1/openapi.json", lambda: JSONResponse(described(app)), include_in_schema=False)
    return app


def described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with what problems look like; made once."""
    if not app.openapi_schema:
        with warnings.catch_warnings():
            # FastAPI gives pydantic the alias of a body where it has no effect.
            warnings.simplefilter("ignore", UnsupportedFieldAttributeWarning)
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        schemas[Problem.__name__] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        app.openapi_schema = document
    return app.openapi_schema
