"""Clusters in the text format of Ganeti's htools (``hbal -t``): read as a problem, and written for ``hbal``.

Sections, parted by an empty line: groups, nodes, instances, cluster tags, policies; fields parted by ``|``
(htools(1), hbal(1)). What has no equivalent here is left out: disks and the secondary nodes of DRBD, spindles,
instance policies but for the ratio of virtual to physical CPUs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.contract.plans import Goal, GuestSpec, HostSpec, Problem, Rule

VCPU_RATIO = 4.0
"""Ganeti's default: so many virtual CPUs fill a physical one."""
CPU_UNITS = 100
"""Written for ``hbal``: virtual CPUs are whole numbers, so that each stands for a hundredth of a core in use."""


class Unreadable(ValueError):
    """A text that is no cluster; it says where."""


@dataclass(frozen=True)
class _Node:
    name: str
    total: int
    own: int
    free: int
    cores: float
    offline: bool
    group: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class _Instance:
    name: str
    memory: int
    vcpus: int
    node: str
    template: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class _Cluster:
    nodes: tuple[_Node, ...]
    instances: tuple[_Instance, ...]
    tags: tuple[str, ...]
    ratio: float

    def tagged(self, kind: str) -> tuple[str, ...]:
        """What follows ``htools:KIND:`` in the cluster's tags."""
        start = f"htools:{kind}:"
        return tuple(tag.removeprefix(start) for tag in self.tags if tag.startswith(start))


def read(text: str, goal: Goal, *, exclusive: Sequence[str] = (), loads: float | None = None) -> Problem:
    """The problem of a cluster with this goal.

    ``exclusive``: further prefixes of exclusion tags (``--exclusion-tags``). ``loads``: what each guest uses of the
    CPU, where that is not its virtual CPUs (``hbal`` without ``--ignore-dynu`` takes all for equally busy).
    A node that is offline does not take guests. Raises ``Unreadable``.
    """
    cluster = _parsed(text)
    used: dict[str, int] = defaultdict(int)
    for instance in cluster.instances:
        used[instance.node] += instance.memory
    groups = {node.name: node.group for node in cluster.nodes}
    several = len({node.group for node in cluster.nodes}) > 1
    locations = cluster.tagged("nlocation")
    return Problem(
        hosts=tuple(_host(node, used[node.name], cluster.ratio, locations) for node in cluster.nodes),
        guests=tuple(
            GuestSpec(
                id=instance.name,
                name=instance.name,
                host=instance.node,
                cpu_cores=loads if loads is not None else float(instance.vcpus),
                memory_mib=instance.memory,
                requires={"group": groups[instance.node]} if several and instance.node in groups else {},
                pinned="its disk is on this node" if instance.template in ("plain", "file") else "",
            )
            for instance in cluster.instances
        ),
        rules=(*_apart(cluster, (*cluster.tagged("iextags"), *exclusive), locations), *_directions(cluster)),
        goal=goal,
    )


def _host(node: _Node, used: int, ratio: float, locations: Iterable[str]) -> HostSpec:
    labels = {"group": node.group}
    for prefix in locations:
        if values := sorted(tag for tag in node.tags if tag.startswith(f"{prefix}:")):
            labels[prefix] = ",".join(values)
    unexplained = max(0, node.total - node.own - node.free - used)
    return HostSpec(
        name=node.name,
        cpu_cores=node.cores * ratio,
        memory_mib=node.total,
        reserve_memory_mib=min(node.total, node.own + unexplained),
        labels=labels,
        takes=not node.offline,
        why="offline" if node.offline else "",
    )


def _apart(cluster: _Cluster, prefixes: Iterable[str], locations: Sequence[str]) -> Iterable[Rule]:
    members: dict[str, list[str]] = defaultdict(list)
    for instance in cluster.instances:
        for tag in instance.tags:
            if any(tag.startswith(f"{prefix}:") for prefix in prefixes):
                members[tag].append(instance.name)
    for tag, guests in members.items():
        if len(guests) > 1:
            for label in locations or ("",):
                yield Rule(name=f"{tag} {label}".strip(), kind="apart", guests=tuple(guests), label=label)


