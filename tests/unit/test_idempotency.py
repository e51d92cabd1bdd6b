"""Ids that follow from a key, and requests that are told apart under one id."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_lab import KEEP, fields
from terms import terms_text

from worker.contract import BatchRequest, DrainRequest, MigrateRequest
from worker.contract.idempotency import NAMESPACE, fingerprint, ident_of
from worker.contract.names import IDENT, canonical
from worker.errors import Rejected
from worker.journal import Journal, connect

VECTORS = [
    ("shop", "move-web-1", "820dd93f-bf24-58a0-8851-808a16a82f71"),
    ("shop", "8f14e45f-ceea-467f-a7e6-000000000001", "af32f71f-0f81-5aa3-93db-6d324fd617c1"),
    ("grün", "Zug 7 → beta", "6a330b17-e2db-521a-9ac0-86c97067c5a6"),
]
"""Also in docs/contract/README.md: a client in any language makes the same ids."""
PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40)


@pytest.mark.parametrize(("scope", "key", "ident"), VECTORS)
def test_the_published_ids(scope: str, key: str, ident: str) -> None:
    """They are version 5 uuids (RFC 9562), made from SHA-1 of the name space and the UTF-8 text."""
    assert ident_of(scope, key) == ident
    digest = bytearray(hashlib.sha1(NAMESPACE.bytes + f"{scope}\n{key}".encode(), usedforsecurity=False).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80
    assert uuid.UUID(bytes=bytes(digest)) == uuid.UUID(ident)


def test_the_name_space_is_what_its_description_says() -> None:
    """So that nobody has to believe a number."""
    assert uuid.uuid5(uuid.NAMESPACE_URL, "urn:vmrelay:v1:idempotency") == NAMESPACE


@given(one=st.tuples(PRINTABLE, PRINTABLE), other=st.tuples(PRINTABLE, PRINTABLE))
def test_ids_are_equal_where_scope_and_key_are(one: tuple[str, str], other: tuple[str, str]) -> None:
    """And they are ids of migrations and batches."""
    assert (ident_of(*one) == ident_of(*other)) == (one == other)
    assert IDENT.fullmatch(ident_of(*one))


@pytest.mark.parametrize("wrong", ["", "a\nb", "a\x00", "\u2028", "\ud800", "x" * 256])
def test_no_key(wrong: str) -> None:
    """What could be another scope's key, or cannot be written as UTF-8, is refused."""
    for scope, key in ((wrong, "k"), ("s", wrong)):
        with pytest.raises(Rejected, match="printable") as refusal:
            ident_of(scope, key)
        assert refusal.value.code == "malformed"


def test_the_same_request_has_one_fingerprint() -> None:
    """However it is written: defaults named or not, in any order, whole seconds or not."""
    short = {"domain": "web", "destination": "beta", "deadline_seconds": 5}
    long = {
        "reason": "",
        "destination": "beta",
        "options": {},
        "deadline_seconds": 5.0,
        "priority": "normal",
        "domain": "web",
    }
    assert fingerprint(MigrateRequest.parse(short)) == fingerprint(MigrateRequest.parse(long))


@pytest.mark.parametrize(
    "other",
    [{"destination": "gamma"}, {"options": {"live": True}}, {"requested_by": "bob"}, {"params": {"bandwidth": 1}}],
)
def test_another_request_has_another_fingerprint(other: dict[str, Any]) -> None:
    """Whatever of it differs."""
    document = {"domain": "web", "destination": "beta"}
    assert fingerprint(MigrateRequest.parse(document)) != fingerprint(MigrateRequest.parse(document | other))


def test_the_fingerprint_of_a_batch_is_the_digest_of_the_version_before() -> None:
    """So that a request which that version has recorded is the same request still; its id is no part of it."""
    moves = [{"domain": "web", "destination": "beta"}]
    document = {
        "kind": "list", "priority": "normal", "hold": False, "migration": {}, "requested_by": "ann", "reason": "",
        "moves": [{"domain": "web", "destination": "beta", "source": None, "after": []}],
        "plan": None, "on_change": "refuse",
    }  # fmt: skip
    before = hashlib.sha256(canonical(document).encode()).hexdigest()
    for ident in ({}, {"batch": "b1"}):
        assert fingerprint(BatchRequest.parse({"moves": moves, "requested_by": "ann"} | ident)) == before
    drains = [fingerprint(DrainRequest.parse({"hosts": [host]})) for host in ("alpha", "beta")]
    assert len({before, *drains}) == 3


@pytest.fixture
def journal(redis_url: str) -> Iterator[Journal]:
    """An empty journal."""
    with connect(redis_url) as client:
        yield Journal(client)


def submit(journal: Journal, **more: str) -> str:
    """Ask for a migration under the id ``m``; the answer."""
    asked = fields("web", "alpha", "beta") | {"fingerprint": "1", "requested_by": "ann"} | more
    return str(journal.submit("m", asked, {}, "b", terms_text(0, 0))[0][0])


def test_another_request_under_a_known_id_changes_nothing(journal: Journal) -> None:
    """It is told apart, in the events of the first one as long as that goes on, and so is one that would be refused."""
    assert submit(journal) == "OK"
    before = journal.record("m")
    assert before is not None
    assert before.fingerprint == "1"
    assert submit(journal) == "SAME"
    assert submit(journal, fingerprint="2", destination="gamma", requested_by="bob") == "OTHER"
    assert not journal.refuse("m", {"reason": "x", "error": "x", "fingerprint": "3", "requested_by": "eve"}, KEEP, {})
    assert journal.record("m") == before
    told = [data for _, kind, data in journal.events("m") if kind == "conflict"]
    assert told == [{"by": "bob"}, {"by": "eve"}]
    journal.cancel("m", "ann", KEEP)
    ended = journal.record("m")
    assert submit(journal, fingerprint="2") == "OTHER"
    assert journal.record("m") == ended
    assert [kind for _, kind, _ in journal.events("m")][-1] == "ended"


def test_a_record_of_the_version_before_is_anybodys(journal: Journal) -> None:
    """It has no fingerprint: a request under its id is taken for the same, as it always was."""
    assert submit(journal, fingerprint="") == "OK"
    assert submit(journal, fingerprint="2") == "SAME"


def test_no_migration_has_the_id_of_a_batch(journal: Journal) -> None:
    """Neither one that is taken nor one that is refused: what the id shows is the batch's."""
    told = {"kind": "list", "digest": "1"}
    assert journal.create_batch("m", told, "", 0, {})[0] == "OK"
    assert submit(journal) == "TAKEN"
    assert not journal.refuse("m", {"reason": "x", "error": "x"}, KEEP, {})
    assert journal.record("m") is None
    assert journal.create_batch("m", told | {"digest": "2", "requested_by": "bob"}, "", 0, {})[0] == "EXISTS"
    assert [data for _, kind, data in journal.batch_events("m") if kind == "conflict"] == [{"by": "bob"}]
