"""All hosts as users see them: their agents, limits, loads, cordons and domains."""

from __future__ import annotations

from collections import Counter
from typing import Any

from worker.fleet.used import used
from worker.inventory import Inventory
from worker.journal import Journal
from worker.journal.cordons import IN_SETTINGS, Cordon


def described(book: Journal, inventory: Inventory) -> list[dict[str, Any]]:
    """All hosts, as ``vmrelay hosts -o json`` and ``GET /v1/hosts`` show them."""
    agents = book.agents(inventory)
    waiting = Counter(record.waiting["host"] for record in book.standing() if record.waiting)
    loads = book.loads(inventory)
    limits = book.limits(inventory.terms)["hosts"]
    cordons, away = book.cordons(), Counter(home.host for home in book.homes())
    shown: list[dict[str, Any]] = []
    for name, host in inventory.items():
        leaving, entering = book.load_of(name)
        cordon = IN_SETTINGS if host.settings.cordoned else cordons.get(name)
        shown.append(
            {
                "name": name,
                "driver": host.profile,
                "agent": _agent_state(agents.get(name)),
                "cordoned": cordon is not None,
                "cordon": cordon.document() if cordon else None,
                "draining": _draining(book, cordons.get(name)),
                "outgoing": leaving,
                "max_outgoing": limits[name]["outgoing"]["limit"],
                "incoming": entering,
                "max_incoming": limits[name]["incoming"]["limit"],
                "waiting": waiting[name],
                "homes_away": away[name],
                "load": full.document() if (full := used(host, loads.get(name))) else None,
                "labels": host.settings.labels,
                "domains": book.domains(name),
            }
        )
    return shown


def _draining(book: Journal, cordon: Cordon | None) -> str | None:
    """The drain that empties a host now."""
    batch = book.batch(cordon.batch) if cordon and cordon.batch else None
    return batch.id if batch and batch.state != "finished" else None


def _agent_state(agent: dict[str, Any] | None) -> str:
    if agent is None:
        return "down"
    if not agent.get("answers", True):
        return "no answer"
    return "draining" if agent.get("draining") else "up"
