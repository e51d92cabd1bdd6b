"""Domain definitions, as far as the checks before a migration read them.

Sources: ``virDomainDefParseString``, ``virDomainDefCheckABIStability`` of libvirt 9.0.0.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from worker.errors import Rejected
from worker.hypervisors.checks.cookies import xml_root
from worker.hypervisors.checks.refusals import internal

_PLACEHOLDER = re.compile(r"<(xml|valid)\b[^<>/]*>")
"""``<xml>`` in a request stands for a definition that the source's libvirt wrote itself."""


def read_domain(xml: str) -> ElementTree.Element | None:
    """The definition, or ``None`` for a placeholder. Raises ``Rejected`` as libvirt's parser would."""
    if _PLACEHOLDER.fullmatch(xml):
        return None
    root = xml_root(xml.encode("utf-8", "surrogatepass"), "(domain_definition)")
    if root.tag != "domain":
        raise Rejected(f"expecting root element of 'domain', not '{root.tag}'", code="VIR_ERR_XML_ERROR")
    if root.get("type") is None:
        raise internal("missing domain type attribute")
    return root


def check_same_abi(xml: str, *, name: str, uuid: str) -> None:
    """A definition for the destination must keep the domain's uuid and name."""
    root = read_domain(xml)
    if root is None:
        return
    for tag, own, text in (
        ("uuid", uuid, f"Target domain uuid {{}} does not match source {uuid}"),
        ("name", name, f"Target domain name '{{}}' does not match source '{name}'"),
    ):
        found = (root.findtext(tag) or "").strip()
        if found and found != own:
            raise Rejected(text.format(found), code="VIR_ERR_CONFIG_UNSUPPORTED")
