"""The problem that planning solves follows from what agents have published, guest by guest and host by host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from terms import terms_text

from worker.contract.plans import Goal, GuestSpec, HostSpec, Problem
from worker.errors import Unavailable
from worker.fleet import Holder, Seen, Snapshot, problem, problem_of
from worker.hypervisors.base import Domain, DomainState
from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.journal.hosts import domain_document
from worker.loads import GuestLoad, HostLoad
from worker.settings import HostSettings, NetworkSettings, RuleSettings, Settings

NOW = 1_000_000.0
GIB = 2**30
BALANCE = Goal(kind="balance")
UP: dict[str, Any] = {"incarnation": "a", "answers": True, "draining": False}


def settings(**more: Any) -> Settings:
    """Three hosts: alpha and beta of one kind, gamma of another."""
    hosts = {
        "alpha": HostSettings(uri="vzsim:///a", memory_mib=8192, cpu_cores=8, labels={"rack": "1"}),
        "beta": HostSettings(uri="vzsim:///b", memory_mib=8192, cpu_cores=8, labels={"rack": "2"}),
        "gamma": HostSettings(uri="qemu:///session"),
    }
    return Settings(hosts=hosts).model_copy(update=more)


def guest(name: str, state: DomainState = DomainState.RUNNING, gib: int = 1) -> dict[str, Any]:
    """A domain as its agent publishes it."""
    return domain_document(Domain(name, f"uuid-{name}", state, memory_bytes=gib * GIB))


def seen(*domains: dict[str, Any], load: HostLoad | None = None) -> Seen:
    """A host whose agent is well and has just looked."""
    return Seen(UP, domains, int(NOW * 1000), load)


def load(guests: dict[str, GuestLoad] | None = None, **more: Any) -> HostLoad:
    """A load that was just measured over the whole window."""
    return replace(HostLoad(int(NOW * 1000), 900.0, 16.0, 16384, guests or {}), **more)


def made(snapshot: Snapshot, goal: Goal = BALANCE, **more: Any) -> Problem:
    """The problem of a snapshot."""
    chosen = settings(**more)
    return problem_of(chosen, Inventory(chosen), snapshot, goal)


def of(specs: tuple[HostSpec, ...], name: str) -> HostSpec:
    """The host called so."""
    return next(spec for spec in specs if spec.name == name)


def ids(problem: Problem) -> dict[str, GuestSpec]:
    """Guests by id."""
    return {spec.id: spec for spec in problem.guests}


def snapshot(**hosts: Seen) -> Snapshot:
    """What is known of these hosts."""
    return Snapshot(NOW, hosts)


def test_guests_without_loads_are_planned_by_their_memory() -> None:
    """A guest of which no load was told occupies what it may use, and its host says that its loads are missing."""
    asked = made(snapshot(alpha=seen(guest("web", gib=3)), beta=seen()))
    web = ids(asked)["uuid-web"]
    assert (web.host, web.memory_mib, web.cpu_cores, web.pinned) == ("alpha", 3072, 0, "")
    alpha = of(asked.hosts, "alpha")
    assert (alpha.kind, alpha.memory_mib, alpha.cpu_cores, alpha.takes, alpha.gives) == ("vz", 8192, 8, True, True)
    assert alpha.labels == {"rack": "1", "host": "alpha"}
    assert any(line.startswith("alpha: its loads were never told") for line in asked.stale)


def test_loads_are_what_is_planned_with() -> None:
    """CPU and memory of hosts and guests are the measured ones, unless the settings say what a host has."""
    told = load({"uuid-db": GuestLoad(2.5, 4200, 30.0, 900.0)})
    asked = made(snapshot(alpha=seen(guest("web"), load=load()), beta=seen(), gamma=seen(guest("db"), load=told)))
    db = ids(asked)["uuid-db"]
    assert (db.cpu_cores, db.memory_mib, db.dirty_mib_per_second) == (2.5, 4200, 30.0)
    gamma, alpha = of(asked.hosts, "gamma"), of(asked.hosts, "alpha")
    assert (gamma.cpu_cores, gamma.memory_mib) == (16, 16384)
    assert (alpha.cpu_cores, alpha.memory_mib) == (8, 8192)
    assert asked.taken == NOW


def test_a_host_without_known_memory_is_left_out_unless_it_is_named() -> None:
    """A host of which nobody has told the memory is no part of balancing; it can be drained, and takes nothing."""
    known = snapshot(alpha=seen(guest("web")), gamma=seen(guest("db", gib=2), guest("mail")))
    among = RuleSettings(domains=["*"], kind="among", parts=[["gamma"], ["alpha", "gamma"]])
    apart = RuleSettings(domains=["*"], kind="apart")
    asked = made(known, rules={"among": among, "apart": apart})
    assert ("gamma" in {host.name for host in asked.hosts}, set(ids(asked))) == (False, {"uuid-web"})
    assert [(rule.name, rule.guests, rule.parts) for rule in asked.rules] == [("among", ("uuid-web",), (("alpha",),))]
    assert any(line.startswith("gamma: left out: its memory is not known") for line in asked.stale)
    drained = of(made(known, Goal(kind="drain", hosts=("gamma",))).hosts, "gamma")
    assert (drained.takes, drained.gives, drained.memory_mib) == (False, True, 3072)
    assert "memory is not known" in drained.why


def test_nothing_is_planned_where_nothing_is_known() -> None:
    """Where no host's memory is known that is said, with what to do, instead of a plan that cannot be one."""
    hosts = {"gamma": settings().hosts["gamma"]}
    with pytest.raises(Unavailable, match="set memory_mib of gamma") as refused:
        made(snapshot(gamma=seen(guest("db"))), hosts=hosts)
    assert refused.value.code == "loads-unknown"


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        (None, "its agent is away"),
        (UP | {"draining": True}, "its agent drains"),
        (UP | {"answers": False}, "its hypervisor does not answer"),
    ],
)
def test_a_host_whose_agent_does_not_work_neither_takes_nor_gives(agent: dict[str, Any] | None, why: str) -> None:
    """What no migration can start from or towards is not planned with, and says why."""
    alpha = of(made(snapshot(alpha=replace(seen(guest("web")), agent=agent))).hosts, "alpha")
    assert (alpha.takes, alpha.gives, alpha.why) == (False, False, why)


