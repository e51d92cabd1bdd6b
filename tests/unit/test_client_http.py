"""The client's HTTP connector against servers that do what no good one does: TLS, cuts, silence, other answers."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from vmrelay_client import Client, Denied, Rejected, TimedOut, Unavailable
from vmrelay_client import _http as http_connector

Reply = Callable[[BaseHTTPRequestHandler], None]
TOKEN = "vmr_0123456789abcdef"


class Server:
    """Answers each request with the next of its replies, the last one again and again; keeps what was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outer, left = self, list(replies)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((self.command, self.path, headers, body))
                (left.pop(0) if len(left) > 1 else left[0])(self)
                self.close_connection = True

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def headers(self, number: int = -1) -> dict[str, str]:
        """Of a request."""
        return self.asked[number][2]


@contextmanager
def serving(*replies: Reply, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server, while the block lasts."""
    server = Server(*replies)
    if tls is not None:
        server.http.socket = tls.wrap_socket(server.http.socket, server_side=True)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def says(status: int, document: object, **headers: str) -> Reply:
    """A whole answer."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def streams(*blocks: bytes, then: threading.Event | None = None) -> Reply:
    """Events, and the end of the connection, or silence until something is set."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(b"".join(blocks))
        handler.wfile.flush()
        if then is not None:
            then.wait(30)

    return reply


def event(ident: str, kind: str, **data: object) -> bytes:
    """One of a migration's."""
    return f"id: {ident}\nevent: {kind}\ndata: {json.dumps({'at': 1.5, 'type': kind, **data})}\n\n".encode()


WAITS = says(202, {"id": "m-1", "state": "queued"})


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connector, "STREAM_PAUSE", 0.01)
    monkeypatch.setattr(http_connector, "TROUBLE_PAUSE", 0.01)
    monkeypatch.setattr(http_connector, "CONNECT_PAUSE", 0.01)


def test_what_is_sent() -> None:
    """The token, a key in any case, the trace as a header, and JSON without what was not given; ids are escaped."""
    with serving(WAITS) as server, Client.from_url(server.url + "/relay/", token=TOKEN) as client:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        assert client.migrate("web-1", "beta", idempotency_key="order-17", traceparent=trace).id == "m-1"
        method, path, headers, body = server.asked[0]
        assert (method, path, json.loads(body)) == (
            "POST",
            "/relay/v1/migrations",
            {"domain": "web-1", "destination": "beta"},
        )
        assert headers["authorization"] == f"Bearer {TOKEN}"
        assert (headers["idempotency-key"], headers["traceparent"]) == ("order-17", trace)
        client.migrate("web-1", "beta")
        client.migrate("web-1", "beta")
        assert len({server.headers(number)["idempotency-key"] for number in (0, 1, 2)}) == 3
        client.status("a/b?c")
        assert server.asked[-1][1] == "/relay/v1/migrations/a%2Fb%3Fc"
        with pytest.raises(Rejected, match="names nothing"):
            client.status("..")
        with pytest.raises(ValueError, match="Out of range"):
            client.migrate("web-1", "beta", deadline_seconds=float("inf"))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (says(302, b"", Location="http://elsewhere.example/"), "HTTP status 302"),
        (says(200, b"<html>a proxy's page</html>"), "HTTP API"),
        (says(200, []), "HTTP API"),
        (says(200, {"hello": "world"}), "HTTP API"),
        (says(502, b"bad gateway"), "HTTP status 502"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "did not answer"),
        (lambda handler: None, "did not answer"),
    ],
    ids=["redirect", "page", "list", "stranger", "proxy", "no HTTP", "cut"],
)
def test_what_is_no_answer_is_unavailable(reply: Reply, message: str) -> None:
    """A redirect is not followed, since the token would go with it; and nothing tells the token."""
    with serving(reply) as server, Client.from_url(server.url, token=TOKEN) as client:
        for ask in (lambda: client.status("m-1"), lambda: client.migrate("web-1", "beta")):
            with pytest.raises(Unavailable, match=message) as lost:
                ask()
            assert TOKEN not in repr(lost.value)
        assert len(server.asked) == 2


