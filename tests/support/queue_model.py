"""Who starts next, said a second time: over plain lists of all that waits, without an index and without Redis."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from worker.terms import Terms

WEIGHTS = {"low": 1, "normal": 4, "high": 16, "urgent": 1024}


@dataclass
class Waiting:
    """One that waits, or runs."""

    ident: str
    flow: str
    source: str
    destination: str
    cost: int
    asked: int

    @property
    def urgent(self) -> bool:
        """Whether it may have what is left to the urgent."""
        return self.flow.startswith("urgent/")

    @property
    def lane(self) -> tuple[str, str, str]:
        """Those that wait for the same slots, of one flow."""
        return self.source, self.destination, self.flow


@dataclass
class Pool:
    """A set of slots in one call."""

    used: int
    limit: float
    plain: float
    single: bool = False
    keeper: tuple[str, str, str] | None = None
    kept: float = 0
    strict: bool = False


@dataclass
class Model:
    """The queue."""

    terms: Terms
    at: int
    pending: dict[str, Waiting] = field(default_factory=dict)
    running: dict[str, tuple[Waiting, int]] = field(default_factory=dict)
    past: dict[str, tuple[float, int]] = field(default_factory=dict)
    turn: dict[tuple[str, str], int] = field(default_factory=dict)
    """Since when the same one has its turn, by source and flow."""
    shut: set[str] = field(default_factory=set)

    # -- what happens -------------------------------------------------------------------------------

    def line(self, source: str, flow: str) -> list[Waiting]:
        """The first of each lane, in the order of the line."""
        firsts: dict[str, Waiting] = {}
        for one in sorted(self.pending.values(), key=lambda each: (each.asked, each.ident)):
            if (one.source, one.flow) == (source, flow):
                firsts.setdefault(one.destination, one)
        return sorted(firsts.values(), key=lambda each: (each.asked, each.destination))

    def _takes_none(self, host: str) -> bool:
        return host in self.shut or self.terms.hosts[host].incoming < 1

    def forget(self) -> None:
        """What was used long ago counts no more."""
        runs = {one.flow for one, _ in self.running.values()}
        self.past = {flow: past for flow, past in self.past.items() if flow in runs or self._past(flow) >= 0.01}

    def add(self, one: Waiting) -> None:
        """It stands in line."""
        self.pending[one.ident] = one
        self.turn.setdefault((one.source, one.flow), self.at)

    def remove(self, ident: str, started: bool = False) -> Waiting:
        """It does no more. Whoever cancels one does not know the limits."""
        one = self.pending[ident]
        line = self.line(one.source, one.flow)
        before = [each for each in line if each is not one]
        before = before[: next((n for n, each in enumerate(line) if each is one), len(before))]
        blocked = self._takes_none if started else self.shut.__contains__
        had_turn = one in line and all(blocked(each.destination) for each in before)
        del self.pending[ident]
        if not self.line(one.source, one.flow):
            del self.turn[one.source, one.flow]
        elif had_turn:
            self.turn[one.source, one.flow] = self.at
        return one

    def start(self, ident: str) -> None:
        """It runs."""
        cost = self._fits(self._pools({}, self.pending[ident]), self.pending[ident])
        assert cost is not None, f"no room for {ident}"
        self.running[ident] = self.remove(ident, started=True), cost

    def end(self, ident: str) -> Waiting:
        """It runs no more."""
        one, cost = self.running.pop(ident)
        self.past[one.flow] = float(f"{self._past(one.flow) + cost:.4f}"), self.at
        return one

    def _past(self, flow: str) -> float:
        value, at = self.past.get(flow, (0.0, 0))
        return float(value * 2 ** ((at - self.at) / (self.terms.half_life_seconds * 1000)))

    # -- who is next --------------------------------------------------------------------------------

    def _pools(self, pools: dict[str, Pool], one: Waiting) -> list[Pool]:
        def host(name: str, out: bool) -> Pool:
            room = self.terms.hosts[name]
            limit = room.outgoing if out else room.incoming
            used = sum(c for o, c in self.running.values() if (o.source if out else o.destination) == name)
            kept = self.terms.urgent_slots if limit > self.terms.urgent_slots else 0
            return pools.setdefault(f"{name} {out}", Pool(used, limit, limit - kept))

        found = [host(one.source, True), host(one.destination, False)]
        nets = [self.terms.hosts[name].network for name in (one.source, one.destination)]
        for net in dict.fromkeys(name for name in nets if name):
            limit = self.terms.networks.get(net, math.inf)
            ends = [{self.terms.hosts[h].network for h in (o.source, o.destination)} for o, _ in self.running.values()]
            used = sum(c for (_, c), each in zip(self.running.values(), ends, strict=True) if net in each)
            found.append(pools.setdefault(net, Pool(used, limit, limit)))
        most = math.inf if self.terms.migrations is None else self.terms.migrations
        return [*found, pools.setdefault("all", Pool(len(self.running), most, most, single=True))]

    @staticmethod
    def _fits(needed: list[Pool], one: Waiting, cost: float | None = None) -> int | None:
        asked = min([cost or one.cost, *((p.limit if one.urgent else p.plain) for p in needed if not p.single)])
        for pool in needed:
            limit = pool.limit if one.urgent else pool.plain
            if pool.keeper not in (None, one.lane) and (pool.strict or not one.urgent):
                limit -= pool.kept
            if limit < 1 or pool.used + (1 if pool.single else asked) > limit:
                return None
        return int(asked)

    def _usable(self, one: Waiting) -> bool:
        return one.source not in self.shut and not self._takes_none(one.destination)

    def choose(self, most: int = 100) -> list[str]:
        """Who starts next, in this order."""
        pools: dict[str, Pool] = {}
        left = dict(self.pending)
        chosen: list[str] = []
        spent: dict[str, float] = {}

        def firsts() -> list[Waiting]:
            lanes: dict[tuple[str, str, str], Waiting] = {}
            for one in sorted(left.values(), key=lambda each: (each.asked, each.ident)):
                lanes.setdefault(one.lane, one)
            return [one for one in lanes.values() if self._usable(one)]

        def take(one: Waiting) -> bool:
            needed = self._pools(pools, one)
            cost = self._fits(needed, one)
            if cost is None:
                return False
            for pool in needed:
                pool.used += 1 if pool.single else cost
            spent[one.flow] = spent.get(one.flow, 0) + cost
            chosen.append(left.pop(one.ident).ident)
            return True

        open_sources = {
            one.source
            for one in self.pending.values()
            if one.source not in self.shut and (out := self._pools(pools, one)[0]).used < out.limit
        }
        ageing = self.terms.ageing_seconds * 1000
        aged = sorted((since, *line) for line, since in self.turn.items() if since <= self.at - ageing)
        for since, source, flow in aged:
            line = [one for one in self.line(source, flow) if self._usable(one)]
            if line and len(chosen) < most and not take(line[0]):
                self._keep(pools, line[0], since <= self.at - 2 * ageing)

        flows: dict[str, int] = {}
        for (source, flow), since in self.turn.items():
            if source in open_sources:
                flows[flow] = min(since, flows.get(flow, since))

        def rank(flow: str) -> tuple[float, int, int, str]:
            runs = sum(cost for one, cost in self.running.values() if one.flow == flow)
            weight = WEIGHTS[flow.partition("/")[0]]
            usage = self._past(flow) + runs + spent.get(flow, 0)
            return max(usage, 0.1) / weight, -weight, flows[flow], flow

        while len(chosen) < most:
            for flow in sorted(flows, key=rank):
                lanes = [one for one in firsts() if one.flow == flow]
                order = sorted(lanes, key=lambda each: (each.asked, f"{each.source}:{each.destination}"))
                if any(take(one) for one in order):
                    flows[flow] = self.at
                    break
            else:
                return chosen
        return chosen

    def _keep(self, pools: dict[str, Pool], one: Waiting, strict: bool) -> None:
        needed = self._pools(pools, one)
        if any(pool.keeper or pool.plain < 1 for pool in needed):
            return
        free = all(pool.used + min(one.cost, pool.plain) <= pool.plain for pool in needed[:2])
        for index, pool in enumerate(needed):
            if index < 2 or (free and not pool.single):
                pool.keeper, pool.kept, pool.strict = one.lane, min(one.cost, pool.plain), strict
