"""Agents publish what their guests use, and planning finds it: over a relay of real processes."""

from __future__ import annotations

import pytest
from relay_lab import HOSTS, LARGE, Relay, until

from worker.contract.plans import Goal, GuestSpec, Problem
from worker.fleet import problem
from worker.inventory import Inventory
from worker.loads import GuestLoad, HostLoad
from worker.settings import HostSettings, PlanningSettings, Settings

BALANCE = Goal(kind="balance")


def asked(relay: Relay, goal: Goal = BALANCE) -> Problem:
    """The problem of the relay's guests, as a planner gets it."""
    hosts = {name: HostSettings(uri=f"vzsim:///{name}") for name in HOSTS}
    settings = Settings(redis_url=relay.redis.url, hosts=hosts, planning=PlanningSettings(load_seconds=0.5))
    return problem(settings, Inventory(settings), relay.journal, goal)


def load(relay: Relay, host: str) -> HostLoad:
    """What a host's agent published last."""
    return until(lambda: relay.journal.loads([host]).get(host), f"{host} tells its load")


def guest_load(relay: Relay, host: str, uuid: str, at_least: float = 1.0) -> GuestLoad:
    """What a guest uses of a host, measured for so many seconds."""

    def measured() -> GuestLoad | None:
        found = load(relay, host).present.get(uuid)
        return found if found and found.seconds >= at_least else None

    return until(measured, f"{uuid} is measured on {host}")


def planned(relay: Relay, name: str) -> GuestSpec:
    """The guest of this name in the problem, where it is and not where it is going."""
    return next(guest for guest in asked(relay).guests if guest.name == name and "@" not in guest.id)


def test_what_guests_use_is_planned_with(relay: Relay) -> None:
    """CPU and memory of a busy guest and of an idle one reach the problem; so does what the hosts have."""
    busy = relay.vm("alpha", memory_mib=2048, cpus=4, cpu_percent=75)
    idle = relay.vm("beta", memory_mib=512, cpus=4, cpu_percent=0)
    uuids = {
        name: relay.journal.find_domain(name, HOSTS)[host]["uuid"] for name, host in ((busy, "alpha"), (idle, "beta"))
    }
    guest_load(relay, "alpha", uuids[busy])
    guest_load(relay, "beta", uuids[idle])
    shown, quiet = planned(relay, busy), planned(relay, idle)
    assert (shown.host, quiet.host) == ("alpha", "beta")
    assert shown.cpu_cores == pytest.approx(3.0, abs=0.5)
    assert quiet.cpu_cores == 0
    assert 2048 < shown.memory_mib < 2200
    whole = asked(relay)
    assert [(host.name, host.cpu_cores, host.memory_mib) for host in whole.hosts] == [(n, 16, 65536) for n in HOSTS]
    assert all(host.takes and host.gives and host.kind == "vz" for host in whole.hosts)
    assert not whole.stale or all("measured for" in line for line in whole.stale)


def test_a_guest_takes_its_load_along(relay: Relay) -> None:
    """Just after it has moved, a guest counts with what it used on the host that it left."""
    name = relay.vm("alpha", memory_mib=256, cpus=4, cpu_percent=50)
    uuid = relay.journal.find_domain(name, ["alpha"])["alpha"]["uuid"]
    guest_load(relay, "alpha", uuid, 2.0)
    relay.wait(relay.migrate(name, "beta"))
    until(lambda: planned(relay, name).host == "beta", f"{name} is planned on beta")
    assert planned(relay, name).cpu_cores == pytest.approx(2.0, abs=0.7)
    until(lambda: load(relay, "alpha").guests.get(uuid, GuestLoad(0, 0)).left, "alpha tells that it left")
    assert planned(relay, name).cpu_cores == pytest.approx(2.0, abs=0.7)
    assert guest_load(relay, "beta", uuid).cpu == pytest.approx(2.0, abs=0.7)


def test_a_guest_that_moves_is_pinned_at_both_hosts(relay: Relay) -> None:
    """While a guest is being moved, its memory counts on its source and on its destination, and nobody moves it."""
    name = relay.vm("alpha", memory_mib=LARGE)
    ident = relay.migrate(name, "gamma")
    until(lambda: (record := relay.record(ident)) and record.phase == "perform", "it is being copied")
    both = [guest for guest in asked(relay).guests if guest.name == name]
    assert {guest.host for guest in both} == {"alpha", "gamma"}
    assert all(ident in guest.pinned and guest.memory_mib >= LARGE for guest in both)
    relay.send("vmrelay.v1.cancel", migration=ident)
    relay.wait(ident)
    until(lambda: not planned(relay, name).pinned, "it may be moved again")
    relay.ask("alpha", "vm-state", name=name, state="stopped")


def test_statistics_that_fail_stop_nothing(relay: Relay) -> None:
    """Where the dispatcher tells no statistics the agent says so once, and goes on publishing and moving."""
    name = relay.vm("alpha", memory_mib=64)
    relay.fault("alpha", "fail", op="get_perf_stats", count=1000)
    before = load(relay, "alpha").at
    until(lambda: "loads not measured" in relay.log("agent-alpha"), "the agent says that it measures nothing")
    record = relay.wait(relay.migrate(name, "beta"))
    assert record.outcome == "succeeded"
    assert relay.log("agent-alpha").count("loads not measured") == 1
    relay.ask("alpha", "clear")
    until(lambda: load(relay, "alpha").at > before + 1000, "loads are published again")


def test_a_new_agent_goes_on_with_the_loads_of_the_one_before(relay: Relay) -> None:
    """An agent that is started again publishes at its first look what was measured before it."""
    name = relay.vm("gamma", memory_mib=64, cpus=2, cpu_percent=100)
    uuid = relay.journal.find_domain(name, ["gamma"])["gamma"]["uuid"]
    known = guest_load(relay, "gamma", uuid, 2.0)
    at = load(relay, "gamma").at
    relay.terminate("agent-gamma")
    relay.restart_agent("gamma")
    first = until(lambda: (found := load(relay, "gamma")).at > at and found, "the new agent publishes")
    assert first.guests[uuid].seconds >= known.seconds
    assert first.guests[uuid].cpu == pytest.approx(2.0, abs=0.3)
