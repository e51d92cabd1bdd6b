"""Ask over the HTTP API, with the standard library alone. Each request has a connection of its own."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

from vmrelay_client import _http_words as words
from vmrelay_client._connector import Arguments, BatchKind
from vmrelay_client._ids import new_id
from vmrelay_client._sse import frames
from vmrelay_client._waiting import TROUBLE_SECONDS
from vmrelay_client.errors import Denied, Rejected, TimedOut, Unavailable
from vmrelay_client.types import Batch, CancelAnswer, ControlAnswer, Event, Migration

CONNECT_TRIES, CONNECT_PAUSE = 3, 0.2
"""So often a refused connection is tried, and seconds between: nothing was sent yet."""
STREAM_SECONDS = 60.0
"""A stream that is silent for so long is opened anew; the relay sends a comment more often."""
STREAM_PAUSE, TROUBLE_PAUSE = 0.5, 2.0
"""Seconds before a stream that ended early is opened again, and one that could not be opened."""
ANSWER_BYTES, LINE_BYTES = 64 * 1024 * 1024, 1024 * 1024
"""More is not read of an answer, and of one line of a stream."""


class OverHttp:
    """The connector over the HTTP API at ``url``."""

    def __init__(
        self, url: str, token: str | None, timeout: float, tls: ssl.SSLContext | None, *, token_in_clear: bool
    ) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
            raise ValueError("write https://HOST[:PORT][/PATH]; the token is an argument of its own")
        if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
            raise ValueError("the token is empty, or has spaces or characters that no header can carry")
        if token and parts.scheme == "http" and not token_in_clear and not _this_machine(parts.hostname):
            raise ValueError(
                "over http:// everybody on the way could read the token: use https://, or token_in_clear=True"
            )
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._token, self._timeout = token, timeout

    # -- asking -----------------------------------------------------------------------------------

    def submit(self, arguments: Arguments, key: str | None) -> Migration:
        return words.migration(self._post("/v1/migrations", arguments, key or new_id()))

    def submit_batch(self, kind: BatchKind, arguments: Arguments, key: str | None) -> Batch:
        hosts = arguments.get("hosts", [])
        path = "/v1/rebalances" if kind == "rebalance" else f"/v1/hosts/{_name(hosts[0])}/drain"
        body = arguments if len(hosts) > 1 else {name: arguments[name] for name in arguments if name != "hosts"}
        return words.batch(self._post(path, body, key or new_id()))

    def cancel(self, migration: str, requested_by: str, seconds: float) -> CancelAnswer:
        try:
            told = self._post(f"/v1/migrations/{_name(migration)}/cancel", {}, timeout=seconds)
        except Rejected as refusal:
            if refusal.code not in ("too-late", "over"):
                raise
            now = self.look(migration)
            return CancelAnswer(migration, refusal.code, now.state if now.over else now.phase or "")
        return CancelAnswer(migration, told["answer"], told.get("detail") or "")

    def control(self, arguments: Arguments, seconds: float) -> ControlAnswer:
        batch = str(arguments["batch"])
        body = {name: value for name, value in arguments.items() if name not in ("batch", "requested_by")}
        try:
            told = self._post(f"/v1/batches/{_name(batch)}/control", body, timeout=seconds)
        except Rejected as refusal:
            if refusal.code not in words.CONTROL_ANSWERS:
                raise
            return ControlAnswer(batch, words.CONTROL_ANSWERS[refusal.code], self.look_batch(batch).state)
        return ControlAnswer(batch, told["answer"], told["state"])

    def _post(
        self, path: str, body: Arguments, key: str | None = None, timeout: float | None = None
    ) -> Mapping[str, Any]:
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        if traceparent := body.get("traceparent"):
            headers["traceparent"] = traceparent
            body = {name: value for name, value in body.items() if name != "traceparent"}
        text = json.dumps(dict(body), allow_nan=False).encode()
        return self._call("POST", path, text, headers, max(self._timeout, timeout or 0))

    # -- looking ----------------------------------------------------------------------------------

    def look(self, migration: str) -> Migration:
        try:
            return words.migration(self._call("GET", f"/v1/migrations/{_name(migration)}"))
        except Rejected as refusal:
            if refusal.code != "unknown-migration":
                raise
            return Migration(migration, "waiting", text="waits for a scheduler, or is not known", known=False)

    def look_batch(self, batch: str) -> Batch:
        try:
            return words.batch(self._call("GET", f"/v1/batches/{_name(batch)}"))
        except Rejected as refusal:
            if refusal.code != "unknown-batch":
                raise
            return Batch(batch, "waiting", known=False)

    def follow(self, migration: str, deadline: float | None) -> Iterator[Event]:
        path, last = f"/v1/migrations/{_name(migration)}/events", ""
        trouble: Unavailable | None = None
        since: float | None = None
        while True:
            pause = STREAM_PAUSE
            try:
                for told in self._stream(path, last, deadline):
                    since = None
                    if told is None:
                        continue
                    trouble, last = None, told.id or last
                    yield told
                    if told.type == "ended":
                        return
            except _NothingFollows:
                return
            except Rejected as refusal:
                if refusal.code != "unknown-migration":
                    raise
                pause = TROUBLE_PAUSE  # its request may still wait for a scheduler
            except Denied:
                raise
            except Unavailable as lost:
                since = self.now() if since is None else since
                trouble, pause = lost, max(TROUBLE_PAUSE, lost.retry_after or 0)
                if deadline is None and self.now() - since > TROUBLE_SECONDS:
                    raise
            left = float("inf") if deadline is None else deadline - self.now()
            if left <= 0:
                why = f" ({trouble})" if trouble else ""
                raise TimedOut(f"migration {migration} is not over yet and goes on; ask for it again later{why}")
            self.pause(min(pause, left))

    def _stream(self, path: str, last: str, deadline: float | None) -> Iterator[Event | None]:
        """``None`` once it is open, and the events of one connection.

        Raises ``_NothingFollows`` where the last one was told before.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        left = STREAM_SECONDS if deadline is None else min(STREAM_SECONDS, max(0.1, deadline - self.now()))
        with self._exchange("GET", path, None, headers, left) as response:
            if response.status == 204:
                raise _NothingFollows
            if response.status != 200:
                raise _error(response, path)
            yield None
            yield from map(words.event, frames(self._lines(response, deadline)))

    def _lines(self, response: http.client.HTTPResponse, deadline: float | None) -> Iterator[bytes]:
        while line := response.readline(LINE_BYTES):
            yield line
            if deadline is not None and self.now() >= deadline:
                return

    # -- HTTP -------------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Mapping[str, Any]:
        """One request and its answer, a JSON object. Raises what the answer says."""
        with self._exchange(method, path, body, headers or {}, timeout or self._timeout) as response:
            if not 200 <= response.status < 300:
                raise _error(response, path)
            document = _json(response)
        if not isinstance(document, dict):
            raise Unavailable(f"{path} was answered with something else than JSON: is this vmrelay's HTTP API?")
        return document

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        sent = {"Accept": "application/json", "User-Agent": "vmrelay-client"} | dict(headers)
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        connection = self._connected(timeout)
        try:
            connection.request(method, self._path + path, body, sent)
            with connection.getresponse() as response:  # which holds the socket from here on
                yield response
        except (OSError, http.client.HTTPException) as lost:
            again = "; whether it was taken is not known: ask again with the same idempotency_key" if body else ""
            raise Unavailable(f"{self._host} did not answer ({type(lost).__name__}: {lost}){again}") from lost
        finally:
            connection.close()

    def _connected(self, timeout: float) -> http.client.HTTPConnection:
        connect_in = min(timeout, self._timeout)
        if self._tls is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=connect_in, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=connect_in)
        for last in (*[False] * (CONNECT_TRIES - 1), True):
            try:
                connection.connect()
                break
            except OSError as lost:
                connection.close()
                if last or not isinstance(lost, ConnectionError):
                    raise Unavailable(f"{self._host} cannot be reached ({type(lost).__name__}: {lost})") from lost
                self.pause(CONNECT_PAUSE)
        connected: socket.socket = connection.sock
        connected.settimeout(timeout)
        return connection

    # -- time -------------------------------------------------------------------------------------

    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        pass  # no connection outlives its request


class _NothingFollows(Exception):
    """The stream was read to its end before."""


def _json(response: http.client.HTTPResponse) -> object:
    try:
        return json.loads(response.read(ANSWER_BYTES))
    except ValueError:
        return None


def _error(response: http.client.HTTPResponse, what: str) -> Exception:
    return words.error(response.status, _json(response), response.headers.get("Retry-After"), what)


def _name(name: str) -> str:
    """A name as a part of a path. Raises ``Rejected`` for one that would be another path."""
    if name in ("", ".", ".."):
        raise Rejected(f"'{name}' names nothing", code="malformed")
    return quote(name, safe="")


def _this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
