"""Cookies, URIs and definitions of the Virtuozzo driver: libvirt's checks, codes and messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from uuid import UUID as Uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vz_fake import UUID, FakeHost, FakeVm

from worker.errors import HypervisorError, Retry
from worker.hypervisors.vz import cookie, definition, uri

CASES = Path(__file__).with_name("data") / "cases-sample.jsonl"
URI_CASES = [
    case
    for case in map(json.loads, CASES.read_text().splitlines())
    if case["id"].startswith("vz-uri-") and case["api"] == "perform3"
]
OK = "11111111-2222-4333-8444-555555555555"


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """Code and message of a refusal, which is always permanent."""
    with pytest.raises(HypervisorError) as caught:
        call()
    assert caught.value.retry is Retry.PERMANENT
    return caught.value.code, caught.value.message


@pytest.mark.parametrize("case", URI_CASES, ids=lambda case: case["id"])
def test_uris_of_the_sample_cases(case: dict[str, dict[str, str]]) -> None:
    """Each bad URI gets libvirt's code and message."""
    code, message = refused(lambda: uri.parse(case["params"]["migrate_uri"]))
    assert (code, message) == (case["error_code"], case["error_contains"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vzmigr://beta", ("beta", 0)),
        ("vzmigr://beta:64000", ("beta", 64000)),
        ("vzmigr://beta.example.com:0", ("beta.example.com", 0)),
        ("vzmigr://10.0.0.2", ("10.0.0.2", 0)),
        ("vzmigr://[fe80::1]:5", ("fe80::1", 5)),
    ],
)
def test_good_uris(text: str, expected: tuple[str, int]) -> None:
    """Host, and port or 0 for the default."""
    assert uri.parse(text) == expected


@pytest.mark.parametrize("text", ["vzmigr://h:x", "vzmigr://a b", "vzmigr://h:-1", "1x://h"])
def test_what_is_no_uri_cannot_be_parsed(text: str) -> None:
    """As libxml2 sees it."""
    assert refused(lambda: uri.parse(text)) == ("VIR_ERR_INTERNAL_ERROR", f"Unable to parse URI {text}")


def test_a_port_beyond_16_bits_is_refused() -> None:
    """libvirt's parser lets it pass; no dispatcher can listen there."""
    assert refused(lambda: uri.parse("vzmigr://h:65536"))[0] == "VIR_ERR_INVALID_ARG"


@pytest.mark.parametrize(
    ("address", "expected"),
    [("beta", "vzmigr://beta"), ("beta:7000", "vzmigr://beta:7000"), ("fe80::1", "vzmigr://[fe80::1]")],
)
def test_prepare_composes_the_uri_of_its_address(address: str, expected: str) -> None:
    """What prepare hands out, perform can read."""
    assert uri.compose(address) == expected
    uri.parse(expected)


@pytest.mark.parametrize("address", ["localhost", "localhost.localdomain", "localhost:5"])
def test_prepare_refuses_localhost(address: str) -> None:
    """On the source it would name the source; the text is libvirt's."""
    assert refused(lambda: uri.compose(address)) == (
        "VIR_ERR_INTERNAL_ERROR",
        "hostname on destination resolved to localhost, but migration requires an FQDN",
    )


@given(st.uuids(), st.text(min_size=1, max_size=30))
def test_cookies_survive_the_way(session: Uuid, name: str) -> None:
    """What one phase bakes, the next one reads; the NUL is part of it."""
    for baked in (cookie.from_begin(str(session), UUID, name), cookie.from_prepare(str(session))):
        assert baked.endswith(b"</vz-migration>\n\0")
        assert cookie.session_uuid(baked) == str(session)
    assert cookie.domain_uuid(cookie.from_perform(str(session))) == str(session)


def test_prepares_cookie_has_libvirts_layout() -> None:
    """Root, order of elements, indent, placeholders for old peers."""
    assert cookie.from_prepare(OK).decode() == (
        f"<vz-migration>\n  <session-uuid>{OK}</session-uuid>\n"
        "  <uuid>00000000-0000-0000-0000-000000000000</uuid>\n  <name>__fakename__</name>\n</vz-migration>\n\0"
    )


