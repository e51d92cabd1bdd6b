"""What must never be seen: session uuids, cookies, definitions, tokens and a webhook's secret in the clear."""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from receiver_lab import cut, receiver, secret_file, status
from relay_lab import LARGE, Relay, until
from wiretap import wiretap

from worker.seal import load_key

SESSION = re.compile(r"<session-uuid>\{?([0-9a-f-]{36})\}?</session-uuid>", re.IGNORECASE)
ENCODED = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")


def opened(relay: Relay, ident: str, kind: str) -> str:
    """What is sealed in the baton of a running perform."""
    baton = json.loads(relay.journal.client.hget(f"vmrelay:m:{ident}", "baton"))
    seal = load_key(relay.directory / "seal.key")
    return seal.open(baton[kind], f"{ident}/{baton['attempt']}/{kind}").decode()


def copied(relay: Relay, source: str, destination: str) -> tuple[str, str, str]:
    """Start a migration that copies for long: its id, the destination's session uuid, the definition."""
    ident = relay.migrate(relay.vm(source, memory_mib=LARGE), destination)
    relay.copying(ident, source)
    found = SESSION.search(opened(relay, ident, "cookie"))
    assert found is not None
    return ident, found[1].lower(), opened(relay, ident, "xml")


def everything(client: Any) -> bytes:
    """Every key of a Redis with all that it holds."""
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": client.xrange,
    }
    return "\n".join(f"{key} {readers[client.type(key)](key)!r}" for key in client.scan_iter()).encode()


def with_decoded(text: bytes) -> bytes:
    """A text with all that can be read as base64 in it, twice: bodies hold batons, batons hold seals."""
    found = text
    for _ in range(2):
        for match in set(ENCODED.findall(text)):
            try:
                found += b"\n" + base64.b64decode(match)
            except binascii.Error:
                continue
        text = found[len(text) :]
    return found


def test_no_secret_in_redis_or_in_any_log(relay: Relay) -> None:
    """Dump of every key, everything that Redis was told, results, events and all logs at level debug."""
    with wiretap(relay.redis.port) as tap:
        first, session_of_beta, definition = copied(relay, "alpha", "beta")
        second, session_of_alpha, _ = copied(relay, "gamma", "alpha")
        dump = everything(relay.journal.client)
        failing = relay.vm()
        relay.fault("alpha", "fail", code="0x80030001", vm=failing)
        assert relay.wait(relay.migrate(failing, "gamma")).outcome == "succeeded"
        for ident in (first, second):
            relay.send("vmrelay.v1.cancel", migration=ident)
            relay.wait(ident)
        relay.moved(relay.vm())
        dump += everything(relay.journal.client)
        until(lambda: len(tap.commands) > 100, "the wiretap heard")
    heard = b"\n".join(b" ".join(command) for command in tap.commands)
    assert first.encode() in heard
    assert first.encode() in dump
    logs = b"".join(file.read_bytes() for file in relay.directory.glob("*.log"))
    logs += relay.redis.log.read_bytes()
    assert b"moved" in logs
    secrets = [
        form.encode()
        for session in (session_of_alpha, session_of_beta)
        for form in (session, session.upper(), session.replace("-", ""))
    ]
    middle = len(definition) // 2
    secrets += [
        b"<session-uuid>",
        b"<vz-migration",
        definition[:50].encode(),
        definition[middle : middle + 50].encode(),
    ]
    for place, text in {"dump": dump, "monitor": heard, "logs": logs}.items():
        readable = with_decoded(text)
        for secret in secrets:
            assert secret not in readable, f"{place} shows {secret[:20]!r}"


def test_no_secret_in_a_command_line(relay: Relay) -> None:
    """The seal key's content is in no process's arguments or environment."""
    key = (relay.directory / "seal.key").read_bytes()
    shown = [key, key.hex().encode(), base64.b64encode(key)]
    for process in relay.processes.values():
        for place in ("cmdline", "environ"):
            with open(f"/proc/{process.pid}/{place}", "rb") as file:
                text = file.read()
            assert not any(form in text for form in shown)


def test_an_ended_migration_keeps_no_cookie(relay: Relay) -> None:
    """Baton and token are gone from the record when it ends."""
    ident = relay.moved(relay.vm()).id
    fields = relay.journal.client.hgetall(f"vmrelay:m:{ident}")
    assert not {"baton", "token", "step"} & fields.keys()


# -- what faces other systems -----------------------------------------------------------------------------------

GUESS = "vmr_a-guess-that-somebody-makes-17"
SHARED = b"shared-with-the-receiver-42"