def test_cordoned_hosts_give_and_do_not_take() -> None:
    """A cordon, live or of the settings, keeps guests from being sent there, and lets them leave."""
    known = replace(snapshot(alpha=seen(), beta=seen()), cordons={"beta": "by ops (disk)"})
    hosts = settings().hosts
    hosts["alpha"] = hosts["alpha"].model_copy(update={"cordoned": True})
    asked = made(known, hosts=hosts)
    assert [(host.takes, host.gives, host.why) for host in asked.hosts[:2]] == [
        (False, True, "cordoned by the settings"),
        (False, True, "cordoned by ops (disk)"),
    ]


@pytest.mark.parametrize(("state", "said"), [("active", "is being moved to"), ("pending", "waits to be moved to")])
def test_a_guest_that_a_migration_holds_is_pinned_and_counts_at_both_hosts(state: str, said: str) -> None:
    """What is being moved, or is about to be, occupies its source and its destination."""
    known = replace(
        snapshot(alpha=seen(guest("web", DomainState.MIGRATING, 3)), beta=seen(guest("web", DomainState.PAUSED_IN, 3))),
        holders={"uuid-web": Holder("m1", state, "alpha", "beta")},
    )
    found = ids(made(known))
    assert {(spec.host, spec.memory_mib) for spec in found.values()} == {("alpha", 3072), ("beta", 3072)}
    assert found["uuid-web"].host == "alpha"
    assert all(spec.pinned == f"{said} beta by migration m1" for spec in found.values())


