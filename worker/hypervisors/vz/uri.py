"""Virtuozzo migration URIs: ``vzmigr://host[:port]``.

The checks are the validator's (``checks/uris.py``, libvirt's ``vzParseVzURI``); here they raise
what a driver raises.
"""

from __future__ import annotations

from typing import NamedTuple

from worker.errors import HypervisorError, Rejected, Retry
from worker.hypervisors.checks.uris import check_vz_uri, parse_uri

PORT_MAX = 65535


class MigrationUri(NamedTuple):
    """Where the source dispatcher finds the destination's. Port 0 means the SDK's default (64000)."""

    host: str
    port: int


def parse(text: str) -> MigrationUri:
    """Take a migration URI apart.

    Raises ``HypervisorError`` with libvirt's code and text: ``VIR_ERR_INTERNAL_ERROR`` where it is no URI,
    ``VIR_ERR_INVALID_ARG`` where scheme or host lack, anything else than a port follows, or the port
    is beyond 65535, ``VIR_ERR_ARGUMENT_UNSUPPORTED`` where the scheme is another one.
    """
    try:
        check_vz_uri(text)
        uri = parse_uri(text)
    except Rejected as error:
        raise _refused(error.code, error.message) from None
    if uri.port > PORT_MAX:
        raise _refused("VIR_ERR_INVALID_ARG", f"port {uri.port} is out of range in migration URI {text}")
    return MigrationUri(uri.server or "", uri.port)


def compose(address: str) -> str:
    """The migration URI of a host's address (``host``, ``host:port``, ``[IPv6]:port``, bare IPv6).

    Raises ``HypervisorError`` for a name that starts with "localhost" (libvirt's ``vzMigrationCreateURI``):
    on the source it would mean the source.
    """
    if address.startswith("localhost"):
        raise _refused(
            "VIR_ERR_INTERNAL_ERROR",
            "hostname on destination resolved to localhost, but migration requires an FQDN",
        )
    bare_ipv6 = address.count(":") > 1 and not address.startswith("[")
    uri = f"vzmigr://[{address}]" if bare_ipv6 else f"vzmigr://{address}"
    parse(uri)
    return uri


def _refused(code: str, message: str) -> HypervisorError:
    return HypervisorError(message, code=code, retry=Retry.PERMANENT, untouched=True)
