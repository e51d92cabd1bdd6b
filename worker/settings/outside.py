"""Settings of what faces other systems: the web API and page, and webhooks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

Told = Literal["succeeded", "failed", "cancelled", "rejected", "in-doubt", "batch-finished"]


class WebSettings(BaseModel):
    """``vmrelay web``: the HTTP API and the live page."""

    model_config = ConfigDict(defer_build=True, extra="forbid")

    address: str = "127.0.0.1"
    """Where it listens. Another address than this machine's own wants ``tokens_file``."""
    port: int = Field(default=8080, ge=0, le=65535)
    """0 takes a free one, which its log names."""
    tokens_file: Path | None = None
    """Who may do what: a TOML file with a token's digest and role for each name (``vmrelay web-token``), relative to
    the configuration file. Others may not read it. Without it this machine alone is served, and everybody on it is
    ``admin``."""
    requests_per_minute: int = Field(default=600, ge=1)
    """Of one token, or one address without a token; more are answered with 429."""
    body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)
    """A longer request is answered with 413. A plan of 20,000 moves has about 6 MiB."""
    streams: int = Field(default=200, ge=1)
    """So many event streams at once; one more is answered with 503."""
    accept_seconds: float = Field(default=5.0, gt=0)
    """How long a POST waits for a scheduler to accept or refuse what it asks for; then it is answered as queued."""


class WebhookSettings(BaseModel):
    """Where outcomes are told, by an HTTP POST that is signed."""

    model_config = ConfigDict(defer_build=True, extra="forbid")

    url: str
    """``https://…``; ``http://…`` is for tests and for what is on a network of its own."""
    secret_file: Path
    """What the signature is made with: at least 16 bytes that sender and receiver share, without the line end; relative
    to the configuration file. Others than owner and group may not read it. Read anew for each try."""
    ca_file: Path | None = None
    """Certificates (PEM) that the receiver's is verified by; those of the system where not given."""
    tells: list[Told] = ["succeeded", "failed", "cancelled", "in-doubt"]
    """Which outcomes of migrations, and ``batch-finished``."""
    hosts: list[str] = Field(default_factory=list)
    """Only of migrations that leave or enter one of these; of all where empty. Batches are told all the same."""
    timeout_seconds: float = Field(default=10.0, gt=0, le=120)
    """How long one try may take."""
    at_once: int = Field(default=4, ge=1, le=16)
    """So many deliveries are under way at once; with 1 it is told in the order in which it happened,
    but for what has to be tried again."""
    initial_seconds: float = Field(default=1.0, gt=0)
    """The pause after a failed try; after each further one it is twice as long, less up to half of it by chance."""
    maximum_seconds: float = Field(default=300.0, gt=0)
    """The longest pause."""
    give_up_seconds: float = Field(default=86400.0, gt=0)
    """After so long what could not be delivered is dropped, and counted."""
    most_waiting: int = Field(default=20_000, ge=1)
    """So many deliveries wait at most, about 300 bytes of Redis each; of more the oldest is dropped, and counted."""

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[!-~]+", url):
            raise ValueError("write https://HOST/PATH, in ASCII and without blanks")
        where = urlsplit(url)
        if not where.hostname or where.fragment or where.port == 0:  # a wrong port raises ValueError by itself
            raise ValueError("write https://HOST/PATH")
        if where.username is not None or where.password is not None:
            raise ValueError("write no user or password into the URL: the signature tells who sends")
        return url