@pytest.mark.parametrize(
    ("source", "destination", "where", "expected"),
    [
        ("alpha", "beta", "beta", ["alpha", "beta"]),
        ("gone", "beta", "beta", ["beta"]),
        ("alpha", "gone", "alpha", ["alpha"]),
        ("gone", "lost", "alpha", ["alpha"]),
        ("alpha", "beta", "gamma", ["gamma", "beta"]),
    ],
)
def test_a_guest_with_a_migration_is_never_lost(source: str, destination: str, where: str, expected: list[str]) -> None:
    """Whatever hosts its migration names, a guest is counted where it was seen or comes from, and where it goes."""
    known = replace(
        snapshot(**{where: seen(guest("web"), load=load())}),
        holders={"uuid-web": Holder("m1", "active", source, destination)},
    )
    found = made(known).guests
    assert [spec.host for spec in found] == expected
    assert found[0].id == "uuid-web"
    assert all("m1" in spec.pinned for spec in found)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (DomainState.MIGRATING, "by somebody else"),
        (DomainState.PAUSED_OUT, "does not know of"),
        (DomainState.PAUSED_IN, "does not know of"),
        (DomainState.CRASHED, "crashed"),
        (DomainState.UNKNOWN, "does not tell"),
        (DomainState.SHUTOFF, "stopped"),
    ],
)
def test_a_guest_in_another_state_is_pinned_with_what_it_is(state: DomainState, words: str) -> None:
    """Only running and paused guests may be moved by a plan; any other says why not, and a stopped one uses nothing."""
    found = ids(made(snapshot(alpha=seen(guest("web", state)))))["uuid-web"]
    assert words in found.pinned
    assert found.memory_mib == (0 if state is DomainState.SHUTOFF else 1024)


def test_a_definition_left_behind_is_not_a_second_guest() -> None:
    """A guest that runs on one host and is only defined on another is where it runs, and may be moved."""
    known = snapshot(alpha=seen(guest("web", DomainState.SHUTOFF)), beta=seen(guest("web")))
    assert [(spec.host, spec.pinned) for spec in made(known).guests] == [("beta", "")]


def test_a_guest_that_two_hosts_show_alive_is_left_alone() -> None:
    """A guest on two hosts at once, held by no migration, is pinned and counted on both."""
    known = snapshot(alpha=seen(guest("web", DomainState.PAUSED)), beta=seen(guest("web")))
    found = made(known).guests
    assert [(spec.host, "alpha" in spec.pinned and "beta" in spec.pinned) for spec in found] == [
        ("beta", True),
        ("alpha", True),
    ]


def test_a_guest_that_has_just_arrived_keeps_what_it_used_before() -> None:
    """What a guest used on the host that it left counts until its new host has measured as long itself."""
    before = load({"uuid-web": GuestLoad(4.0, 2000, 50.0, 900.0, left=int(NOW * 1000))})
    fresh = load({"uuid-web": GuestLoad(1.0, 2100, 0.0, 225.0)})
    web = ids(made(snapshot(alpha=seen(load=before), beta=seen(guest("web"), load=fresh))))["uuid-web"]
    assert (web.cpu_cores, web.memory_mib, web.dirty_mib_per_second) == (3.25, 2100, 50.0)
    unmeasured = ids(made(snapshot(alpha=seen(load=before), beta=seen(guest("web"), load=load()))))["uuid-web"]
    assert (unmeasured.cpu_cores, unmeasured.memory_mib) == (4.0, 2000)


def test_old_loads_are_named_with_their_age() -> None:
    """A host whose loads or domains are old is listed with how old they are, and does not set the problem's time."""
    old = load(at=int((NOW - 600) * 1000))
    asked = made(snapshot(alpha=replace(seen(load=old), at=int((NOW - 90) * 1000)), beta=seen(load=load())))
    assert "alpha: its domains were seen 90 s ago; its loads were measured 10 min ago" in asked.stale
    assert not any(line.startswith("beta") for line in asked.stale)
    assert asked.taken == NOW


