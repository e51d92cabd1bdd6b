"""Where Prometheus finds each process's ``/metrics``: file-based service discovery. Pure.

Made from the inventory and from the leases of the processes that live, so that a port that was taken freely is
found, too. The format is that of ``file_sd_configs``: a list of ``{"targets": [...], "labels": {...}}``
(prometheus.io, Configuration).

``instance`` names the process and not its address: an agent that comes back on another port goes on with its series.
Only agents' targets have the label ``host``. Whatever an agent says of a host it says of its own, so nothing is
contradicted, whether Prometheus is told to honour the labels of what it scrapes or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.inventory import Host, Inventory
from worker.settings import Settings

ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
LOOPBACK = re.compile(r"127\.|::1$|localhost$")

Card = Mapping[str, Any]
"""What an agent or a scheduler says of itself in its lease."""
Group = dict[str, Any]
"""One item of the file: one target and its labels."""


@dataclass(frozen=True, slots=True)
class Found:
    """The targets, and what has to be said about processes that are none."""

    groups: list[Group] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def discover(
    settings: Settings,
    inventory: Inventory,
    agents: Mapping[str, Card],
    schedulers: Iterable[Card],
    before: Sequence[Group],
    here: str,
    *,
    web: bool = False,
) -> Found:
    """All processes that can be scraped from the machine ``here``.

    ``agents`` are the cards of the live ones by host, ``before`` is what was found last: an agent that is away stays
    where it was then, if its port is a fixed one, so that Prometheus sees it missing.
    """
    found = Found()
    for host in inventory.values():
        labels = {"process": "agent", "instance": f"agent-{host.name}", "host": host.name} | _meta(host)
        if card := agents.get(host.name):
            _live(found, card, labels, settings, here)
        else:
            _away(found, host, labels, settings, before)
    for card in sorted(schedulers, key=lambda card: (str(card.get("node")), int(card["metrics_port"]))):
        instance = f"scheduler-{card.get('node')}:{card['metrics_port']}"
        _live(found, card, {"process": "scheduler", "instance": instance}, settings, here)
    if web:
        _web(found, settings, here)
    return found


def _live(found: Found, card: Card, labels: dict[str, str], settings: Settings, here: str) -> None:
    """A process that lives is where it says, unless that can only be reached from its own machine."""
    address, node = str(card.get("metrics_address", settings.metrics_address)), str(card.get("node"))
    if not card.get("metrics_port"):
        return  # it starts; the next look finds it
    if LOOPBACK.match(address) and node != here:
        found.remarks.append(
            f"{labels['instance']} is not listed: it serves /metrics to its own machine {node} only ({address}); "
            "set metrics_address there"
        )
        return
    found.groups.append(_group(node if address in ANYWHERE else address, int(card["metrics_port"]), labels))


def _away(found: Found, host: Host, labels: dict[str, str], settings: Settings, before: Sequence[Group]) -> None:
    """An agent that is away stays listed, if it is known where it will be."""
    port = host.settings.metrics_port
    if not port:
        found.remarks.append(
            f"{labels['instance']} is not listed: the agent is away and metrics_port is 0; "
            f"set [hosts.{host.name}] metrics_port, so that Prometheus sees it missing"
        )
        return
    for group in before:
        if group.get("labels", {}).get("instance") == labels["instance"] and _port(group) == port:
            found.groups.append({"targets": group["targets"], "labels": labels})
            return
    address = settings.metrics_address
    if address in ANYWHERE:
        address = _without_port(host.settings.address or host.name)
    found.groups.append(_group(address, port, labels))


def _web(found: Found, settings: Settings, here: str) -> None:
    web = settings.web
    if not web.port:
        found.remarks.append("web is not listed: [web] port is 0; set one")
        return
    address = here if web.address in ANYWHERE else web.address
    found.groups.append(_group(address, web.port, {"process": "web", "instance": f"web-{address}:{web.port}"}))


def _group(address: str, port: int, labels: dict[str, str]) -> Group:
    return {"targets": [f"[{address}]:{port}" if ":" in address else f"{address}:{port}"], "labels": labels}


def _port(group: Group) -> int:
    text = str((group.get("targets") or [""])[0]).rpartition(":")[2]
    return int(text) if text.isdigit() else 0


def _without_port(address: str) -> str:
    """``host`` of ``host``, ``host:port``, ``[v6]:port``."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _meta(host: Host) -> dict[str, str]:
    """What relabelling may use and Prometheus drops by itself: the driver, and the inventory's labels."""
    labels = {re.sub(r"\W", "_", name, flags=re.ASCII): text for name, text in sorted(host.settings.labels.items())}
    return {"__meta_vmrelay_driver": host.profile} | {
        f"__meta_vmrelay_label_{name}": text for name, text in labels.items()
    }
