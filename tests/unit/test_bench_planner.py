"""The benchmark of the planner: its generator, its readers, its judge, and what it claims of Ganeti's expectations."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from bench_planner_lab import BALANCE, CLUSTER, guest, hosts, swap

from bench.planner import btrplace, ganeti, generate, greedy, hbal
from bench.planner.bound import bound, covering
from bench.planner.cases import replanned
from bench.planner.measured import run
from bench.planner.metrics import judged
from bench.planner.moves import Found, Move
from bench.planner.replay import makespan_bound, replay
from bench.planner.scene import scene
from tasks.planner.plan import plan
from worker.contract.plans import Goal, HostSpec, Problem, Rule


def test_the_generator_is_deterministic_and_as_described() -> None:
    """The same arguments make the same cluster: its fill, its triples and its pinned guests are what was asked."""
    problem = generate.cluster(30, 0.60, BALANCE)
    assert problem == generate.cluster(30, 0.60, BALANCE)
    assert problem != generate.cluster(30, 0.60, BALANCE, seed=2)
    assert len(problem.hosts) == 30
    assert len(problem.guests) == 632
    at = scene(problem)
    assert at.need.sum(axis=0) / at.room.sum(axis=0) == pytest.approx([0.40, 0.58], abs=0.01)
    assert len(problem.rules) == 20
    assert 0 < sum(bool(guest.pinned) for guest in problem.guests) < 30
    assert bound(at) == (704, 0)


def test_a_drain_lets_everything_leave() -> None:
    """The drained hosts take nobody, and nothing on them is pinned."""
    problem = generate.drained(10, 2, 0.60)
    assert [host.takes for host in problem.hosts] == [False, False, *[True] * 8]
    assert not any(guest.pinned for guest in problem.guests if guest.host in problem.goal.hosts)


def test_rings_have_no_direct_order() -> None:
    """Guests of a ring change places with guests of their own size, so that in full hosts none can go first."""
    problem = generate.cycles(20)
    memory = {guest.id: guest.memory_mib for guest in problem.guests}
    arriving: dict[str, int] = {}
    leaving: dict[str, int] = {}
    where = {guest.id: guest.host for guest in problem.guests}
    for ident, host in problem.goal.targets.items():
        arriving[host] = arriving.get(host, 0) + memory[ident]
        leaving[where[ident]] = leaving.get(where[ident], 0) + memory[ident]
    assert arriving == leaving
    assert problem.goal.targets


def test_btrplace_instances_are_read() -> None:
    """A preserve raises what a VM takes, spread parts, among keeps within parts; what is unknown is refused by name."""
    instance = {
        "model": {
            "mapping": {
                "onlineNodes": {"0": {"runningVMs": [7, 8], "sleepingVMs": []}, "1": {"runningVMs": []}},
                "offlineNodes": [],
            },
            "views": [
                {"id": "shareableResource", "rcId": "uCpu", "nodes": {"0": 200}, "vms": {"7": 50}, "defCapacity": 100,
                 "defConsumption": 10},
                {"id": "shareableResource", "rcId": "memory", "nodes": {}, "vms": {"8": 300}, "defCapacity": 1600,
                 "defConsumption": 0},
                {"id": "ns", "type": "vm", "map": {}},
            ],
        },
        "constraints": [
            {"id": "online", "node": 0},
            {"id": "preserve", "rc": "uCpu", "amount": 63, "vm": 7},
            {"id": "spread", "vms": [7, 8], "continuous": True},
            {"id": "among", "vms": [7], "parts": [[0], [1]], "continuous": True},
        ],
    }  # fmt: skip
    problem = btrplace.read(instance)
    assert [(host.name, host.cpu_cores, host.memory_mib) for host in problem.hosts] == [
        ("n0", 2, 1600),
        ("n1", 1, 1600),
    ]
    assert [(guest.id, guest.host, guest.cpu_cores, guest.memory_mib) for guest in problem.guests] == [
        ("vm7", "n0", 0.63, 0),
        ("vm8", "n0", 0.1, 300),
    ]
    assert [(rule.kind, rule.guests, rule.sets(problem.hosts)) for rule in problem.rules] == [
        ("apart", ("vm7", "vm8"), ()),
        ("among", ("vm7",), (("n0",), ("n1",))),
    ]
    instance["constraints"].append({"id": "gather", "vms": [7, 8]})  # type: ignore[attr-defined]
    with pytest.raises(btrplace.Unreadable, match="gather"):
        btrplace.read(instance)


def test_ganeti_files_are_read() -> None:
    """Policies scale CPU, unexplained memory is reserved, offline nodes take nobody, tags become rules, disks pin."""
    problem = ganeti.read(CLUSTER, BALANCE)
    old, new, off = problem.hosts
    assert (old.cpu_cores, old.memory_mib, old.reserve_memory_mib) == (8, 4096, 96)
    assert (new.reserve_memory_mib, new.takes, off.takes) == (0, True, False)
    assert [guest.pinned != "" for guest in problem.guests] == [False, True, False]
    assert [(rule.kind, rule.guests, rule.label, rule.parts) for rule in problem.rules] == [
        ("apart", ("web", "shop"), "power", ()),
        ("among", ("shop",), "", (("new", "off"),)),
    ]
    with pytest.raises(ganeti.Unreadable, match="sections"):
        ganeti.read("group-01|uuid-1|preferred||\n", BALANCE)
    with pytest.raises(ganeti.Unreadable, match="not a cluster"):
        ganeti.read("group-01|uuid-1|preferred||\n\nnode|x\n\n\n\n", BALANCE)


def test_ganeti_files_are_written() -> None:
    """What is written for hbal is the same cluster when it is read again, CPU in hundredths of a core."""
    problem = generate.cluster(3, 0.60, BALANCE)
    again = ganeti.read(ganeti.write(problem), BALANCE)
    assert [(host.name, host.memory_mib, host.cpu_cores) for host in again.hosts] == [
        (host.name, host.memory_mib, host.cpu_cores * 100) for host in problem.hosts
    ]
    assert [(g.name, g.host, g.memory_mib, g.cpu_cores) for g in again.guests] == [
        (g.name, g.host, g.memory_mib, round(g.cpu_cores * 100)) for g in problem.guests
    ]
    assert [rule.guests for rule in again.rules] == [tuple(sorted(r.guests, key=_number)) for r in problem.rules]


def _number(name: str) -> int:
    return int(name.removeprefix("vm"))


def test_moves_of_hbal_are_read_with_their_parallelism() -> None:
    """Consecutive moves that share no node go together; one that shares comes after all of them."""
    lines = [
        "Trying to minimize the CV...",
        "    1. vm1 h1       => h2        40.23294012 a=fa:h2",
        "    2. vm2 h3       => h4        20.23294012 a=fa:h4",
        "    3. vm3 h2       => h5         0.00000000 a=fa:h5",
        "Cluster score improved from 60.00000000 to 0.00000000",
    ]
    assert list(hbal.steps(lines)) == [Move(1, "vm1", "h2"), Move(2, "vm2", "h4"), Move(3, "vm3", "h5", after=(1, 2))]


def test_the_bound_is_the_cheapest_covering_set() -> None:
    """Exact where one guest is cheaper than two, where CPU decides, and where nothing is enough."""
    guests = np.array([[1.0, 4096], [3.0, 8192], [1.0, 2048]])
    assert covering(guests, np.array([0.0, 2000.0])) == 2048
    assert covering(guests, np.array([2.5, 0.0])) == 8192
    assert covering(guests, np.array([2.0, 2048.0])) == 4096 + 2048
    assert covering(guests, np.array([6.0, 0.0])) is None
    assert covering(np.zeros((0, 2)), np.array([0.0, 1.0])) is None


def test_a_host_that_nothing_can_cool_is_not_in_the_bound() -> None:
    """A pinned guest above the ceiling makes its host hopeless; the others still count."""
    problem = Problem(
        hosts=hosts("a", "b", "c"),
        guests=(guest("stays", "a", 900, pinned="licence"), guest("goes", "b", 400), guest("rests", "b", 300)),
        goal=Goal(kind="balance", ceiling_percent=60),
    )
    assert bound(scene(problem)) == (300 / 1024, 1)


def test_an_overcommitted_start_is_counted() -> None:
    """Of two guests that change places the first to start finds no room; over an empty host nobody is overcommitted."""
    at = scene(swap())
    direct = replay(at, [Move(1, "one", "b"), Move(2, "two", "a")])
    assert (direct.overcommitted, direct.over_limit, direct.worst_over) == (2, 2, pytest.approx(0.6))
    around = [
        Move(1, "one", "c", bounce=True),
        Move(2, "two", "a", after=(1,)),
        Move(3, "one", "b", after=(1, 2)),
    ]
    run = replay(at, around)
    assert (run.overcommitted, run.over_limit, run.place) == (0, 0, [1, 0])
    assert max(replay(at, around, jitter).overcommitted for jitter in range(5)) == 0
    row = judged(at, bound(at), Found("by hand", tuple(around)))
    assert (row["bounces"], row["gap"], row["left"], row["wrong"]) == (1, 0.0, 0, [])
    assert row["gib"] == pytest.approx(2400 / 1024, abs=0.001)


def test_slots_make_moves_wait() -> None:
    """Three moves from a host with two slots take two turns, and the bound says so."""
    problem = Problem(
        hosts=hosts("a", "b", "c", "d"),
        guests=(guest("one", "a", 100), guest("two", "a", 100), guest("three", "a", 100)),
        goal=BALANCE,
    )
    moves = [Move(1, "one", "b"), Move(2, "two", "c"), Move(3, "three", "d")]
    at = scene(problem)
    run = replay(at, moves)
    assert (run.peak, run.makespan, makespan_bound(at, moves)) == (2, pytest.approx(14), pytest.approx(10.5))
    at = scene(problem.model_copy(update={"max_migrations": 1}))
    alone = replay(at, moves)
    assert (alone.peak, alone.makespan, makespan_bound(at, moves)) == (1, pytest.approx(21), pytest.approx(21))


def test_guests_that_have_to_be_apart_are_watched_on_their_way() -> None:
    """One that arrives before the other has left is too close, and a rule that is broken in the end is counted."""
    problem = Problem(
        hosts=hosts("a", "b", "c"),
        guests=(guest("one", "a", 100), guest("two", "b", 100)),
        rules=(Rule(name="pair", kind="apart", guests=("one", "two")),),
        goal=BALANCE,
    )
    at = scene(problem)
    early = [Move(1, "one", "b"), Move(2, "two", "c")]
    assert replay(at, early).too_close == 1
    assert replay(at, [Move(2, "two", "c"), Move(1, "one", "b", after=(2,))]).too_close == 0
    row = judged(at, bound(at), Found("by hand", (Move(1, "one", "b"),)))
    assert row["broken_rules"] == 1


def test_moves_that_nobody_may_make_are_named() -> None:
    """Pinned guests, hosts that take nobody, labels that are missing: whoever planned them."""
    problem = Problem(
        hosts=(*hosts("a", "b"), HostSpec(name="c", memory_mib=1000, takes=False)),
        guests=(
            guest("fixed", "a", 100, pinned="licence"),
            guest("free", "a", 100),
            guest("fussy", "a", 100).model_copy(update={"requires": {"rack": "1"}}),
        ),
        goal=BALANCE,
    )
    at = scene(problem)
    moves = (Move(1, "fixed", "b"), Move(2, "free", "c"), Move(3, "fussy", "b"))
    complaints = judged(at, bound(at), Found("by hand", moves))["wrong"]
    assert [complaint.split()[0] for complaint in complaints] == ["fixed", "free", "fussy"]
    assert "error" in judged(at, bound(at), Found("by hand", (Move(1, "nobody", "b"),)))


def test_the_greedy_cools_a_small_cluster() -> None:
    """Ten hosts end under their ceilings, with more moved than the bound."""
    at = scene(generate.cluster(10, 0.60, BALANCE))
    row = judged(at, bound(at), greedy.plan(at, 30))
    assert (row["hot"], row["left"], row["wrong"], row["broken_rules"]) == (0, 0, [], 0)
    assert row["gap"] > 0


def test_the_planner_is_judged_by_the_same_measure() -> None:
    """Its plan for ten hosts is what it says it is, also to a judge that shares no code with it."""
    problem = generate.cluster(10, 0.60, Goal(kind="balance", ceiling_points=5, price_per_move_gib=0, plan_seconds=1))
    made = plan(problem)
    at = scene(problem)
    least = bound(at)
    moves = tuple(Move(step.n, step.guest, step.destination, step.after, step.bounce == 1) for step in made.steps)
    row = judged(at, least, Found("planner", moves, plan=made))
    assert row["claimed_bound_gib"] == least.gib == 110
    assert (row["overcommitted"], row["overcommitted_shaken"], row["over_limit"], row["too_close"]) == (0, 0, 0, 0)
    assert (row["hot"], row["wrong"], row["never_started"]) == (0, [], 0)
    assert row["gap"] == pytest.approx(row["claimed_gap"], abs=1e-4)
    again = replanned(problem, made)
    assert sum(guest.pinned == "its migration failed" for guest in again.guests) == 1


def test_what_a_program_took_is_measured(tmp_path: Path) -> None:
    """Output, exit code and peak memory of the program alone; one that goes on too long is interrupted, and says it."""
    taking = "import sys; held = bytearray(80 << 20); print(sys.stdin.read()); sys.exit(3)"
    done = run([sys.executable, "-c", taking], "given", 60)
    assert (done.stdout, done.returncode, done.limited) == ("given\n", 3, False)
    assert 80 < done.rss_mib < 160
    endless = "import time\nprint('so far', flush=True)\ntime.sleep(600)"
    late = run([sys.executable, "-c", endless], "", 1)
    assert (late.stdout, late.limited) == ("so far\n", True)
