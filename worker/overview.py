"""All hosts as users see them: their agents, limits, loads, cordons and domains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from worker.fleet.used import used
from worker.inventory import Inventory
from worker.journal import Journal
from worker.journal.cordons import IN_SETTINGS, Cordon


def described(book: Journal, inventory: Inventory) -> list[dict[str, Any]]:
    """All hosts, as ``vmrelay hosts -o json`` and ``GET /v1/hosts`` show them: a few round trips for 200 hosts."""
    seen, running = book.seen(inventory), book.running_at(inventory)
    waiting = Counter(record.waiting["host"] for record in book.standing() if record.waiting)
    limits = book.limits(inventory.terms)["hosts"]
    cordons, away = book.cordons(), Counter(home.host for home in book.homes())
    drains = _drains(book, cordons)
    shown: list[dict[str, Any]] = []
    for name, host in inventory.items():
        leaving, entering = running[name]
        cordon = IN_SETTINGS if host.settings.cordoned else cordons.get(name)
        shown.append(
            {
                "name": name,
                "driver": host.profile,
                "agent": _agent_state(seen[name]["agent"]),
                "cordoned": cordon is not None,
                "cordon": cordon.document() if cordon else None,
                "draining": drains.get(name),
                "outgoing": leaving,
                "max_outgoing": limits[name]["outgoing"]["limit"],
                "incoming": entering,
                "max_incoming": limits[name]["incoming"]["limit"],
                "waiting": waiting[name],
                "homes_away": away[name],
                "load": full.document() if (full := used(host, seen[name]["load"])) else None,
                "labels": host.settings.labels,
                "domains": seen[name]["domains"],
            }
        )
    return shown


def _drains(book: Journal, cordons: Mapping[str, Cordon]) -> dict[str, str]:
    """The drain that empties each host now."""
    asked = {host: cordon.batch for host, cordon in cordons.items() if cordon.batch}
    states = book.batch_states(asked.values())
    return {host: batch for host, batch in asked.items() if states[batch] not in ("", "finished")}


def _agent_state(agent: dict[str, Any] | None) -> str:
    if agent is None:
        return "down"
    if not agent.get("answers", True):
        return "no answer"
    return "draining" if agent.get("draining") else "up"
