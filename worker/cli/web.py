"""``vmrelay web``."""

from __future__ import annotations

import click

from worker.errors import Unavailable
from worker.runtime import runtime


@click.command(short_help="Serve the HTTP API and the live page.")
def web() -> None:
    """Serve the HTTP API and the live page, at the address and port of the settings' [web].

    \b
    Example:
      vmrelay web
    """
    try:
        import uvicorn

        from worker.web.app import create
    except ModuleNotFoundError as missing:
        raise Unavailable(
            f"the extra 'web' is not installed ({missing.name}); pip install 'vmrelay[web]'", code="extra-missing"
        ) from None
    parts = runtime()
    uvicorn.run(create(parts), host=parts.settings.web.address, port=parts.settings.web.port)
