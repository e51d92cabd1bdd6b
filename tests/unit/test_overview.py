"""All hosts at once, as users see them, on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from redis.connection import AbstractConnection

from worker.contract import shown
from worker.hypervisors.base import Domain, DomainState
from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.loads import HostLoad
from worker.overview import described
from worker.settings import Settings


@pytest.fixture
def journal(redis_url: str) -> Iterator[Journal]:
    """An empty journal."""
    with connect(redis_url) as client:
        yield Journal(client)


def fleet(journal: Journal, number: int) -> Inventory:
    """So many hosts, every third without an agent, each with domains, some drained."""
    hosts = {f"h{n}": {"uri": "vzsim:///none", "labels": {"rack": str(n % 3)}} for n in range(number)}
    for n, name in enumerate(hosts):
        if n % 3:
            journal.lease(name, {"incarnation": name, "answers": n % 4 > 0, "draining": n % 5 == 0}, 60)
        guests = [Domain(f"{name}-{g}", f"uuid-{name}-{g}", DomainState.RUNNING) for g in range(3)]
        journal.publish(name, journal.inventory_version(name), guests)
        journal.publish_load(name, HostLoad(1, 60, 8, 4096), 60)
        journal.client.sadd(f"vmrelay:slots:{name}:out", "m1", "m2")
    for batch, state in (("over", "finished"), ("goes-on", "running")):
        journal.create_batch(batch, {"kind": "drain", "digest": batch}, "", 0, {})
        journal.client.hset(f"vmrelay:b:{batch}", "state", state)
    for host, batch in (("h1", "goes-on"), ("h2", "over"), ("h3", ""), ("h4", "forgotten")):
        journal.cordon(host, "ann", "new DIMMs", batch)
    settings = Settings(hosts=hosts)  # type: ignore[arg-type]
    return Inventory(settings.model_copy(update={"hosts": {name: settings.hosts[name] for name in hosts}}))


def test_every_host_is_shown_as_its_model_says(journal: Journal) -> None:
    """With its agent's state, the drain that empties it, its load and its domains."""
    found = {host["name"]: host for host in json.loads(json.dumps(described(journal, fleet(journal, 12))))}
    for host in found.values():
        assert set(host) == set(shown.Host.model_fields)
        assert shown.Host.model_validate(host).model_dump(mode="json", exclude_unset=True) == host
        assert ([domain["name"][-1] for domain in host["domains"]], host["outgoing"]) == (["0", "1", "2"], 2)
    assert [found[f"h{n}"]["agent"] for n in (0, 1, 4, 5)] == ["down", "up", "no answer", "draining"]
    assert [found[f"h{n}"]["draining"] for n in (0, 1, 2, 3, 4)] == [None, "goes-on", None, None, None]
    assert [found[f"h{n}"]["cordoned"] for n in (0, 1, 2, 3, 4, 5)] == [False, True, True, True, True, False]


def test_more_hosts_are_no_more_round_trips(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read together, 200 at once: what 1,000 hosts cost is bounded."""
    sent: list[int] = []
    send = AbstractConnection.send_packed_command

    def counted(self: AbstractConnection, command: object, check_health: bool = True) -> object:
        sent[-1] += 1
        return send(self, command, check_health)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    for number in (5, 150):
        sent.append(0)
        inventory = fleet(journal, number)
        described(journal, inventory)  # loads the scripts
        sent[-1] = 0
        assert len(described(journal, inventory)) == number
    assert sent[0] == sent[1] <= 10
