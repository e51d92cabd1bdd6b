"""Programs of which wall time, CPU time and peak memory are wanted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.leash import leashed

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Done:
    """What a program left, and what it took."""

    stdout: str
    stderr: str
    returncode: int
    wall_seconds: float
    cpu_seconds: float
    rss_mib: float
    """The most memory that was in use at once (resident)."""
    limited: bool
    """Whether it was interrupted because its time was over."""


def run(command: Sequence[str], stdin: str, limit_seconds: float, env: Mapping[str, str] | None = None) -> Done:
    """Run a program to its end, or until its time is over. Raises ``OSError`` where it cannot be measured."""
    with tempfile.TemporaryDirectory(prefix="vmr-planner-") as name:
        folder = Path(name)
        usage = folder / "usage"
        (folder / "in").write_text(stdin)
        launcher = [sys.executable, "-m", "bench.planner.launcher", str(usage), str(limit_seconds), *command]
        with (folder / "in").open() as given, (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            subprocess.run(
                leashed(launcher),
                stdin=given,
                stdout=out,
                stderr=err,
                check=False,
                cwd=ROOT,
                env=os.environ | ONE_THREAD | dict(env or {}),
            )
        told = (folder / "err").read_text()
        if not usage.exists():
            raise OSError(f"{command[0]} was not measured: {told.strip()[-300:]}")
        return Done(stdout=(folder / "out").read_text(), stderr=told, **json.loads(usage.read_text()))