def _directions(cluster: _Cluster) -> Iterable[Rule]:
    """Migration tags: a target has all of the source's, or others that are declared to do as well."""
    prefixes = cluster.tagged("migration")
    if not prefixes:
        return
    stands_for: dict[str, set[str]] = defaultdict(set)
    for pair in cluster.tagged("allowmigration"):
        older, _, newer = pair.partition("::")
        stands_for[newer].add(older)

    def has(node: _Node) -> set[str]:
        return {tag for tag in node.tags if any(tag.startswith(f"{prefix}:") for prefix in prefixes)}

    for source in cluster.nodes:
        guests = tuple(instance.name for instance in cluster.instances if instance.node == source.name)
        allowed = tuple(
            target.name
            for target in cluster.nodes
            if target is source or has(source) <= has(target).union(*(stands_for[tag] for tag in has(target)))
        )
        if guests and len(allowed) < len(cluster.nodes):
            yield Rule(name=f"migration from {source.name}", kind="among", guests=guests, parts=(allowed,))


def _parsed(text: str) -> _Cluster:
    sections: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip():
            sections[-1].append(line)
        else:
            sections.append([])
    if len(sections) < 4:
        raise Unreadable(f"{len(sections)} sections instead of 4 or 5")
    try:
        nodes = tuple(_node(line.split("|")) for line in sections[1])
        instances = tuple(_instance(line.split("|")) for line in sections[2])
        # Five sections where there are policies; files without tags leave that section empty, or leave it out.
        rest = [line for section in sections[3:] for line in section]
        policies = [line.split("|") for line in rest if "|" in line]
        ratios = [float(policy[-2]) for policy in policies if not policy[0]]
    except (ValueError, IndexError) as wrong:
        raise Unreadable(f"not a cluster of htools: {wrong}") from None
    tags = tuple(line.strip() for line in rest if "|" not in line)
    return _Cluster(nodes, instances, tags, ratios[0] if ratios else VCPU_RATIO)


def _node(fields: list[str]) -> _Node:
    name, total, own, free, _, _, cores, state, group = fields[:9]
    tags = tuple(fields[10].split(",")) if len(fields) > 10 else ()
    speed = float(fields[14]) if len(fields) > 14 else 1.0
    return _Node(name, int(total), int(own), int(free), float(cores) * speed, state == "Y", group, tags)


def _instance(fields: list[str]) -> _Instance:
    name, memory, _, vcpus, _, _, node, _, template = fields[:9]
    tags = tuple(fields[9].split(",")) if len(fields) > 9 else ()
    return _Instance(name, int(memory), int(vcpus), node, template, tags)


def write(problem: Problem) -> str:
    """The same cluster for ``hbal``: shared storage, exclusion tags for ``apart``; pinned guests are named apart."""
    tags: dict[str, list[str]] = defaultdict(list)
    for rule in problem.rules:
        for ident in rule.guests:
            tags[ident].append(f"apart:{rule.name}")
    used: dict[str, int] = defaultdict(int)
    for guest in problem.guests:
        used[guest.host] += guest.memory_mib
    spec = "1,1,0,0,0,0"
    most = "1000000000,1000000,0,16,16,1000"
    return "\n".join(
        [
            "group-1|uuid-1|preferred||",
            "",
            *(_node_line(host, used[host.name], first=n == 0) for n, host in enumerate(problem.hosts)),
            "",
            *(_instance_line(guest, tags) for guest in problem.guests),
            "",
            "htools:iextags:apart",
            "",
            *(f"{owner}|{spec}|{spec};{most}|ext,diskless|1.0|1000.0" for owner in ("", "group-1")),
            "",
        ]
    )


def _node_line(host: HostSpec, used: int, *, first: bool) -> str:
    free = host.memory_mib - host.reserve_memory_mib - used
    cores = round((host.cpu_cores - host.reserve_cpu_cores) * CPU_UNITS)
    state = "M" if first else "N"
    return f"{host.name}|{host.memory_mib}|{host.reserve_memory_mib}|{free}|0|0|{cores}|{state}|uuid-1|1000"


def _instance_line(guest: GuestSpec, tags: Mapping[str, Sequence[str]]) -> str:
    vcpus = max(1, round(guest.cpu_cores * CPU_UNITS))
    return f"{guest.name}|{guest.memory_mib}|0|{vcpus}|running|Y|{guest.host}||ext|{','.join(tags[guest.id])}|1"
