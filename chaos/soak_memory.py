"""Whether processes grow: their resident memory against the migrations that have ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

WARM_MIGRATIONS = 1000
"""What a process takes in its first migrations, its working set, is no growth: threads, caches, buffers.

Seen over 6,000 with faults: an agent's 70 MiB are 80 after a thousand, 82 after two thousand, and 83 at the end.
"""
FLAT_SHARE, FLAT_MIB = 0.05, 2.0
"""Flat: after that a kind of process grows by no more than this share of what it has, or by so little, in a thousand
migrations. Records that Redis kept for ever would be some 10 MiB in a thousand."""
LEAST_SPAN = 100
"""A life that was seen over fewer migrations than this, after its warm-up, says nothing."""


class Sample(NamedTuple):
    """One look at one process."""

    role: str
    """The keeper's name of it: it stays when the process is started again."""
    pid: int
    migrations: int
    """So many had ended."""
    mib: float


@dataclass(frozen=True)
class Growth:
    """What became of the memory of one kind of process, in MiB."""

    start: float
    """At the end of the warm-up, on average over the processes of the kind."""
    end: float
    per_1000: float | None
    """The slope over all lives of the kind, each after its own warm-up; ``None`` where no life was long enough."""
    lives: int
    """So many lives were long enough."""

    @property
    def limit(self) -> float:
        """So many MiB in a thousand migrations still count as flat."""
        return max(FLAT_SHARE * self.start, FLAT_MIB)

    @property
    def flat(self) -> bool | None:
        """Whether it counts as flat; ``None`` where nobody can tell."""
        return None if self.per_1000 is None else self.per_1000 <= self.limit


def resident_mib(pid: int) -> float | None:
    """``VmRSS`` of ``/proc/PID/status``; ``None`` where there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), None)


def kind_of(role: str) -> str:
    """``agent``, ``simulator``, ``scheduler`` or ``redis``."""
    return role.partition("-")[0]


def growth(samples: Iterable[Sample], warm: int = WARM_MIGRATIONS) -> dict[str, Growth]:
    """Each kind's growth. A process that is started again begins anew; Redis does not: it has its data again."""
    lives: dict[str, dict[tuple[str, int], list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        kind = kind_of(sample.role)
        lives[kind][sample.role, 0 if kind == "redis" else sample.pid].append(sample)
    return {kind: _growth(found, warm) for kind, found in sorted(lives.items())}


def _growth(lives: Mapping[tuple[str, int], list[Sample]], warm: int) -> Growth:
    settled = []
    for life in lives.values():
        after = [sample for sample in life if sample.migrations >= life[0].migrations + warm]
        if after and after[-1].migrations - after[0].migrations >= LEAST_SPAN:
            settled.append(after)
    if not settled:
        seen = [sample.mib for life in lives.values() for sample in life]
        return Growth(round(min(seen), 1), round(max(seen), 1), None, 0)
    return Growth(
        start=round(_mean(life[0].mib for life in settled), 1),
        end=round(_mean(life[-1].mib for life in settled), 1),
        per_1000=round(_slope(settled) * 1000, 2),
        lives=len(settled),
    )


def _slope(lives: Iterable[list[Sample]]) -> float:
    """Least squares with one slope for all lives, and a level for each."""
    above = below = 0.0
    for life in lives:
        x, y = _mean(sample.migrations for sample in life), _mean(sample.mib for sample in life)
        above += sum((sample.migrations - x) * (sample.mib - y) for sample in life)
        below += sum((sample.migrations - x) ** 2 for sample in life)
    return above / below if below else 0.0


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
