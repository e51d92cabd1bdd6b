"""From a snapshot of all hosts to the problem that a planner is asked to solve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worker.contract.names import NAME
from worker.contract.plans import Goal, GuestSpec, HostSpec, Problem, Rule
from worker.errors import Unavailable
from worker.fleet import rules
from worker.fleet.guests import ARRIVING, Placed, placed
from worker.fleet.snapshot import Seen, Snapshot, take
from worker.inventory import Host, Inventory
from worker.journal import Journal
from worker.journal.hosts import closed
from worker.settings import Settings

OLD_SECONDS = 60.0
"""What was measured longer ago is old, unless it is measured more rarely than this."""
UNKNOWN = "its memory is not known: its agent has not told it yet, and no memory_mib is set"


def problem(
    settings: Settings, inventory: Inventory, journal: Journal, goal: Goal, now: float | None = None
) -> Problem:
    """The problem of moving the guests of the inventory towards a goal, on what agents have published last.

    ``now``: seconds of Redis's clock, which is asked where not given. Touches no host. Raises ``SettingsError`` where
    a rule makes no sense, ``Unavailable`` (``loads-unknown``) where no host's memory is known, ``redis.RedisError``.
    """
    return problem_of(settings, inventory, take(journal, inventory), goal, now)


def problem_of(
    settings: Settings, inventory: Mapping[str, Host], snapshot: Snapshot, goal: Goal, now: float | None = None
) -> Problem:
    """The same, of a snapshot.

    A host of which nobody knows how much memory it has is left out, with its guests, unless the goal names it.
    """
    now = snapshot.now if now is None else now
    kinds = {name: host.profile for name, host in inventory.items()}
    seen = {name: snapshot.hosts.get(name, Seen()) for name in inventory}
    planned = {n: host for n, host in inventory.items() if _memory(host, seen[n]) or _is_named(n, goal)}
    if inventory and not planned:
        raise Unavailable(
            f"nothing can be planned: of no host it is known how much memory it has. See with 'vmrelay hosts' whether "
            f"their agents run, or set memory_mib of {', '.join([*inventory][:3])}",
            code="loads-unknown",
        )
    every = placed(snapshot, kinds, settings.planning.load_window_seconds)
    guests = [guest for guest in every if guest.host in planned]
    applied = rules.apply(settings.rules, [rules.Guest(g.id, g.name) for g in guests if not g.arriving], inventory)
    on: dict[str, int] = {}
    for guest in guests:
        on[guest.host] = on.get(guest.host, 0) + guest.memory_mib
    stale = dict(_stale(seen, settings, now)) | {n: f"left out: {UNKNOWN}" for n in seen if n not in planned}
    measured = [load.at / 1000 for name, host in seen.items() if (load := host.load) and name not in stale]
    return Problem(
        hosts=tuple(_host(host, seen[name], snapshot, on.get(name, 0)) for name, host in planned.items()),
        guests=tuple(_guest(guest, applied, snapshot.homes) for guest in guests),
        rules=tuple(_with_arriving(rule, guests) for rule in _possible(applied.rules, planned)),
        goal=goal,
        networks=_networks(settings, snapshot.limits),
        max_migrations=snapshot.limits.get("migrations", {}).get("limit", settings.admission.max_migrations),
        taken=min(measured, default=now),
        stale=tuple(f"{name}: {why}" for name, why in stale.items()),
    )


def _memory(host: Host, seen: Seen) -> int:
    """What the host has, in MiB; 0 where it is not known."""
    own = host.settings.memory_mib
    return own if own is not None else (seen.load.memory_mib if seen.load else 0)


def _is_named(host: str, goal: Goal) -> bool:
    return goal.kind == "place" or host in goal.hosts


def _host(host: Host, seen: Seen, snapshot: Snapshot, used_mib: int) -> HostSpec:
    own, limits = host.settings, snapshot.limits.get("hosts", {}).get(host.name, {})
    cpu = own.cpu_cores if own.cpu_cores is not None else (seen.load.cpu_cores if seen.load else 0)
    memory, away, cordoned = _memory(host, seen), closed(seen.agent), _cordoned(host, snapshot.cordons)
    unknown = "" if memory else UNKNOWN  # then it counts as full, and what is asked of it by name can leave it
    return HostSpec(
        name=host.name,
        kind=host.profile,
        cpu_cores=cpu,
        memory_mib=memory or used_mib,
        reserve_cpu_cores=min(own.reserve_cpu_cores, cpu) if cpu else 0,
        reserve_memory_mib=min(own.reserve_memory_mib, memory) if memory else 0,
        labels=own.labels | {"host": host.name},
        takes=not (away or cordoned or unknown),
        gives=not away,
        why=(away or cordoned or unknown)[:500],
        max_outgoing=limits["outgoing"]["limit"] if limits else own.max_outgoing,
        max_incoming=limits["incoming"]["limit"] if limits else own.max_incoming,
        network=own.network,
        mib_per_second=own.mib_per_second,
    )


def _networks(settings: Settings, limits: Mapping[str, Any]) -> dict[str, int]:
    told = limits.get("networks", {})
    live = {name: limit for name, network in told.items() if (limit := network.get("limit")) is not None}
    return {name: network.max_migrations for name, network in settings.networks.items()} | live


def _cordoned(host: Host, cordons: Mapping[str, str]) -> str:
    if host.settings.cordoned:
        return "cordoned by the settings"
    return f"cordoned {cordons[host.name]}".strip() if host.name in cordons else ""


def _guest(guest: Placed, applied: rules.Applied, homes: Mapping[str, str]) -> GuestSpec:
    return GuestSpec(
        id=guest.id,
        name=guest.name if NAME.fullmatch(guest.name) else guest.id,
        host=guest.host,
        cpu_cores=round(guest.cpu_cores, 3),
        memory_mib=guest.memory_mib,
        dirty_mib_per_second=guest.dirty_mib_per_second,
        requires=applied.requires.get(guest.id, {}),
        pinned=(guest.pinned or applied.pinned.get(guest.id, ""))[:500],
        home=homes.get(guest.id, ""),
    )


def _possible(made: Iterable[Rule], hosts: Mapping[str, Host]) -> Iterable[Rule]:
    """The rules, without hosts that are not planned."""
    for rule in made:
        parts = tuple(part for whole in rule.parts if (part := tuple(host for host in whole if host in hosts)))
        if parts or not rule.parts:
            yield rule.model_copy(update={"parts": parts})


def _with_arriving(rule: Rule, guests: Iterable[Placed]) -> Rule:
    """Who is to be kept apart from a guest is to be kept away from where it is going, too."""
    if rule.kind != "apart":
        return rule
    members = set(rule.guests)
    arriving = tuple(guest.id for guest in guests if guest.arriving and guest.id.partition(ARRIVING)[0] in members)
    return rule.model_copy(update={"guests": rule.guests + arriving}) if arriving else rule


def _stale(hosts: Mapping[str, Seen], settings: Settings, now: float) -> Iterable[tuple[str, str]]:
    """The hosts about which something old, or too little, is known."""
    planning = settings.planning
    old = max(OLD_SECONDS, 3 * planning.load_seconds)
    short = min(6 * planning.load_seconds, planning.load_window_seconds)
    for name, seen in hosts.items():
        told = []
        if seen.at is None and not seen.domains:
            told.append("its domains were never told")
        elif seen.at is not None and (age := now - seen.at / 1000) > max(OLD_SECONDS, 3 * settings.inventory_seconds):
            told.append(f"its domains were seen {_ago(age)}")
        if seen.load is None:
            told.append("its loads were never told: memory is what its guests may use, and CPU is not planned")
        elif (age := now - seen.load.at / 1000) > old:
            told.append(f"its loads were measured {_ago(age)}")
        elif seen.load.seconds < short:
            told.append(f"its loads were measured for {seen.load.seconds:.0f} s only")
        if told:
            yield name, "; ".join(told)


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"
