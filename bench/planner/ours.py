"""This project's planner, as a process of its own: ``python -m tasks.planner``, as the worker runs it."""

from __future__ import annotations

import sys
from dataclasses import replace

from pydantic import ValidationError

from bench.planner.measured import run
from bench.planner.moves import Found, Move
from worker.contract.plans import Plan, Problem

LIMIT_SECONDS = 300


def plan(problem: Problem) -> Found:
    """Plan and measure; an error of the planner's is in the answer."""
    done = run([sys.executable, "-m", "tasks.planner"], problem.model_dump_json(), LIMIT_SECONDS)
    took = Found("planner", wall_seconds=done.wall_seconds, cpu_seconds=done.cpu_seconds, rss_mib=done.rss_mib)
    if done.limited:
        return replace(took, limited=True, error=f"no plan within {LIMIT_SECONDS} s")
    if done.returncode:
        why = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
        return replace(took, error=f"exit code {done.returncode}: {''.join(why)[:300]}")
    try:
        answer = Plan.model_validate_json(done.stdout)
    except ValidationError as wrong:
        return replace(took, error=f"not a plan: {wrong.errors()[0]['msg']}")
    return replace(took, moves=moves_of(answer), plan=answer)


def moves_of(plan: Plan) -> tuple[Move, ...]:
    """The steps of a plan as moves."""
    return tuple(Move(step.n, step.guest, step.destination, step.after, step.bounce == 1) for step in plan.steps)
