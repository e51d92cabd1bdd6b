"""The HTTP API as an OpenAPI document."""

from __future__ import annotations

import json
from pathlib import Path

from worker.runtime import assemble
from worker.settings import Settings, WebSettings
from worker.web.app import create, described


def openapi() -> str:
    """``docs/contract/openapi.json``: what ``GET /v1/openapi.json`` answers, whatever the settings are."""
    app = create(assemble(Settings(redis_url="redis://127.0.0.1:1/0", state_dir=Path("/"), web=WebSettings())))
    return json.dumps(described(app), indent=2, sort_keys=True) + "\n"
