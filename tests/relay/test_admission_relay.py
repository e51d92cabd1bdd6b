"""Who goes first, who shares, and that no limit is ever passed: with real workers, read from the events alone."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Any

from relay_lab import LARGE, Relay, until

from worker.journal import Record

HOSTS = ("alpha", "beta", "gamma")
BRIEF = 30_000
"""MiB: moves in a fraction of a second."""
_numbers = count(1)


def guests(relay: Relay, host: str, number: int) -> list[str]:
    """So many new guests of a host, all of them published."""
    names = [f"adm-{next(_numbers)}" for _ in range(number)]
    for name in names:
        wanted = {"name": name, "memory_mib": BRIEF, "dirty_mib_per_second": 1}
        relay.ask(host, "vm-create", vm=wanted)
    until(lambda: {d["name"] for d in relay.journal.domains(host)} >= set(names), "published")
    return names


def limits(relay: Relay, **changes: Any) -> dict[str, Any]:
    """Change limits as an application does; all that are in force then."""
    ident = relay.send("vmrelay.v1.limits", **changes)
    until(lambda: relay.result(ident)["status"] == "SUCCESS", "limits changed")
    told: dict[str, Any] = relay.result(ident)["result"]["limits"]
    return told


def ended(relay: Relay, idents: list[str]) -> list[Record]:
    """Wait for all of them; every one must succeed."""
    records = [relay.wait(ident) for ident in idents]
    assert {record.outcome for record in records} == {"succeeded"}
    return records


def test_an_urgent_one_starts_first_among_many(relay: Relay) -> None:
    """Asked for last, it starts before all that wait, and within the time of one migration."""
    blockers = [relay.migrate(relay.vm(memory_mib=LARGE)) for _ in range(2)]
    for ident in blockers:
        relay.copying(ident)
    many = [relay.migrate(name, requested_by=f"team-{n % 5}") for n, name in enumerate(guests(relay, "alpha", 12))]
    for ident in many:
        relay.wait(ident, "pending")
    urgent = relay.migrate(guests(relay, "alpha", 1)[0], priority="urgent")
    relay.wait(urgent, "pending")
    for ident in blockers:
        relay.send("vmrelay.v1.cancel", migration=ident)
    records = ended(relay, [urgent, *many])
    # The second slot is free at the same moment: another one may start in it.
    assert sum(record.started < records[0].started for record in records[1:]) <= 1
    assert relay.metrics("scheduler", "vmrelay_admission_wait_seconds_count", priority="urgent") >= 1


def test_two_flows_at_once_progress_alike_whoever_came_first(relay: Relay) -> None:
    """Two requesters want the same destination: while both have something waiting, neither gets far ahead."""
    limits(relay, outgoing={"alpha": 4, "beta": 4})
    try:
        flows = {who: guests(relay, host, 12) for who, host in (("first", "alpha"), ("second", "beta"))}
        idents = {
            who: [relay.migrate(name, "gamma", requested_by=who) for name in names] for who, names in flows.items()
        }
        records = {who: ended(relay, asked) for who, asked in idents.items()}
    finally:
        limits(relay, outgoing={"alpha": None, "beta": None})
    both_wait = max(min(record.created for record in each) for each in records.values())
    order = sorted((r.started, who) for who, each in records.items() for r in each if r.started >= both_wait)
    counts: Counter[str] = Counter()
    for _, who in order:
        counts[who] += 1
        if max(counts.values()) >= 10:
            break
    assert min(counts.values()) >= 8, order


def test_no_limit_is_ever_passed_while_limits_change(relay: Relay) -> None:
    """Every start tells the room there was; raised and lowered meanwhile, nothing starts beyond what is in force."""
    idents = [
        relay.migrate(name, HOSTS[(at + 1 + n % 2) % 3])
        for at, host in enumerate(HOSTS)
        for n, name in enumerate(guests(relay, host, 8))
    ]
    steps: tuple[tuple[int, dict[str, Any]], ...] = (
        (0, {"outgoing": {"alpha": 5}, "incoming": {"beta": 5}}),
        (4, {"outgoing": {"alpha": 1}, "cluster": {"migrations": 4}}),
        (12, {"incoming": {"gamma": 1}, "cluster": {"migrations": None}}),
    )
    try:
        before = relay.journal.count("ended")
        for number, changes in steps:
            until(lambda most=before + number: relay.journal.count("ended") >= most, "some ended")  # type: ignore[misc]
            told = limits(relay, **changes)
            for host, limit in changes.get("outgoing", {}).items():
                assert told["hosts"][host]["outgoing"]["limit"] == limit
        ended(relay, idents)
    finally:
        limits(relay, outgoing={"alpha": None}, incoming={"beta": None, "gamma": None}, cluster={"migrations": None})
    started = [event for ident in idents for event in relay.events(ident, "started")]
    assert len(started) == len(idents)
    for event in started:
        for used, limit in (event["outgoing"], event["incoming"], event.get("migrations", [0, 0])):
            assert 0 <= used <= limit, event
    assert {event["outgoing"][1] for event in started} <= {1, 2, 5}
    assert [relay.journal.load_of(host) for host in HOSTS] == [(0, 0)] * 3


def test_what_was_killed_gives_its_slots_back(relay: Relay) -> None:
    """After kill -9 of both agents and of the scheduler, in the middle of it, all moves end and no slot is left."""
    idents = [relay.migrate(name) for name in guests(relay, "alpha", 6)]
    until(lambda: relay.journal.count("active") > 0, "something runs")
    for name in ("agent-alpha", "agent-beta", "scheduler"):
        relay.kill(name)
    relay.mend()
    for ident in idents:
        assert relay.wait(ident).state == "ended"
    assert [relay.journal.load_of(host) for host in HOSTS] == [(0, 0)] * 3
    assert not list(relay.journal.client.scan_iter("vmrelay:slots:*"))
    assert not list(relay.journal.client.scan_iter("vmrelay:lane:*"))
    assert "a slot was given back" not in relay.log("scheduler")


def test_a_limit_that_cannot_be_is_refused_by_name(relay: Relay) -> None:
    """The command says what is wrong, and nothing is changed."""
    for words, text in (
        (("--outgoing", "omega=3"), "unknown host 'omega'"),
        (("--outgoing", "alpha=many"), "a number or 'default'"),
        (("--outgoing", "alpha"), "NAME=N"),
        (("--incoming", "alpha=65"), "name 0 to 64"),
        (("--network", "nowhere=3"), "unknown migration network"),
    ):
        refused = relay.cli("limits", *words)
        assert refused.returncode == 2
        assert text in refused.stderr
    assert relay.cli("limits").stdout.split("\n")[1].split() == ["alpha", "0/2", "0/2"]
