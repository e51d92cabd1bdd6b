"""What the leading scheduler shows of the queue and of slots, and what a guest counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clocked import Clocked
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from tasks import costs, turns
from worker import metrics
from worker.inventory import Inventory
from worker.journal import connect
from worker.loads import GuestLoad, HostLoad
from worker.runtime import Runtime
from worker.settings import AdmissionSettings, Settings
from worker.terms import Terms

HOSTS = {name: {"uri": "vzsim://nowhere", "network": "left"} for name in ("alpha", "beta")}
GIB = 1024**3


@pytest.fixture
def parts(redis_url: str) -> Iterator[Runtime]:
    """Two hosts on one network, with agents."""
    settings = Settings(redis_url=redis_url, hosts=HOSTS, networks={"left": {"max_migrations": 5}})
    with connect(redis_url) as client:
        journal = Clocked(client)
        journal.open(*HOSTS)
        yield Runtime(settings, Inventory(settings), journal)


def sample(name: str, **labels: str) -> float | None:
    """What would be served."""
    return REGISTRY.get_sample_value(name, labels)


def test_the_leader_alone_shows_the_queue(parts: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """By priority, with the age of the oldest; slots and limits by host; nothing where another scheduler leads."""
    journal = parts.journal
    assert isinstance(journal, Clocked)
    monkeypatch.setattr(journal, "now", lambda: journal.at / 1000)
    journal.ask("first", "alpha", "beta", priority="high")
    journal.pass_time(90)
    for number in range(3):
        journal.ask(f"m{number}", "beta", "alpha", cost=2)
    journal.pass_time(10)
    assert journal.round(parts.inventory.terms, 1) == ["first"]
    turns.Caretaker().look(parts, 0.0)
    assert sample("vmrelay_pending_migrations", priority="normal") == 3
    assert sample("vmrelay_pending_oldest_seconds", priority="normal") == 10
    assert sample("vmrelay_pending_migrations", priority="high") == 0
    assert sample("vmrelay_slots_used", host="alpha", direction="out") == 1
    assert sample("vmrelay_slots_limit", host="alpha", direction="in") == 2
    assert sample("vmrelay_network_slots_used", network="left") == 1
    assert sample("vmrelay_network_slots_limit", network="left") == 5
    metrics.lead_no_more()
    assert sample("vmrelay_pending_migrations", priority="normal") is None
    assert sample("vmrelay_slots_used", host="alpha", direction="out") is None


def test_the_leader_tells_of_doubts_and_leases(parts: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many are in doubt and for how long the first has been; how old leases are, and who fights over a host."""
    journal = parts.journal
    assert isinstance(journal, Clocked)
    monkeypatch.setattr(journal, "now", lambda: journal.at / 1000)
    caretaker = turns.Caretaker()
    caretaker.look(parts, 0.0)
    assert sample("vmrelay_in_doubt_migrations") == sample("vmrelay_in_doubt_oldest_seconds") == 0
    assert sample("vmrelay_lease_conflicts_total", host="alpha") == 0
    journal.client.zadd("vmrelay:doubt", {"first": journal.at, "second": journal.at + 5000})
    journal.pass_time(75)
    journal.contest("alpha")
    left = int((parts.settings.lease_seconds - 4) * 1000)
    journal.client.pexpire("vmrelay:lease:alpha", left)
    caretaker.look(parts, 10.0)
    assert sample("vmrelay_in_doubt_migrations") == 2
    assert sample("vmrelay_in_doubt_oldest_seconds") == 75
    assert sample("vmrelay_lease_conflicts_total", host="alpha") == 1
    assert sample("vmrelay_lease_conflicts_total", host="beta") == 0
    age = sample("vmrelay_lease_age_seconds", host="alpha")
    assert age is not None
    assert 4 <= age <= parts.settings.lease_seconds
    journal.shut("alpha")
    caretaker.look(parts, 20.0)
    assert sample("vmrelay_lease_age_seconds", host="alpha") is None
    metrics.lead_no_more()
    for name in ("vmrelay_in_doubt_migrations", "vmrelay_in_doubt_oldest_seconds"):
        assert sample(name) is None
    assert sample("vmrelay_lease_conflicts_total", host="alpha") is None


def test_it_looks_now_and_then_only(parts: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds are many; the whole queue is not read in each of them."""
    caretaker, looks = turns.Caretaker(), [0]
    sweep = parts.journal.sweep

    def counted(terms: Terms, cursor: int = 0) -> tuple[int, list[str]]:
        looks[0] += 1
        return sweep(terms, cursor)

    monkeypatch.setattr(parts.journal, "sweep", counted)
    for now in (100.0, 101.0, 104.9, 105.0, 109.0, 110.1):
        caretaker.look(parts, now)
    assert looks == [3]


@given(memory=st.floats(0, 1e16), dirty=st.floats(0, 1e9))
def test_a_guest_counts_at_least_one_and_never_too_much(memory: float, dirty: float) -> None:
    """More with its memory, and with what it writes."""
    weights = AdmissionSettings()
    cost = costs.cost_of(memory, dirty, weights)
    assert 1 <= cost <= costs.MOST
    assert cost <= costs.cost_of(memory + 128 * GIB, dirty, weights) <= costs.MOST
    assert cost <= costs.cost_of(memory, dirty + 1000, weights)


def test_what_a_guest_counts_follows_from_what_is_known(parts: Runtime) -> None:
    """Its published memory, and the dirty rate of its host's load where there is one."""
    guests = {"u-1": GuestLoad(1, 1024, dirty=2500), "u-2": GuestLoad(1, 1024)}
    parts.journal.publish_load("alpha", HostLoad(0, 60, 8, 65536, guests), 60)
    rates = costs.DirtyRates()
    assert [rates.of(parts, "alpha", uuid) for uuid in ("u-1", "u-2", "u-3")] == [2500, 0, 0]
    assert rates.of(parts, "beta", "u-1") == 0
    weights = parts.settings.admission
    assert costs.cost_of(300 * GIB, 2500, weights) == 1 + 2 + 2
    assert costs.cost_at(parts, {"uuid": "u-9"}, "beta") == 1
