"""A greedy in hbal's spirit: steepest descent on the standard deviations of CPU and memory, one move a step.

Of all moves of the guests of the three hottest hosts it takes the one that lowers the sum of both deviations most,
until no host is above its ceiling, or no move helps. Vectorised: without that restriction a step costs guests times
hosts, which is why hbal takes a minute for thirty hosts. Drains: the same, one drained host after the other.
"""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from bench.planner.moves import Found, Move
from bench.planner.scene import SLIP, Floats, Ints, Scene

HOTTEST = 3
LEAST_GAIN = 1e-7
NEVER = np.inf


class _Descent:
    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.at = scene.start.copy()
        self.room = np.where(np.isfinite(scene.room), scene.room, 1e12)
        self.mean = scene.need.sum(axis=0) / self.room.sum(axis=0)
        self.most = self.room[:, 1] * scene.problem.goal.most_percent / 100
        self.used = np.zeros_like(self.room)
        np.add.at(self.used, self.at, scene.need)
        self.rules: dict[int, list[int]] = {}
        for n, rule in enumerate(scene.problem.rules):
            if rule.kind == "apart" and not rule.label:
                for ident in rule.guests:
                    self.rules.setdefault(scene.guest[ident], []).append(n)
        self.holds = Counter((rule, int(self.at[guest])) for guest, rules in self.rules.items() for rule in rules)
        leaving = [scene.number[name] for name in scene.problem.goal.hosts] if self.is_drain else []
        self.leaving = np.isin(np.arange(len(self.room)), leaving)

    @property
    def is_drain(self) -> bool:
        return self.scene.problem.goal.kind == "drain"

    def candidates(self) -> Ints:
        """The guests that may move in this step."""
        share = self.used / self.room
        if self.is_drain:
            full = [host for host in np.nonzero(self.leaving)[0] if (self.scene.movable & (self.at == host)).any()]
            from_hosts = np.array(full[:1], np.int64)
        else:
            over = (share - self.scene.ceiling).max(axis=1)
            from_hosts = np.argsort(-over)[:HOTTEST] if (over > SLIP).any() else np.zeros(0, np.int64)
        return np.nonzero(np.isin(self.at, from_hosts) & self.scene.movable)[0]

    def scores(self, guests: Ints) -> Floats:
        """(guests, hosts): the sum of both deviations after each move; infinite where it does not fit."""
        off = self.used / self.room - self.mean
        squares = (off**2).sum(axis=0)
        need, source = self.scene.need[guests], self.at[guests]
        less = -need / self.room[source]
        there = need[:, None, :] / self.room[None, :, :]
        change = (2 * off[source] * less + less**2)[:, None, :] + 2 * off[None] * there + there**2
        score = np.sqrt(np.maximum(0, squares + change) / len(self.room)).sum(axis=2)
        score[:, ~self.scene.takes] = NEVER
        score[np.arange(len(guests)), source] = NEVER
        score[self.used[None, :, 1] + need[:, None, 1] > self.most[None] + SLIP] = NEVER
        return np.asarray(score)

    def step(self) -> tuple[int, int] | None:
        """Make the best move; ``None`` where there is none."""
        guests = self.candidates()
        if not len(guests):
            return None
        score = self.scores(guests)
        now = np.sqrt(((self.used / self.room - self.mean) ** 2).sum(axis=0) / len(self.room)).sum()
        limit = NEVER if self.is_drain else now - LEAST_GAIN
        while True:
            row, host = divmod(int(np.argmin(score)), score.shape[1])
            if not score[row, host] < limit:
                return self._given_up(int(self.at[guests[0]]))
            guest = int(guests[row])
            rules = self.rules.get(guest, ())
            if not any(self.holds[rule, host] for rule in rules):
                break
            score[row, host] = NEVER
        source = int(self.at[guest])
        for rule in rules:
            self.holds[rule, source] -= 1
            self.holds[rule, host] += 1
        self.used[source] -= self.scene.need[guest]
        self.used[host] += self.scene.need[guest]
        self.at[guest] = host
        return guest, host

    def _given_up(self, host: int) -> tuple[int, int] | None:
        """Nothing fits: in a drain the next host may still be emptied."""
        if not self.is_drain:
            return None
        self.leaving[host] = False
        return self.step()


def plan(scene: Scene, limit_seconds: float) -> Found:
    """Descend until nothing helps, or the time is over."""
    started, cpu = time.perf_counter(), time.process_time()
    descent, moves, limited = _Descent(scene), list[Move](), False
    while (step := descent.step()) is not None:
        guest, host = step
        moves.append(Move(len(moves) + 1, scene.problem.guests[guest].id, scene.problem.hosts[host].name))
        if time.perf_counter() - started > limit_seconds:
            limited = True
            break
    return Found(
        "greedy",
        moves=tuple(moves),
        wall_seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu,
        limited=limited,
        note=f"stopped after {limit_seconds:g} s" if limited else "",
    )


def arbitrary(scene: Scene) -> Found:
    """Targets that are given already, in the order of the list: what an executor without a planned order does."""
    targets = scene.problem.goal.targets
    moves = tuple(Move(n, guest, host) for n, (guest, host) in enumerate(targets.items(), start=1))
    return Found("arbitrary order", moves=moves)
