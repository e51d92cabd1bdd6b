"""An agent or scheduler of vmrelay that also runs the bare chain's no-op tasks.

python -m bench.noop agent alpha
"""

from __future__ import annotations

import sys

from worker.agent import run_agent
from worker.app import app
from worker.scheduler import run_scheduler


@app.task(name="bench.noop", ignore_result=False)
def noop(value: object) -> object:
    """Nothing, as Celery does it by default: the result is stored."""
    return value


@app.task(name="bench.noop_quiet")
def noop_quiet(value: object) -> object:
    """Nothing, without storing a result."""
    return value


if __name__ == "__main__":
    sys.exit(run_agent(sys.argv[2]) if sys.argv[1] == "agent" else run_scheduler())
