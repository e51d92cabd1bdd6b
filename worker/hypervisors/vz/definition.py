"""The domain definition that begin hands to prepare: a small ``<domain type='vz'>`` document."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from worker.errors import HypervisorError, Retry
from worker.hypervisors.checks.cookies import uuid_ok
from worker.hypervisors.vz.cookie import plain, xml_text
from worker.hypervisors.vz.sdk import Vm


@dataclass(frozen=True, slots=True)
class Definition:
    """What the destination must know of a domain before it arrives."""

    name: str
    uuid: str


def write(vm: Vm) -> str:
    """The definition of a virtual machine."""
    domain = ElementTree.Element("domain", type="vz")
    ElementTree.SubElement(domain, "name").text = xml_text(vm.name)
    ElementTree.SubElement(domain, "uuid").text = plain(vm.uuid)
    ElementTree.SubElement(domain, "memory", unit="MiB").text = str(vm.ram_mib)
    ElementTree.SubElement(domain, "vcpu").text = str(vm.cpu_count)
    ElementTree.SubElement(ElementTree.SubElement(domain, "os"), "type").text = "hvm"
    ElementTree.indent(domain)
    return ElementTree.tostring(domain, encoding="unicode") + "\n"


def read(xml: str) -> Definition:
    """Name and uuid in a definition.

    Raises ``HypervisorError`` (permanent): ``VIR_ERR_XML_ERROR`` for anything that is no plain XML document
    (a document type or entities are refused), or lacks a uuid, ``VIR_ERR_INTERNAL_ERROR`` for another type of
    domain, ``VIR_ERR_NO_NAME`` where the name lacks.
    """
    try:
        # the builder refuses the document type, and with it every entity
        parser = ElementTree.XMLParser(target=_PlainBuilder())  # noqa: S314
        domain = ElementTree.fromstring(xml, parser)  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise _refused(f"(domain_definition): {error}") from None
    if domain.tag != "domain":
        raise _refused(f"unexpected root element <{domain.tag}>, expecting <domain>")
    kind = domain.get("type")
    if kind != "vz":
        raise _refused(f"unexpected domain type {kind}, expecting vz", "VIR_ERR_INTERNAL_ERROR")
    name, uuid = (domain.findtext(tag) or "" for tag in ("name", "uuid"))
    if not name:
        raise _refused("missing name information: the definition has no <name>", "VIR_ERR_NO_NAME")
    if not uuid_ok(uuid):
        raise _refused("missing or malformed uuid element: the definition needs a <uuid>")
    return Definition(name, plain(uuid))


class _PlainBuilder(ElementTree.TreeBuilder):
    def doctype(self, name: str, _public: str | None, _system: str | None) -> None:
        raise ValueError(f"a document type ({name}) is not allowed in a domain definition")


def _refused(message: str, code: str = "VIR_ERR_XML_ERROR") -> HypervisorError:
    return HypervisorError(message, code=code, retry=Retry.PERMANENT, untouched=True)
