"""URIs as libvirt reads them: libxml2's RFC 3986 grammar, and what each driver wants of a URI."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from worker.hypervisors.checks.refusals import internal, invalid_arg, unsupported_arg

_PCT = "%[0-9A-Fa-f]{2}"
_UNRESERVED = r"A-Za-z0-9\-._~"
_SUB_DELIMS = r"!$&'()*+,;="
_PCHAR = f"(?:[{_UNRESERVED}{_SUB_DELIMS}:@]|{_PCT})"
_URI = re.compile(
    rf"""(?:(?P<scheme>[A-Za-z][A-Za-z0-9+\-.]*):)?
    (?: // (?:(?P<user>(?:[{_UNRESERVED}{_SUB_DELIMS}:]|{_PCT})*)@)?
           (?P<server>\[[^\]]*\]|(?:[{_UNRESERVED}{_SUB_DELIMS}]|{_PCT})*)
           (?::(?P<port>[0-9]+))?
           (?P<abempty>(?:/{_PCHAR}*)*)
      | (?P<path>/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?|{_PCHAR}+(?:/{_PCHAR}*)*)?
    )
    (?:\?(?P<query>(?:{_PCHAR}|[/?])*))?
    (?:\#(?P<fragment>(?:{_PCHAR}|[/?\[\]])*))?""",
    re.VERBOSE,
)
_PORT_MAX = 999_999_999
"""libxml2 refuses ports from which an int would overflow."""


@dataclass(frozen=True, slots=True)
class Uri:
    """``virURI``: an empty part is ``None``, except ``user``, which may be empty."""

    scheme: str | None
    user: str | None
    server: str | None
    port: int
    path: str | None
    query: str | None
    fragment: str | None


def parse_uri(text: str) -> Uri:
    """``virURIParse``; raises ``Rejected`` (``VIR_ERR_INTERNAL_ERROR``) as it does."""
    match = _URI.fullmatch(text)
    if match is None or int(match["port"] or 0) > _PORT_MAX or _colon_in_relative_path(match):
        raise internal(f"Unable to parse URI {text}")
    server = _plain(match["server"])
    return Uri(
        scheme=match["scheme"],
        user=_plain(match["user"], keep_empty=True),
        server=server.strip("[]") if server else None,
        port=int(match["port"] or 0) if server else 0,
        path=_plain(match["abempty"] or match["path"]),
        query=match["query"],
        fragment=_plain(match["fragment"], keep_empty=True),
    )


def _colon_in_relative_path(match: re.Match[str]) -> bool:
    first = (match["path"] or "").split("/")[0]
    return match["scheme"] is None and ":" in first


def _plain(part: str | None, *, keep_empty: bool = False) -> str | None:
    if part is None or (not part and not keep_empty):
        return None
    return unquote_to_bytes(part).decode("utf-8", "replace")


def check_vz_uri(text: str) -> None:
    """The vz driver's migration URI: ``vzmigr://host[:port]`` and nothing else (``vzParseVzURI``)."""
    uri = parse_uri(text)
    if not uri.scheme or not uri.server:
        raise invalid_arg(f"scheme and host are mandatory vz migration URI: {text}")
    if any(part is not None for part in (uri.user, uri.path, uri.query, uri.fragment)):
        raise invalid_arg(f"only scheme, host and port are supported in vz migration URI: {text}")
    if uri.scheme != "vzmigr":
        raise unsupported_arg(f"unsupported scheme {uri.scheme} in migration URI {text}")
