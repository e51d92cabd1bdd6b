"""``vmrelay web`` and ``vmrelay web-token``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import click

from worker.errors import SettingsError, Unavailable
from worker.runtime import runtime


@click.command(short_help="Serve the HTTP API and the live page.")
@click.option("--address", help="Listen here instead of at web.address.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen there instead of at web.port; 0 takes a free one.")
def web(address: str | None, port: int | None) -> None:
    """Serve the HTTP API and the live page, at the address and port of the settings' [web].

    \b
    Examples:
      vmrelay web
      vmrelay web --port 9090

    Without web.tokens_file this machine alone is served, and everybody on it may do everything. SIGTERM ends event
    streams at once, lets requests end, and then the process. Whatever was asked for goes on without it.
    """
    from worker import log

    serve, parts = _extra(), runtime()
    given = {name: value for name, value in (("address", address), ("port", port)) if value is not None}
    if given:
        settings = parts.settings.model_copy(update={"web": parts.settings.web.model_copy(update=given)})
        parts = replace(parts, settings=settings)
    log.configure(parts.settings)
    serve.run(parts)


def _extra() -> ModuleType:
    """The server. Raises ``Unavailable`` (``extra-missing``)."""
    try:
        from worker.web import serve
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] == "worker":
            raise
        raise Unavailable(
            f"the extra 'web' is not installed ({missing.name}); pip install 'vmrelay[web]'", code="extra-missing"
        ) from None
    return serve


@click.command(name="web-token", short_help="Make a token for the HTTP API.")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["view", "operate", "admin"]),
    required=True,
    help="view: see everything; operate: migrate, cancel, drain; admin: also say that a host is dead.",
)
@click.option("--speaks-for-others", is_flag=True, help="Keep the 'requested_by' of its requests, behind its name.")
@click.option("--days", type=click.IntRange(1, 3650), help="It expires after so many days.")
@click.option("--replace", "again", is_flag=True, help="Make another one for NAME; the one of before is void at once.")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The tokens file, where not that of web.tokens_file.",
)
def web_token(name: str, role: str, speaks_for_others: bool, days: int | None, again: bool, file: Path | None) -> None:
    """Make a token for NAME, write its digest into the tokens file, and print the token, this once.

    \b
    Examples:
      vmrelay web-token portal --role operate --speaks-for-others
      vmrelay web-token prometheus --role view --days 365

    A running 'vmrelay web' reads the file anew when it changes. To take a token back, remove its table from the file.
    """
    from worker.web import tokens

    path = file or runtime().settings.web.tokens_file
    if path is None:
        raise SettingsError("no tokens file is named: set web.tokens_file, or say --file")
    expires = (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0) if days else None
    click.echo(tokens.make(path, name, role, speaks_for_others=speaks_for_others, expires=expires, replace=again))
    click.echo(f"kept as a digest in {path}; the token is not shown again", err=True)