@pytest.fixture
def outside(relay: Relay, tmp_path: Path) -> Iterator[tuple[Relay, str, str]]:
    """The relay with the web API, which wants tokens, and a webhook that is hard to tell anything; its URL, a token."""
    before = relay.environment
    with receiver() as got:
        got.script.extend([status(500), cut, status(410)])
        hook = {
            "url": got.url,
            "secret_file": str(secret_file(tmp_path / "hook", SHARED + b"\n")),
            "tells": ["succeeded"],
        }
        soon = {"initial_seconds": 0.05, "maximum_seconds": 0.1}
        relay.environment = before | {
            "VMRELAY_WEBHOOKS": json.dumps({"hook": hook | soon}),
            "VMRELAY_WEB": json.dumps({"port": 0, "tokens_file": str(tmp_path / "tokens.toml")}),
        }
        made = relay.cli("web-token", "shop", "--role", "operate")
        token = re.search(r"vmr_[\w-]+", made.stdout)
        assert token is not None, made
        try:
            relay.restart_scheduler()
            web = relay.spawn("web", "web")
            found = until(lambda: re.search(r"url=(http://\S+)", relay.log("web")) or web.poll(), "web serves")
            assert isinstance(found, re.Match), relay.log("web")
            yield relay, found[1], token[0]
        finally:
            if "web" in relay.processes:
                relay.kill("web")
            relay.environment = before
            relay.restart_scheduler()


def asked(url: str, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
    """Ask the web API; its answer, read."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=40)
    connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
    answer = connection.getresponse()
    answer.told = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def visits(url: str, token: str, domain: str) -> tuple[str, bytes]:
    """Everything that may be done with a token, well and badly: the cookie of a session, and all that was answered."""
    bearer, json_ = {"Authorization": f"Bearer {token}"}, {"Content_Type": "application/json"}
    form = {"Content_Type": "application/x-www-form-urlencoded", "Origin": url.rstrip("/")}
    logged_in = asked(url, "POST", "/login", urlencode({"token": token, "next": "/"}), **form)
    assert logged_in.status == 303, logged_in.told  # type: ignore[attr-defined]
    cookie = str(logged_in.getheader("Set-Cookie")).partition(";")[0]
    moved = json.dumps({"domain": domain, "destination": "beta"})
    answers = [
        asked(url, "POST", "/v1/migrations", moved, **bearer, **json_),
        asked(url, "GET", "/", Cookie=cookie),
        asked(url, "GET", "/v1/hosts", Cookie=cookie),
        asked(url, "GET", "/metrics", **bearer),
        asked(url, "POST", "/v1/migrations", json.dumps({"domain": {"x": token}}), **bearer, **json_),
        asked(url, "POST", "/v1/migrations", f'{{"{token}', **bearer, **json_),
        asked(url, "POST", "/login", urlencode({"token": GUESS}), **form),
        asked(url, "GET", "/v1/hosts", Authorization=f"Bearer {GUESS}"),
        asked(url, "GET", "/v1/hosts", Authorization=f"Basic {token}"),
        asked(url, "GET", "/v1/hosts", Cookie="vmrelay_session=a-stolen-session-that-is-none"),
        asked(url, "GET", f"/v1/hosts?token={token}&access_token={GUESS}"),
        asked(url, "GET", f"/v1/migrations?cursor={token}", **bearer),
        asked(url, "POST", "/logout", Cookie=cookie, **form),
        asked(url, "GET", "/v1/hosts", Cookie=cookie),
    ]
    statuses = [answer.status for answer in answers]
    assert statuses[:4] == [202, 200, 200, 200], (statuses, answers[0].told)  # type: ignore[attr-defined]
    assert all(400 <= code < 500 for code in (*statuses[4:12], statuses[-1])), statuses
    return cookie.partition("=")[2], b"".join(answer.told for answer in answers)  # type: ignore[attr-defined]


def forms_of(secret: str) -> set[bytes]:
    """As it is, its digest, and as it may be written somewhere."""
    raw = secret.encode()
    digest = hashlib.sha256(raw).hexdigest()
    return {raw, digest.encode(), raw.hex().encode(), base64.b64encode(raw), quote(secret, safe="").encode()}


def test_no_token_session_or_webhook_secret_is_seen(outside: tuple[Relay, str, str]) -> None:
    """In no log (level debug), no key of Redis, nothing that Redis is told, no answer, command line or environment."""
    relay, url, token = outside
    with wiretap(relay.redis.port) as tap:
        cookie, answers = visits(url, token, relay.vm())
        until(lambda: relay.journal.webhooks(["hook"])["hook"].counts[-1] == ("refused", 1), "the webhook is told")
        said = [relay.cli(*words) for words in (("webhook", "test", "hook"), ("doctor",))]
        dump = everything(relay.journal.client)
        until(lambda: any(b"webhook" in part for command in tap.commands for part in command), "the wiretap heard")
    places = {
        "dump": dump,
        "monitor": b"\n".join(b" ".join(command) for command in tap.commands),
        "logs": b"".join(file.read_bytes() for file in relay.directory.glob("*.log")) + relay.redis.log.read_bytes(),
        "answers": answers,
        "commands": "".join(done.stdout + done.stderr for done in said).encode(),
        "processes": b"".join(
            Path(f"/proc/{process.pid}/{part}").read_bytes()
            for process in relay.processes.values()
            for part in ("cmdline", "environ")
        ),
    }
    assert b"webhook not told" in places["logs"]
    assert b"/v1/migrations" in places["logs"]
    for secret in (token, cookie, SHARED.decode(), GUESS):
        for place, text in places.items():
            for form in forms_of(secret):
                assert form not in text, f"{place} shows {secret[:8]}…"
