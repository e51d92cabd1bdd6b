"""Migration cookies as the drivers read them: the order of their checks and their messages."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from worker.errors import Rejected
from worker.hypervisors.checks.refusals import internal
from worker.hypervisors.checks.request import VALID

_UUID = re.compile(r"\s*(?:[- ]*[0-9A-Fa-f]{2}){16}\s*", re.ASCII)


def uuid_ok(text: str) -> bool:
    """``virUUIDParse``: 32 hexadecimal digits, dashes or spaces between the pairs."""
    return _UUID.fullmatch(text) is not None


def xml_root(cookie: bytes) -> ElementTree.Element:
    """The root of a cookie; raises ``Rejected`` with libxml2's kind of message."""
    try:
        # expat bounds the expansion of entities by itself
        return ElementTree.fromstring(cookie.split(b"\0")[0])  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise Rejected(f"(_migration_cookie): {error}", code="VIR_ERR_XML_DETAIL") from None


def check_vz_cookie(cookie: bytes | None) -> None:
    """What perform of the vz driver reads of prepare's cookie: the session (``vzEatCookie``)."""
    if cookie == VALID.encode():
        return
    if not cookie or not cookie.endswith(b"\0"):
        raise internal("Invalid migration cookie")
    session = xml_root(cookie).find("session-uuid")
    if session is None or not uuid_ok("".join(session.itertext())):
        raise internal("missing or malformed session-uuid element in migration data")
