"""Whatever agents publish, the problem that is made of it is one that a planner takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, reject
from hypothesis import strategies as st

from tasks.planner.sanity import check_sanity
from worker.contract.plans import Goal, Problem
from worker.errors import Unavailable
from worker.fleet import Holder, Seen, Snapshot, problem_of
from worker.hypervisors.base import DomainState
from worker.inventory import Inventory
from worker.loads import GuestLoad, HostLoad
from worker.settings import HostSettings, RuleSettings, Settings

HOSTS = ("a", "b", "c")
NOW = 1_000_000.0
UUIDS = tuple(f"00000000-0000-4000-8000-00000000000{n}" for n in range(6))

names = st.sampled_from(["web-1", "web-2", "db", "db\t1", "x" * 255, "["])
states = st.sampled_from([*map(str, DomainState), "melting", ""])
domains = st.builds(
    lambda uuid, name, state, size: {"uuid": uuid, "name": name, "state": state, "memory_bytes": size},
    st.sampled_from(UUIDS),
    names,
    states,
    st.none() | st.integers(0, 2**40),
)
guest_loads = st.builds(
    GuestLoad,
    cpu=st.floats(0, 64),
    memory_mib=st.integers(0, 2**20),
    dirty=st.floats(0, 1e4),
    seconds=st.floats(0, 900),
    left=st.sampled_from([0, int(NOW * 1000) - 5000]),
)
loads = st.builds(
    HostLoad,
    at=st.integers(0, int(NOW * 1000)),
    seconds=st.floats(0, 900),
    cpu_cores=st.floats(0, 128),
    memory_mib=st.integers(0, 2**22),
    guests=st.dictionaries(st.sampled_from(UUIDS), guest_loads),
)
agents = st.none() | st.fixed_dictionaries({"answers": st.booleans(), "draining": st.booleans()})
seen = st.builds(
    Seen,
    agent=agents,
    domains=st.lists(domains, max_size=5, unique_by=lambda domain: domain["uuid"]),
    at=st.none() | st.integers(0, int(NOW * 1000)),
    load=st.none() | loads,
)
anywhere = st.sampled_from([*HOSTS, "elsewhere"])
holders = st.builds(
    Holder, st.just("m1"), st.sampled_from(["pending", "active", "backoff", "in-doubt"]), anywhere, anywhere
)
snapshots = st.builds(
    Snapshot,
    now=st.just(NOW),
    hosts=st.dictionaries(st.sampled_from(HOSTS), seen),
    holders=st.dictionaries(st.sampled_from(UUIDS), holders),
    cordons=st.dictionaries(st.sampled_from(HOSTS), st.text(max_size=9)),
    homes=st.dictionaries(st.sampled_from(UUIDS), anywhere),
)
goals = st.sampled_from(
    [
        Goal(kind="balance"),
        Goal(kind="consolidate"),
        Goal(kind="drain", hosts=("a",)),
        Goal(kind="drain", hosts=("b", "c")),
    ]
)
hosts = st.fixed_dictionaries(
    dict.fromkeys(
        HOSTS,
        st.builds(
            HostSettings,
            uri=st.sampled_from(["vzsim:///x", "qemu:///session"]),
            cordoned=st.booleans(),
            memory_mib=st.none() | st.integers(0, 2**22),
            cpu_cores=st.none() | st.floats(0, 128),
            reserve_memory_mib=st.integers(0, 2**22),
            reserve_cpu_cores=st.floats(0, 128),
        ),
    )
)
RULES = {
    "apart": RuleSettings(domains=["web-*"], kind="apart"),
    "together": RuleSettings(domains=["db*"], kind="together"),
    "among": RuleSettings(domains=["*"], kind="among", parts=[["a", "b"], ["c"]]),
    "pinned": RuleSettings(domains=["["], kind="pinned"),
}


def made(snapshot: Snapshot, goal: Goal, inventory: dict[str, HostSettings]) -> Problem:
    """The problem of a snapshot with these hosts; not where nothing is known of any."""
    chosen = Settings().model_copy(update={"hosts": inventory, "rules": RULES})
    try:
        return problem_of(chosen, Inventory(chosen), snapshot, goal)
    except Unavailable:
        reject()


@given(snapshots, goals, hosts)
def test_every_snapshot_makes_a_problem_that_makes_sense(
    snapshot: Snapshot, goal: Goal, inventory: dict[str, Any]
) -> None:
    """Ids are unique, hosts and guests of rules are there, nothing is negative, and a planner accepts it."""
    problem = made(snapshot, goal, inventory)
    check_sanity(problem)
    ids = [guest.id for guest in problem.guests]
    assert len(set(ids)) == len(ids)
    assert Problem.model_validate_json(problem.model_dump_json()) == problem


@given(snapshots, goals, hosts)
def test_every_guest_that_was_seen_alive_is_counted_where_it_was_seen(
    snapshot: Snapshot, goal: Goal, inventory: dict[str, Any]
) -> None:
    """A guest without a migration is counted on each host that shows it alive, and on no other."""
    free = replace(snapshot, holders={})
    problem = made(free, goal, inventory)
    planned = {host.name for host in problem.hosts}
    dead = {"shutoff", "absent"}
    expected = {
        (domain["uuid"], host)
        for host, shown in free.hosts.items()
        for domain in shown.domains
        if domain["state"] not in dead and host in planned
    }
    counted = {(guest.id.partition("@")[0], guest.host) for guest in problem.guests if "stopped" not in guest.pinned}
    assert counted == expected


@given(snapshots, goals, hosts)
def test_the_same_snapshot_makes_the_same_problem(snapshot: Snapshot, goal: Goal, inventory: dict[str, Any]) -> None:
    """Nothing depends on the order in which hosts or domains were read."""
    turned = replace(
        snapshot,
        hosts={
            name: replace(shown, domains=shown.domains[::-1]) for name, shown in reversed(list(snapshot.hosts.items()))
        },
    )
    assert made(turned, goal, inventory) == made(snapshot, goal, inventory)
