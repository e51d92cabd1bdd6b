"""One signed POST: standard library, TLS always verified, no redirects, no proxies, everything bounded."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from worker.errors import SettingsError
from worker.settings import WebhookSettings
from worker.webhooks.policy import Answer
from worker.webhooks.signing import DELIVERY, SIGNATURE, read_secret, signature

MOST_READ = 64 * 1024
"""So much of an answer's body is read, and thrown away, so that the receiver is not cut off while it writes."""


def post(webhook: WebhookSettings, delivery: str, message: Mapping[str, Any], traceparent: str = "") -> Answer:
    """Send a message, signed now, and tell what the receiver answered; raises nothing that a receiver can cause.

    Raises ``SettingsError`` where the secret or the certificates cannot be used.
    """
    body = json.dumps(message, separators=(",", ":")).encode()
    at = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"vmrelay/{version('vmrelay')}",
        "Connection": "close",
        DELIVERY: delivery,
        SIGNATURE: signature(read_secret(webhook.secret_file), at, body),
    } | ({"traceparent": traceparent} if traceparent else {})
    began = time.monotonic()
    try:
        status, retry_after = _exchange(webhook, body, headers)
    except (OSError, http.client.HTTPException, ValueError) as lost:  # ValueError: a name that cannot be one
        seconds = time.monotonic() - began
        late = isinstance(lost, TimeoutError) or seconds >= webhook.timeout_seconds
        return Answer(error=f"no answer in {webhook.timeout_seconds:g} s" if late else _words(lost), seconds=seconds)
    return Answer(status, retry_after=retry_after, seconds=time.monotonic() - began)


def _exchange(webhook: WebhookSettings, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
    where = urlsplit(webhook.url)
    target = (where.path or "/") + (f"?{where.query}" if where.query else "")
    host, seconds = where.hostname or "", webhook.timeout_seconds
    if where.scheme == "https":
        context = _context(webhook)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, where.port, context=context)
        plain = socket.create_connection((host, connection.port), seconds)
        connection.sock = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    else:
        connection = http.client.HTTPConnection(host, where.port)
        connection.sock = socket.create_connection((host, connection.port), seconds)
    # Each time-out of a socket is for one read: who answers a byte at a time is cut off by the clock.
    clock = threading.Timer(seconds, _cut, (connection.sock,))
    clock.daemon = True
    clock.start()
    try:
        if isinstance(connection.sock, ssl.SSLSocket):
            connection.sock.do_handshake()
        connection.request("POST", target, body, dict(headers))
        answer = connection.getresponse()
        found = answer.status, answer.getheader("Retry-After", "")
        with contextlib.suppress(OSError, http.client.HTTPException):  # the status has come
            answer.read(MOST_READ)
        return found
    finally:
        clock.cancel()
        connection.close()


def _cut(open_socket: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        socket.socket.shutdown(open_socket, socket.SHUT_RDWR)  # an SSLSocket's own forgets its session under the reader


def _context(webhook: WebhookSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=webhook.ca_file)
    except OSError as wrong:  # SSLError is one
        raise SettingsError(
            f"the webhook's certificates {webhook.ca_file} cannot be read ({wrong.strerror or wrong}); they are PEM",
            code="webhook-certificates",
        ) from None


def _words(lost: Exception) -> str:
    """An error without anything that the receiver wrote."""
    if isinstance(lost, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {lost.verify_message}"
    if isinstance(lost, socket.gaierror):
        return f"its name is not known: {lost.strerror}"
    if isinstance(lost, OSError) and lost.strerror:
        return f"{type(lost).__name__}: {lost.strerror}"
    return type(lost).__name__
