"""Cordons and homes: what the scripts keep, what is refused, and what is ended while it waits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tasks import admission, cordons, hosts, turns
from worker.contract import HostRequest, MigrateRequest
from worker.errors import Rejected
from worker.hypervisors.base import Domain, DomainState
from worker.inventory import Inventory
from worker.journal import Journal, Record, connect
from worker.runtime import Runtime
from worker.settings import Settings

NAMES = ("alpha", "beta", "gamma")
HOSTS: dict[str, Any] = {name: {"uri": f"qemu+tls://{name}.example/system"} for name in NAMES}
HOSTS["closed"] = {"uri": "qemu+tls://closed.example/system", "cordoned": True}


@pytest.fixture
def parts(redis_url: str) -> Runtime:
    """Three hosts and one that the settings cordon; alpha has two running domains, and every host an agent."""
    made = Settings(redis_url=redis_url, hosts=HOSTS)
    runtime = Runtime(made, Inventory(made), Journal(connect(redis_url)))
    runtime.journal.publish("alpha", "0", [Domain(name, f"uuid-{name}", DomainState.RUNNING) for name in ("web", "db")])
    for name in HOSTS:
        runtime.journal.lease(name, {"incarnation": name}, 3600)
    return runtime


def ask(parts: Runtime, action: str, *names: str, by: str = "", reason: str = "") -> dict[str, Any]:
    """What ``vmrelay.v1.host`` answers."""
    request = HostRequest.parse({"hosts": names, "action": action, "requested_by": by, "reason": reason})
    answer: dict[str, Any] = hosts._asked(parts, request)
    return answer


def migration(parts: Runtime, ident: str, domain: str = "web", destination: str = "beta") -> Record:
    """Ask for a migration."""
    record = admission.resolved(parts, ident, MigrateRequest.parse({"domain": domain, "destination": destination}))
    admission.submit(parts, record)
    stored = parts.journal.record(ident)
    assert stored is not None
    return stored


def test_a_cordon_is_told_and_undone(parts: Runtime) -> None:
    """Who, why and since when are kept from the first; asking again changes no time; undone it is gone."""
    first = ask(parts, "cordon", "beta", by="ops", reason="new DIMMs")["hosts"]["beta"]
    assert first["changed"]
    assert (first["cordon"]["by"], first["cordon"]["reason"]) == ("ops", "new DIMMs")
    again = ask(parts, "cordon", "beta")["hosts"]["beta"]
    assert not again["changed"]
    assert again["cordon"] == first["cordon"]
    assert list(parts.journal.cordons()) == ["beta"]
    assert ask(parts, "uncordon", "beta")["hosts"]["beta"] == {"changed": True, "turned_away": 0, "cordon": None}
    assert not ask(parts, "uncordon", "beta")["hosts"]["beta"]["changed"]
    assert parts.journal.cordons() == {}


def test_nothing_is_sent_to_a_cordoned_host(parts: Runtime) -> None:
    """The refusal says by whom, why, and how to undo it; away from the host things may go."""
    ask(parts, "cordon", "beta", by="ops", reason="new DIMMs")
    with pytest.raises(Rejected, match=r"by ops \(new DIMMs\).*vmrelay hosts uncordon beta") as refusal:
        migration(parts, "m")
    assert refusal.value.code == "cordoned"
    ask(parts, "uncordon", "beta")
    ask(parts, "cordon", "alpha")
    assert migration(parts, "m").state == "active"


def test_the_settings_cordon_too_and_stay_in_force(parts: Runtime) -> None:
    """The refusal and uncordon both name the setting; nobody is uncordoned where one of the hosts cannot be."""
    with pytest.raises(Rejected, match=r"\[hosts\.closed\]") as refusal:
        migration(parts, "m", destination="closed")
    assert refusal.value.code == "cordoned"
    ask(parts, "cordon", "beta")
    with pytest.raises(Rejected, match="restart the schedulers") as refusal:
        ask(parts, "uncordon", "beta", "closed")
    assert refusal.value.code == "cordoned-by-settings"
    assert "beta" in parts.journal.cordons()


def test_an_unknown_host_changes_nothing(parts: Runtime) -> None:
    """All hosts are judged before the first one is cordoned."""
    with pytest.raises(Rejected) as refusal:
        ask(parts, "cordon", "beta", "nowhere")
    assert refusal.value.code == "unknown-host"
    assert parts.journal.cordons() == {}


def test_what_waits_towards_it_is_ended_at_once(parts: Runtime) -> None:
    """Never started, it is rejected and says why; what runs goes on; what goes elsewhere waits on."""
    parts.journal.unlease("beta", "beta")
    parts.journal.unlease("gamma", "gamma")
    migration(parts, "towards")
    migration(parts, "elsewhere", "db", "gamma")
    assert ask(parts, "cordon", "beta", by="ops")["hosts"]["beta"]["turned_away"] == 1
    record = parts.journal.record("towards")
    assert record is not None
    assert (record.outcome, record.reason) == ("rejected", "cordoned")
    assert "by ops" in record.error
    shown = json.loads(parts.journal.client.get("celery-task-meta-towards"))
    assert (shown["status"], shown["result"]["exc_type"]) == ("FAILURE", "Rejected")
    other = parts.journal.record("elsewhere")
    assert other is not None
    assert other.state == "pending"
    assert parts.journal.holder("uuid-web") is None


def test_a_cordon_that_came_in_between_is_seen_when_the_turn_comes(parts: Runtime) -> None:
    """A cordon between acceptance and start: the script that starts sees it, and the round ends the migration."""
    parts.journal.unlease("beta", "beta")
    migration(parts, "m")
    parts.journal.cordon("beta")
    parts.journal.lease("beta", {"incarnation": "beta"}, 3600)
    turns.admit_ready(parts)
    record = parts.journal.record("m")
    assert record is not None
    assert (record.state, record.outcome, record.reason) == ("ended", "rejected", "cordoned")
    assert parts.journal.load_of("alpha") == (0, 0)


def test_who_is_uncordoned_in_time_is_let_through(parts: Runtime) -> None:
    """The end is decided on the cordon of that moment, not on what was read before."""
    parts.journal.unlease("beta", "beta")
    record = migration(parts, "m")
    parts.journal.cordon("beta")
    parts.journal.uncordon("beta")
    assert not cordons.turn_away(parts, record)
    end = {"outcome": "rejected", "reason": "cordoned", "error": "x"}
    assert not parts.journal.turn_away("m", end, 10)
    assert parts.journal.waiting_for("beta")[0].id == "m"


class Homing(RuleBasedStateMachine):
    """Guests are drained, moved by hand and brought home in any order; a model knows where each belongs."""

    client: Any
    guests = st.sampled_from(["web", "db"])
    places = st.sampled_from(NAMES)

    @initialize()
    def empty(self) -> None:
        """A fresh journal; everybody is on alpha and belongs there."""
        self.client.flushall()
        self.journal = Journal(self.client)
        self.at = dict.fromkeys(("web", "db"), "alpha")
        self.home: dict[str, tuple[str, str]] = {}

    @rule(guest=guests, to=places, drain=st.booleans())
    def move(self, guest: str, to: str, drain: bool) -> None:
        """A migration ends well; it belongs to a drain or does not."""
        source = self.at[guest]
        if source == to:
            return
        self.settle(f"uuid-{guest}", guest, source, to, "b" if drain else "")
        self.at[guest] = to
        if drain:
            known = self.home.get(guest)
            self.home[guest] = (known[0], to) if known and known[1] == source else (source, to)
        if self.home.get(guest, ("",))[0] == to:
            del self.home[guest]

    def settle(self, *arguments: str) -> None:
        """What the end of a migration does (``ending.lua``), alone."""
        whole = str(self.journal._scripts["uncordon"].script)
        common = whole[: whole.index("-- A host takes domains again.")]
        self.client.eval(f"{common} settle(unpack(ARGV)) return {{'OK'}}", 1, "vmrelay:", *arguments)

    @invariant()
    def as_the_model_says(self) -> None:
        """Whoever was drained and did not come home has its home, and nobody else."""
        found = {home.domain: (home.host, home.to) for home in self.journal.homes()}
        assert found == self.home
        for host in NAMES:
            expected = sorted(guest for guest, home in self.home.items() if home[0] == host)
            assert [home.domain for home in self.journal.homes(host)] == expected


def test_everybody_belongs_where_the_last_drain_found_them(redis_url: str) -> None:
    """A drain of a drained guest keeps its first home, unless it was moved by hand in between; at home it has none."""
    Homing.client = connect(redis_url)
    checks = [HealthCheck.too_slow]
    run_state_machine_as_test(
        Homing, settings=settings(max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=checks)
    )
