"""A plan, made by a process of its own: planning may take seconds and half a GiB, and must not hold up its caller.

The process is named, as tasks are named: what plans belongs to ``tasks``, which ``worker`` does not import.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from pydantic import ValidationError

from worker.contract import Goal, Plan, Problem
from worker.errors import Rejected, Unavailable
from worker.leash import leashed
from worker.settings import PlanningSettings

PLANNER = "tasks.planner"
GRACE_SECONDS = 120.0
"""For reading, ordering and checking, besides the search's own time."""
DEFAULTS = ("ceiling_points", "most_percent", "price_per_move_gib", "plan_seconds")
"""Of a goal, what ``[planning]`` says where a request does not."""
REFUSED = 2
"""Exit code of a planner that was asked for what makes no sense; standard output says why."""


def filled(goal: Goal, settings: PlanningSettings) -> Goal:
    """A goal with what it does not name as the settings say."""
    named = goal.model_fields_set
    return goal.model_copy(update={name: getattr(settings, name) for name in DEFAULTS if name not in named})


def make(problem: Problem, memory_mib: int = 2048) -> Plan:
    """Plan in a process of its own, which ends with the caller's and takes ``memory_mib`` MiB at most.

    Raises ``Rejected`` (``bad-problem``) with what is wrong with the problem, ``Unavailable`` (``planner-failed``)
    where no plan came.
    """
    command = leashed([sys.executable, "-m", PLANNER, "--memory-mib", str(memory_mib)])
    try:
        done = subprocess.run(
            command,
            input=problem.model_dump_json(),
            capture_output=True,
            text=True,
            timeout=problem.goal.plan_seconds + GRACE_SECONDS,
            check=False,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"no plan within {late.timeout:g} s; plan for fewer hosts", code="planner-failed") from None
    if done.returncode == REFUSED:
        raise Rejected(json.loads(done.stdout)["error"], code="bad-problem")
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it was killed; is planning.process_mib enough?"])[-1]
        raise Unavailable(f"the planner ended with {done.returncode}: {why[:300]}", code="planner-failed")
    try:
        return Plan.model_validate_json(done.stdout)
    except ValidationError as wrong:
        raise Unavailable(
            f"the planner's answer is no plan: {wrong.errors()[0]['msg']}", code="planner-failed"
        ) from None