def test_a_request_without_an_answer_says_what_to_do() -> None:
    """A server that is silent is given up after the timeout; whether it took the request is not known."""
    silent = threading.Event()

    def reply(_: BaseHTTPRequestHandler) -> None:
        silent.wait(30)

    with serving(reply) as server:
        with pytest.raises(Unavailable, match="ask again with the same idempotency_key"):
            Client.from_url(server.url, timeout=0.2).migrate("web-1", "beta")
        silent.set()


def test_a_refused_connection_is_tried_again() -> None:
    """Three times, since nothing was sent yet; then it is Unavailable, and names no token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = Client.from_url(f"http://127.0.0.1:{port}", token=TOKEN)
    with pytest.raises(Unavailable, match="cannot be reached") as lost:
        client.migrate("web-1", "beta")
    assert TOKEN not in str(lost.value)
    with pytest.raises(TimedOut, match="cannot be reached"):
        client.wait("m-1", 0.3)
    with pytest.raises(TimedOut, match="cannot be reached"):
        list(client.events("m-1", 0.3))


def test_a_busy_relay_is_asked_again_when_it_says() -> None:
    """429 is no outcome: wait goes on after the pause that was asked for."""
    busy = says(429, {"code": "too-many-requests", "detail": "slower"}, Retry_After="1")
    ended = says(200, {"id": "m-1", "state": "ended", "outcome": "succeeded", "domain": "w", "destination": "b"})
    with serving(busy, ended) as server, Client.from_url(server.url) as client:
        with pytest.raises(Unavailable, match="slower") as lost:
            client.status("m-1")
        assert lost.value.retry_after == 1.0
        assert client.wait("m-1", 30).state == "succeeded"


def test_a_stream_goes_on_where_it_was_cut() -> None:
    """Every event once: after each cut the next connection asks for what came after the last one that was read."""
    first = streams(
        event("1-0", "accepted"), b": ping\n\n", event("2-0", "phase", phase="begin"), b"id: 3-0\nevent: x\n"
    )
    second = streams(event("3-0", "progress", percent=4))
    unknown = says(404, {"code": "unknown-migration", "detail": "not yet"})
    away = says(503, {"code": "redis-unavailable", "detail": "away"})
    last = streams(event("4-0", "ended", outcome="succeeded", reason=""), event("5-0", "never"))
    with serving(unknown, first, away, second, last) as server, Client.from_url(server.url) as client:
        told = list(client.events("m-1", 30))
        assert [(each.id, each.type) for each in told] == [
            ("1-0", "accepted"), ("2-0", "phase"), ("3-0", "progress"), ("4-0", "ended")
        ]  # fmt: skip
        assert told[1].data == {"phase": "begin"}
        assert told[1].at == 1.5
        seen = [server.headers(number).get("last-event-id") for number in range(len(server.asked))]
        assert seen == [None, None, "2-0", "2-0", "3-0"]


def test_a_stream_that_was_told_already_is_empty() -> None:
    """204 says that nothing follows."""
    with serving(says(204, b"")) as server, Client.from_url(server.url) as client:
        assert list(client.events("m-1", 30)) == []


def test_a_silent_stream_is_given_up_in_time() -> None:
    """The timeout holds while nothing is sent, and while only signs of life are."""
    silent = threading.Event()
    with serving(streams(event("1-0", "accepted"), then=silent)) as server, Client.from_url(server.url) as client:
        told = client.events("m-1", 0.5)
        assert next(told).type == "accepted"
        with pytest.raises(TimedOut):
            next(told)
        silent.set()


def test_patience_begins_anew_with_each_stream_that_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that waits for hours tells nothing: cuts far apart are no long trouble, a relay that is away is."""
    monkeypatch.setattr(http_connector, "TROUBLE_SECONDS", 0)
    away, quiet = says(503, {"code": "redis-unavailable", "detail": "away"}), streams(b": ping\n\n")
    ended = streams(event("1-0", "ended", outcome="succeeded"))
    monkeypatch.setattr(http_connector.OverHttp, "now", lambda _: 7.0)  # time stands still: one trouble is never long
    with serving(away, quiet, away, ended) as server, Client.from_url(server.url) as client:
        assert [each.type for each in client.events("m-1")] == ["ended"]
    clock = iter(range(1000))
    monkeypatch.setattr(http_connector.OverHttp, "now", lambda _: next(clock))
    with serving(away) as server, Client.from_url(server.url) as client, pytest.raises(Unavailable, match="away"):
        next(client.events("m-1"))
    clock = iter(range(1000))
    with serving(away, quiet, away, quiet, ended) as server, Client.from_url(server.url) as client:
        monkeypatch.setattr(http_connector, "TROUBLE_SECONDS", 3)
        assert [each.type for each in client.events("m-1")] == ["ended"]


