"""The migration cookies of the Virtuozzo driver: XML text and one NUL, opaque to everyone else.

| phase   | writes                                              | reads        |
|---------|-----------------------------------------------------|--------------|
| begin   | own session uuid, domain uuid, domain name          | -            |
| prepare | own session uuid, zero uuid, name ``__fakename__``  | -            |
| perform | domain uuid (the second cookie of the 2015 patch)   | session-uuid |
| finish  | -                                                   | uuid         |

The layout is libvirt's ``vzBakeCookie``: root ``vz-migration``; ``session-uuid``, ``uuid``, ``name``; uuids
without braces. The session uuid lets its bearer act as the destination's logged-in client: a cookie is
never logged, and no message here quotes one.
"""

from __future__ import annotations

import re
from uuid import UUID
from xml.etree import ElementTree

from worker.errors import HypervisorError, Rejected, Retry
from worker.hypervisors.checks.cookies import uuid_ok
from worker.hypervisors.checks.xml import xml_root

ROOT = "vz-migration"
ZERO_UUID = str(UUID(int=0))
FAKE_NAME = "__fakename__"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def from_begin(session_uuid: str, uuid: str, name: str) -> bytes:
    """Begin's cookie. libvirt's prepare ignores it; old peers wanted it."""
    return _bake({"session-uuid": session_uuid, "uuid": uuid, "name": name})


def from_prepare(session_uuid: str) -> bytes:
    """Prepare's cookie: the destination's own live session, with which the source's dispatcher logs in."""
    return from_begin(session_uuid, ZERO_UUID, FAKE_NAME)


def from_perform(uuid: str) -> bytes:
    """Perform's cookie: which domain finish is to look for."""
    return _bake({"uuid": uuid})


def session_uuid(cookie: bytes) -> str:
    """The session uuid in prepare's cookie, plain and lower-case.

    Raises ``HypervisorError`` as libvirt's ``vzEatCookie``: ``VIR_ERR_INTERNAL_ERROR``, or
    ``VIR_ERR_XML_DETAIL`` where it is no XML.
    """
    return _uuid(cookie, "session-uuid")


def domain_uuid(cookie: bytes) -> str:
    """The domain's uuid in perform's cookie, plain and lower-case; raises as ``session_uuid``."""
    return _uuid(cookie, "uuid")


def plain(uuid: str) -> str:
    """A uuid as the rest of vmrelay writes it: lower case, dashes, no braces."""
    return str(UUID(re.sub(r"[\s{}-]", "", uuid)))


def braced(uuid: str) -> str:
    """A uuid as the SDK wants it: dispatchers compare the text."""
    return f"{{{uuid}}}"


def xml_text(text: str) -> str:
    """A text without the characters that XML cannot carry, as libvirt writes it."""
    return _NOT_XML.sub("", text)


def _bake(elements: dict[str, str]) -> bytes:
    root = ElementTree.Element(ROOT)
    for tag, text in elements.items():
        ElementTree.SubElement(root, tag).text = xml_text(text)
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8")
    return document + b"\n\0"


def _uuid(cookie: bytes, tag: str) -> str:
    if not cookie or not cookie.endswith(b"\0"):
        raise _malformed("Invalid migration cookie")
    try:
        element = xml_root(cookie, "(_migration_cookie)").find(tag)
    except Rejected as error:
        raise _malformed(error.message, error.code) from None
    text = "" if element is None else "".join(element.itertext())
    if not uuid_ok(text):
        raise _malformed(f"missing or malformed {tag} element in migration data")
    return plain(text)


def _malformed(message: str, code: str = "VIR_ERR_INTERNAL_ERROR") -> HypervisorError:
    return HypervisorError(message, code=code, retry=Retry.PERMANENT, untouched=True)