def test_limits_and_networks_are_the_settings() -> None:
    """What may run at once is told to the planner as admission will hold it."""
    hosts = settings().hosts
    hosts["alpha"] = hosts["alpha"].model_copy(update={"max_outgoing": 5, "network": "fast"})
    asked = made(snapshot(), hosts=hosts, networks={"fast": NetworkSettings(max_migrations=7)})
    assert (asked.hosts[0].max_outgoing, asked.hosts[0].network, asked.networks) == (5, "fast", {"fast": 7})


def test_limits_that_were_changed_meanwhile_are_planned_with(redis_url: str) -> None:
    """What an operator allows while everything runs replaces what the settings say, and only that."""
    hosts = settings().hosts
    hosts["alpha"] = hosts["alpha"].model_copy(update={"network": "fast"})
    chosen = settings(redis_url=redis_url, hosts=hosts, networks={"fast": NetworkSettings(max_migrations=7)})
    inventory = Inventory(chosen)
    with connect(redis_url) as client:
        journal = Journal(client)
        assert problem(chosen, inventory, journal, BALANCE).max_migrations is None
        journal.limits(inventory.terms, {"out:alpha": 1, "net:fast": 3, "all": 5})
        asked = problem(chosen, inventory, journal, BALANCE)
    alpha, beta = of(asked.hosts, "alpha"), of(asked.hosts, "beta")
    assert (alpha.max_outgoing, alpha.max_incoming, beta.max_outgoing) == (1, 2, 2)
    assert (asked.networks, asked.max_migrations) == ({"fast": 3}, 5)


def test_rules_find_their_guests_and_keep_away_from_where_one_arrives() -> None:
    """Rules name guests by pattern; apart holds for the host that a guest is on its way to, too."""
    known = replace(
        snapshot(alpha=seen(guest("web-1"), guest("web-2")), beta=seen()),
        holders={"uuid-web-1": Holder("m1", "active", "alpha", "beta")},
        homes={"uuid-web-2": "beta"},
    )
    rules = {
        "spread": RuleSettings(domains=["web-*"], kind="apart", label="rack"),
        "still": RuleSettings(domains=["web-2"], kind="pinned", reason="licence"),
    }
    asked = made(known, rules=rules)
    assert [(rule.name, rule.guests, rule.label) for rule in asked.rules] == [
        ("spread", ("uuid-web-1", "uuid-web-2", "uuid-web-1@beta"), "rack")
    ]
    assert (ids(asked)["uuid-web-2"].pinned, ids(asked)["uuid-web-2"].home) == ("licence", "beta")


def test_a_name_that_no_message_can_carry_does_not_stop_the_others() -> None:
    """A guest with a control character in its name is called by its uuid."""
    odd = guest("web") | {"name": "a\tb"}
    assert made(snapshot(alpha=seen(odd))).guests[0].name == "uuid-web"


def test_what_agents_published_is_what_is_read(redis_url: str) -> None:
    """Domains, agents, loads, holders, cordons and homes come from the journal as they were written there."""
    chosen = settings(redis_url=redis_url)
    with connect(redis_url) as client:
        journal = Journal(client)
        for name in chosen.hosts:
            journal.lease(name, UP, 60)
        journal.publish("alpha", "0", [Domain("web", "uuid-web", DomainState.RUNNING, memory_bytes=GIB)])
        journal.publish("gamma", "0", [Domain("db", "uuid-db", DomainState.RUNNING, memory_bytes=GIB)])
        at = int(journal.now() * 1000)
        journal.publish_load("gamma", load({"uuid-db": GuestLoad(1.5, 900, 0.0, 900.0)}, at=at), 60)
        journal.cordon("beta", "ops", "disk")
        fields = {"domain": "web", "uuid": "uuid-web", "source": "alpha", "destination": "beta", "driver": "vz"}
        journal.submit("m1", fields, {}, "{}", terms_text(1, 1))
        asked = problem(chosen, Inventory(chosen), journal, BALANCE)
    found = ids(asked)
    assert "moved to beta by migration m1" in found["uuid-web"].pinned
    assert (found["uuid-db"].cpu_cores, found["uuid-db"].memory_mib) == (1.5, 900)
    assert of(asked.hosts, "beta").why == "cordoned by ops (disk)"