@pytest.mark.parametrize("text", [b"", b"<vz-migration/>", b"<x>\0y"])
def test_a_cookie_must_end_in_nul(text: bytes) -> None:
    """Nothing, no length, no NUL: the first of libvirt's checks."""
    assert refused(lambda: cookie.session_uuid(text)) == ("VIR_ERR_INTERNAL_ERROR", "Invalid migration cookie")


@pytest.mark.parametrize("text", ["", "<", "<a>", "<a></b>", "x", "<a/>junk", "<a>&lol;</a>"])
def test_a_cookie_must_be_xml(text: str) -> None:
    """libvirt's label stands in the message, the cookie itself does not."""
    code, message = refused(lambda: cookie.session_uuid(text.encode() + b"\0"))
    assert code == "VIR_ERR_XML_DETAIL"
    assert message.startswith("(_migration_cookie):1: ")


@pytest.mark.parametrize(
    ("body", "reader", "tag"),
    [
        ("", cookie.session_uuid, "session-uuid"),
        ("<session-uuid/>", cookie.session_uuid, "session-uuid"),
        ("<session-uuid>nonsense</session-uuid>", cookie.session_uuid, "session-uuid"),
        (f"<session-uuid>{{{OK}}}</session-uuid>", cookie.session_uuid, "session-uuid"),
        (f"<a><session-uuid>{OK}</session-uuid></a>", cookie.session_uuid, "session-uuid"),
        (f"<session-uuid>{OK}</session-uuid>", cookie.domain_uuid, "uuid"),
    ],
)
def test_the_element_must_hold_a_uuid(body: str, reader: Callable[[bytes], str], tag: str) -> None:
    """Absent, empty, malformed, braced or elsewhere: one message for all."""
    text = f"<vz-migration>{body}</vz-migration>\0".encode()
    expected = f"missing or malformed {tag} element in migration data"
    assert refused(lambda: reader(text)) == ("VIR_ERR_INTERNAL_ERROR", expected)


@pytest.mark.parametrize("root", ["vz-migration", "anything"])
@pytest.mark.parametrize("spelled", [OK, OK.upper(), OK.replace("-", ""), f" {OK}\n"])
def test_a_uuid_may_be_spelled_as_libvirt_lets_it(root: str, spelled: str) -> None:
    """Without dashes, in capitals, with space around it; the root's name is not looked at."""
    assert cookie.session_uuid(f"<{root}><session-uuid>{spelled}</session-uuid></{root}>\0".encode()) == OK


def test_a_definition_survives_the_way() -> None:
    """Begin writes what prepare reads, whatever the name holds."""
    vm = FakeVm(FakeHost(), name="a<b>&'\"ü\x01")
    assert definition.read(definition.write(vm)) == definition.Definition("a<b>&'\"ü", UUID)


@pytest.mark.parametrize(
    ("xml", "code", "text"),
    [
        ("", "VIR_ERR_XML_ERROR", "no element found"),
        ("<domain type='vz'>", "VIR_ERR_XML_ERROR", "no element found"),
        ("<pool/>", "VIR_ERR_XML_ERROR", "expecting <domain>"),
        ("<domain type='kvm'/>", "VIR_ERR_INTERNAL_ERROR", "unexpected domain type kvm, expecting vz"),
        (f"<domain type='vz'><uuid>{OK}</uuid></domain>", "VIR_ERR_NO_NAME", "missing name"),
        ("<domain type='vz'><name>a</name></domain>", "VIR_ERR_XML_ERROR", "uuid"),
        ("<!DOCTYPE domain><domain type='vz'/>", "VIR_ERR_XML_ERROR", "document type"),
        ("<!DOCTYPE d [<!ENTITY a 'b'>]><domain type='vz'>&a;</domain>", "VIR_ERR_XML_ERROR", "document type"),
        ("<domain type='vz'><name>&a;</name></domain>", "VIR_ERR_XML_ERROR", "undefined entity"),
    ],
)
def test_bad_definitions_are_refused(xml: str, code: str, text: str) -> None:
    """Each with a code and a text that says what is wrong."""
    found = refused(lambda: definition.read(xml))
    assert found[0] == code
    assert text in found[1]
