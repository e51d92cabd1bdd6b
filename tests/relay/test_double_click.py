"""The same request twice is one migration, and another one under its id changes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from relay_lab import LARGE, Relay, until

from worker.contract.idempotency import ident_of


def test_a_double_click_makes_one_migration(relay: Relay) -> None:
    """Eight sends at once under the id of one key: one record, one move, one outcome."""
    name, ident = relay.vm(memory_mib=2000), ident_of("shop", relay.vm())
    before, jobs = relay.outcomes(), relay.jobs_ended()
    asked = {"domain": name, "destination": "beta", "requested_by": "ann", "ident": ident}
    with ThreadPoolExecutor(8) as clicks:
        assert set(clicks.map(lambda _: relay.send(**asked), range(8))) == {ident}
    assert relay.wait(ident).outcome == "succeeded"
    relay.send(**asked)  # and once more when the guest is there already
    until(lambda: not relay.journal.client.llen("scheduler"), "every request was taken")
    relay.moved(relay.vm())
    told = [event["type"] for event in relay.events(ident)]
    assert (told.count("accepted"), told.count("started"), told.count("ended")) == (1, 1, 1)
    assert "conflict" not in told
    assert (relay.outcomes() - before, relay.jobs_ended() - jobs) == (2, 2)
    assert relay.result(ident)["status"] == "SUCCESS"


def test_another_request_under_a_known_id_is_told_apart(relay: Relay) -> None:
    """A migration goes its way while others come under its id: another migration, a refused one, a batch."""
    ident = relay.send(domain=relay.vm(memory_mib=LARGE), destination="beta", requested_by="ann")
    relay.copying(ident)
    before = relay.metrics("scheduler", "vmrelay_conflicts_total")
    other = relay.vm()
    relay.send(domain=other, destination="gamma", requested_by="bob", ident=ident)
    relay.send(domain="nobody", destination="gamma", requested_by="eve", ident=ident)
    relay.send("vmrelay.v1.batch", ident, moves=[{"domain": other, "destination": "gamma"}])
    until(lambda: relay.metrics("scheduler", "vmrelay_conflicts_total") == before + 3, "three conflicts counted")
    assert sorted(event["by"] for event in relay.events(ident, "conflict")) == ["bob", "eve"]
    assert relay.result(ident)["status"] == "PROGRESS"
    assert relay.journal.batch(ident) is None
    relay.cli("cancel", ident)
    record = relay.wait(ident)
    assert (record.outcome, record.destination, record.requested_by) == ("cancelled", "beta", "ann")
    assert relay.where(other) == {"alpha": "running"}