def test_a_stream_of_something_else_is_trouble() -> None:
    """What is no event of vmrelay's may be a proxy's page: it is asked again until the time is up."""
    with (
        serving(streams(b"data: no JSON\n\n")) as server,
        Client.from_url(server.url) as client,
        pytest.raises(TimedOut, match="not vmrelay's"),
    ):
        list(client.events("m-1", 0.2))


def test_a_wrong_token_is_told_at_once() -> None:
    """There is nothing to wait for: no request is at fault, so it is no refusal either, and can be asked again."""
    with serving(says(401, {"code": "token-missing", "detail": "no"})) as server, Client.from_url(server.url) as client:
        for ask in (
            lambda: client.migrate("web-1", "beta"),
            lambda: client.wait("m-1", 30),
            lambda: next(client.events("m-1", 30)),
        ):
            with pytest.raises(Denied) as denied:
                ask()
            assert isinstance(denied.value, Unavailable)
            assert denied.value.code == "token-missing"
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("url", "more", "message"),
    [
        ("http://relay.example", {"token": TOKEN}, "token_in_clear"),
        ("http://user:secret@relay.example", {}, "argument of its own"),
        ("https://", {}, "write https"),
        ("https://relay.example?x=1", {}, "write https"),
        ("https://relay.example", {"token": ""}, "token is empty"),
        ("https://relay.example", {"token": "a\r\nb"}, "no header can carry"),
        ("amqp://relay.example", {}, "write redis"),
        ("redis://relay.example", {"token": TOKEN}, "for the HTTP API"),
    ],
)
def test_addresses_are_checked(url: str, more: dict[str, str], message: str) -> None:
    """What would send a token in the clear, or nowhere, is refused at once, and the token is not repeated."""
    with pytest.raises(ValueError, match=message) as refused:
        Client.from_url(url, **more)
    assert not more.get("token") or more["token"] not in str(refused.value)
    assert Client.from_url("http://relay.example", token=TOKEN, token_in_clear=True)
    assert Client.from_url("http://[::1]:8080", token=TOKEN)


def test_certificates_are_verified(tmp_path: Path) -> None:
    """A certificate that nobody vouches for is refused before anything is sent; with its CA it is taken."""
    key, certificate = _certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with serving(WAITS, tls=tls) as server:
        url = server.url.replace("http://127.0.0.1", "https://localhost")
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            Client.from_url(url, token=TOKEN).status("m-1")
        assert server.asked == []
        trusting = ssl.create_default_context(cafile=certificate)
        assert Client.from_url(url, token=TOKEN, tls=trusting).status("m-1").state == "waiting"


def _certificate(directory: Path) -> tuple[Path, Path]:
    """A key, and a certificate of localhost that it signs itself."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    coded = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(key.private_bytes(coded, *plain))
    (directory / "cert.pem").write_bytes(signed.public_bytes(coded))
    return directory / "key.pem", directory / "cert.pem"
