"""More migrations than slots, and migrations that want the same guest."""

from __future__ import annotations

from relay_lab import LARGE, Relay, until


def test_more_migrations_than_slots_wait_and_all_end(relay: Relay) -> None:
    """Never more than two leave a host or enter one at once, and all of them succeed."""
    names = [relay.vm(memory_mib=20_000) for _ in range(7)]
    idents = [relay.migrate(name, ("beta", "gamma")[n % 2]) for n, name in enumerate(names)]
    most = 0
    while not all((record := relay.record(ident)) and record.state == "ended" for ident in idents):
        most = max(most, *(count for host in ("alpha", "beta", "gamma") for count in relay.journal.load_of(host)))
    assert most == 2
    assert {relay.wait(ident).outcome for ident in idents} == {"succeeded"}
    assert [relay.journal.load_of(host) for host in ("alpha", "beta", "gamma")] == [(0, 0)] * 3


def test_what_waits_starts_in_order(relay: Relay) -> None:
    """Oldest first: a later request does not overtake where both could start."""
    blockers = [relay.migrate(relay.vm(memory_mib=LARGE)) for _ in range(2)]
    for ident in blockers:
        relay.copying(ident)
    idents = []
    for name in [relay.vm() for _ in range(4)]:
        idents.append(relay.migrate(name))
        relay.wait(idents[-1], "pending")
    for ident in blockers:
        relay.send("vmrelay.v1.cancel", migration=ident)
    started = [relay.wait(ident).started for ident in idents]
    assert started == sorted(started)


def test_a_blocked_host_does_not_hold_up_others(relay: Relay) -> None:
    """A migration between other hosts passes those that wait for a full one."""
    blockers = [relay.migrate(relay.vm(memory_mib=LARGE)) for _ in range(3)]
    for ident in blockers[:2]:
        relay.copying(ident)
    relay.wait(blockers[2], "pending")
    relay.moved(relay.vm("gamma"), "alpha")
    for ident in blockers:
        relay.send("vmrelay.v1.cancel", migration=ident)
        relay.wait(ident)


def test_two_requests_for_one_guest_at_the_same_moment(relay: Relay) -> None:
    """One of them moves it, the other is rejected as busy (or finds it moved already)."""
    name = relay.vm(memory_mib=20_000)
    records = [relay.wait(ident) for ident in [relay.migrate(name) for _ in range(4)]]
    assert sorted(record.outcome for record in records) == ["rejected"] * 3 + ["succeeded"]
    assert {record.reason for record in records if record.outcome == "rejected"} <= {"busy-domain", "same-host"}
    assert relay.where(name) == {"beta": "running"}


def test_an_agent_that_is_down_makes_its_migrations_wait(relay: Relay) -> None:
    """A migration to a host without agent waits, and moves once the agent is back."""
    name = relay.vm()
    relay.kill("agent-beta")
    ident = relay.migrate(name)
    relay.in_phase(ident, "prepare", "queued")
    relay.restart_agent("beta")
    assert relay.wait(ident).outcome == "succeeded"
    until(lambda: relay.where(name) == {"beta": "running"}, "moved")


def test_a_hypervisor_that_is_silent_makes_its_migrations_wait(relay: Relay) -> None:
    """While the agent lives and its host does not answer, nothing starts and no slot is taken; it says why."""
    name = relay.vm()
    told = relay.log("agent-beta").count("the hypervisor does not answer")
    relay.kill("simulator-beta")
    until(lambda: relay.journal.agents(["beta"])["beta"]["answers"] is False, "the agent says that its host is silent")
    ident = relay.migrate(name)
    relay.wait(ident, "pending")
    assert relay.journal.load_of("beta") == (0, 0)
    assert "beta: its hypervisor does not answer" in relay.cli("status", ident).stdout
    assert relay.log("agent-beta").count("the hypervisor does not answer") == told + 1
    relay.mend()
    assert relay.wait(ident).outcome == "succeeded"
    assert relay.where(name) == {"beta": "running"}
