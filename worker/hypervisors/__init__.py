"""One room per kind of hypervisor behind one protocol (``base.Hypervisor``)."""

from __future__ import annotations

from urllib.parse import urlsplit

from worker.errors import SettingsError, Unavailable
from worker.hypervisors.base import HostConfig, Hypervisor


def profile_for(uri: str) -> str:
    """The flag profile of a host, from the scheme of its URI, without touching the host."""
    scheme = urlsplit(uri).scheme.split("+")[0]
    if not scheme:
        raise SettingsError(f"'{uri}' is no hypervisor URI; write vzsim://SOCKET or a libvirt URI")
    if scheme in ("vzsim", "vzsdk"):
        return "vz"
    return "vz-libvirt" if scheme in ("vz", "parallels") else "qemu"


def driver_for(host: HostConfig) -> Hypervisor:
    """The driver object of a host, not yet opened. Heavy extras are imported only here.

    Raises ``Unavailable`` where the extra that the URI needs is not installed.
    """
    scheme = urlsplit(host.uri).scheme
    if scheme == "vzsim":
        from worker.hypervisors.simulator.client import connect
        from worker.hypervisors.vz.driver import VzHypervisor

        socket_path = host.uri.removeprefix("vzsim://")
        return VzHypervisor(host, lambda: connect(socket_path))
    if scheme == "vzsdk":
        raise Unavailable(
            f"host {host.name}: this release drives Virtuozzo through the simulator (vzsim://) or "
            "through libvirt (vz:///system); the binding to libprl_sdk is not part of it",
            code="driver-unavailable",
        )
    try:
        from worker.hypervisors.libvirt.driver import LibvirtHypervisor
    except ImportError as missing:
        raise Unavailable(
            f"host {host.name} needs libvirt-python ({missing}); install vmrelay with the extra 'libvirt'",
            code="driver-unavailable",
        ) from missing
    return LibvirtHypervisor(host)
