"""Domain definitions, as far as the checks before a migration read them.

Sources: ``virDomainDefParseString``, ``virDomainDefCheckABIStability`` of libvirt 9.0.0.
"""

from __future__ import annotations

import re
from uuid import UUID
from xml.etree.ElementTree import Element

from worker.errors import Rejected
from worker.hypervisors.checks.cookies import uuid_ok
from worker.hypervisors.checks.refusals import internal
from worker.hypervisors.checks.xml import xml_root

_PLACEHOLDER = re.compile(r"<(xml|valid)\b[^<>/]*>")
"""``<xml>`` in a request stands for a definition that the source's libvirt wrote itself."""


def read_domain(xml: str) -> Element | None:
    """The definition, or ``None`` for a placeholder. Raises ``Rejected`` as libvirt's parser would."""
    if _PLACEHOLDER.fullmatch(xml):
        return None
    root = xml_root(xml.encode("utf-8", "surrogatepass"), "(domain_definition)")
    if root.tag != "domain":
        raise _xml_error(f"expecting root element of 'domain', not '{root.tag}'")
    name, uuid = _text(root, "name"), _text(root, "uuid")
    if not name:
        raise Rejected("missing name information", code="VIR_ERR_NO_NAME")
    if "/" in name:
        raise _xml_error(f"name {name} cannot contain '/'")
    if uuid and not uuid_ok(uuid):
        raise internal("malformed uuid element")
    if not root.get("type"):
        raise internal("missing domain type attribute")
    if not _text(root, "os/type"):
        raise _xml_error("an os <type> must be specified")
    if not _text(root, "memory") and root.find("cpu/numa") is None:
        raise _xml_error("Memory size must be specified via <memory> or in the <numa> configuration")
    return root


def _xml_error(message: str) -> Rejected:
    return Rejected(message, code="VIR_ERR_XML_ERROR")


def _text(root: Element, path: str) -> str:
    found = root.find(path)
    return "" if found is None else "".join(found.itertext())


def check_same_abi(xml: str, *, name: str, uuid: str) -> None:
    """A definition for the destination must keep the domain's uuid and name."""
    root = read_domain(xml)
    if root is None:
        return
    # libvirt draws a uuid for a definition that has none, which then is another one
    found = _plain(_text(root, "uuid")) or "(none given)"
    if found != _plain(uuid):
        raise _abi(f"Target domain uuid {found} does not match source {uuid}")
    if (found := _text(root, "name")) != name:
        raise _abi(f"Target domain name '{found}' does not match source '{name}'")


def _plain(uuid: str) -> str:
    """As libvirt prints it: it reads capitals, and hyphens where anybody puts them."""
    return str(UUID("".join(uuid.split()))) if uuid_ok(uuid) else uuid


def _abi(message: str) -> Rejected:
    return Rejected(message, code="VIR_ERR_CONFIG_UNSUPPORTED")
