"""Migration cookies as the drivers read them: the order of their checks and their messages."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from worker.hypervisors.checks.refusals import internal
from worker.hypervisors.checks.request import UNSAID, VALID
from worker.hypervisors.checks.xml import xml_root

_UUID = re.compile(r"\s*(?:[- ]*[0-9A-Fa-f]{2}){16}\s*", re.ASCII)


def stands_for_valid(cookie: bytes | None) -> bool:
    """Whether a placeholder stands where a cookie of the phase before would be."""
    return cookie in (VALID.encode(), UNSAID.encode())


def uuid_ok(text: str) -> bool:
    """``virUUIDParse``: 32 hexadecimal digits, dashes or spaces between the pairs."""
    return _UUID.fullmatch(text) is not None


def check_vz_cookie(cookie: bytes | None) -> None:
    """What perform of the vz driver reads of prepare's cookie: the session (``vzEatCookie``)."""
    if stands_for_valid(cookie):
        return
    if not cookie or not cookie.endswith(b"\0"):
        raise internal("Invalid migration cookie")
    session = xml_root(cookie, "(_migration_cookie)").find("session-uuid")
    if session is None or not uuid_ok("".join(session.itertext())):
        raise internal("missing or malformed session-uuid element in migration data")


_FEATURES = (
    "graphics",
    "lockstate",
    "persistent",
    "network",
    "nbd",
    "statistics",
    "memory-hotplug",
    "cpu-hotplug",
    "cpu",
    "allowReboot",
    "capabilities",
    "block-dirty-bitmaps",
)
PREPARE_FEATURES = frozenset(
    ("lockstate", "nbd", "memory-hotplug", "cpu-hotplug", "cpu", "capabilities", "block-dirty-bitmaps")
)
PERFORM_FEATURES = frozenset(("graphics", "capabilities", "block-dirty-bitmaps"))
"""And ``nbd`` where disks are copied."""
FINISH_FEATURES = frozenset(("network", "statistics", "nbd", "persistent"))
RESUME_FEATURES = frozenset(("capabilities",))
_GRAPHICS = ("sdl", "vnc", "rdp", "desktop", "spice", "egl-headless", "dbus")


def check_qemu_cookie(cookie: bytes, *, name: str, uuid: str, own_host: str, features: frozenset[str]) -> Element:
    """``qemuMigrationCookieParse``: who sent it, what it demands, then the parts this phase reads.

    Returns the cookie\'s root.
    """
    if not cookie.endswith(b"\0"):
        raise internal("Migration cookie was not NULL terminated")
    root = xml_root(cookie, "(qemu_migration_cookie)")
    _check_sender(root, name, uuid, own_host)
    for feature in root.findall("feature"):
        asked = feature.get("name")
        if asked is None:
            raise internal("missing feature name")
        if asked not in _FEATURES:
            raise internal(f"Unknown migration cookie feature {asked}")
        if asked not in features:
            raise internal(f"Unsupported migration cookie feature {asked}")
    _check_parts(root, features)
    return root


def _child_text(root: Element, tag: str) -> str:
    """XPath's ``string(./tag[1])`` in libvirt's reading: empty counts as missing."""
    child = root.find(tag)
    text = "" if child is None else "".join(child.itertext())
    if not text:
        raise internal(f"missing {tag} element in migration data")
    return text


def _check_sender(root: Element, name: str, uuid: str, own_host: str) -> None:
    if (found := _child_text(root, "name")) != name:
        raise internal(f"Incoming cookie data had unexpected name {found} vs {name}")
    if (found := _child_text(root, "uuid")) != uuid:
        raise internal(f"Incoming cookie data had unexpected UUID {found} vs {uuid}")
    _child_text(root, "hostname")
    host = _child_text(root, "hostuuid")
    if not uuid_ok(host):
        raise internal("malformed hostuuid element in migration data")
    if _digits(host) == _digits(own_host):
        raise internal(f"Attempt to migrate guest to the same host {host}")


def _digits(uuid: str) -> str:
    return re.sub(r"[^0-9a-f]", "", uuid.lower())


def _check_parts(root: Element, features: frozenset[str]) -> None:
    if "graphics" in features and (graphics := root.find("graphics")) is not None:
        _check_graphics(graphics)
    if "lockstate" in features and (lock := root.find("lockstate")) is not None and not lock.get("driver"):
        raise internal("Missing lock driver name in migration cookie")
    if "persistent" in features and len(root.findall("domain")) > 1:
        raise internal("Too many domain elements in migration cookie")
    if "network" in features and any(i.get("vporttype") is None for i in root.findall("network/interface")):
        raise internal("missing vporttype attribute in migration data")
    if "nbd" in features and (nbd := root.find("nbd")) is not None:
        _check_nbd(nbd)
    caps = root.find("capabilities") if "capabilities" in features else None
    if caps is not None and any(cap.get("name") is None for cap in caps.findall("cap")):
        raise internal("missing migration capability name")
    if "block-dirty-bitmaps" in features:
        _check_bitmaps(root)


def _check_graphics(graphics: Element) -> None:
    kind = graphics.get("type")
    if not kind:
        raise internal("missing type attribute in migration data")
    if kind not in _GRAPHICS:
        raise internal(f"unknown graphics type {kind}")
    for attribute in ("port", "tlsPort") if kind == "spice" else ("port",):
        if not re.fullmatch(r"\s*[+-]?\d+", graphics.get(attribute, "")):
            raise internal(f"missing {attribute} attribute in migration data")
    if not graphics.get("listen"):
        raise internal("missing listen attribute in migration data")


def _check_nbd(nbd: Element) -> None:
    port = nbd.get("port")
    if port and not re.fullmatch(r"\s*[+-]?\d+", port):
        raise internal(f"Malformed nbd port '{port}'")
    for disk in nbd.findall("disk"):
        if not disk.get("target"):
            raise internal("Malformed disk target")
        capacity = disk.get("capacity") or "<null>"
        if not re.fullmatch(r"\s*[+-]?\d+", capacity):
            raise internal(f"Malformed disk capacity: '{capacity}'")


def _check_bitmaps(root: Element) -> None:
    for disk in root.findall("blockDirtyBitmaps/disk"):
        bitmaps = disk.findall("bitmap")
        named = all(b.get("name") is not None and b.get("alias") is not None for b in bitmaps)
        if disk.get("target") is None or not named:
            raise internal("malformed <blockDirtyBitmaps> in migration cookie")
