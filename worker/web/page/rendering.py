"""HTML from views: Jinja templates, everything escaped, and the header that keeps foreign scripts out."""

from __future__ import annotations

import hashlib
import time
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse

from worker.web.page.overview import clock

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""Content-Security-Policy of every page: nothing inline, nothing from elsewhere."""
STATIC = files("worker.web.page").joinpath("static")
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def ago(since: float | None, now: float) -> str:
    """How long ago that was, in a word or two; as ``dom.js`` says it."""
    if not since:
        return ""
    seconds = max(int(now - since), 0)
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < 120:
        return f"{seconds} s"
    if minutes < 120:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days"


@cache
def assets() -> dict[str, tuple[bytes, str]]:
    """The static files by name, each with its media type."""
    found = {item.name: item.read_bytes() for item in STATIC.iterdir() if item.is_file()}
    return {name: (body, KINDS[name[name.rindex(".") :]]) for name, body in found.items()}


@cache
def build() -> str:
    """Changes with every file that a page is made of: an open page of another build loads itself anew."""
    folder = files("worker.web.page").joinpath("templates")
    parts = [item.read_bytes() for item in sorted(folder.iterdir(), key=lambda each: each.name) if item.is_file()]
    parts += [body for _, (body, _) in sorted(assets().items())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


@cache
def templates() -> Environment:
    """The templates; what is put into them is escaped, without exception."""
    environment = Environment(
        loader=PackageLoader("worker.web.page"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"ago": ago, "clock": clock}
    return environment


def page(name: str, status: int = 200, **context: object) -> HTMLResponse:
    """A page, with its headers."""
    told = {"caller": None, "live": "", "now": time.time(), "build": build()} | context
    text = templates().get_template(name).render(told)
    return HTMLResponse(text, status, {"Content-Security-Policy": POLICY})
