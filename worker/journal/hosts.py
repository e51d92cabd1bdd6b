"""What the journal knows of hosts: their agents, their domains, their load."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from worker.hypervisors.base import Domain
from worker.journal.scripting import Scripts


def closed(agent: Mapping[str, Any] | None) -> str:
    """Why no migration starts from or towards a host with this agent; empty where they do (``admit.lua``, too)."""
    if agent is None:
        return "its agent is away"
    if not agent.get("answers", True):
        return "its hypervisor does not answer"
    return "its agent drains" if agent.get("draining") else ""


class Hosts(Scripts):
    """Leases, and the domains that agents publish so that nobody has to touch a host to find one."""

    def lease(self, host: str, agent: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
        """Take or renew a host's lease; the holder where it is somebody else's (``lease.lua``)."""
        answer = self._run("lease", host, json.dumps(agent), str(agent["incarnation"]), int(seconds * 1000))
        return None if answer[0] == "OK" else cast(dict[str, Any], json.loads(answer[1]))

    def unlease(self, host: str, incarnation: str) -> None:
        """Give a lease back (``unlease.lua``)."""
        self._run("unlease", host, incarnation)

    def agents(self, hosts: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The live agents by host."""
        names = list(hosts)
        leases = self.client.mget([self._key("lease", name) for name in names]) if names else []
        return {name: json.loads(lease) for name, lease in zip(names, leases, strict=True) if lease}

    def lease_ages(self, hosts: Iterable[str], seconds: float) -> dict[str, float]:
        """How many seconds ago each live agent renewed its lease, of leases of so many seconds."""
        names = list(hosts)
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.pttl(self._key("lease", name))
        left = zip(names, pipe.execute(), strict=True)
        return {name: max(0.0, seconds - milliseconds / 1000) for name, milliseconds in left if milliseconds > 0}

    def contest(self, host: str) -> None:
        """Count that two agents want a host."""
        self.client.hincrby(self._key("contests"), host, 1)

    def contests(self) -> dict[str, int]:
        """How often two agents wanted a host, since there is this journal."""
        return {str(host): int(number) for host, number in self.client.hgetall(self._key("contests")).items()}

    def inventory_version(self, host: str) -> str:
        """To be read before a look at a host's domains and given to ``publish``."""
        return str(self.client.get(self._key("domains", host, "v")) or "0")

    def publish(self, host: str, version: str, domains: Iterable[Domain], began: float = 0) -> bool:
        """Replace what is known of a host's domains; false where it changed meanwhile (``inventory.lua``).

        ``began`` is when the look did that saw them, in seconds of Redis's clock (0: just now).
        """
        fields: dict[str, str] = {}
        for domain in domains:
            fields[domain.name] = json.dumps(domain_document(domain))
            fields[f"/{domain.uuid}"] = domain.name
        return bool(self._run("inventory", host, version, json.dumps(fields), int(began * 1000))[0] == "OK")

    def looked_at(self, host: str) -> float:
        """When the look at a host's domains began that was last published, in seconds of Redis's clock; 0 for never."""
        return float(self.client.get(self._key("domains", host, "at")) or 0) / 1000

    def find_domain(self, name: str, hosts: Iterable[str]) -> dict[str, dict[str, Any]]:
        """On which hosts a domain (name or uuid) is, as last published. Touches no host."""
        names = list(hosts)
        pipe = self.client.pipeline(transaction=False)
        for host in names:
            pipe.hmget(self._key("domains", host), name, f"/{name.lower()}")
        found: dict[str, dict[str, Any]] = {}
        for host, (by_name, by_uuid) in zip(names, pipe.execute(), strict=True):
            text = by_name or (by_uuid and self.client.hget(self._key("domains", host), by_uuid))
            if text:
                found[host] = json.loads(text)
        return found

    def domains_like(self, host: str, name: str, uuid: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """A host's domain of that name, and its domain with that uuid, as last published."""
        key = self._key("domains", host)
        by_name, uuid_name = self.client.hmget(key, name, f"/{uuid}")
        by_uuid = self.client.hget(key, uuid_name) if uuid_name else None
        return json.loads(by_name) if by_name else None, json.loads(by_uuid) if by_uuid else None

    def holder(self, uuid: str) -> str | None:
        """The migration that holds a domain, or ``None``."""
        return cast(str | None, self.client.get(self._key("vm", uuid)))

    def domains(self, host: str) -> list[dict[str, Any]]:
        """A host's domains as last published, by name."""
        raw = self.client.hgetall(self._key("domains", host))
        return [json.loads(text) for name, text in sorted(raw.items()) if not name.startswith("/")]

    def load_of(self, host: str) -> tuple[int, int]:
        """How many migrations leave and enter a host now."""
        pipe = self.client.pipeline(transaction=False)
        pipe.scard(self._key("slots", host, "out"))
        pipe.scard(self._key("slots", host, "in"))
        leaving, entering = pipe.execute()
        return int(leaving), int(entering)


def domain_document(domain: Domain) -> dict[str, Any]:
    """A domain as the journal keeps it."""
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "state": str(domain.state),
        "persistent": domain.persistent,
        "memory_bytes": domain.memory_bytes,
    }
