"""URIs as libvirt reads them: libxml2's RFC 3986 grammar, and what each driver wants of a URI."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import unquote_to_bytes

from worker.errors import Rejected
from worker.hypervisors.checks.refusals import internal, invalid_arg, unsupported_arg
from worker.hypervisors.checks.request import DESTINATION, UNSAID

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
_PORT_DIGITS = 9
"""libxml2 refuses longer ports, which might overflow an int."""


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
    if match is None or len((match["port"] or "").lstrip("0")) > _PORT_DIGITS or _colon_in_relative_path(match):
        raise internal(f"Unable to parse URI {text}")
    server = _plain(match["server"])
    return Uri(
        scheme=match["scheme"],
        user=_plain(match["user"], keep_empty=True),
        server=server.strip("[]") if server else None,
        port=int(match["port"].lstrip("0") or 0) if server and match["port"] else 0,
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


def _tcp_made_well_formed(text: str) -> str:
    """libvirt itself writes ``tcp:host:port``."""
    rest = text.removeprefix("tcp:")
    return text if rest == text or rest.startswith("//") else f"tcp://{rest}"


def check_qemu_uri(text: str) -> str:
    """The QEMU driver's migration URI; returns its protocol: ``tcp``, ``rdma`` or ``unix``."""
    uri = parse_uri(_tcp_made_well_formed(text))
    if uri.scheme is None:
        raise invalid_arg(f"missing scheme in migration URI: {text}")
    if uri.scheme not in ("tcp", "rdma", "unix"):
        raise unsupported_arg(f"unsupported scheme {uri.scheme} in migration URI {text}")
    if uri.scheme != "unix" and uri.server is None:
        raise invalid_arg(f"missing host in migration URI: {text}")
    return uri.scheme


def check_disks_uri(text: str | None, port: int) -> None:
    """Where the destination serves disks (``qemuMigrationDstStartNBDServer``)."""
    if text is None:
        if not 0 <= port <= 65535:
            raise invalid_arg("nbd port must be in range 0-65535")
        return
    uri = parse_uri(text)
    match uri.scheme:
        case None:
            raise invalid_arg(f"No URI scheme specified: {text}")
        case "tcp":
            if not uri.server:
                raise invalid_arg(f"URI with tcp scheme did not provide a server part: {text}")
        case "unix":
            if uri.path is None:
                raise invalid_arg("UNIX disks URI does not include path")
        case _:
            raise invalid_arg(f"Unsupported scheme in disks URI: {uri.scheme}")


def check_not_local(text: str) -> None:
    """``virDomainMigrateCheckNotLocal``: a UNIX socket that is named is meant."""
    if text == DESTINATION:
        return
    uri = parse_uri(text)
    transport = (uri.scheme or "").partition("+")[2]
    names = [pair.partition("=")[0] for pair in re.split("[&;]", uri.query or "")]
    socket_named = transport == "unix" and "socket" in names
    if (uri.server or "").startswith("localhost") or (not uri.server and not socket_named):
        raise invalid_arg("Attempt to migrate guest to the same host")


_TRANSPORTS = ("tls", "unix", "ssh", "libssh2", "ext", "tcp", "libssh")


def check_connectable(text: str | None) -> None:
    """What the remote driver refuses of a connection URI before it connects."""
    if text is None or text in (DESTINATION, UNSAID):
        return
    uri = parse_uri(text)
    transport = (uri.scheme or "").partition("+")[2].lower()
    if transport and transport not in _TRANSPORTS:
        raise invalid_arg(
            "remote_open: transport in URL not recognised (should be tls|unix|ssh|ext|tcp|libssh2|libssh)"
        )
    if uri.scheme is None:
        raise Rejected(
            f"no connection driver available for URI '{text}' does not include a driver name",
            code="VIR_ERR_NO_CONNECT",
        )
    if transport == "ext" and "command=" not in (uri.query or ""):
        raise invalid_arg("remote_open: for 'ext' transport, command is required")
    if transport == "unix" and uri.server:
        raise invalid_arg(f"using unix socket and remote server '{uri.server}' is not supported.")


def check_reachable(text: str, listen: str | None) -> None:
    """What is wrong with the URI's host even if prepare succeeded.

    A name under ``.invalid`` never resolves (RFC 2606); on an address nobody listens where prepare was
    told to listen on another one.
    """
    uri = parse_uri(_tcp_made_well_formed(text))
    if uri.scheme != "tcp" or uri.server is None or not uri.port:
        return
    if uri.server.endswith(".invalid"):
        raise Rejected(
            f"Unable to resolve address '{uri.server}' service '{uri.port}': Name or service not known",
            code="VIR_ERR_SYSTEM_ERROR",
        )
    if listen is None:
        return
    try:
        target, bound = ip_address(uri.server), ip_address(listen)
    except ValueError:
        return  # only a host can tell what a name means
    if target != bound and not bound.is_unspecified:
        raise Rejected(
            f"unable to connect to server at '{uri.server}:{uri.port}': Connection refused",
            code="VIR_ERR_SYSTEM_ERROR",
        )
