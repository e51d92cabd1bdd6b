"""What Ganeti's shell tests (test/hs/shelltests/htools-*.test) expect of its cluster files, and what is claimed here.

hbal lowers a score one move at a time until nothing lowers it; this planner brings hosts under a ceiling with the least
memory moved. So where hbal evens out, the check sets a ceiling so close that only the same outcome satisfies it.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.planner.conformance import Expectation, Trial, Unmet, idempotent, refusal
from worker.contract.plans import Goal

DRBD = "the model has shared storage: no secondary nodes, no copies of disks"
ALLOCATION = "new guests are not placed here: only running ones are moved"
REBOOTS = "there are no groups of reboots: `vmrelay rolling` drains one host after the other"
TARGETS = "no room is kept free in units of a standard instance; `reserve_memory_mib` of each host does that"


def balance(points: float, **more: object) -> Goal:
    """Every host within so many points of the mean."""
    return Goal.model_validate({"kind": "balance", "ceiling_points": points, "plan_seconds": 1, **more})


def drain(*hosts: str) -> Goal:
    """These hosts empty."""
    return Goal(kind="drain", hosts=hosts, plan_seconds=1)


def _counts(goal: Goal, *expected: int) -> Callable[[Trial], str]:
    def check(trial: Trial) -> str:
        counts = tuple(trial.ask(goal).counts().values())
        if counts != expected:
            raise Unmet(f"guests on each node: {counts}")
        return f"guests on each node: {counts}"

    return check


def _moves(goal: Goal, number: int, loads: float | None = None) -> Callable[[Trial], str]:
    def check(trial: Trial) -> str:
        found = len(trial.ask(goal, loads=loads).plan.steps)
        if found != number:
            raise Unmet(f"{found} moves")
        return f"{found} moves"

    return check


def _only_its_guests_leave(trial: Trial) -> str:
    answer = trial.ask(drain("node-E"))
    if answer.moved != {"inst-p1", "inst-p2"}:
        raise Unmet(f"moved: {sorted(answer.moved)}")
    return "inst-p1 and inst-p2 move, nobody else"


def _fast_node(trial: Trial) -> str:
    answer = trial.ask(balance(10))
    if len(answer.moved) != 1 or not answer.moved <= {"inst1", "inst2"}:
        raise Unmet(f"moved: {sorted(answer.moved)}")
    return f"{min(answer.moved)} goes to node-fast"


def _one_domain_each(trial: Trial) -> str:
    answer = trial.ask(balance(10), most=1)
    counts = answer.counts()
    if counts["node-1"] + counts["node-2"] != 1 or counts["node-3"] != 1:
        raise Unmet(f"guests on each node: {counts}")
    return f"guests on each node: {tuple(counts.values())}"


def _apart(trial: Trial) -> str:
    place = trial.ask(balance(10), exclusive=("test",)).place
    for one, other in (("dns1", "dns2"), ("ftp1", "ftp2")):
        if place[one] == place[other]:
            raise Unmet(f"{one} and {other} are both on {place[one]}")
    return "each pair is apart"


def _makes_room_or_says_why(trial: Trial) -> str:
    answer = trial.ask(drain("nodeC"))
    if not answer.counts()["nodeC"]:
        return f"solved, where hbal finds nothing: {len(answer.plan.steps)} moves"
    reasons = [left for left in (*answer.plan.left, *answer.plan.stuck) if left.guest == "instC1"]
    if not reasons:
        raise Unmet("instC1 stays, and the plan does not say why")
    return f"instC1 stays: {reasons[0].why}"


def _unknown(option: str) -> Callable[[Trial], str]:
    def check(trial: Trial) -> str:
        goal = balance(10, **{option: ["no-such-instance"]})
        return refusal(lambda: trial.ask(goal), "unknown-guest", "no-such-instance")

    return check


def _selected(trial: Trial) -> str:
    moved = trial.ask(balance(10, exclude=["inst1"], select=["inst2"])).moved
    if moved != {"inst2"}:
        raise Unmet(f"moved: {sorted(moved)}")
    return "inst2 moves, nobody else"


def _own_group(trial: Trial) -> str:
    answer = trial.ask(drain("node-01-001"))
    strayed = sorted(guest for guest in answer.moved if answer.place[guest] in ("node-01-007", "node-01-008"))
    if strayed or answer.counts()["node-01-001"]:
        raise Unmet(f"left the group: {strayed}; still there: {answer.counts()['node-01-001']}")
    return f"{len(answer.moved)} guests leave, all within group-01"


def _unknown_node(trial: Trial) -> str:
    return refusal(lambda: trial.ask(balance(10)), "unknown-host", "no-such-node")


def _settled(goal: Goal, loads: float | None = None) -> Callable[[Trial], str]:
    def check(trial: Trial) -> str:
        return idempotent(trial.ask(goal, loads=loads), trial.planner)

    return check


def _four_empty(trial: Trial) -> str:
    goal = Goal(kind="consolidate", most_percent=100, ceiling_percent=100, plan_seconds=1)
    counts = trial.ask(goal).counts()
    empty = [host for host, number in counts.items() if not number]
    if len(empty) < 4:
        raise Unmet(f"only {len(empty)} nodes are empty: {counts}")
    return f"empty: {', '.join(empty)}"


_UPGRADED = "guests of an upgraded node go to upgraded nodes only"
EXPECTATIONS: tuple[Expectation, ...] = (
    Expectation(
        "hbal-migration-1", "3, 0, 3, 0 guests: only to upgraded nodes", _UPGRADED, _counts(balance(10), 3, 0, 3, 0)
    ),
    Expectation("hbal-migration-2", "2, 2, 2, 0 guests", _UPGRADED, _counts(balance(5), 2, 2, 2, 0)),
    Expectation(
        "hbal-migration-3",
        "2, 2, 2, 0 guests: old to new is declared to work",
        "the same",
        _counts(balance(5), 2, 2, 2, 0),
    ),
    Expectation(
        "hbal-evac",
        "--evac-mode: 3 moves, all of instances of the drained node",
        "a drain moves the two guests of the drained node, and no others; the third is a DRBD secondary",
        _only_its_guests_leave,
    ),
    Expectation("hbal-evac", "without --evac-mode: 4 moves, others' secondaries too", reason=DRBD),
    Expectation(
        "hbal-dyn",
        "equal loads: 1 move",
        "half a point around the mean takes 1 move",
        _moves(balance(0.5), 1, loads=1.0),
    ),
    Expectation("hbal-dyn", "--ignore-dynu: well balanced", "no move", _moves(balance(0.5), 0)),
    Expectation("hbal-cpu-speed", "inst1 or inst2 to the fast node", "capacity counts: one of them moves", _fast_node),
    Expectation(
        "hbal-location-exclusion",
        "0, 1, 1, 0 guests: one in each failure domain",
        "`apart` with a label: one of two guests in the same domain moves, to the node with room",
        _one_domain_each,
    ),
    Expectation(
        "hbal-excl-tags",
        "--exclusion-tags: guests with a common tag are parted",
        "`apart`: each pair is parted",
        _apart,
    ),
    Expectation("shared-n1-failure", "well balanced", "no move", _moves(balance(5), 0)),
    Expectation(
        "shared-n1-failure", "-O nodeA: 0, 4, 2, 4 guests", "the drain ends so", _counts(drain("nodeA"), 0, 4, 2, 4)
    ),
    Expectation(
        "shared-n1-failure",
        "-O nodeC: no solution found",
        "room is made by other moves, or the reason is given by name",
        _makes_room_or_says_why,
    ),
    Expectation("clean-nonzero-score", "nothing to do", "no move", _moves(balance(5), 0)),
    Expectation("clean-nonzero-score", "--exclude-instances of an unknown name: error", "by name", _unknown("exclude")),
    Expectation("clean-nonzero-score", "--select-instances of an unknown name: error", "by name", _unknown("select")),
    Expectation("hbal-cpu-speed", "--exclude-instances and --select-instances together", "both hold", _selected),
    Expectation(
        "hbal-split-insts", "-G group-01 -O node-01-001: improves within the group", "nobody leaves it", _own_group
    ),
    Expectation("invalid-node", "unknown node for an instance: error", "by name", _unknown_node),
    Expectation("hbal-migration-1", "no double rebalance", "fed back: no move", _settled(balance(10))),
    Expectation("hbal-migration-2", "no double rebalance", "fed back: no move", _settled(balance(5))),
    Expectation("hbal-cpu-speed", "no double rebalance", "fed back: no move", _settled(balance(10))),
    Expectation("hbal-dyn", "no double rebalance", "fed back: no move", _settled(balance(0.5), loads=1.0)),
    Expectation(
        "hsqueeze-underutilized",
        "--target-resources=0: 4 nodes can be powered off",
        "`consolidate` empties 4",
        _four_empty,
    ),
    Expectation("hsqueeze-underutilized", "other target resources: 3, 2 nodes", reason=TARGETS),
    Expectation("hsqueeze-overutilized", "which nodes to power on", reason="hosts are not powered on here"),
    Expectation("hsqueeze-mixed-instances", "which nodes hold only external storage", reason=TARGETS),
    Expectation(
        "hbal-soft-errors*",
        "0 moves, and --ignore-soft-errors is suggested",
        reason="there are no instance policies (spindles, vCPU ratios) that could be ignored",
    ),
    Expectation(
        "*", "--min-gain 10000: no moves", reason="a plan reaches a ceiling or not; no score that a move would raise"
    ),
    Expectation(
        "hbal-desiredlocation-*",
        "guests go where their desired location is",
        reason="labels that a guest requires are hard here; there are no soft wishes",
    ),
    Expectation("hbal-location-?", "primary and secondary in different domains", reason=DRBD),
    Expectation("hbal-forth", "forthcoming instances count", reason=ALLOCATION),
    Expectation("n1-failure", "4 bad nodes, 8 bad instances", reason="N+1 is not computed here"),
    Expectation("n1-failure", "-G group-02: a group of no nodes", reason="groups are labels: an empty one is unknown"),
    Expectation(
        "missing-resources", "node2 is missing ram", reason="hosts say what they have; the reader counts it as reserved"
    ),
    Expectation("common-suffix", "a common suffix is stripped from names", reason="names are shown as they are"),
    Expectation("hroller-*", "groups of nodes to reboot at once, with full evacuation too", reason=REBOOTS),
    Expectation("unique-reboot-order", "order of reboots; full evacuation: not enough (disk) capacity", reason=REBOOTS),
    Expectation("multiple-tags", "reboots of tagged nodes", reason=REBOOTS),
    Expectation("multiple-master", "more than one master: error", reason="no host is special here"),
    Expectation("empty-cluster", "no master node: error", reason="no host is special here"),
    Expectation("partly-used", "how many instances still fit", reason=ALLOCATION),
    Expectation("hail-*", "where to put a new or a failed instance", reason=ALLOCATION),
    Expectation("hspace-*", "how many instances still fit", reason=ALLOCATION),
    Expectation("*-n1-restriction", "allocation that keeps N+1", reason=ALLOCATION),
)
