"""What must never be seen: session uuids, cookies and domain definitions in the clear."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

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
